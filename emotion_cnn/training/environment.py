"""What a run was made with: versions, machine, commit, command line."""

import os
import platform
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import keras

from emotion_cnn import __version__

_PACKAGES = (
    "keras",
    "tensorflow",
    "jax",
    "torch",
    "numpy",
    "scikit-learn",
    "pillow",
    "matplotlib",
    "seaborn",
    "livelossplot",
)


def describe_environment() -> dict[str, Any]:
    """Returns what the results of a run may depend on, ready for JSON."""
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(sys.argv),
        "git_commit": _git_commit(),
        "versions": {"emotion-cnn": __version__, "python": platform.python_version()}
        | {name: version for name in _PACKAGES if (version := _version(name))},
        "backend": keras.backend.backend(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cpu_cores": os.cpu_count(),
        "devices": _devices(),
    }


def _devices() -> list[str]:
    if keras.backend.backend() != "torch":
        return keras.distribution.list_devices()
    # Keras lists no devices on Torch.
    import torch

    count = torch.cuda.device_count()
    return [torch.cuda.get_device_name(place) for place in range(count)] or ["cpu"]


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if "model name" in line]
    return names[0] if names else platform.processor()


def _git_commit() -> str | None:
    """Returns the commit of the code that runs, `-dirty` if it was changed."""
    if not (Path(__file__).resolve().parents[2] / "pyproject.toml").is_file():
        # Installed: the repository around, if there is one, is another project's.
        return None
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],  # noqa: S607
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return described.stdout.strip()
