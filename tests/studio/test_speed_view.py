"""The Speed card: what was measured is shown as it is, a press starts a run, and the command does the same."""

from __future__ import annotations

import html
import shlex
import time

import pytest
from planted import EVIL

from engine import files, runs
from engine.export.benchmark import RESULT, result
from engine.runs.timing import asking
from studio.speed_view import NOTHING, Speed

ROW = {"name": "this bundle, float32", "kind": "ours", "precision": "float32", "failed": "", "size_bytes": 60 << 20,
       "read_bytes": 60 << 20, "tokens_per_second": 400.0, "prefill_tokens_per_second": 3000.0, "load_seconds": 0.2,
       "first_token_seconds": 0.04, "limit_tokens_per_second": 500.0, "peak_bytes": 200 << 20,
       "greedy_tokens_equal": 128}
SLOW = {**ROW, "name": "PyTorch, our decoder", "kind": "pytorch", "tokens_per_second": 100.0}
BROKEN = {"name": "llama.cpp", "kind": "llama_cpp", "precision": "float32", "failed": f"it broke {EVIL}.",
          "size_bytes": 0, "read_bytes": 0}
FOUND = {"rows": [ROW, SLOW, BROKEN], "prompt_tokens": 128, "new_tokens": 128, "rounds": 3, "load": 0.1,
         "machine": {"processor": f"A {EVIL}", "cores": 2.0, "memory_bandwidth": 31e9}}


@pytest.fixture
def bundle(session):
    folder = session.workspace.place("bundles") / "good one"
    folder.mkdir()
    files.write_json(folder / files.MANIFEST, {"files": {}})
    return folder


@pytest.fixture
def speed(session, bundle):
    return Speed(session)


def measured(bundle, **changes):
    files.write_json(bundle / RESULT, {**FOUND, "measured": time.time() - 90, **changes,
                                       "fingerprint": files.fingerprint_file(bundle / files.MANIFEST)})


def until(speed, true):
    """Tick as the studio does, until something is so."""
    latest = time.monotonic() + 120
    while not true():
        assert time.monotonic() < latest
        speed.tick()
        time.sleep(0.05)


def test_what_was_measured_is_a_table_a_picture_and_says_where_and_when(speed, bundle):
    measured(bundle)
    speed.show(bundle)
    told = speed.figures.html
    for figure in ("400/s", "3,000/s", "40 ms", "80%", "4.00", "0.2 s", "200 MiB", "failed", "31 GB/s",
                   "Measured 1 min ago"):
        assert figure in told
    assert "<script" not in told
    assert told.count("&lt;script&gt;") == 2
    bars = speed.bars.object.get(0)
    assert list(bars.dimension_values("way")) == ["this bundle, float32", "PyTorch, our decoder"]
    assert list(bars.dimension_values("x1")) == [400, 100]
    (bundle / RESULT).write_text("{")
    speed.show(bundle)
    assert "damaged" in speed.figures.html
    assert not speed.bars_frame.visible
    measured(bundle, rows=[{"name": "of another version"}])
    speed.show(bundle)
    assert "damaged" in speed.figures.html


def test_a_press_starts_a_run_the_command_is_the_same_and_the_result_is_seen(speed, bundle, session, monkeypatch):
    monkeypatch.setattr(runs, "launch", lambda run: None)
    speed.show(bundle)
    assert NOTHING in speed.figures.html
    session.draft.put(("benchmark", "rounds"), 5)
    command = shlex.split(html.unescape(speed.words.html.split('class="where">')[1].split("</code>")[0]))
    assert command[:4] == ["studio", "benchmark", "good one", "benchmark.rounds=5"]
    speed.start()
    [run] = runs.listing(session.workspace)
    made = runs.recipe_of(run)
    assert (made.jobs, made.benchmark.bundle, made.benchmark.rounds) == (("benchmark",), "good one", 5)
    assert made.benchmark == asking("good one").override(*command[3:4]).benchmark
    assert session.page == "home", "the page stays where it is"
    with run.lock():
        run.write_status(state="running", job="benchmark", step=1, of=9, message="transformers", heartbeat=time.time())
        until(speed, lambda: "transformers" in speed.words.html)
        assert speed.go.disabled
        again = Speed(session)
        again.show(bundle)
        assert again.run == run, "another session follows the same run"
        measured(bundle)
    run.write_status(state="finished")
    until(speed, lambda: NOTHING not in speed.figures.html)
    assert "400/s" in speed.figures.html
    assert not speed.go.disabled


def test_a_wrong_setting_stops_the_button(speed, bundle, session):
    speed.show(bundle)
    session.draft.put(("benchmark", "rounds"), 0)
    assert speed.go.disabled
    assert result(bundle) is None
