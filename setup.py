"""What pyproject.toml cannot say: the wheel brings the shipped network along."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithNetwork(build_py):
    """Copies the shipped network from the top level into the built package.

    An editable installation needs no copy: it finds the one at the top level.
    """

    def run(self) -> None:
        """Builds the package, then adds `emotion_cnn/shipped/`."""
        super().run()
        if not self.editable_mode:
            shipped = Path(self.build_lib, "emotion_cnn", "shipped")
            self.mkpath(str(shipped))
            # The last one is of the same weights, for those without Keras:
            # `emotion-cnn export --format litert --quantize float16`.
            for name in ("model.json", "model_weights.h5", "model-float16.tflite"):
                self.copy_file(name, str(shipped / name))


setup(cmdclass={"build_py": BuildWithNetwork})
