"""Configs: what a wrong value is answered with, and what a form can read from a class."""

from __future__ import annotations

import pytest

from engine.config import UserError, read, settings
from engine.model import FAMILIES, SIZES, ModelConfig
from engine.optim import OPTIMIZERS, Optimizer
from engine.recipe import Recipe
from engine.table import Table


def test_a_part_is_chosen_by_kind_or_by_its_bare_name():
    assert read(Optimizer, "sgd") == read(Optimizer, {"kind": "sgd"}) == OPTIMIZERS["sgd"]()


def test_a_table_refuses_a_second_part_of_the_same_name():
    table: Table = Table("optimizer")
    table.add("x")(object())
    with pytest.raises(ValueError, match="two optimizers are called 'x'"):
        table.add("x")(object())


@pytest.mark.parametrize(("change", "field", "words"), [
    ("optim.kind=adamx", "optim", "not one of: adamw, "),
    ("optim.lr=0", "optim.lr", "must be more than 0"),
    ("optim.lr=fast", "optim.lr", "must be a number"),
    ("train.max_steps=2.5", "train.max_steps", "must be a whole number"),
    ("train.precision=fp8", "train.precision", "must be one of 'auto', 'bf16' or 'float32'"),
    ("model.num_heads=5", "model.num_heads", "does not divide hidden_size 128; choose 1, 2, 4, 8"),
    ("model.num_kv_heads=3", "model.num_kv_heads", "does not divide num_heads 4; choose 1, 2 or 4"),
    ("model.qk_norm=true", "model.qk_norm", "a llama model has False"),
    ("model.head_size=33", "model.head_size", "RoPE turns pairs"),
    ("model.vocab_size=99", "model.vocab_size", "set tokens.vocab_size alone"),
    ("optimizer.lr=1", "optimizer", "is not a setting here"),
    ("jobs=[train, curate]", "jobs", "curate, tokenize, train, evaluate, export"),
    ("jobs=[export]", "from_run", "no model to evaluate or export"),
    ("optim.lr=nan", "optim.lr", "is nan, must be a number that is neither infinite nor nan"),
    ("optim.lr=.inf", "optim.lr", "is inf, must be a number that is neither infinite nor nan"),
    ("name=", "name", "name: is empty; write something"),
    ("name=' '", "name", "name: is empty; write something"),
    ("name=../../x", "name", "is ../../x, which reads as a path; write a name without /"),
    ("sweep.vary=[optim.lr]", "sweep.vary", "sweep.vary: cannot be read: optim.lr is no range; write values"),
    ("corpus.steps=[clean, polish]", "corpus.steps.1", "kind 'polish' is not one of"),
])
def test_a_wrong_setting_is_named_with_its_remedy(change, field, words):
    with pytest.raises(UserError) as error:
        Recipe().override(change)
    assert error.value.where == field
    assert words in error.value.sentence


def test_broken_yaml_is_named_by_file_and_line():
    with pytest.raises(UserError, match=r"my\.yaml line 2 is not YAML"):
        Recipe.from_yaml("name: x\ntrain: a: 1\n", where="my.yaml")


def test_an_unknown_recipe_names_the_shipped_ones():
    with pytest.raises(UserError, match="shipped are demo"):
        Recipe.load("nonesuch")


def test_every_setting_has_words_and_a_form_can_read_its_limits():
    def walk(cls):
        for s in settings(cls):
            assert s.words, f"{cls.__name__}.{s.name} has no words"
            if s.config:
                for part in getattr(s.config, "table", {}).values() or [s.config]:
                    walk(part)

    walk(Recipe)
    lr = {s.name: s for s in settings(OPTIMIZERS["adamw"])}["lr"]
    assert (lr.minimum, lr.exclusive_minimum, lr.maximum) == (0, True, 10)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("size", SIZES)
def test_every_size_fits_every_family_and_is_written_short(family, size):
    model = ModelConfig(family=family, size=size)
    assert model.dump() == {"family": family, "size": size, "vocab_size": 2048}
    assert ModelConfig.model_validate(model.dump()) == model


def test_a_changed_number_survives_and_a_new_size_refills_the_rest():
    model = Recipe().override("model.num_layers=6").override("model.size=mini").model
    assert (model.num_layers, model.hidden_size) == (6, 384)
    wide = ModelConfig(size="nano", hidden_size=256)
    assert (wide.head_size, wide.intermediate_size) == (64, 704)


def test_a_wrong_setting_in_a_file_is_told_with_its_line():
    text = "name: x\n# a comment\noptim:\n  kind: adamw\n  lrr: 1\ncorpus:\n  sources:\n    - path: a\n    - pathh: b\n"
    with pytest.raises(UserError) as told:
        Recipe.from_yaml(text, where="my.yaml")
    assert told.value.sentence.startswith("my.yaml line 9: corpus.sources.1.pathh: is not a setting here")
    assert "; line 5: optim.lrr: is not a setting here" in told.value.sentence
