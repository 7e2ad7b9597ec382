"""Cost: what another dataset, such as one whose bias was mitigated, cost a model in perplexity.

Two runs are compared by their evaluation reports. Perplexity is per token, so it compares only models of one tokenizer;
bits per byte compare any two. Either compares fairly only on the same text: held-out text changes with the dataset too,
and counterfactual documents are part of it (`evaluate.text_of` measures one model on the other's text).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MEASURES = ("val/loss", "val/perplexity", "val/bits_per_byte", "val/accuracy")


def cost(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """Two reports of `evaluate.report.evaluate` side by side.

        same_text, same_tokenizer   whether both were measured on one held-out text, and read it by one tokenizer
        measures   {name: {"before", "after", "change", "percent"}}; None where a report has no figure
        sentence   what it comes to, and whether the two may be compared
    """
    measures = {}
    for name in MEASURES:
        one, other = before.get(name), after.get(name)
        known = one is not None and other is not None
        measures[name] = {"before": one, "after": other, "change": other - one if known else None,
                          "percent": 100 * (other / one - 1) if known and one else None}
    same = {f"same_{of}": before.get(of) is not None and before.get(of) == after.get(of)
            for of in ("text", "tokenizer")}
    return {**same, "measures": measures, "sentence": _sentence(measures, **same)}


def _sentence(measures: Mapping[str, Mapping[str, Any]], same_text: bool, same_tokenizer: bool) -> str:
    name = "val/perplexity" if same_text and same_tokenizer else "val/bits_per_byte"
    words, figure = {"val/perplexity": "Perplexity", "val/bits_per_byte": "Bits per byte"}[name], measures[name]
    if figure["change"] is None:
        return f"{words} is not in both reports, so they cannot be compared; evaluate both runs again."
    told = f"{words} went from {figure['before']:.4g} to {figure['after']:.4g} ({figure['percent']:+.1f} %)"
    if same_text:
        return f"{told}, measured on the same held-out text."
    return (f"{told}, each measured on its own dataset's held-out text, which is not the same text: for a fair figure "
            "evaluate one run on the text of the other (evaluate.text_of).")
