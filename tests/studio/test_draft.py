"""The draft: wrong values stay and say where, the rest goes on, and a command repeats it."""

from __future__ import annotations

import shlex

import pytest

from engine.recipe import Recipe
from studio.draft import Draft
from studio.recipe_code import code


def test_an_empty_draft_is_the_default_recipe():
    assert Draft().recipe == Recipe()


def test_a_wrong_value_stays_and_says_where_and_the_rest_goes_on():
    draft = Draft()
    draft.put(("optim", "lr"), -1)
    draft.put(("train", "max_steps"), 77)
    assert draft.recipe is None
    assert "more than 0" in draft.problem(("optim", "lr"))
    assert draft.given(("optim", "lr")) == -1
    assert draft.settled.train.max_steps == 77
    assert draft.settled.optim.lr == Recipe().optim.lr


def test_a_size_refills_the_numbers_but_not_those_that_were_set():
    draft = Draft()
    draft.put(("model", "num_layers"), 7)
    draft.put(("model", "size"), "mini")
    assert draft.recipe.model.num_layers == 7
    assert draft.recipe.model.hidden_size == 384
    assert draft.default(("model", "num_layers")) == 6
    draft.drop(("model", "num_layers"))
    assert draft.recipe.model.num_layers == 6


def test_a_setting_of_a_part_keeps_the_kind_that_stands_by_default():
    draft = Draft()
    draft.put(("schedule", "warmup_steps"), 5)
    assert draft.recipe.schedule.kind == "cosine"
    draft.put(("corpus", "sources", 0, "column"), "body")
    assert draft.recipe.corpus.sources[0].column == "body"
    assert draft.recipe.corpus.sources[0].path == Recipe().corpus.sources[0].path


def test_the_draft_survives_a_restart_and_a_damaged_file(tmp_path):
    draft, path = Draft(), tmp_path / "draft.yaml"
    draft.put(("optim",), {"kind": "sgd"})
    draft.put(("train", "max_steps"), "many")
    draft.save(path)
    again = Draft.load(path)
    assert again.values == draft.values
    assert again.problems == draft.problems
    path.write_text("{ not: [yaml")
    assert Draft.load(path).recipe == Recipe()


@pytest.mark.parametrize("changes", [
    {"optim": {"kind": "sgd"}},
    {"optim": {"kind": "adamw", "lr": 3e-4}, "model": {"size": "micro", "num_layers": 3}},
    {"corpus": {"sources": [{"path": "corpora/my texts; rm -rf"}], "steps": ["clean"]},
     "train": {"sample_prompts": ["It's", "$HOME"]}},
    {"schedule": {"kind": "wsd", "decay_fraction": 0.3}, "name": "a 'quoted' name"},
])
def test_the_command_makes_exactly_the_draft(changes, session):
    session.draft.replace(changes)
    assert session.draft.recipe is not None
    words = shlex.split(" ".join(session.draft.changes(Recipe.load("demo"))))
    assert Recipe.load("demo").override(*words) == session.draft.recipe


def test_code_shows_yaml_and_a_command_or_what_is_wrong(session):
    session.draft.put(("optim", "lr"), 0.5)
    shown = code(session, ("optim",), "train")
    assert "lr: 0.5" in shown
    assert "studio train demo" in shown
    assert "optim.lr=0.5" in shown
    session.draft.put(("optim", "lr"), "<b>fast</b>")
    shown = code(session, ("optim",), "train")
    assert "studio train" not in shown
    assert "<b>fast" not in shown
    assert "optim.lr" in shown
