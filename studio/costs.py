"""Costs: what each precision of a bundle loses and gains, as a table and as a picture."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import holoviews as hv

from studio import cost_limits, figures
from studio.figures import BAD, FONT, GOOD, QUIET, _hover, _still
from studio.views import Markup, banner, join, number, txt

HEADS = (("precision", ""), ("size", "the graph's file"), ("tokens/s", "new tokens a second, at batch 1"),
         ("prefill", "tokens of a prompt read a second"), ("perplexity", "on the text"), ("Δ", "of the perplexity"),
         ("Δ bits/byte", "of the text"), ("KL", "mean divergence of the next-token probabilities from float32's, nats"),
         ("top-1", "places at which both find the same token likeliest"),
         ("greedy", "share of the greedy text that both write alike, until they part"))
OF_GGUF = "Of GGUF files it is the weights as rounded that were measured: llama.cpp's own arithmetic is not included."
SHOWN = ("tokens_per_second", "prefill_tokens_per_second", "perplexity", "perplexity_change", "bits_per_byte_change",
         "divergence", "agreement", "greedy_agreement")
SMALLEST, LARGEST = 9, 34    # of the marks, in screen units: their areas are as the files' sizes


def table(rows: Sequence[Mapping[str, Any]]) -> Markup:
    """The rows of `engine.export.cost.measure`, or of `score_cost.measure`; a broken form is called broken."""
    if any("score_change" in row for row in rows):
        from studio.score_costs import table as of_scores  # which is made of this one's parts

        return of_scores(rows)
    head = join(txt('<th class="{}" title="{}">{}</th>', "num" if place else "", words, name)
                for place, (name, words) in enumerate(HEADS))
    body = join(txt("<tr>{}</tr>", _cells(row)) for row in rows)
    told = "text that was held out of training" if rows[0]["text"] == "held out" else \
        "text that the model wrote itself, since none was held out"
    broken = join(banner("error", f"{row['sentence']} It is not in the bundle.") for row in rows if not row["passed"])
    line = txt('<p class="more">Measured against float32 on {} tokens of {}; speed at batch 1, on the machine that '
               "made the bundle, the best of three rounds in turns.{}</p>", number(rows[0]["tokens"]), told,
               f" {OF_GGUF}" if any(map(_for_llama, rows)) else "")
    return join([broken, txt('<div class="scroll"><table><tr>{}</tr>{}</table></div>', head, body), line])


def _cells(row: Mapping[str, Any]) -> Markup:
    name = row["precision"] + (" GGUF" if _for_llama(row) else "") + ("" if row["passed"] else " (broken)")
    cells = [_figure(row, "tokens_per_second", "{:,.0f}"), _figure(row, "prefill_tokens_per_second", "{:,.0f}"),
             _figure(row, "perplexity", "{:.4g}"), _figure(row, "perplexity_change", "{:+.2g}"),
             _figure(row, "bits_per_byte_change", "{:+.4f}"), _figure(row, "divergence", "{:.1e}"),
             _figure(row, "agreement", "{:.1%}"), _figure(row, "greedy_agreement", "{:.0%}")]
    limits = cost_limits.of_writing(row)
    return join([txt("<td><b>{}</b></td>", name), txt('<td class="num">{}</td>', figures.byte_size(row["bytes"])),
                 *(cost_limits.cell(cell, limits.get(of)) for of, cell in zip(SHOWN, cells, strict=True))])


def _for_llama(row: Mapping[str, Any]) -> bool:
    return str(row.get("file", "")).endswith(".gguf")


def _figure(row: Mapping[str, Any], name: str, form: str) -> str:
    value = row.get(name)
    return form.format(value) if isinstance(value, int | float) and math.isfinite(value) else "–"


def picture(rows: Sequence[Mapping[str, Any]]) -> Any:
    """Divergence from float32 against speed, the mark's area as the file's size: best is the lower right."""
    fast = [row for row in rows if row.get("tokens_per_second") and math.isfinite(row.get("divergence", math.nan))]
    if not fast:
        return None
    for row in fast:
        if figures.drawn(row["tokens_per_second"]) <= 0 or figures.drawn(row["bytes"]) <= 0 or \
                figures.drawn(row["divergence"]) > 1e6:
            raise ValueError(row)
    largest = max(row["bytes"] for row in fast)
    # A logarithmic axis has no zero: float32 itself stands below the smallest divergence.
    known = [row["divergence"] for row in fast if row["divergence"] > 0]
    floor = min([1e-6, *known]) / 3
    points = [(row["tokens_per_second"], max(floor, row["divergence"]),
               max(SMALLEST, LARGEST * math.sqrt(row["bytes"] / largest)), row["precision"],
               figures.byte_size(row["bytes"]), f"{row['divergence']:.1e}", f"{row['tokens_per_second']:,.0f}",
               GOOD if row["passed"] else BAD) for row in fast]
    speeds, divergences = [p[0] for p in points], [p[1] for p in points]
    top = max(divergences) * 20
    marks = hv.Points(points, ["speed", "divergence"], ["mark", "precision", "file", "kl", "tokens", "colour"]).opts(
        size="mark", color="colour", alpha=0.55, line_color="colour",
        tools=_hover(("precision", "@precision"), ("size", "@file"), ("KL divergence", "@kl"),
                            ("tokens per second", "@tokens")))
    above = [(p[0], p[1] * 10 ** (p[2] / 36 + 0.15), f"{p[3]} · {p[4]}") for p in points]
    names = hv.Labels(above, ["speed", "divergence"], "text").opts(
        text_color=QUIET, text_font=FONT, text_font_size="9.5pt")
    spread = max(speeds) - min(speeds) or max(speeds)
    return _still(marks * names, 300, logy=True, show_grid=True, xlabel="tokens per second, measured",
                         ylabel="KL divergence from float32 (nats)", ylim=(floor / 3, top),
                         xlim=(max(0, min(speeds) - 0.35 * spread), max(speeds) + 0.35 * spread))
