"""What processes leave that train together with others."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT

PROGRAM = """
import os
from emotion_cnn import processes

processes._joined = processes.Processes(2, 1)
with processes.own_results("runs") as folder:
    (folder / "run").mkdir()
    print(folder, flush=True)
    {end}
"""


@pytest.mark.parametrize(
    "end", ["pass", "raise KeyError", "os._exit(1)", "os.kill(os.getpid(), 9)"]
)
def test_no_folder_is_left_behind(tmp_path, end):
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(end=end)],
        cwd=ROOT,
        env=os.environ | {"TMPDIR": str(tmp_path), "TEMP": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert (ended.returncode == 0) == (end == "pass")
    assert Path(ended.stdout.strip()).parent == tmp_path
    deadline = time.monotonic() + 60
    while any(tmp_path.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not any(tmp_path.iterdir())
