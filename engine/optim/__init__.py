"""Optim: how gradients become updates. The menu of optimizers and schedules; torch-free."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from engine.config import Part, setting
from engine.table import Table

if TYPE_CHECKING:
    import torch

OPTIMIZERS: Table[type[Optimizer]] = Table("optimizer")
SCHEDULES: Table[type[Schedule]] = Table("schedule")


class Optimizer(Part):
    """An update rule. A subclass holds its settings and builds the torch optimizer from them."""

    table: ClassVar[Table] = OPTIMIZERS

    lr: float = setting(1e-3, "Peak learning rate, reached after warmup", gt=0, le=10)

    def build(self, model: torch.nn.Module) -> torch.optim.Optimizer:
        """The optimizer over the model's parameter groups (`groups.groups`)."""
        raise TypeError(f"{type(self).__name__} does not build an optimizer")

    @property
    def state_bytes_per_parameter(self) -> float:
        """Bytes of optimizer state kept for each parameter, for the memory estimate."""
        return 0.0


class Schedule(Part):
    """The learning rate over the run, as a factor of the optimizer's peak."""

    table: ClassVar[Table] = SCHEDULES

    warmup_steps: int = setting(100, "Steps over which the learning rate rises linearly from zero", ge=0, unit="steps")

    def factor(self, step: int, max_steps: int) -> float:
        """The share of the peak learning rate that step `step` (from 0) of `max_steps` uses."""
        if step < self.warmup_steps:
            return (step + 1) / (self.warmup_steps + 1)
        return self.after_warmup(step - self.warmup_steps, max(1, max_steps - self.warmup_steps))

    def after_warmup(self, step: int, of: int) -> float:
        """The factor `step` steps after the end of warmup, of the `of` steps that remain there."""
        raise TypeError(f"{type(self).__name__} does not define a schedule")


from engine.optim import adamw, schedules, sgd  # noqa: E402, F401  the menu, in order
