from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import toy_tokens

from engine.config import UserError
from engine.evaluate import loss
from engine.evaluate.loss import PASSAGE_TOKENS, measure
from engine.model import ModelConfig
from engine.model.decoder import Decoder
from engine.model.pretrained import save
from engine.progress import Stopped
from engine.tokens.shards import Shards


class Bigram(torch.nn.Module):
    """A decoder that looks at the last token alone: its loss is a mean over pairs, however text is cut."""

    def __init__(self, vocab_size, context_length=32, seed=0):
        super().__init__()
        dice = torch.Generator().manual_seed(seed)
        self.config = ModelConfig(vocab_size=vocab_size, context_length=context_length)
        self.head_weight = torch.nn.Parameter(torch.randn(vocab_size, vocab_size, generator=dice))

    def hidden(self, input_ids):
        return F.one_hot(input_ids, self.config.vocab_size).float()


@pytest.fixture(scope="module")
def val(tmp_path_factory):
    from engine.workspace import Workspace

    return Shards(toy_tokens.tokens(Workspace(tmp_path_factory.mktemp("loss"))), "val")


def by_hand(model, ids):
    """Loss and accuracy of a bigram model on a row of tokens, in numpy."""
    logits = model.head_weight.detach().double().numpy().T[ids[:-1]]
    peaks = logits.max(axis=1, keepdims=True)
    shares = logits - peaks - np.log(np.exp(logits - peaks).sum(axis=1, keepdims=True))
    return -shares[np.arange(len(ids) - 1), ids[1:]].mean(), (logits.argmax(axis=1) == ids[1:]).mean()


@pytest.mark.parametrize("context", [33, 1000, 10_000])
@pytest.mark.parametrize("at_once", [(8192, 1 << 24), (512, 40_000)])
def test_the_whole_split_by_hand(val, monkeypatch, context, at_once):
    monkeypatch.setattr(loss, "TOKENS_AT_ONCE", at_once[0])
    monkeypatch.setattr(loss, "LOGITS_AT_ONCE", at_once[1])
    model = Bigram(400, context)
    ids = val.window(0, val.num_tokens)
    wanted, accuracy = by_hand(model, ids)
    measured = measure(model, val, 10**9)
    assert measured.num_tokens == val.num_tokens - 1
    assert measured.loss == pytest.approx(wanted, rel=1e-6)
    assert measured.accuracy == pytest.approx(accuracy)
    assert measured.num_bytes == val.num_bytes - val.token_bytes[ids[0]]
    assert measured.bits_per_byte == pytest.approx(wanted / math.log(2) * measured.num_tokens / measured.num_bytes)
    assert measured.perplexity == pytest.approx(math.exp(wanted), rel=1e-5)


@pytest.mark.parametrize("most", [1, 7, 100, 999])
def test_a_part_of_the_split_is_spread_over_it_and_no_larger_than_asked(val, most):
    model = Bigram(400, 32)
    measured = measure(model, val, most)
    length = min(32, most)
    starts = val.spread(length, most // length)
    assert measured.num_tokens == len(starts) * length <= most
    wanted = np.mean([by_hand(model, val.window(int(s), length + 1))[0] for s in starts])
    assert measured.loss == pytest.approx(wanted, rel=1e-6)
    assert measured.num_bytes == sum(val.count_bytes(val.window(int(s) + 1, length)) for s in starts)


def test_guessing_costs_the_logarithm_of_the_vocabulary(val):
    model = Bigram(400)
    torch.nn.init.zeros_(model.head_weight)
    measured = measure(model, val, 500)
    assert measured.perplexity == pytest.approx(400, rel=1e-5)
    assert measured.by_position == pytest.approx(np.full(32, math.log(400)), rel=1e-5)


def test_passages_are_ranked_by_their_own_loss(val):
    model = Bigram(400, 200)
    measured = measure(model, val, 10**9)
    for place in (0, len(measured.passages) // 2, -1):
        start = int(measured.passages[place])
        wanted, _ = by_hand(model, val.window(start - 1, PASSAGE_TOKENS + 1))
        assert measured.passage_losses[place] == pytest.approx(wanted, rel=1e-6)
    assert len(set(measured.passages.tolist())) == len(measured.passages)


def test_agrees_with_transformers_at_every_place(val, tmp_path):
    from transformers import LlamaForCausalLM

    torch.manual_seed(0)
    config = ModelConfig(vocab_size=400, hidden_size=32, num_layers=2, num_heads=2, num_kv_heads=1, context_length=48)
    model = Decoder(config)
    torch.nn.init.normal_(model.embedding.weight, std=0.7)
    save(model, tmp_path / "theirs")
    theirs = LlamaForCausalLM.from_pretrained(tmp_path / "theirs").eval()
    rows = torch.from_numpy(val.windows(val.spread(48, 10), 49))
    with torch.no_grad():
        logits = theirs(rows[:, :-1]).logits
    each = F.cross_entropy(logits.transpose(1, 2), rows[:, 1:], reduction="none").double()
    measured = measure(model, val, 480)
    assert measured.num_tokens == 480
    assert measured.loss == pytest.approx(float(each.mean()), abs=1e-5)
    assert measured.by_position == pytest.approx(each.mean(0).numpy(), abs=1e-4)
    assert measured.accuracy == pytest.approx(float((logits.argmax(-1) == rows[:, 1:]).double().mean()), abs=1e-9)
    # In bf16 only the matrix products are rounded: the loss stays near, which bf16 logits' own does not promise.
    assert measure(model, val, 480, precision="bf16").loss == pytest.approx(measured.loss, abs=0.03)


def test_the_model_is_left_as_it_was_and_a_stop_gets_through(val):
    model = Bigram(400).train()
    measure(model, val, 100)
    assert model.training

    def progress(done, of, message=""):
        raise Stopped

    with pytest.raises(Stopped):
        measure(model, val, 100, progress=progress)
    assert model.training


def test_ruined_weights_are_said_to_be(val):
    model = Bigram(400)
    torch.nn.init.constant_(model.head_weight, math.nan)
    with pytest.raises(UserError, match="earlier checkpoint"):
        measure(model, val, 100)


def test_a_vocabulary_that_the_model_lacks_is_refused(val):
    with pytest.raises(UserError, match="400 tokens, but the model knows only 399"):
        measure(Bigram(399), val, 100)


def test_nothing_to_predict_is_refused(workspace):
    folder = toy_tokens.tokens(workspace, train=60, val=0, vocab_size=300)
    with pytest.raises(UserError, match="val text has 0 tokens"):
        measure(Bigram(300), Shards(folder, "val"), 100)
