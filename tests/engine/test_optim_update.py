"""Optimizers: which parameters decay, and the same updates as torch's own on groups made by hand."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from toy_models import FORMS, decoder, tokens

from engine.config import UserError, read
from engine.model.decoder import Decoder
from engine.optim import OPTIMIZERS, Optimizer
from engine.optim.adamw import AdamW
from engine.optim.groups import groups
from engine.optim.sgd import SGD


def names(model: Decoder, group: dict) -> set[str]:
    return {name for name, p in model.named_parameters() if any(p is one for one in group["params"])}


@pytest.mark.parametrize("form", FORMS)
def test_matrices_decay_and_norms_and_biases_do_not(form):
    model = decoder(form)
    decayed, kept = groups(model, 0.1)
    assert (decayed["weight_decay"], kept["weight_decay"]) == (0.1, 0.0)
    every = {name for name, _ in model.named_parameters()}
    still = {name for name in every if "norm" in name or name.endswith("bias")}
    assert names(model, kept) == still
    assert names(model, decayed) == every - still
    listed = decayed["params"] + kept["params"]
    assert len({id(p) for p in listed}) == len(listed) == len(list(model.parameters()))


def test_frozen_parameters_are_left_out():
    model = decoder("llama")
    model.embedding.requires_grad_(False)
    assert "embedding.weight" not in names(model, groups(model, 0.1)[0])


def by_hand(model: Decoder, decay: float) -> list[dict]:
    """The two groups of the one test model, named one by one."""
    still = ["norm.weight", *(f"blocks.{n}.{norm}.weight" for n in (0, 1) for norm in (
        "attention_norm", "mlp_norm", "attention.query_norm", "attention.key_norm"))]
    parameters = dict(model.named_parameters())
    return [{"params": [parameters.pop(name) for name in still], "weight_decay": 0.0},
            {"params": list(parameters.values()), "weight_decay": decay}]


def train(model: Decoder, optimizer: torch.optim.Optimizer) -> list[float]:
    losses, ids = [], tokens(4, 12)
    for _ in range(20):
        loss = F.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize(("ours", "theirs"), [
    (AdamW(lr=3e-3, weight_decay=0.5, beta1=0.8, beta2=0.9, eps=1e-7),
     lambda made: torch.optim.AdamW(made, lr=3e-3, betas=(0.8, 0.9), eps=1e-7, foreach=False, fused=False)),
    (SGD(lr=0.02, momentum=0.8, weight_decay=0.3),
     lambda made: torch.optim.SGD(made, lr=0.02, momentum=0.8, foreach=False, fused=False)),
    (SGD(lr=0.02, momentum=0.8, nesterov=True, weight_decay=0.3),
     lambda made: torch.optim.SGD(made, lr=0.02, momentum=0.8, nesterov=True, foreach=False, fused=False)),
    (SGD(lr=0.02, momentum=0.0, nesterov=True, weight_decay=0.3),
     lambda made: torch.optim.SGD(made, lr=0.02, foreach=False, fused=False)),
], ids=["adamw", "sgd", "sgd-nesterov", "sgd-plain"])
def test_twenty_steps_are_torchs(ours, theirs):
    one, other = decoder("qwen3"), decoder("qwen3")
    losses = train(one, ours.build(one))
    wanted = train(other, theirs(by_hand(other, ours.weight_decay)))
    assert losses == pytest.approx(wanted, abs=1e-4)
    assert losses[-1] < losses[0]
    for (name, p), (_, q) in zip(one.named_parameters(), other.named_parameters(), strict=True):
        torch.testing.assert_close(p, q, atol=2e-5, rtol=0, msg=name)


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_every_optimizer_is_built_from_its_name_and_trains(kind):
    settings = read(Optimizer, {"kind": kind, "lr": 0.003})
    model = decoder("llama")
    optimizer = settings.build(model)
    assert {group["lr"] for group in optimizer.param_groups} == {0.003}
    losses = train(model, optimizer)
    assert losses[-1] < losses[0]
    assert read(Optimizer, settings.dump()) == settings


@pytest.mark.parametrize(("settings", "held"), [
    (AdamW(), 8), (SGD(), 4), (SGD(momentum=0), 0)], ids=["adamw", "sgd", "sgd-plain"])
def test_state_is_as_large_as_it_says(settings, held):
    model = decoder("gpt2")
    optimizer = settings.build(model)
    train(model, optimizer)
    size = sum(value.nbytes for state in optimizer.state.values() for name, value in state.items()
               if name != "step" and value is not None)
    assert settings.state_bytes_per_parameter == held
    assert size == held * sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(("values", "sentence"), [
    ({"kind": "adamw", "lr": 0}, "lr: is 0, must be more than 0"),
    ({"kind": "adamw", "beta2": 1}, "beta2: is 1, must be less than 1"),
    ({"kind": "adamw", "momentum": 0.9}, "momentum: is not a setting here"),
    ({"kind": "adam"}, "'adam' is not one of: adamw, sgd"),
])
def test_wrong_settings_are_named(values, sentence):
    with pytest.raises(UserError, match=sentence):
        read(Optimizer, values)
