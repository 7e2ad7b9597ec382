"""Cost limits: what a form of a model may cost at most, beside what it costs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from studio.views import Markup, txt

Limit = tuple[str, str]     # in short, under the value, and in words, at the pointer


def of_writing(row: Mapping[str, Any]) -> dict[str, Limit]:
    """The limits of a row of `engine.export.cost.measure`, by the figure that they hold for; none for float32.

    The loss is what is limited. Perplexity and bits per byte follow from it, so their limits are the ones at which
    the loss has reached its own.
    """
    limits, found = row.get("limits") or {}, dict[str, Limit]()
    loss = limits.get("max_loss")
    if loss is not None:
        words = f"The loss may rise by {loss:g} nats per token"
        base, change = row.get("perplexity"), row.get("perplexity_change")
        if _known(base) and _known(change):
            found["perplexity_change"] = f"≤ {(base - change) * math.expm1(loss):+.2g}", words
        bits, mean = row.get("bits_per_byte"), row.get("loss")
        if _known(bits) and _known(mean) and mean > 0:
            found["bits_per_byte_change"] = f"≤ {loss * bits / mean:+.4f}", words
    if (most := limits.get("max_divergence")) is not None:
        found["divergence"] = f"≤ {most:.1e}", f"The mean divergence may be {most:g} nats"
    if (least := limits.get("min_agreement")) is not None:
        found["agreement"] = f"≥ {least:.1%}", f"{least:.1%} of the places must agree"
    return found


def of_scores(row: Mapping[str, Any]) -> dict[str, Limit]:
    """The same of a row of `engine.export.score_cost.measure`."""
    limits, found = row.get("limits") or {}, dict[str, Limit]()
    if (most := limits.get("max_score")) is not None:
        found["score_change"] = f"≤ {most:.2%}", f"The scores may move by {most:.2%} of their spread on average"
    if (least := limits.get("min_agreement")) is not None:
        found["agreement"] = f"≥ {least:.1%}", f"{least:.1%} of the decisions must be the same, or one fewer"
    return found


def cell(value: str, limit: Limit | None) -> Markup:
    """A figure of a table, with its limit under it."""
    if limit is None:
        return txt('<td class="num">{}</td>', value)
    return txt('<td class="num" title="{}">{}<small class="limit">{}</small></td>', limit[1], value, limit[0])


def _known(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
