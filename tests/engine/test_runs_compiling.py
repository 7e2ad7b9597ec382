"""torch.compile in a run: chosen when it repays itself, told with figures, kept on resume, and never in the way."""

from __future__ import annotations

import functools
import shutil

import pytest
import torch
from safetensors import safe_open
from test_runs_training import events

from engine.recipe import Recipe
from engine.runs import checkpoint, compiling
from engine.runs.checkpoint import Position
from engine.runs.worker import Worker

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def quickly(monkeypatch):
    """torch.compile that traces the model and hands it to no C++ compiler."""
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))


def finished(run):
    assert Worker(run).work() == "finished", run.status().error
    return run


def settled(run, setting="train.compile"):
    return [(event["value"], event["why"]) for event in events(run, "resolved") if event["setting"] == setting]


def weights(run):
    return (checkpoint.last(run) / "model.safetensors").read_bytes()


def test_a_short_run_is_not_compiled_and_says_why(world):
    (value, why), = settled(finished(world.run()))
    assert value == "off"
    assert why.startswith("20 steps will take about ")


def test_without_a_working_compiler_training_goes_on_and_says_so(world, monkeypatch):
    def broken(*_, **__):
        def compiled(*_, **__):
            raise RuntimeError("InvalidCxxCompiler: No working C++ compiler found\nand more lines")
        return compiled

    monkeypatch.setattr(torch, "compile", broken)
    run, plain = finished(world.run("train.compile=on")), finished(world.run("train.compile=off"))
    assert [event["sentence"] for event in events(run, "warning")] == [
        "torch.compile does not work here, so training goes on without it: "
        "InvalidCxxCompiler: No working C++ compiler found"]
    assert settled(run) == [("off", "compiling failed")]
    assert settled(plain) == [("off", "as asked")]
    assert weights(run) == weights(plain)


def test_a_compiled_run_goes_on_compiled_and_saves_plain_names(world, quickly):
    changes = ("model.dropout=0.2", "train.keep_last=9")
    run = finished(world.run("train.compile=on", *changes))
    whole = weights(run)
    with safe_open(checkpoint.last(run) / "model.safetensors", "pt") as file:
        assert not [name for name in file.keys() if "_orig_mod" in name]  # noqa: SIM118
    assert checkpoint.position(checkpoint.last(run)).compiled
    (value, why), = settled(run)
    assert value == "on"
    assert why.startswith("as asked; compiling took ")

    shutil.rmtree(run.path / "checkpoints" / "step-000020")
    finished(run)
    assert settled(run)[1:] == [("on", "as when the run began")]
    assert weights(run) == whole


def test_a_run_that_began_before_operators_were_chosen_goes_on_as_it_was(world):
    run = finished(world.run("train.keep_last=9"))
    shutil.rmtree(run.path / "checkpoints" / "step-000020")
    path = run.path / "checkpoints" / "step-000010"
    position = checkpoint.position(path)
    assert position == Position(**{**vars(position), "fused": position.device == "cpu", "compiled": False})
    from engine import files

    saved = files.read_json(path / checkpoint.POSITION)
    for name in ("queries_at_once", "fused", "compiled"):
        del saved[name]
    assert checkpoint.position(path).fused
    files.write_json(path / checkpoint.POSITION, saved)
    assert checkpoint.position(path) == Position(**{**vars(position), "queries_at_once": 0, "fused": False})


@pytest.mark.parametrize(("eager", "compiled", "value", "words"), [
    (0.50, 0.40, "on", "0.4 s compiled and 0.5 s without, so that it is repaid after"),
    (0.50, 0.51, "off", "0.51 s compiled and 0.5 s without"),
])
def test_a_long_run_keeps_what_is_faster(world, quickly, monkeypatch, eager, compiled, value, words):
    monkeypatch.setattr(compiling._Trial, "seconds", lambda self: 1e3)
    monkeypatch.setattr(compiling._Trial, "compare", lambda self, compiled_: (eager, compiled))
    run = finished(world.run())
    (found, why), = settled(run)
    assert found == value
    assert words in why


def test_trying_changes_no_weight(world, quickly, monkeypatch):
    monkeypatch.setattr(compiling._Trial, "seconds", lambda self: 1e3)
    monkeypatch.setattr(compiling, "WORTH_IT", 0.0)  # tried and never taken
    changes = ("model.dropout=0.2", "train.accumulation=2")
    tried, plain = finished(world.run(*changes)), finished(world.run("train.compile=off", *changes))
    assert settled(tried)[0][1].startswith("compiling took")
    assert weights(tried) == weights(plain)


def test_yaml_reads_on_and_off_as_words(tmp_path):
    for word in ("on", "off", "auto"):
        recipe = Recipe().override(f"train.compile={word}")
        assert recipe.train.compile == word
        path = tmp_path / f"{word}.yaml"
        path.write_text(f"name: a\ntrain:\n  compile: {word}\n")
        assert Recipe.load(path).train.compile == word


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_really_compiled_run_resumes_bit_for_bit(world, two_threads, family):
    """Wide and long enough for two threads to share its loops."""
    heads = 1 if family == "llama" else 2
    run = finished(world.run("model.context_length=80", "model.hidden_size=64", f"model.num_kv_heads={heads}",
                             f"model.family={family}", "train.compile=on", "train.keep_last=9", "train.max_steps=40"))
    if settled(run)[0][0] == "off":
        pytest.skip("no C++ compiler here")
    whole = weights(run)
    for step in (20, 30, 40):
        shutil.rmtree(run.path / "checkpoints" / f"step-{step:06d}")
    finished(run)
    assert weights(run) == whole
