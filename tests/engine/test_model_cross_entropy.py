"""The loss by pieces of the text, against torch's on the whole logits."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from engine.model import estimate
from engine.model.cross_entropy import IGNORED, cross_entropy


@pytest.fixture
def in_pieces(monkeypatch):
    """Pieces of 3 tokens, the last one shorter."""
    monkeypatch.setattr(estimate, "ROWS_AT_ONCE", 3)
    monkeypatch.setattr(estimate, "LOGITS_AT_ONCE", 1)
    assert estimate.logits_at_once(8, 11) == 3


def world(dtype=torch.float32):
    dice = torch.Generator().manual_seed(0)
    hidden = torch.randn(2, 4, 5, generator=dice).to(dtype).requires_grad_()
    weight = torch.randn(11, 5, generator=dice).requires_grad_()
    targets = torch.randint(11, (2, 4), generator=dice)
    targets[0, 1] = targets[1, 3] = IGNORED
    return hidden, weight, targets


def plain(hidden, weight, targets):
    return F.cross_entropy(F.linear(hidden, weight).flatten(0, 1), targets.flatten(), reduction="sum")


def test_loss_and_gradients_are_torchs(in_pieces):
    hidden, weight, targets = world()
    mine, theirs = cross_entropy(hidden, weight, targets), plain(hidden, weight, targets)
    torch.testing.assert_close(mine, theirs)
    for one, other in zip(torch.autograd.grad(3 * mine, (hidden, weight)),
                          torch.autograd.grad(3 * theirs, (hidden, weight)), strict=True):
        torch.testing.assert_close(one, other)


def test_by_hand():
    """Logits (0, ln 3): the second token has 3/4. Its loss is ln 4/3, its gradient of the logits (1/4, -1/4)."""
    hidden = torch.tensor([[1.0, 0.0]], requires_grad=True)
    weight = torch.tensor([[0.0, 0.0], [math.log(3), 0.0]], requires_grad=True)
    loss = cross_entropy(hidden, weight, torch.tensor([1]))
    loss.backward()
    assert float(loss.detach()) == pytest.approx(math.log(4 / 3))
    torch.testing.assert_close(weight.grad, torch.tensor([[0.25, 0.0], [-0.25, 0.0]]))
    torch.testing.assert_close(hidden.grad, torch.tensor([[-0.25 * math.log(3), 0.0]]))


def test_bf16_products_and_float32_sums(in_pieces):
    """With many pieces a bf16 sum would lose what each adds; the loss and the head's gradient do not."""
    dice = torch.Generator().manual_seed(1)
    hidden, weight = torch.randn(900, 16, generator=dice), torch.randn(40, 16, generator=dice) * 0.2
    targets = torch.randint(40, (900,), generator=dice)
    hidden.requires_grad_()
    weight.requires_grad_()
    exact = plain(hidden[None], weight, targets[None])
    exact_gradients = torch.autograd.grad(exact, (hidden, weight))
    with torch.autocast("cpu", torch.bfloat16):
        mine = cross_entropy(hidden, weight, targets)
    gradients = torch.autograd.grad(mine, (hidden, weight))
    assert mine.dtype == torch.float32
    assert float(mine.detach()) == pytest.approx(float(exact.detach()), rel=1e-4)
    assert gradients[1].dtype == torch.float32
    for one, other in zip(gradients, exact_gradients, strict=True):
        assert float((one - other).norm() / other.norm()) < 6e-3

    hidden16 = hidden.detach().bfloat16().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        cross_entropy(hidden16, weight, targets).backward()
    assert hidden16.grad.dtype == torch.bfloat16


def test_a_tied_head_gets_both_gradients(in_pieces):
    ids = torch.tensor([[1, 4, 2, 7]])
    grads = []
    for loss in (cross_entropy, plain):
        embedding = torch.randn(11, 5, generator=torch.Generator().manual_seed(3)).requires_grad_()
        loss(F.embedding(ids, embedding), embedding, ids.roll(-1)).backward()
        grads.append(embedding.grad)
    torch.testing.assert_close(*grads)


def test_looking_makes_no_gradient_and_a_frozen_head_gets_none(in_pieces):
    hidden, weight, targets = world()
    with torch.no_grad():
        torch.testing.assert_close(cross_entropy(hidden, weight, targets), plain(hidden, weight, targets))
    frozen = weight.detach()
    loss = cross_entropy(hidden, frozen, targets)
    torch.testing.assert_close(torch.autograd.grad(loss, hidden),
                               torch.autograd.grad(plain(hidden, frozen, targets), hidden))


def test_nothing_counts():
    hidden, weight, _ = world()
    loss = cross_entropy(hidden, weight, torch.full((2, 4), IGNORED))
    loss.backward()
    assert float(loss.detach()) == 0
    assert not hidden.grad.any()


def test_gradients_are_handed_out_once(in_pieces):
    hidden, weight, targets = world()
    loss = cross_entropy(hidden, weight, targets)
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="already taken"):
        loss.backward()


def test_logits_of_many_tokens_are_never_held_whole():
    """By what torch hands out: no piece of memory is as large as all logits would be."""
    from torch.profiler import ProfilerActivity, profile

    assert estimate.logits_at_once(4096, 4000) == 4096
    assert estimate.logits_at_once(4096, 50_000) == 512
    hidden, weight = torch.randn(2048, 8, requires_grad=True), torch.randn(32_768, 8, requires_grad=True)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as told:
        cross_entropy(hidden, weight, torch.zeros(2048, dtype=torch.long)).backward()
    taken = max(event.self_cpu_memory_usage for event in told.events())
    assert taken <= 512 * 32_768 * 4
