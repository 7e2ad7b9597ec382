"""Learning-rate schedules: pure functions of the step, so that a page can plot them."""

from __future__ import annotations

import math

from engine.config import setting
from engine.optim import SCHEDULES, Schedule


@SCHEDULES.add("cosine")
class Cosine(Schedule):
    """Half a cosine from the peak down to a final fraction (Loshchilov & Hutter 2017)."""

    final_fraction: float = setting(0.1, "Share of the peak that is left at the end", ge=0, le=1)

    def after_warmup(self, step: int, of: int) -> float:
        progress = min(1.0, step / of)
        return self.final_fraction + (1 - self.final_fraction) * (1 + math.cos(math.pi * progress)) / 2


@SCHEDULES.add("linear")
class Linear(Schedule):
    """A straight line from the peak down to a final fraction."""

    final_fraction: float = setting(0.0, "Share of the peak that is left at the end", ge=0, le=1)

    def after_warmup(self, step: int, of: int) -> float:
        return 1 - (1 - self.final_fraction) * min(1.0, step / of)


@SCHEDULES.add("constant")
class Constant(Schedule):
    """The peak until the end."""

    def after_warmup(self, step: int, of: int) -> float:
        return 1.0


@SCHEDULES.add("wsd")
class WSD(Schedule):
    """Warmup, stable, decay: the peak for most of the run, then a straight line down (Hu et al. 2024)."""

    decay_fraction: float = setting(0.2, "Share of the steps after warmup, the last of them, in which the rate falls",
                                    gt=0, le=1)
    final_fraction: float = setting(0.0, "Share of the peak that is left at the end", ge=0, le=1)

    def after_warmup(self, step: int, of: int) -> float:
        decay = max(1, round(self.decay_fraction * of))
        return 1 - (1 - self.final_fraction) * min(1.0, max(0, step - (of - decay)) / decay)
