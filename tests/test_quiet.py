"""What TensorFlow prints at every start, and what must not be lost with it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from emotion_cnn.quiet import quiet_conversion, quiet_start

ROOT = Path(__file__).resolve().parent.parent
LEVEL = "TF_CPP_MIN_LOG_LEVEL"
NOISE = """\
WARNING: All log messages before absl::InitializeLog() is called are written to STDERR
I0000 00:00:1795660258.316939    9302 cudart_stub.cc:31] Could not find cuda drivers
I0000 00:00:1795660277.559142    9375 cpu_feature_guard.cc:227] This TensorFlow binary
To enable the following instructions: AVX2 FMA, in other operations, rebuild TensorFlow
2025-09-17 14:44:05.157831: I external/xla/tsl/cuda/cudart_stub.cc:32] Could not find
E0000 00:00:1795660269.615133    9302 cuda_platform.cc:52] failed call to cuInit: \
INTERNAL: CUDA error: Failed call to cuInit: UNKNOWN ERROR (303)
E0000 00:00:1758131045.203198 3722035 cuda_dnn.cc:8579] Unable to register cuDNN \
factory: Attempting to register factory for plugin when one has already been registered
"""
ERRORS = """\
E0000 00:00:1795660269.615133    9302 cuda_platform.cc:52] failed call to cuInit: \
INTERNAL: CUDA error: Failed call to cuInit: CUDA_ERROR_SYSTEM_DRIVER_MISMATCH (803)
2025-09-17 14:44:05.157831: W tensorflow/core/common_runtime] out of something
what anyone else prints
"""


@pytest.fixture(autouse=True)
def _level(monkeypatch):
    # Set first, so that it is as before afterwards.
    monkeypatch.setenv(LEVEL, "2")
    monkeypatch.delenv(LEVEL)


def print_below_python(text: str) -> None:
    os.write(2, text.encode())


def test_what_no_one_has_to_act_on_is_left_out(capfd):
    print_below_python("before\n")
    with quiet_start():
        print_below_python(NOISE + ERRORS)
    print_below_python("after\n")
    assert capfd.readouterr().err == f"before\n{ERRORS}after\n"
    assert os.environ[LEVEL] == "2"


def test_a_converter_does_not_tell_its_settings(capfd):
    settings = "fully_quantize: 0, inference_type: 6, input_inference_type: UINT8\n"
    with quiet_conversion():
        print_below_python(settings + ERRORS + settings)
    assert capfd.readouterr().err == ERRORS


@pytest.mark.parametrize("quiet", [quiet_start, quiet_conversion])
def test_nothing_is_left_out_of_an_error(capfd, quiet):
    printed = f"{NOISE}fully_quantize: 0, inference_type: 6\n"
    with pytest.raises(ImportError), quiet():
        print_below_python(printed)
        raise ImportError
    assert capfd.readouterr().err == printed


def test_who_asks_for_more_gets_it(capfd, monkeypatch):
    monkeypatch.setenv(LEVEL, "0")
    with quiet_start():
        print_below_python(NOISE)
    assert capfd.readouterr().err == NOISE
    assert os.environ[LEVEL] == "0"


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        # As a processor makes it end that lacks what TensorFlow was compiled for.
        ("with quiet_start(): os.abort()", "Fatal Python error: Aborted"),
        ("os.close(2)\nwith quiet_start(): print('went on')", "went on"),
    ],
)
def test_an_end_in_compiled_code_and_a_closed_stream(code, expected):
    environment = {name: value for name, value in os.environ.items() if name != LEVEL}
    done = subprocess.run(
        [sys.executable, "-c", f"import os\nfrom emotion_cnn.quiet import *\n{code}"],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert expected in done.stdout
