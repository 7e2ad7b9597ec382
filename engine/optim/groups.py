"""Groups: which parameters are treated alike: their update rule, weight decay and learning rate. Torch-free."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from engine.config import UserError
from engine.model import ModelConfig
from engine.model.shapes import Shape, shapes
from engine.optim import Optimizer

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Group:
    """Parameters that are treated alike."""

    rule: str               # kind of the optimizer that moves them
    decays: bool            # whether weight decay pulls on them
    lr_factor: float        # of the optimizer's learning rate; 0 is frozen
    names: tuple[str, ...]


def assign(optim: Optimizer, parameters: Mapping[str, Shape]) -> list[Group]:
    """Every parameter in its group. Matrices decay; vectors (norms, biases) must not.

    Raises UserError for what is a `problem`.
    """
    if wrong := problem(optim, parameters):
        raise UserError(f"optim.{wrong[0]} {wrong[1]}.", where=f"optim.{wrong[0]}")
    found: dict[tuple[str, bool, float], list[str]] = {}
    for name, shape in parameters.items():
        factor = _factor(optim, name)
        alike = (optim.rule(name, shape), len(shape) >= 2, factor) if factor else ("", False, 0.0)
        found.setdefault(alike, []).append(name)
    return [Group(*alike, tuple(names)) for alike, names in found.items()]


def problem(optim: Optimizer, parameters: Mapping[str, Shape]) -> tuple[str, str] | None:
    """What is wrong with `optim.layers` for a model with these parameters: the field and a sentence."""
    for place, layer in enumerate(optim.layers):
        if not any(fnmatchcase(name, layer.names) for name in parameters):
            return f"layers.{place}.names", (f"is {layer.names}, which no parameter is called; names are such as "
                                             f"{', '.join(_examples(parameters))}")
    if not any(_factor(optim, name) for name in parameters):
        return "layers", "freezes every parameter, so nothing would be trained; leave some with a factor above 0"
    return None


def _factor(optim: Optimizer, name: str) -> float:
    return next((layer.lr_factor for layer in reversed(optim.layers) if fnmatchcase(name, layer.names)), 1.0)


def _examples(parameters: Mapping[str, Shape]) -> list[str]:
    names = list(parameters)
    return [names[0], *(name for name in names if ".mlp." in name)][:2]


def groups(model: torch.nn.Module, optim: Optimizer, rule: str = "") -> list[dict[str, Any]]:
    """The parameter groups of a torch optimizer: all that is trained, or what one update rule moves.

    A tied weight stands in them once. What is frozen, by the settings or by the model itself, is left out.
    """
    found = [{"params": [p for p in params if p.requires_grad], "lr": optim.lr * group.lr_factor,
              "weight_decay": optim.weight_decay if group.decays else 0.0}
             for group, params in _of(model, optim) if group.lr_factor and rule in ("", group.rule)]
    return [group for group in found if group["params"]]


def freeze(model: torch.nn.Module, optim: Optimizer) -> None:
    """Let no gradient be computed for what the settings freeze."""
    for group, params in _of(model, optim):
        if not group.lr_factor:
            for p in params:
                p.requires_grad_(False)


def _of(model: torch.nn.Module, optim: Optimizer) -> list[tuple[Group, list[torch.nn.Parameter]]]:
    known = dict(model.named_parameters())
    return [(group, [known[name] for name in group.names])
            for group in assign(optim, {name: tuple(p.shape) for name, p in known.items()})]


def trained(optim: Optimizer, config: ModelConfig) -> int:
    """Parameters of a model that are not frozen."""
    known = shapes(config)
    return sum(math.prod(known[name]) for group in assign(optim, known) if group.lr_factor for name in group.names)


def state_bytes(optim: Optimizer, config: ModelConfig, *, averaged: bool = False) -> int:
    """Bytes that the optimizer keeps for a model between two steps; `averaged`: with an EMA of the weights."""
    known = shapes(config)
    return sum(4 * (optim.state_numbers(name, known[name]) + (math.prod(known[name]) if averaged else 0))
               for group in assign(optim, known) if group.lr_factor for name in group.names)
