"""Updates: the torch optimizers that no library has as a run needs them: saved, resumed and averaged exactly."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from schedulefree import AdamWScheduleFree
from torch.optim import Optimizer


class SignOfMomentum(Optimizer):
    """Lion (Chen et al. 2023): p <- p - lr * (sign(b1 m + (1 - b1) g) + decay * p), then m <- b2 m + (1 - b2) g."""

    def __init__(self, params: Iterable[Any], lr: float, betas: tuple[float, float], weight_decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        with torch.enable_grad():
            loss = closure() if closure is not None else None
        for group in self.param_groups:
            lr, (beta1, beta2) = group["lr"], group["betas"]
            params = [p for p in group["params"] if p.grad is not None]
            if not params:
                continue
            grads = [p.grad for p in params]
            for p in params:
                if "exp_avg" not in self.state[p]:
                    self.state[p]["exp_avg"] = torch.zeros_like(p)
            momenta = [self.state[p]["exp_avg"] for p in params]
            updates = torch._foreach_lerp(momenta, grads, 1 - beta1)
            torch._foreach_sign_(updates)
            torch._foreach_mul_(params, 1 - lr * group["weight_decay"])
            torch._foreach_add_(params, updates, alpha=-lr)
            torch._foreach_lerp_(momenta, grads, 1 - beta2)
        return loss


class Combined(Optimizer):
    """Several optimizers as one, each over groups of its own; to whoever saves, resumes or schedules it is one."""

    def __init__(self, parts: Sequence[Optimizer]) -> None:
        self.parts = tuple(parts)
        super().__init__([group for part in self.parts for group in part.param_groups], {})
        self._share()

    def _share(self) -> None:
        """Let the parts work on this optimizer's own groups and state."""
        begin = 0
        for part in self.parts:
            end = begin + len(part.param_groups)
            part.param_groups, part.state, begin = self.param_groups[begin:end], self.state, end

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self._share()

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        with torch.enable_grad():
            loss = closure() if closure is not None else None
        for part in self.parts:
            part.step()
        return loss


class ScheduleFreeAdamW(AdamWScheduleFree):
    """The library's, whose counters are part of its state, so that it goes on exactly where it was saved.

    It keeps them in its groups, which are settings to whoever resumes; here they stand with a group's first parameter.
    """

    COUNTERS = ("k", "weight_sum", "lr_max")

    def state_dict(self) -> dict[str, Any]:
        made = super().state_dict()
        state = dict(made["state"])
        for group in made["param_groups"]:
            first = group["params"][0]
            if first in state:
                state[first] = {**state[first], **{name: group[name] for name in self.COUNTERS}}
        return {**made, "state": state}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        for group in self.param_groups:
            first = self.state[group["params"][0]]
            group.update({name: first.pop(name) for name in self.COUNTERS if name in first})
