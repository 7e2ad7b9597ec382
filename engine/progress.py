"""How long work tells how far it is, and hears that it should stop."""

from __future__ import annotations

from typing import Protocol


class Stopped(Exception):
    """A viewer asked for a stop; raised out of a progress call, at a point where stopping is safe."""


class Progress(Protocol):
    def __call__(self, done: int, of: int, message: str = "") -> None:
        """`done` of `of` pieces are finished; `message` names the piece in hand."""


def silent(done: int, of: int, message: str = "") -> None:
    """Progress for callers that show none."""
