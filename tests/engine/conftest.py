"""A workspace in which a toy corpus is curated and tokenized once, for all tests that train."""

from __future__ import annotations

import random
from pathlib import Path
from typing import NamedTuple

import pytest

from engine.recipe import Recipe
from engine.runs import Run, create
from engine.workspace import Workspace

WORDS = ("the", "a", "small", "old", "grey", "river", "house", "light", "winter", "garden", "she", "he", "was", "had")


class World(NamedTuple):
    workspace: Workspace
    recipe: Recipe
    tokens: Path

    def run(self, *changes: str) -> Run:
        """A run folder that asks for the recipe with these changes; nothing is started."""
        return create(self.recipe.override(*changes), self.workspace)


@pytest.fixture(scope="session")
def world(tmp_path_factory) -> World:
    from engine.runs.worker import Worker

    workspace = Workspace(tmp_path_factory.mktemp("world"))
    folder = workspace.place("corpora") / "toy"
    folder.mkdir()
    for number in range(60):
        dice = random.Random(number)
        (folder / f"{number:02d}.txt").write_text(" ".join(
            " ".join(dice.choices(WORDS, k=10)).capitalize() + "." for _ in range(20)))
    recipe = Recipe().override(
        "name=toy", "corpus.sources=[{path: corpora/toy}]", "tokens.vocab_size=300", "jobs=[tokenize]",
        "model.num_layers=2", "model.hidden_size=16", "model.num_heads=2", "model.num_kv_heads=1",
        "model.context_length=16", "optim.lr=1e-2", "schedule.warmup_steps=4", "train.max_steps=20",
        "train.micro_batch_size=4", "train.validate_every=10", "train.validation_batches=2",
        "train.checkpoint_every=10", "train.sample_every=0", "train.sample_tokens=8", "train.precision=float32",
        "train.sample_prompts=[The]",
    )
    run = create(recipe, workspace)
    assert Worker(run).work() == "finished", run.status().error
    return World(workspace, recipe.override("jobs=[train]"), workspace.path / run.made()["tokens"])


@pytest.fixture
def one_thread():
    """Sums in the same order here and in the worker processes that the test starts."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield
    torch.set_num_threads(before)
