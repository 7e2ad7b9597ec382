"""Small worlds: a workspace of one's own, and a corpus that trains in seconds."""

from __future__ import annotations

import os
import random

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1" if "PYTEST_XDIST_WORKER" in os.environ else "2")
os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from engine.recipe import Recipe
from engine.workspace import Workspace

WORDS = ("the a small old grey river house light winter door garden stone bird hill road she he they it was had came "
         "went saw found left kept under over beyond near quietly again never always morning evening").split()


def prose(sentences: int, seed: int = 0) -> str:
    """Made-up English-looking sentences, the same for the same seed."""
    dice = random.Random(seed)
    made = [" ".join(dice.choices(WORDS, k=dice.randint(6, 14))).capitalize() + "." for _ in range(sentences)]
    return " ".join(made)


@pytest.fixture
def workspace(tmp_path, monkeypatch) -> Workspace:
    """An empty workspace, also the default one of every process that the test starts."""
    monkeypatch.setenv("STUDIO_WORKSPACE", str(tmp_path / "workspace"))
    return Workspace()


@pytest.fixture
def toy_recipe(workspace) -> Recipe:
    """A whole recipe small enough to run in seconds, on a corpus of its own in the workspace."""
    folder = workspace.place("corpora") / "toy"
    folder.mkdir()
    for number in range(60):
        (folder / f"{number:02d}.txt").write_text(prose(40, seed=number))
    return Recipe.load("demo").override(
        "name=toy", "corpus.sources=[{path: corpora/toy}]", "tokens.vocab_size=320",
        "model.num_layers=2", "model.hidden_size=32", "model.num_heads=2", "model.num_kv_heads=1",
        "model.context_length=32", "schedule.warmup_steps=4", "train.max_steps=40", "train.micro_batch_size=8",
        "train.validate_every=20", "train.validation_batches=2", "train.checkpoint_every=20", "train.sample_every=20",
        "train.sample_tokens=8", "train.precision=float32", "evaluate.max_tokens=2000", "evaluate.sample_tokens=8",
    )
