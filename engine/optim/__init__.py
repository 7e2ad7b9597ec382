"""Optim: how gradients become updates. The menu of optimizers and schedules; torch-free."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Self

from pydantic import model_validator

from engine.config import Config, Part, setting, wrong
from engine.table import Table

if TYPE_CHECKING:
    import torch

OPTIMIZERS: Table[type[Optimizer]] = Table("optimizer")
SCHEDULES: Table[type[Schedule]] = Table("schedule")


class Layer(Config):
    """A learning rate of its own for some parameters (Howard & Ruder 2018), or none: they are frozen."""

    names: str = setting("*", "Which parameters, by a pattern of their names: embedding*, blocks.0.*, *.mlp.*",
                         min_length=1)
    lr_factor: float = setting(1.0, "What their learning rate is multiplied by; 0 freezes them", ge=0, le=100)


class Optimizer(Part):
    """An update rule. A subclass holds its settings and builds the torch optimizer from them."""

    table: ClassVar[Table] = OPTIMIZERS

    lr: float = setting(1e-3, "Peak learning rate, reached after warmup", gt=0, le=10)
    weight_decay: float = setting(0.0, "Pull of the weight matrices towards zero", ge=0, le=1)
    layers: tuple[Layer, ...] = setting((), "Parameters with a learning rate of their own; where several lines name "
                                            "one, the last holds", advanced=True)

    def build(self, model: torch.nn.Module) -> torch.optim.Optimizer:
        """The optimizer over the model's parameter groups (`groups.groups`)."""
        raise TypeError(f"{type(self).__name__} does not build an optimizer")

    def rule(self, name: str, shape: tuple[int, ...]) -> str:
        """The update rule of one parameter, for an optimizer that is made of several."""
        return self.kind

    def state_numbers(self, name: str, shape: tuple[int, ...]) -> int:
        """The float32 numbers that are kept for one parameter between two steps."""
        return 0

    @property
    def state_bytes_per_parameter(self) -> float:
        """Bytes of optimizer state for each parameter of a weight matrix; `groups.state_bytes` counts a model's."""
        return 4 * self.state_numbers("blocks.0.mlp.up.weight", (1024, 1024)) / 1024**2


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


class LrRange(Config):
    """The learning-rate range test (Smith 2017): training in which the rate rises until the loss does."""

    lowest: float = setting(1e-6, "Learning rate of the first step", gt=0, le=1)
    highest: float = setting(10.0, "Learning rate of the last step; the test ends before it, when the loss has risen",
                             gt=0, le=10)
    num_steps: int = setting(140, "Steps from the lowest to the highest rate", ge=10, le=10_000, unit="steps")

    @model_validator(mode="after")
    def _rises(self) -> Self:
        if self.lowest >= self.highest:
            raise wrong("lowest", f"is {self.lowest:g}, must be less than highest, which is {self.highest:g}",
                        self.lowest)
        return self

    def factor(self, step: int, max_steps: int) -> float:
        """The share of the highest rate that step `step` (from 0) of `max_steps` uses: each is the last times one
        ratio."""
        return (self.lowest / self.highest) ** (1 - min(1.0, step / max(1, max_steps - 1)))


# The menu, in order.
# isort: off
from engine.optim import adamw, adam, muon, schedule_free, lion, adafactor, sgd, schedules  # noqa: E402, F401
