"""The processes that train one network together, and what only one of them does.

Whatever writes results, prints, draws or publishes asks here whether it may: only the
chief does. The others train with the same code, say nothing but errors, and write into
temporary folders of their own. Imports no JAX before processes join.
"""

import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from emotion_cnn.errors import ConfigError, RunError
from emotion_cnn.files import first_line, shown

HEARTBEAT_SECONDS = 30
"""After so long without a sign of life from one process, the others end."""
_JOINING_SECONDS = 300
_PATIENCE = 2.0
"""Seconds from which on a process that waits for others says so."""
_GOODBYE_SECONDS = 120
"""How long a process that is done with training waits for the others."""

_log = logging.getLogger(__name__)

_REMOVE_AT_THE_END = (
    "import shutil, sys; sys.stdin.read(); shutil.rmtree(sys.argv[1], True)"
)

_JAX_STATUS = re.compile("[A-Z_]+: ")
"""What the message of an error begins with that a device or a connection has."""

_VARIABLES = "KERAS_DISTRIBUTION_"
_HOW_TO_START = (
    "Start them with srun or mpirun, or set the environment variables "
    f"{_VARIABLES}JOB_ADDRESSES, {_VARIABLES}NUM_PROCESSES and {_VARIABLES}PROCESS_ID "
    "(docs/scale.md)."
)


@dataclass(frozen=True)
class Processes:
    """The processes of a training.

    Attributes:
        count: How many there are.
        place: Which of them this one is, from 0.
    """

    count: int = 1
    place: int = 0


_joined = Processes()
_has_looked = False


def processes() -> Processes:
    """Returns the processes that this one has joined: itself alone, if none."""
    return _joined


def is_chief() -> bool:
    """Returns whether this process writes, prints, draws and publishes."""
    return _joined.place == 0


def join() -> None:
    """Joins the other processes of a training, before any other use of JAX.

    They are found by what SLURM, Open MPI or Kubernetes say, or by the environment
    variables of `keras.distribution.initialize`. That function is not called, as it
    passes no time limits on: a dead process would be noticed after 100 seconds, and
    one that has failed would wait 300 seconds for the others. Where nothing says that
    there are others, this process is alone.

    Raises:
        ConfigError: The others cannot be joined.
    """
    global _joined, _has_looked
    import jax

    if _joined.count > 1:
        raise ConfigError(
            "Expected a new process to train together with others, but this one has "
            "done so already. Start new ones."
        )
    if _has_looked:  # It is alone, and may train once more.
        return
    addresses = os.environ.get(f"{_VARIABLES}JOB_ADDRESSES")
    count, place = _number("NUM_PROCESSES"), _number("PROCESS_ID")
    # JAX aborts where one does not come, and says nothing that a user can read. Whether
    # there are others, it knows at once.
    waiting = threading.Timer(
        _PATIENCE,
        _log.info,
        ("Waiting for the other processes, for up to %d s", _JOINING_SECONDS),
    )
    waiting.daemon = True
    waiting.start()
    # It would take SIGTERM, by which schedulers end processes, for a notice to heed.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(
            addresses and addresses.split(",")[0],
            count,
            place,
            initialization_timeout=_JOINING_SECONDS,
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
            shutdown_timeout_seconds=_GOODBYE_SECONDS,
        )
    # What a launcher has set can make it raise almost anything.
    except Exception as error:
        nothing_known = "coordinator_address should be defined" in str(error)
        if nothing_known and (addresses, count, place) == (None, None, None):
            _has_looked = True
            return
        raise ConfigError(
            "Expected to join the other processes of this training, but that fails "
            f"({shown(first_line(error))}). {_HOW_TO_START} Only a process that "
            "has not used JAX can join."
        ) from error
    finally:
        waiting.cancel()
    _has_looked = True
    _joined = Processes(jax.process_count(), jax.process_index())
    if not is_chief():
        # Whatever there is to say, the chief says it.
        logging.getLogger("emotion_cnn").setLevel(logging.ERROR)


