"""Leaving out what TensorFlow prints as a matter of course: no one has to act on it.

Parts of it are printed by compiled code before any setting can reach them, so that the
environment variable `TF_CPP_MIN_LOG_LEVEL` leaves them as they are.
"""

import faulthandler
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_LEVEL = "TF_CPP_MIN_LOG_LEVEL"
_STANDARD_ERROR = 2
# That there is no graphics card is no error, nor that two parts of TensorFlow bring the
# same; what begins with I is information.
_NOISE = re.compile(
    rb"WARNING: All log messages before absl::InitializeLog\(\)"
    rb"|I[0-9]{4} |[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9:.]+: I "
    rb"|To enable the following instructions: "
    rb"|[EW][0-9]{4} .*failed call to cuInit: .*\(303\)"
    rb"|[EW][0-9]{4} .*already (been )?registered"
)

# What LiteRT's converter prints of its settings where there are images to measure on.
_SETTINGS = re.compile(rb"fully_quantize: ")


@contextmanager
def quiet_start() -> Iterator[None]:
    """Leaves out of standard error what TensorFlow prints while the block starts it.

    All else is printed when the block ends, and all of it if it ends in an error. Does
    nothing where the environment variable `TF_CPP_MIN_LOG_LEVEL` is set by the user.
    """
    if _LEVEL in os.environ:
        yield
        return
    # TensorFlow prints its build options too unless told not to.
    os.environ[_LEVEL] = "2"
    with _without(_NOISE):
        yield


@contextmanager
def quiet_conversion() -> Iterator[None]:
    """Leaves out of standard error what LiteRT's converter prints of its settings.

    All else is printed as `quiet_start` does it.
    """
    with _without(_SETTINGS):
        yield


@contextmanager
def _without(noise: re.Pattern[bytes]) -> Iterator[None]:
    """Leaves lines out of standard error; prints the others when the block ends."""
    with tempfile.TemporaryFile() as file:
        try:
            before = os.dup(_STANDARD_ERROR)
        except OSError:  # It is closed.
            yield
            return
        _flush()
        os.dup2(file.fileno(), _STANDARD_ERROR)
        # Should the process end in compiled code, what is in the file is lost.
        is_ours = not faulthandler.is_enabled()
        if is_ours:
            faulthandler.enable(before)
        is_failed = False
        try:
            yield
        except Exception:
            is_failed = True
            raise
        finally:
            if is_ours:
                faulthandler.disable()
            _flush()
            os.dup2(before, _STANDARD_ERROR)
            os.close(before)
            file.seek(0)
            for line in file:
                if is_failed or not noise.match(line):
                    with suppress(OSError):  # Nobody reads it any more.
                        os.write(_STANDARD_ERROR, line)


def _flush() -> None:
    """Makes what Python has printed come before what follows."""
    with suppress(AttributeError, OSError, ValueError):
        sys.stderr.flush()
