"""Pair: who speaks on which side, and whether its name is known."""

from __future__ import annotations

import random
from collections.abc import Sequence

from engine.runs.sources import Source


class Pair:
    """One or two sources in the order of their sides. Blind, the order is drawn and the names say nothing until
    `reveal`; one alone is never blind."""

    def __init__(self, sources: Sequence[Source] = (), blind: bool = False) -> None:
        self.sources = list(sources)
        self.hidden = blind and len(self.sources) > 1
        if self.hidden:
            random.shuffle(self.sources)

    @property
    def titles(self) -> list[str]:
        """What stands over each side."""
        return [f"Model {'AB'[place]}" if self.hidden else source.label for place, source in enumerate(self.sources)]

    def reveal(self) -> None:
        self.hidden = False

    def holds(self, sources: Sequence[Source]) -> bool:
        """Whether these are the same, whatever their order."""
        return sorted(source.label for source in sources) == sorted(source.label for source in self.sources)

    def seats(self, before: Pair) -> list[int | None]:
        """For each side the one that its source had `before`; None for a source that is new."""
        free = {place: source.label for place, source in enumerate(before.sources)}
        found: list[int | None] = []
        for source in self.sources:
            # Its own seat first, for a model that speaks with itself sits on both.
            own = sorted((place for place in free if free[place] == source.label), key=lambda p: p != len(found))
            found.append(own[0] if own else None)
            free.pop(own[0] if own else -1, None)
        return found
