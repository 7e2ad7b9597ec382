"""Averages: the weights that are evaluated, where these are not the ones in training.

That is so for Schedule-Free, which trains between its average and its last iterate, and for an exponential moving
average (EMA) of the weights, which lies in the optimizer's state and so is saved and resumed with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

AVERAGE, COUNT = "average", "averaged"


def average(optimizer: Optimizer, decay: float) -> None:
    """From now on keep an average of the weights over about 1 / (1 - decay) steps (Polyak & Juditsky 1992).

    After n steps the decay is at most (1 + n) / (10 + n), so that a short run does not average in where it began.
    """

    @torch.no_grad()
    def update(optimizer: Optimizer, *_: Any) -> None:
        params = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        if not params:
            return  # an update that was left out
        counted = optimizer.state[optimizer.param_groups[0]["params"][0]]
        number = counted[COUNT] = counted.get(COUNT, 0) + 1
        for p in params:
            if AVERAGE not in optimizer.state[p]:
                optimizer.state[p][AVERAGE] = p.detach().clone()
        kept = min(decay, (1 + number) / (10 + number))
        torch._foreach_lerp_([optimizer.state[p][AVERAGE] for p in params], params, 1 - kept)

    optimizer.register_step_post_hook(update)


@contextmanager
def evaluated(optimizer: Optimizer) -> Iterator[dict[Tensor, Tensor]]:
    """Inside, the parameters are those to evaluate, sample and export; after it, to the bit what they were before.

    Yields the weights in training by parameter: those that differ from what is evaluated, so nothing as a rule.
    """
    averages = {p: state[AVERAGE] for p, state in optimizer.state.items() if AVERAGE in state}
    free = hasattr(optimizer, "eval")
    trained = {p: p.detach().clone() for p in (optimizer.state if free else averages)}
    with torch.no_grad():
        if free:
            optimizer.eval()  # type: ignore[attr-defined]
        for p, mean in averages.items():
            p.copy_(mean)
    try:
        yield trained
    finally:
        with torch.no_grad():
            if free:
                optimizer.train()  # type: ignore[attr-defined]
            for p, value in trained.items():  # the way back by arithmetic would round
                p.copy_(value)
