"""Table: a dict of named parts, filled by decorator, in menu order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


class Table(dict[str, T]):
    """`@OPTIMIZERS.add("adamw")` above a class puts it on the menu under that name.

    A name is given once; a second part of the same name is an error in the program. Parts that
    know their name (`kind`) are told it.
    """

    def __init__(self, noun: str) -> None:
        super().__init__()
        self.noun = noun

    def add(self, name: str) -> Callable[[Any], Any]:
        def register(part: Any) -> Any:
            if name in self:
                raise ValueError(f"two {self.noun}s are called {name!r}")
            if isinstance(part, type):
                part.kind = name  # type: ignore[attr-defined]
            self[name] = part
            return part

        return register
