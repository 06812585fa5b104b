"""The errors a user can cause, each with one message that says what to do.

A message says what was expected, what was found and what to do about it. It names a
setting in backticks, with a value where that matters: `skip_bad=True`. The command line
turns that into a flag, prints the message and exits with the error's code.
"""

from pathlib import Path


class EmotionCnnError(Exception):
    """Base of every error that a user can fix; its text is for the user."""

    exit_code = 2


class ConfigError(EmotionCnnError):
    """A setting, or a combination of settings, that cannot work."""


class DataError(EmotionCnnError):
    """Images or folders that cannot be used as they are."""


class SourceError(EmotionCnnError):
    """Something to import that cannot be: unknown, damaged, unsafe or ill-fitting."""


class MissingPackageError(EmotionCnnError):
    """An optional package that is needed, but not installed."""


class ModelError(EmotionCnnError):
    """A model file that is missing, damaged, or does not fit."""


class FolderError(EmotionCnnError):
    """A folder to write to that another command uses, or that cannot be locked."""


class RunError(EmotionCnnError):
    """A run folder that is missing, damaged, or cannot be continued."""


class TrainingError(EmotionCnnError):
    """Training that cannot go on, such as a loss that is not a number."""


class _StoppedRun(BaseException):
    """What the two ways have in common in which a run stops before its end.

    Attributes:
        fact: What happened.
        settings: What continues the run: `resume`, to which a command adds what else
            was given to it.
    """

    def __init__(self, fact: str, folder: Path) -> None:
        """Takes what happened, and the run folder."""
        self.fact = fact
        self.settings = {"resume": str(folder)}
        super().__init__(fact)

    def __str__(self) -> str:
        """Returns what happened, and the call that continues the run."""
        arguments = ", ".join(
            f"{name}={value!r}" for name, value in self.settings.items()
        )
        return f"{self.fact} Continue with train({arguments})."


class ResumableError(_StoppedRun, RunError):
    """A run that stopped before its end, such as on a full disk."""


class RunInterruptedError(_StoppedRun, KeyboardInterrupt):
    """Ctrl-C during a run.

    No `EmotionCnnError`, so that a loop that catches those ends too.
    """
