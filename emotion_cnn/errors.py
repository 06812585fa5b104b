"""The errors a user can cause, each with one message that says what to do.

The command line prints the message of an `EmotionCnnError` and exits with its code.
A message says what was expected, what was found and what to do about it.
"""


class EmotionCnnError(Exception):
    """Base of every error that a user can fix; its text is for the user."""

    exit_code = 2


class ConfigError(EmotionCnnError):
    """A flag, or a combination of flags, that cannot work."""


class DataError(EmotionCnnError):
    """Images or folders that cannot be used as they are."""


class SourceError(EmotionCnnError):
    """Something to import that cannot be: unknown, damaged, unsafe or ill-fitting."""


class MissingPackageError(EmotionCnnError):
    """An optional package that is needed, but not installed."""


class ModelError(EmotionCnnError):
    """A model file that is missing, damaged, or does not fit."""


class RunError(EmotionCnnError):
    """A run folder that is missing, damaged, or cannot be continued."""


class TrainingError(EmotionCnnError):
    """Training that cannot go on, such as a loss that is not a number."""


class RunInterruptedError(EmotionCnnError):
    """Ctrl-C; the message says how to go on."""

    exit_code = 130
