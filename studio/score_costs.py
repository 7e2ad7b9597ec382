"""Score costs: what each precision of a model that scores loses and gains, as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from studio import cost_limits, figures
from studio.costs import _figure
from studio.views import Markup, banner, join, number, txt

HEADS = (("precision", ""), ("size", "the graph's file"), ("tokens/s", "tokens of one text read a second"),
         ("Δ score", "mean change of a score, as a share of the standard deviation of float32's scores"),
         ("largest Δ", "in the scores' own unit"),
         ("same decision", "pairs put in the same order, or texts given the same label"),
         ("chosen first", "pairs whose chosen text scores more; only of pairs that somebody has judged"))
SOURCES = {"given": "pairs that were given", "held out": "pairs of texts that were held out of training",
           "random": "pairs of random tokens, since none were given and no text was held out"}


def table(rows: Sequence[Mapping[str, Any]]) -> Markup:
    """The rows of `engine.export.score_cost.measure`; a broken form is called broken."""
    head = join(txt('<th class="{}" title="{}">{}</th>', "num" if place else "", words, name)
                for place, (name, words) in enumerate(HEADS))
    body = join(txt("<tr>{}</tr>", _cells(row)) for row in rows)
    broken = join(banner("error", f"{row['sentence']} It is not in the bundle.") for row in rows if not row["passed"])
    line = txt('<p class="more">Measured against float32 on {} {}; speed on the machine that made the bundle, the best '
               "of three rounds in turns.</p>", number(rows[0]["pairs"]), SOURCES.get(rows[0]["text"], "pairs"))
    return join([broken, txt('<div class="scroll"><table><tr>{}</tr>{}</table></div>', head, body), line])


def _cells(row: Mapping[str, Any]) -> Markup:
    name = row["precision"] if row["passed"] else f"{row['precision']} (broken)"
    cells = [_figure(row, "prefill_tokens_per_second", "{:,.0f}"), _figure(row, "score_change", "{:.2%}"),
             _figure(row, "largest_change", "{:.1e}"), _figure(row, "agreement", "{:.1%}"),
             _figure(row, "accuracy", "{:.1%}")]
    limits = cost_limits.of_scores(row)
    shown = ("prefill_tokens_per_second", "score_change", "largest_change", "agreement", "accuracy")
    return join([txt("<td><b>{}</b></td>", name), txt('<td class="num">{}</td>', figures.byte_size(row["bytes"])),
                 *(cost_limits.cell(cell, limits.get(of)) for of, cell in zip(shown, cells, strict=True))])
