"""Optimizers on a decoder: which parameters decay, move or stay, what is kept, and what is refused."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from toy_models import FORMS, config, decoder, tokens

from engine.config import UserError, read
from engine.model.decoder import Decoder
from engine.model.shapes import shapes
from engine.optim import OPTIMIZERS, Layer, Optimizer
from engine.optim.adamw import AdamW
from engine.optim.averages import average
from engine.optim.groups import assign, freeze, groups, state_bytes
from engine.optim.muon import Muon
from engine.optim.sgd import SGD

pytestmark = pytest.mark.usefixtures("one_thread")


def names(model: Decoder, group: dict) -> set[str]:
    return {name for name, p in model.named_parameters() if any(p is one for one in group["params"])}


def train(model: Decoder, optimizer: torch.optim.Optimizer, steps: int = 20) -> list[float]:
    losses, ids = [], tokens(4, 12)
    for _ in range(steps):
        loss = F.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("form", FORMS)
def test_shapes_are_those_of_the_decoder(form):
    with torch.device("meta"):
        model = Decoder(config(form))
    assert list(shapes(config(form)).items()) == [(name, tuple(p.shape)) for name, p in model.named_parameters()]


@pytest.mark.parametrize("form", FORMS)
def test_matrices_decay_and_norms_and_biases_do_not(form):
    model = decoder(form)
    decayed, kept = groups(model, AdamW(weight_decay=0.1))
    assert (decayed["weight_decay"], kept["weight_decay"]) == (0.1, 0.0)
    every = {name for name, _ in model.named_parameters()}
    still = {name for name in every if "norm" in name or name.endswith("bias")}
    assert names(model, kept) == still
    assert names(model, decayed) == every - still
    listed = decayed["params"] + kept["params"]
    assert len({id(p) for p in listed}) == len(listed) == len(list(model.parameters()))


def test_muon_takes_the_matrices_of_the_blocks_and_adamw_the_rest():
    model = decoder("gpt2-untied")
    found = {group.rule: set() for group in assign(Muon(), shapes(model.config))}
    for group in assign(Muon(), shapes(model.config)):
        found[group.rule] |= set(group.names)
    assert found["muon"] == {name for name, p in model.named_parameters() if p.ndim == 2 and name.startswith("blocks.")}
    assert {"embedding.weight", "positions.weight", "head.weight", "norm.weight"} <= found["adamw"]


def test_parameters_that_a_model_froze_itself_are_left_out():
    model = decoder("llama")
    model.embedding.requires_grad_(False)
    assert "embedding.weight" not in names(model, groups(model, AdamW())[0])


LAYERS = (Layer(names="*", lr_factor=0), Layer(names="blocks.1.*", lr_factor=0.5), Layer(names="*.mlp.up.*"))


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_frozen_parameters_stay_and_get_no_gradient_and_the_last_line_that_names_one_holds(kind):
    settings = read(Optimizer, {"kind": kind, "layers": [layer.dump() for layer in LAYERS]})
    model = decoder("llama")
    freeze(model, settings)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = settings.build(model)
    train(model, optimizer, 2)
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    wanted = {name for name in before if name.startswith("blocks.1.") or ".mlp.up." in name}
    assert moved == wanted == {name for name, p in model.named_parameters() if p.grad is not None}
    rates = {name: group["lr"] / settings.lr for group in optimizer.param_groups for name in names(model, group)}
    assert rates == {name: 1.0 if ".mlp.up." in name else 0.5 for name in wanted}


def test_a_factor_scales_the_step():
    slow, fast = decoder("llama"), decoder("llama")
    begun = slow.blocks[0].mlp.up.weight.detach().clone()
    for model, factor in ((slow, 0.25), (fast, 1.0)):
        settings = SGD(lr=0.1, momentum=0, layers=(Layer(names="*.mlp.up.weight", lr_factor=factor),))
        train(model, settings.build(model), 1)
    torch.testing.assert_close(4 * (slow.blocks[0].mlp.up.weight - begun), fast.blocks[0].mlp.up.weight - begun)
    assert torch.equal(slow.blocks[0].mlp.down.weight, fast.blocks[0].mlp.down.weight)


@pytest.mark.parametrize(("layer", "sentence"), [
    ({"names": "layers.0.*"}, r"optim.layers.0.names is layers.0.\*, which no parameter is called; names are such as "
                              r"embedding.weight, blocks.0.mlp.gate.weight"),
    ({"names": "*", "lr_factor": 0}, "freezes every parameter"),
])
def test_patterns_that_name_nothing_or_freeze_all_are_refused(layer, sentence):
    with pytest.raises(UserError, match=sentence):
        freeze(decoder("llama"), AdamW(layers=(Layer(**layer),)))


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_every_optimizer_is_built_from_its_name_and_trains(kind):
    settings = read(Optimizer, {"kind": kind, "lr": 0.003})
    model = decoder("llama")
    optimizer = settings.build(model)
    assert {group["lr"] for group in optimizer.param_groups} == {0.003}
    losses = train(model, optimizer)
    assert losses[-1] < losses[0]
    assert read(Optimizer, settings.dump()) == settings


@pytest.mark.parametrize("averaged", [False, True])
@pytest.mark.parametrize("settings", [*(kind() for kind in OPTIMIZERS.values()), SGD(momentum=0),
                                      AdamW(layers=LAYERS), Muon(layers=LAYERS)], ids=lambda one: one.kind)
def test_state_is_as_large_as_it_says(settings, averaged):
    model = decoder("gpt2-untied")
    optimizer = settings.build(model)
    if averaged:
        average(optimizer, 0.9)
    train(model, optimizer, 2)
    held = sum(value.nbytes for state in optimizer.state.values() for name, value in state.items()
               if isinstance(value, torch.Tensor) and name != "step")
    assert state_bytes(settings, model.config, averaged=averaged) == held


@pytest.mark.parametrize(("kind", "held"), [("adamw", 8), ("adam", 8), ("sgd", 4), ("lion", 4), ("muon", 4),
                                            ("schedule_free", 8), ("adafactor", 0.0078125)])
def test_bytes_per_parameter_of_a_matrix(kind, held):
    assert OPTIMIZERS[kind]().state_bytes_per_parameter == held


@pytest.mark.parametrize(("values", "sentence"), [
    ({"kind": "adamw", "lr": 0}, "lr: is 0, must be more than 0"),
    ({"kind": "adamw", "beta2": 1}, "beta2: is 1, must be less than 1"),
    ({"kind": "adamw", "momentum": 0.9}, "momentum: is not a setting here"),
    ({"kind": "adamw", "layers": [{"names": "*", "lr_factor": -1}]}, "layers.0.lr_factor: is -1, must be at least 0"),
    ({"kind": "adem"}, "'adem' is not one of: adamw, adam, muon, "),
])
def test_wrong_settings_are_named(values, sentence):
    with pytest.raises(UserError, match=sentence):
        read(Optimizer, values)
