from __future__ import annotations

import json
import math

import pytest
import torch
import toy_tokens

from engine.config import UserError
from engine.evaluate import EvaluateConfig
from engine.evaluate.report import evaluate
from engine.model import ModelConfig
from engine.model.decoder import Decoder
from engine.model.pretrained import save
from engine.tokens import tokenizer as bpe
from engine.workspace import Workspace

CONFIG = EvaluateConfig(max_tokens=600, prompts=("ka", "", "ka"), sample_tokens=12)


@pytest.fixture(scope="module")
def tokens(tmp_path_factory):
    return toy_tokens.tokens(Workspace(tmp_path_factory.mktemp("report")))


@pytest.fixture(scope="module")
def checkpoint(tokens, tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("run") / "step-000040"
    save(Decoder(ModelConfig(vocab_size=400, hidden_size=32, num_layers=2, num_heads=2, num_kv_heads=1,
                             context_length=32)), folder, tokens / "tokenizer.json")
    return folder


def test_report_is_json_and_its_figures_hang_together(checkpoint, tokens):
    told = []
    report = evaluate(checkpoint, tokens, CONFIG, lambda done, of, message="": told.append((done, of)), seed=1)
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert report["val/perplexity"] == pytest.approx(math.exp(report["val/loss"]))
    assert report["val/bits_per_byte"] == pytest.approx(
        report["val/loss"] * report["tokens"] / (math.log(2) * report["bytes"]))
    assert report["val/loss"] == pytest.approx(math.log(400), abs=0.1)  # nothing was learnt yet
    assert 500 < report["tokens"] <= 600
    assert report["by_position"]["places"] == [1, 2, 4, 8, 16, 32]
    assert all(abs(x - math.log(400)) < 0.5 for x in report["by_position"]["losses"])
    assert told == sorted(told)
    assert told[-1][0] == told[-1][1]


def test_samples_follow_from_seed_and_prompt(checkpoint, tokens):
    first, again, other = (evaluate(checkpoint, tokens, CONFIG, seed=seed)["samples"] for seed in (1, 1, 2))
    assert first == again != other
    assert [sample["prompt"] for sample in first] == ["ka", "", "ka"]
    assert first[0]["text"] != first[2]["text"], "the same prompt is continued in another way"
    assert all(sample["text"] for sample in first)


def test_passages_are_validation_text(tokens, checkpoint):
    long = EvaluateConfig(max_tokens=10**6, prompts=())
    model = ModelConfig(vocab_size=400, hidden_size=32, num_layers=1, num_heads=2, num_kv_heads=1, context_length=128)
    torch.manual_seed(1)
    save(Decoder(model), checkpoint.with_name("wide"), tokens / "tokenizer.json")
    passages = evaluate(checkpoint.with_name("wide"), tokens, long)["passages"]
    text = "".join(toy_tokens.texts(40, seed=2))
    assert len(passages["easiest"]) == len(passages["hardest"]) == 3
    assert all(passage["text"].strip("\ufffd") in text for kind in passages.values() for passage in kind)
    assert passages["easiest"][0]["loss"] < passages["easiest"][-1]["loss"] < passages["hardest"][0]["loss"]


def test_other_tokens_than_the_models_are_refused(checkpoint, workspace):
    other = toy_tokens.tokens(workspace, train=80)
    assert bpe.vocab_size(bpe.load(other / "tokenizer.json")) == 400
    with pytest.raises(UserError, match="another tokenizer"):
        evaluate(checkpoint, other, CONFIG)


def test_a_cut_checkpoint_is_refused_by_its_file(checkpoint, tokens, tmp_path):
    import shutil

    cut = tmp_path / "step-000041"
    shutil.copytree(checkpoint, cut)
    weights = cut / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"model\.safetensors"):
        evaluate(cut, tokens, CONFIG)
