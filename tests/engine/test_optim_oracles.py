"""A hundred steps of every optimizer against the reference: torch's, the authors' or another library's, on groups made
by hand. The gradient depends on the parameters, so that a difference would feed on itself."""

from __future__ import annotations

import pytest
import pytorch_optimizer
import schedulefree
import torch
import transformers
from toy_models import decoder

from engine.optim.adafactor import Adafactor
from engine.optim.adam import Adam
from engine.optim.adamw import AdamW
from engine.optim.lion import Lion
from engine.optim.muon import Muon
from engine.optim.schedule_free import ScheduleFree
from engine.optim.sgd import SGD

STEPS = 100
pytestmark = pytest.mark.usefixtures("one_thread")

MATRICES = [f"blocks.0.{name}.weight" for name in (
    "attention.query", "attention.key", "attention.value", "attention.output", "mlp.gate", "mlp.up", "mlp.down")]


def hundred_steps(model, optimizer, schedule=lambda step: 1.0):
    dice = torch.Generator().manual_seed(1)
    peaks = [group["lr"] for group in optimizer.param_groups]
    for step in range(STEPS):
        for group, peak in zip(optimizer.param_groups, peaks, strict=True):
            group["lr"] = peak * schedule(step)
        for p in model.parameters():
            p.grad = 0.3 * p.detach() + 0.2 * torch.randn(p.shape, generator=dice)
        optimizer.step()


def by_hand(model, decay, *rules):
    """The groups of the one test model, named one by one: matrices of the blocks, the embedding, vectors."""
    named = dict(model.named_parameters())
    matrices, table = [named.pop(name) for name in MATRICES], [named.pop("embedding.weight")]
    extra = rules or ({}, {})
    return [{"params": matrices, "weight_decay": decay, **extra[0]},
            {"params": table, "weight_decay": decay, **extra[1]},
            {"params": list(named.values()), "weight_decay": 0.0, **extra[1]}]


def torch_muon_and_adamw(groups, **settings):
    """torch's two, stepped one after the other, as one that `hundred_steps` can drive."""
    muon = torch.optim.Muon(groups[:1], adjust_lr_fn="match_rms_adamw", **settings)
    adamw = torch.optim.AdamW(groups[1:], lr=settings["lr"], betas=(0.9, 0.95), foreach=False)
    muon.param_groups += adamw.param_groups
    own = muon.param_groups[:1]

    def step():
        muon.param_groups, every = own, muon.param_groups
        torch.optim.Muon.step(muon)
        muon.param_groups = every
        adamw.step()

    muon.step = step
    return muon


CASES = {
    "adamw": (AdamW(lr=3e-3, weight_decay=0.5, beta1=0.8, beta2=0.9, eps=1e-7), lambda made: torch.optim.AdamW(
        made, lr=3e-3, betas=(0.8, 0.9), eps=1e-7, foreach=False, fused=False), 2e-6),
    "adam": (Adam(lr=3e-3, weight_decay=0.2), lambda made: torch.optim.Adam(
        made, lr=3e-3, betas=(0.9, 0.999), foreach=False, fused=False), 2e-6),
    "sgd": (SGD(lr=0.02, momentum=0.8, weight_decay=0.3), lambda made: torch.optim.SGD(
        made, lr=0.02, momentum=0.8, foreach=False, fused=False), 2e-6),
    "sgd-nesterov": (SGD(lr=0.02, momentum=0.8, nesterov=True), lambda made: torch.optim.SGD(
        made, lr=0.02, momentum=0.8, nesterov=True, foreach=False, fused=False), 2e-6),
    "sgd-plain": (SGD(lr=0.02, momentum=0.0, nesterov=True), lambda made: torch.optim.SGD(
        made, lr=0.02, foreach=False, fused=False), 2e-6),
    "lion": (Lion(lr=1e-3, weight_decay=0.5), lambda made: pytorch_optimizer.Lion(
        made, lr=1e-3, betas=(0.9, 0.99)), 0.0),
    "adafactor": (Adafactor(lr=1e-2), lambda made: transformers.Adafactor(
        made, lr=1e-2, relative_step=False, scale_parameter=True), 2e-6),
    "muon-torch": (Muon(lr=2e-3, weight_decay=0.2), lambda made: torch_muon_and_adamw(made, lr=2e-3), 2e-6),
    "schedule-free": (ScheduleFree(lr=3e-3, weight_decay=0.2), lambda made: schedulefree.AdamWScheduleFreeReference(
        made, lr=3e-3, betas=(0.9, 0.95)), 5e-6),
}


@pytest.mark.parametrize("case", CASES)
def test_a_hundred_steps_are_the_reference_s(case):
    ours, theirs, tolerance = CASES[case]
    schedule = (lambda step: min(1.0, (step + 1) / 20)) if case == "schedule-free" else lambda step: 1 - step / 200
    one, other = (decoder("qwen3", num_layers=1) for _ in range(2))
    began = {name: p.detach().clone() for name, p in one.named_parameters()}
    mine, reference = ours.build(one), theirs(by_hand(other, ours.weight_decay))
    for optimizer in (mine, reference):
        if hasattr(optimizer, "train"):
            optimizer.train()
    hundred_steps(one, mine, schedule)
    hundred_steps(other, reference, schedule)
    for optimizer in (mine, reference):
        if hasattr(optimizer, "eval"):
            optimizer.eval()
    for (name, p), q in zip(one.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(p, q, atol=tolerance, rtol=0, msg=lambda words, name=name: f"{name}: {words}")
        assert (p - began[name]).abs().max() > 0.01


def test_a_hundred_steps_of_muon_are_another_library_s():
    """pytorch-optimizer's has the Moonlight scale of the update; its momentum keeps a sum, where torch's keeps a mean,
    which an orthogonal update cannot tell. Newton-Schulz in bfloat16 lets the two drift: it turns noise in a direction
    that a gradient has little of into a full step."""
    one, other = (decoder("qwen3", num_layers=1) for _ in range(2))
    began = {name: p.detach().clone() for name, p in one.named_parameters()}
    ours = Muon(lr=2e-3, weight_decay=0.2)
    made = by_hand(other, 0.2, {"use_muon": True}, {"use_muon": False})
    hundred_steps(one, ours.build(one), lambda step: 1 - step / 200)
    hundred_steps(other, pytorch_optimizer.Muon(made, lr=2e-3, adamw_lr=2e-3, adamw_eps=1e-8, use_adjusted_lr=True),
                  lambda step: 1 - step / 200)
    for (name, p), q in zip(one.named_parameters(), other.parameters(), strict=True):
        if name in MATRICES:
            assert (p - q).norm() < 0.02 * (p - began[name]).norm(), name
        else:
            torch.testing.assert_close(p, q, atol=2e-6, rtol=0)
