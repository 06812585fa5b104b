"""Train and evaluate convolutional networks for facial-expression recognition.

The public names are imported when they are first used, so that `import emotion_cnn`
is instant and imports neither Keras nor its backend.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from emotion_cnn.commands.evaluate import evaluate
    from emotion_cnn.commands.export import export
    from emotion_cnn.commands.train import train
    from emotion_cnn.errors import EmotionCnnError
    from emotion_cnn.evaluation.evaluator import Evaluation
    from emotion_cnn.inference.classifier import Classifier, load
    from emotion_cnn.training.experiment import TrainingRun

__version__ = "0.1.0"

__all__ = [
    "Classifier",
    "EmotionCnnError",
    "Evaluation",
    "TrainingRun",
    "__version__",
    "evaluate",
    "export",
    "load",
    "train",
]

_MODULES = {
    "Classifier": "inference.classifier",
    "EmotionCnnError": "errors",
    "Evaluation": "evaluation.evaluator",
    "TrainingRun": "training.experiment",
    "evaluate": "commands.evaluate",
    "export": "commands.export",
    "load": "inference.classifier",
    "train": "commands.train",
}
_NEED_KERAS = {"TrainingRun"}


def __getattr__(name: str) -> Any:
    """Imports a public name (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name in _NEED_KERAS:
        from emotion_cnn.backend import use_backend

        use_backend()
    value = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Lists the public names, imported or not."""
    return sorted({*globals(), *__all__})
