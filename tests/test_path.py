"""One walk down the whole path, in a real worker process: raw text to a bundle that speaks."""

from __future__ import annotations

import pytest

from engine import files, inference, runs
from engine.runs.folder import START


@pytest.fixture
def finished(toy_recipe, workspace) -> runs.Run:
    run = runs.start(toy_recipe, workspace)
    run.wait(timeout_seconds=150)
    assert run.status().state == "finished", run.log()
    return run


def test_from_raw_text_to_a_bundle_that_speaks(finished, workspace, toy_recipe):
    made = finished.made()
    assert set(made) == {"dataset", "tokens", "checkpoint", "evaluation", "bundle"}
    for path in made.values():
        assert (workspace.path / path).exists()
    assert files.read_json(finished.path / "manifest.json")["bundle"] == made["bundle"]

    rows, _ = finished.rows("metrics", START)
    losses = [row["train/loss"] for row in rows if "train/loss" in row]
    assert len(losses) == toy_recipe.train.max_steps
    assert losses[-1] < losses[0] - 0.5
    assert sum("val/bits_per_byte" in row for row in rows) >= 2

    events, _ = finished.rows("events", START)
    kinds = [event["kind"] for event in events]
    assert [e["job"] for e in events if e["kind"] == "job"] == list(toy_recipe.jobs)
    assert {"sample", "checkpoint", "parity"} <= set(kinds)

    report = files.read_json(workspace.path / made["evaluation"])
    last = [row["val/loss"] for row in rows if "val/loss" in row]
    assert report["val/loss"] == pytest.approx(min(last), rel=0.2)

    bundle = workspace.path / made["bundle"]
    assert files.read_json(bundle / "parity.json")["passed"]
    model = inference.load(bundle)
    assert model.generate("The", max_new_tokens=8, seed=1) == model.generate("The", max_new_tokens=8, seed=1) != ""

    again = runs.start(runs.recipe_of(finished).override("jobs=[curate, tokenize]"), workspace)
    again.wait(60)
    assert {k: v for k, v in made.items() if k in ("dataset", "tokens")} == again.made(), "nothing is made twice"
    assert [event["what"] for event in again.rows("events", START)[0] if event["kind"] == "reused"] == [
        "dataset", "tokens"]

    other = runs.start(runs.recipe_of(finished).override("jobs=[evaluate]", f"from_run={finished.name}"), workspace)
    other.wait(60)
    assert files.read_json(other.path / "evaluation.json")["val/loss"] == report["val/loss"]


def test_a_run_that_cannot_work_says_why_and_keeps_what_was_made(toy_recipe, workspace):
    run = runs.start(toy_recipe.override("tokens.vocab_size=60000"), workspace)
    with pytest.raises(Exception, match=r"tokens\.vocab_size"):
        run.wait(60)
    assert run.status().state == "failed"
    assert (workspace.path / run.made()["dataset"]).exists()
