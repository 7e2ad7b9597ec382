"""The decoder agrees with itself: through the cache, beside padding, compiled, and in lower precision."""

from __future__ import annotations

import pytest
import torch
from toy_models import CONTEXT, FORMS, config, decoder, tokens

from engine.config import UserError
from engine.model import ModelConfig
from engine.model.decoder import Cache, Decoder

FAMILY_FORMS = ("llama", "qwen3", "gpt2")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("pieces", [(9, 1, 1, 1), (1, 1, 10), (5, 4, 3)], ids=str)
@torch.no_grad()
def test_reading_in_pieces_through_the_cache_is_reading_at_once(form, pieces):
    model, ids, cache, seen = decoder(form), tokens(3, 12), Cache(), []
    for piece in ids.split(pieces, dim=1):
        seen.append(model(piece, cache=cache))
    assert cache.length == 12
    assert cache.keys[1].shape == (3, model.config.num_kv_heads, 12, model.config.head_size)
    torch.testing.assert_close(torch.cat(seen, dim=1), model(ids), atol=1e-5, rtol=0)


@pytest.mark.parametrize("form", FAMILY_FORMS)
@pytest.mark.parametrize("side", ["left", "right"])
@torch.no_grad()
def test_padding_changes_nothing(form, side):
    model, lengths = decoder(form), (4, 9, 7)
    texts = [tokens(1, n, seed=n)[0] for n in lengths]
    batch, mask = torch.full((3, 9), 5), torch.zeros(3, 9, dtype=torch.long)
    for row, text in enumerate(texts):
        place = slice(9 - len(text), None) if side == "left" else slice(len(text))
        batch[row, place], mask[row, place] = text, 1
    logits = model(batch, attention_mask=mask)
    assert logits.isfinite().all()
    for row, text in enumerate(texts):
        torch.testing.assert_close(logits[row][mask[row].bool()], model(text[None])[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("form", FAMILY_FORMS)
@pytest.mark.parametrize("side", ["left", "right"])
@torch.no_grad()
def test_a_padded_batch_goes_on_through_the_cache(form, side):
    """Prefill with padding, then one token, then two at once; each row as if it were alone."""
    model, lengths, more = decoder(form), (3, 8), tokens(2, 3, seed=7)
    batch, mask = torch.zeros(2, 8, dtype=torch.long), torch.zeros(2, 8, dtype=torch.long)
    for row, length in enumerate(lengths):
        place = slice(8 - length, None) if side == "left" else slice(length)
        batch[row, place], mask[row, place] = tokens(1, length, seed=row)[0], 1
    cache = Cache()
    model(batch, attention_mask=mask, cache=cache)
    seen = []
    for piece in (more[:, :1], more[:, 1:]):
        mask = torch.cat((mask, torch.ones_like(piece)), dim=1)
        seen.append(model(piece, attention_mask=mask, cache=cache))
    for row, length in enumerate(lengths):
        alone = model(torch.cat((tokens(1, length, seed=row), more[row:row + 1]), dim=1))[:, length:]
        torch.testing.assert_close(torch.cat(seen, dim=1)[row:row + 1], alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("form", FAMILY_FORMS)
@torch.no_grad()
def test_no_token_sees_what_follows_it(form):
    model, ids = decoder(form), tokens(1, 10)
    changed = ids.clone()
    changed[0, 6:] = (ids[0, 6:] + 1) % model.config.vocab_size
    before, after = model(ids), model(changed)
    assert torch.equal(before[:, :6], after[:, :6])
    assert not torch.allclose(before[:, 6], after[:, 6])


@torch.no_grad()
def test_hidden_states_and_head_make_the_logits():
    for form in ("llama", "llama-untied-biased"):
        model, ids = decoder(form), tokens(2, 5)
        torch.testing.assert_close(model.hidden(ids) @ model.head_weight.T, model(ids))


def test_more_than_the_context_is_refused_with_the_numbers():
    model, cache = decoder("gpt2"), Cache()
    with pytest.raises(UserError, match=rf"33 tokens .* context_length of {CONTEXT}"):
        model(tokens(1, CONTEXT + 1))
    model(tokens(1, CONTEXT), cache=cache)
    with pytest.raises(UserError, match="33 tokens"):
        model(tokens(1, 1), cache=cache)
    assert cache.length == CONTEXT


def test_weights_start_as_the_docstring_says():
    torch.manual_seed(0)
    model = Decoder(ModelConfig(num_layers=8, hidden_size=256, num_heads=4, attention_bias=True, vocab_size=2000))
    for block in model.blocks:
        assert block.attention.query.weight.std().item() == pytest.approx(0.02, rel=0.05)
        assert block.attention.output.weight.std().item() == pytest.approx(0.02 / 4, rel=0.05)
        assert block.mlp.down.weight.std().item() == pytest.approx(0.02 / 4, rel=0.05)
        assert not block.attention.key.bias.any()
        assert (block.mlp_norm.weight == 1).all()
    assert model.embedding.weight.std().item() == pytest.approx(0.02, rel=0.05)


def test_dropout_acts_in_training_alone():
    model, ids = decoder("gpt2", dropout=0.3), tokens(1, 8)
    assert torch.equal(model(ids), model(ids))
    model.train()
    assert not torch.allclose(model(ids), model(ids))


@pytest.mark.parametrize("form", FAMILY_FORMS)
def test_bf16_training_is_near_float32_and_every_weight_gets_a_gradient(form):
    model, ids = Decoder(config(form)), tokens(4, 16)
    exact = model(ids)
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(ids)
    torch.testing.assert_close(logits.float(), exact, atol=0.03, rtol=0)
    torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), ids.flatten()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.dtype == torch.float32, name
        # A bias of all keys alike changes no softmax, so its gradient is rounding.
        assert parameter.grad.any() or name.endswith("key.bias"), name


@pytest.mark.parametrize("form", FAMILY_FORMS)
def test_the_training_path_is_one_graph(form):
    """torch.compile would lose its gain to breaks in the graph, which come of host syncs and data-dependent code."""
    model, ids = decoder(form), tokens(2, 16)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(ids), model(ids), atol=1e-5, rtol=0)
    compiled(ids).sum().backward()
