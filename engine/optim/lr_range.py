"""The learning-rate range test: a curve of the loss over rising rates, and what to make of it. Torch-free."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

SMOOTHING = 0.8
RISEN = 1.5
"""The test is over when the smoothed loss is this many times its lowest."""
SAFETY = 10.0
"""How far below the rate at which the loss broke a run is taken to be safe: a decade."""


@dataclass
class Curve:
    """The steps of a test, smoothed by an exponential moving average without the bias of its start."""

    rates: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    smooth: list[float] = field(default_factory=list)
    broke: bool = False  # the last loss was no number
    _mean: float = 0.0
    _mass: float = 0.0

    def add(self, lr: float, loss: float) -> bool:
        """Take in a step; True if the loss has risen so far that the test is over."""
        self.broke = not math.isfinite(loss)
        if self.broke:
            return True
        self._mean = SMOOTHING * self._mean + (1 - SMOOTHING) * loss
        self._mass = SMOOTHING * self._mass + (1 - SMOOTHING)
        self.rates.append(lr)
        self.losses.append(loss)
        self.smooth.append(self._mean / self._mass)
        return self.smooth[-1] > RISEN * min(self.smooth)

    @property
    def turn(self) -> int:
        """The step at which the smoothed loss was lowest."""
        return min(range(len(self.smooth)), key=self.smooth.__getitem__)

    @property
    def steepest(self) -> int | None:
        """The step at which the loss fell fastest over the logarithm of the rate, by least squares over half a decade
        around it; None where it did not fall before its lowest."""
        ratio = math.log10(self.rates[1] / self.rates[0]) if len(self.rates) > 1 else 1.0
        reach = max(2, round(0.25 / ratio))
        slopes = {at: sum(by * self.losses[at + by] for by in range(-reach, reach + 1))
                  for at in range(reach, min(self.turn + 1, len(self.losses) - reach))}
        at = min(slopes, key=slopes.__getitem__, default=None)
        return at if at is not None and slopes[at] < 0 else None

    def suggestion(self) -> float | None:
        """The rate of the steepest fall, at most a tenth of where the test ended, in two digits; None if the loss
        never fell, or never stopped falling."""
        at = self.steepest if len(self.smooth) >= 3 else None
        if at is None or (self.turn == len(self.smooth) - 1 and not self.broke):
            return None
        return float(f"{min(self.rates[at], self.rates[-1] / SAFETY):.1e}")

    def sentence(self) -> str:
        """What the test found, and how."""
        rate = self.suggestion()
        if rate is not None:
            rule = ("the loss fell fastest there" if rate * SAFETY < 0.95 * self.rates[-1] else
                    "a tenth of where the test ended")
            end = "The loss was no longer a number above" if self.broke else "The loss had risen at"
            return f"Learning rate {rate:g} is suggested: {rule}. {end} {self.rates[-1]:.2g}."
        if len(self.smooth) >= 3 and self.turn == len(self.smooth) - 1:
            return (f"The loss still fell at the highest rate, {self.rates[-1]:.2g}, so there is nothing to suggest; "
                    "raise lr_range.highest.")
        return ("The loss did not fall at any rate, so there is nothing to suggest; lower lr_range.lowest, "
                "or look at the data.")