def _number(name: str) -> int | None:
    text = os.environ.get(_VARIABLES + name)
    if text is None:
        return None
    if not re.fullmatch("[0-9]{1,9}", text):
        raise ConfigError(
            f"Expected a number in the environment variable {_VARIABLES}{name}, found "
            f"{text[:50]!a}."
        )
    return int(text)


def check_several_devices() -> None:
    """Makes sure that there is something to share out.

    Raises:
        ConfigError: There is one device alone, or processes have different numbers.
    """
    import jax

    count, own = jax.device_count(), jax.local_device_count()
    if count == 1:
        raise ConfigError(
            "Expected several devices for `distributed`, found one process with one. "
            "If there are to be several processes, they do not know it. "
            f"{_HOW_TO_START} For one device, leave `distributed` out."
        )
    if count != own * _joined.count:
        raise ConfigError(
            f"Expected as many devices in each process, found {own} here and {count} "
            f"in all {_joined.count} processes. Give each process as many."
        )


def check_same(what: str, digest: bytes) -> None:
    """Makes sure that something is the same in all processes.

    Without it they would train a network that fits none of them. Waits for all.

    Args:
        what: What is compared, for the message.
        digest: 32 bytes that stand for it.

    Raises:
        ConfigError: It differs.
        RunError: Another process has ended.
    """
    if _joined.count == 1:
        return
    import numpy as np
    from jax.experimental import multihost_utils

    own = np.frombuffer(digest, np.uint8)
    try:
        found = np.asarray(multihost_utils.process_allgather(own))
    except (ValueError, RuntimeError) as error:
        if not tells_of_a_lost_process(error):
            raise
        raise RunError(
            f"Another process has ended before training ({shown(first_line(error))}). "
            "It says why."
        ) from error
    different = np.flatnonzero((found != found[0]).any(axis=1))
    if len(different):
        raise ConfigError(
            f"Expected the same {what} in all processes, found others in process "
            f"{', '.join(map(str, different))} than in process 0. Start all with the "
            "same command, on the same files."
        )


def tells_of_a_lost_process(error: Exception) -> bool:
    """Returns whether an error may be what JAX raises where another process is gone."""
    return _joined.count > 1 and bool(_JAX_STATUS.match(str(error)))


@contextmanager
def own_results(folder: Path) -> Iterator[Path]:
    """Yields where this process writes results: the folder itself, if it is the chief.

    The others get a temporary folder, which is removed in the end, however they end:
    JAX aborts a process where another one is lost, and runs none of Python's cleanup.
    """
    if is_chief():
        yield folder
        return
    own = tempfile.mkdtemp(prefix="emotion-cnn-")
    # It reads until this process closes the pipe, or is gone.
    with subprocess.Popen(  # noqa: S603
        [sys.executable, "-IS", "-c", _REMOVE_AT_THE_END, own],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is not for it.
    ):
        yield Path(own)


@contextmanager
def own_copy(folder: Path, names: Iterable[str]) -> Iterator[Path]:
    """Yields a folder with files to read and to replace, as `own_results`.

    Args:
        folder: Their folder, which all processes can read.
        names: Patterns of the names of the files.
    """
    with own_results(folder) as own:
        if own != folder:
            for path in (path for name in names for path in folder.glob(name)):
                shutil.copyfile(path, own / path.name, follow_symlinks=False)
        yield own


def leave() -> None:
    """Parts from the other processes, once all have done what they share.

    From then on none waits for another, or ends where another does.
    """
    if _joined.count > 1:
        sys.modules["jax"].distributed.shutdown()


def end_at_once(code: int) -> None:
    """Ends this process, if it has not left the others, without waiting for them.

    They wait for this one, which has failed. They notice where it has gone.
    """
    if _joined.count == 1 or not sys.modules["jax"].distributed.is_initialized():
        return
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
