from __future__ import annotations

import pytest
import torch
import toy_tokens

from engine import files, runs
from engine.config import UserError
from engine.model import ModelConfig
from engine.model.decoder import Decoder
from engine.model.pretrained import save
from engine.recipe import Recipe
from engine.runs import jobs
from engine.runs.costs import costs
from engine.runs.folder import START
from engine.runs.worker import Worker
from engine.tokens import TokensConfig
from engine.tokens.shards import tokenize

HELD_OUT = toy_tokens.texts(40, seed=2)
MODEL = ModelConfig(vocab_size=400, hidden_size=32, num_layers=1, num_heads=2, num_kv_heads=1, context_length=32)


def trained(workspace, name: str, train: list[str], val: list[str]) -> runs.Run:
    """A run as training leaves it; its model has not learnt anything."""
    dataset = toy_tokens.dataset(workspace, train, val, name)
    tokens = tokenize(TokensConfig(vocab_size=400), dataset, workspace, name)
    run = runs.create(Recipe(name=name, jobs=["train"]), workspace)
    torch.manual_seed(len(name))
    checkpoint = run.path / "checkpoints" / "step-000001"
    save(Decoder(MODEL), checkpoint, tokens / "tokenizer.json")
    files.write_json(checkpoint / "meta.json", {"step": 1, "val_loss": 6.0, "files": {}})
    files.write_json(run.path / "made.json", {"dataset": f"datasets/{dataset.name}", "tokens": f"tokens/{tokens.name}"})
    return run


def evaluated(workspace, source: runs.Run, text_of: str = "") -> runs.Run:
    recipe = Recipe(name=f"{source.name}-evaluate", jobs=["evaluate"], from_run=source.name,
                    evaluate={"text_of": text_of, "prompts": []})
    run = runs.create(recipe, workspace)
    jobs.evaluate(Worker(run), recipe)
    return run


@pytest.fixture
def two(workspace) -> tuple[runs.Run, runs.Run]:
    """A run on a dataset, and one on a dataset that was changed: its vocabulary, its training and its held-out text."""
    changed = [text.replace("ka", "wobble") for text in toy_tokens.texts(300, seed=1)]
    return (trained(workspace, "before", toy_tokens.texts(300, seed=1), HELD_OUT),
            trained(workspace, "after", changed, [text.replace("ka", "wobble") for text in HELD_OUT]))


def test_two_models_are_measured_on_one_text_each_with_its_own_tokens(workspace, two):
    before, after = two
    dataset = workspace.path / after.made()["dataset"]
    evaluated(workspace, before)
    evaluated(workspace, after)
    assert costs(dataset, workspace) == [], "each was measured on a text of its own"
    report = files.read_json(evaluated(workspace, after, "before").path / "evaluation.json")
    assert report["text_of"] == "before"
    whole = sum(len(text.encode()) for text in HELD_OUT)
    assert whole - 20 < report["bytes"] <= whole, "all of the other's held-out text but its first token"
    (other, own, cost), = costs(dataset, workspace)
    assert (other, own, cost["same_text"], cost["same_tokenizer"]) == ("before", "after", True, False)
    assert cost["sentence"].startswith("Bits per byte went from ")
    assert cost["sentence"].endswith("measured on the same held-out text.")
    assert cost["measures"]["val/bits_per_byte"]["after"] == report["val/bits_per_byte"]


def test_held_out_text_that_the_model_was_trained_on_is_told(workspace, two):
    before, _ = two
    leaky = trained(workspace, "leaky", HELD_OUT[:30] + toy_tokens.texts(300, seed=3), toy_tokens.texts(20, seed=4))
    run = evaluated(workspace, leaky, "before")
    told = [event["sentence"] for event in run.rows("events", START)[0] if event["kind"] == "warning"]
    assert len(told) == 1
    assert "held-out documents of before stand in the text that this model was trained on" in told[0]
    assert not [event for event in evaluated(workspace, before, "before").rows("events", START)[0]
                if event["kind"] == "warning"]


def test_a_run_without_a_dataset_is_refused_by_name(workspace, two):
    runs.create(Recipe(name="empty"), workspace)
    with pytest.raises(UserError, match="empty has no dataset"):
        evaluated(workspace, two[0], "empty")
    with pytest.raises(UserError, match="text_of is nobody, and there is no such run"):
        evaluated(workspace, two[0], "nobody")
