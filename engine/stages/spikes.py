"""Spikes: which steps stand so far above the ones before that their update is better left out."""

from __future__ import annotations

import math
from collections import deque

STEPS, SIGMAS = 128, 6.0


class Spikes:
    """Losses and gradient norms of the last 128 steps. A step more than 6 standard deviations above the mean of
    either is a spike (the skip-step optimizer of OLMo et al. 2024)."""

    def __init__(self) -> None:
        self.losses: deque[float] = deque(maxlen=STEPS)
        self.norms: deque[float] = deque(maxlen=STEPS)

    def found(self, loss: float, norm: float) -> bool:
        """Whether this step is one. It counts among those before the next, so that a new level becomes normal."""
        spike = _above(self.losses, loss) or _above(self.norms, norm)
        self.losses.append(loss)
        self.norms.append(norm)
        return spike


def _above(before: deque[float], value: float) -> bool:
    if len(before) < STEPS:
        return False
    mean = math.fsum(before) / STEPS
    spread = math.sqrt(math.fsum((each - mean) ** 2 for each in before) / STEPS)
    return value > mean + SIGMAS * max(spread, 1e-3 * abs(mean))
