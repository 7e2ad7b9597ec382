"""Sandbox: a stranger's chat template runs without a way to files and modules, and within a budget.

Jinja's own sandbox keeps a template from attributes that lead out. It lets loops and texts grow without
end, which this one does not.
"""

from __future__ import annotations

from typing import Any

from jinja2 import Template, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

MOST_TEMPLATE = 200_000     # characters; the longest published ones, with tools, have 15,000
MOST_TEXT = 8_000_000
MOST_ROUNDS = 100_000       # of `range`, in one rendering


class Bounded(ImmutableSandboxedEnvironment):
    """The sandbox that transformers uses, with a budget for each rendering."""

    intercepted_binops = frozenset(("*", "**", "%"))

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._left = MOST_ROUNDS
        self.globals["range"] = self._range
        for name in ("lipsum", "cycler", "joiner"):
            self.globals.pop(name, None)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if operator == "**" or not all(isinstance(side, int | float) for side in (left, right)):
            raise TemplateError(f"it uses {operator}, which can make texts of any size")
        return super().call_binop(context, operator, left, right)

    def _range(self, *bounds: int) -> range:
        rounds = range(*bounds)
        self._left -= min(len(rounds[:MOST_ROUNDS + 1]), MOST_ROUNDS + 1)
        if self._left < 0:
            raise TemplateError(f"it loops more than {MOST_ROUNDS:,} times")
        return rounds


def write(template: Template, **values: Any) -> str:
    """What a template makes of the values. TemplateError when that is too much."""
    pieces, size = [], 0
    for piece in template.generate(**values):
        pieces.append(piece)
        size += len(piece)
        if size > MOST_TEXT:
            raise TemplateError(f"it writes more than {MOST_TEXT:,} characters")
    return "".join(pieces)
