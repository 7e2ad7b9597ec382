"""Frames: a page, a run or the whole studio in a cell, from one server that keeps no kernel alive."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

TELL = """
from urllib.request import urlopen
from engine import runs
from studio.notebook import show
from planted import plant
from engine.workspace import Workspace
run = plant(Workspace(), "framed", steps=5)
frames = [show(), show("corpus"), show(run)]
for frame in frames:
    print(frame.src, urlopen(frame.src).status)
try:
    show("nowhere")
except ValueError as error:
    print(error)
"""


def test_frames_share_one_server_on_this_machine_and_let_the_kernel_end(workspace):
    root = Path(__file__).resolve().parents[2]
    told = subprocess.run([sys.executable, "-c", f"import sys; sys.path.insert(0, 'tests')\n{TELL}"], cwd=root,
                          capture_output=True, text=True, timeout=90, check=True).stdout.splitlines()
    whole, page, run = (line.split() for line in told[:3])
    assert [whole[1], page[1], run[1]] == ["200", "200", "200"]
    assert all(line[0].startswith("http://127.0.0.1:") for line in (whole, page, run))
    assert len({line[0].split("/")[2] for line in (whole, page, run)}) == 1
    assert page[0].endswith("?page=corpus")
    assert run[0].endswith("/run?run=framed")
    assert "there is no page 'nowhere'" in told[3]
