"""Attention by blocks, fused norms and rotation: the same numbers and gradients as torch's own, by other routes."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck
from toy_models import config, decoder, tokens

from engine.model import ModelConfig, fused, operators
from engine.model.attention import attend
from engine.model.blocks import angles, rotate
from engine.model.cross_entropy import cross_entropy
from engine.model.operators import Operators, choose_attention, use

ALL = Operators(queries_at_once=8, fused=True)


def drawn(*shape, dtype=torch.float64, seed=0):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed)).requires_grad_()


@pytest.mark.parametrize("block", [3, 4, 11, 64])
@pytest.mark.parametrize("groups", [4, 2, 1])
def test_attention_by_blocks_is_torchs(block, groups):
    query, key, value = drawn(2, 4, 11, 6), drawn(2, groups, 11, 6, seed=1), drawn(2, groups, 11, 6, seed=2)
    mine = attend(query, key, value, block)
    theirs = F.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=groups != 4)
    torch.testing.assert_close(mine, theirs)
    told = torch.randn(mine.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    for one, other in zip(torch.autograd.grad(mine, (query, key, value), told),
                          torch.autograd.grad(theirs, (query, key, value), told), strict=True):
        torch.testing.assert_close(one, other)


def test_attention_by_hand():
    """Two tokens: the first sees itself alone; the second weighs both by 1 : exp(2 / sqrt(4)) = 1 : e."""
    query = torch.tensor([[1.0, 0, 0, 0], [0, 2, 0, 0]]).view(1, 1, 2, 4)
    key = torch.tensor([[9.0, 0, 0, 0], [0, 1, 0, 0]]).view(1, 1, 2, 4)
    value = torch.tensor([[1.0, 0, 0, 0], [0, 1, 0, 0]]).view(1, 1, 2, 4)
    e = 2.718281828459045
    expected = torch.tensor([[1.0, 0, 0, 0], [1 / (1 + e), e / (1 + e), 0, 0]])
    torch.testing.assert_close(attend(query, key, value, 1)[0, 0], expected)


def test_masked_attention_by_blocks_is_torchs():
    query, key, value = drawn(2, 4, 9, 6), drawn(2, 2, 9, 6, seed=1), drawn(2, 2, 9, 6, seed=2)
    documents = torch.tensor([[0, 0, 0, 1, 1, 1, 1, 2, 2], [0, 1, 1, 1, 2, 2, 3, 4, 4]])
    mask = torch.ones(9, 9, dtype=torch.bool).tril() & (documents[:, None, :, None] == documents[:, None, None, :])
    mine = attend(query, key, value, 4, mask)
    theirs = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, enable_gqa=True)
    torch.testing.assert_close(mine, theirs)
    for one, other in zip(torch.autograd.grad(mine.square().sum(), (query, key, value)),
                          torch.autograd.grad(theirs.square().sum(), (query, key, value)), strict=True):
        torch.testing.assert_close(one, other)


def test_dropout_leaves_out_its_share_of_the_weights_and_its_gradient_is_right():
    query, key, value = drawn(1, 2, 7, 4), drawn(1, 1, 7, 4, seed=1), drawn(1, 1, 7, 4, seed=2)

    def seeded(*given):
        torch.manual_seed(5)
        return attend(*given, 3, dropout=0.4)

    assert gradcheck(seeded, (query, key, value))
    ones = torch.ones(64, 1, 200, 1)
    mean = attend(ones, ones, ones, 50, dropout=0.4)
    assert float(mean.mean()) == pytest.approx(1.0, abs=0.02), "what stays is raised, so that the mean stays"
    assert float(mean[:, 0, 0].eq(0).float().mean()) == pytest.approx(0.4, abs=0.2)


def test_fused_norm_and_rotation_have_the_right_gradients():
    x, weight = drawn(3, 5, 6), drawn(6, seed=1)
    # Statistics are float32 by design, so the check is coarser than float64 would allow.
    x32, weight32 = x.detach().float().requires_grad_(), weight.detach().float().requires_grad_()
    mine = fused.RMSNorm.apply(x32, weight32, 1e-5, torch.float32)
    theirs = F.rms_norm(x32, (6,), weight32, 1e-5)
    torch.testing.assert_close(mine, theirs)
    for one, other in zip(torch.autograd.grad(mine.pow(3).sum(), (x32, weight32)),
                          torch.autograd.grad(theirs.pow(3).sum(), (x32, weight32)), strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)

    heads, turn = drawn(2, 3, 5, 8, dtype=torch.float32), angles(torch.arange(5)[None], 8, 1e4)
    mine, theirs = fused.Rotate.apply(heads, *turn), rotate(heads, *turn)
    torch.testing.assert_close(mine, theirs)
    torch.testing.assert_close(torch.autograd.grad(mine.pow(3).sum(), heads),
                               torch.autograd.grad(theirs.pow(3).sum(), heads))


@pytest.mark.parametrize("form", ["llama", "qwen3", "gpt2"])
@pytest.mark.parametrize("packed", [False, True])
def test_a_model_learns_the_same_by_either_route(form, packed):
    plain, other, ids = decoder(form), decoder(form), tokens(3, 24)
    use(other, ALL)
    documents = (torch.arange(24) // 7).expand(3, 24) if packed else None
    for model in (plain, other):
        model.train()
        cross_entropy(model.hidden(ids, documents=documents), model.head_weight, ids).backward()
    torch.testing.assert_close(other(ids), plain(ids), atol=2e-5, rtol=0)
    for one, two in zip(plain.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(two.grad, one.grad, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_under_autocast_norms_make_what_the_products_read():
    for form in ("llama", "gpt2"):
        model, ids = decoder(form), tokens(2, 24)
        with torch.autocast("cpu", torch.bfloat16):
            torch_own, hidden = model(ids), model.hidden(ids)
            use(model, ALL)
            other = model(ids)
        assert hidden.dtype == torch.bfloat16
        assert model.hidden(ids).dtype == torch.float32
        exact = model(ids)
        assert (other - exact).abs().mean() < 1.3 * (torch_own - exact).abs().mean(), "no less exact than torch's"


def test_the_choice_follows_the_measurement(monkeypatch):
    shape = ModelConfig(context_length=256)
    took = {0: 2e-3, 64: 1.2e-3, 128: 1e-3}
    monkeypatch.setattr(operators, "_times", lambda config, dtype: took)
    block, why = choose_attention(shape, "cpu", "float32")
    assert block == 128
    assert "kernel 2, by blocks of 64 queries 1.2" in why
    took[0] = 1.04e-3
    assert choose_attention(shape, "cpu", "float32")[0] == 0, "too little to be worth it"
    assert choose_attention(shape, "cuda", "bf16")[0] == 0
    for length, word in ((32, "short"), (4096, "long")):
        assert word in choose_attention(ModelConfig(context_length=length), "cpu", "float32")[1]


def test_probing_draws_nothing_and_leaves_the_threads():
    threads, before = torch.get_num_threads(), torch.get_rng_state()
    choose_attention(config("llama", context_length=96, dropout=0.1), "cpu", "float32")
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), before)


def test_attention_by_blocks_is_one_graph_to_the_compiler():
    model, ids = decoder("llama"), tokens(2, 16)
    use(model, Operators(queries_at_once=8))
    compiled = torch.compile(model.hidden, fullgraph=True, backend="aot_eager", dynamic=False)
    for run in (compiled, model.hidden):
        run(ids).pow(2).sum().backward()
        grads = [p.grad for p in model.parameters()]
        model.zero_grad(set_to_none=True)
        if run is compiled:
            first = grads
    for one, other in zip(first, grads, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)
