"""Compared: what several runs were asked and what they came to, as markup."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from engine import runs
from engine.config import UserError
from engine.model import estimate
from engine.recipe import flat
from engine.runs import Run
from studio.elapsed import trained_seconds
from studio.plots import run_colour
from studio.run_account import energy_words
from studio.views import Markup, duration, join, number, size, txt
from studio.watch import Feed

COLUMNS = 6  # runs side by side in the table of differences
VALUES = 5   # of a setting that are named where more runs are compared
OWN = ("name", "jobs", "sweep.", "version")  # of course they differ

Asked = tuple[dict[str, Any], float]
"""The dotted settings of a run, and the FLOPs that a token costs it."""

_ASKED: dict[Path, Asked] = {}


def asked(found: Sequence[Run]) -> dict[str, Asked]:
    """What each run was asked; a recipe never changes, so each is read once. Some milliseconds a run."""
    for run in found:
        if run.path not in _ASKED:
            try:
                recipe = runs.recipe_of(run)
                _ASKED[run.path] = flat(recipe.dump()), float(estimate.flops_per_token(recipe.model))
            except UserError:
                _ASKED[run.path] = {}, 0.0
    return {run.name: _ASKED[run.path] for run in found}


def differing(settings: Mapping[str, Mapping[str, Any]]) -> dict[str, list[Any]]:
    """The settings in which runs differ: {setting: the value of each run}; `...` where a run has no such setting."""
    names = dict.fromkeys(name for each in settings.values() for name in each)
    found = {}
    for name in names:
        values = [each.get(name, ...) for each in settings.values()]
        if any(value != values[0] for value in values) and not name.startswith(OWN):
            found[name] = values
    return found


def differences(known: Mapping[str, Asked], order: Sequence[str]) -> Markup:
    """Only what differs, a row for each setting; the runs stand in columns as long as there are few."""
    rows = differing({name: known[name][0] for name in order if name in known and known[name][0]})
    there = [name for name in order if name in known and known[name][0]]
    if len(there) < 2:
        return txt('<p class="line">Reading the recipes…</p>')
    if not rows:
        return txt('<p class="line">These runs were asked the same, but for their names.</p>')
    if len(there) <= COLUMNS:
        head = txt("<tr><th>setting</th>{}</tr>", join(txt("<th>{}</th>", name) for name in there))
        body = join(txt("<tr><td class='mono'>{}</td>{}</tr>", name, join(txt("<td>{}</td>", _shown(value))
                                                                         for value in values))
                    for name, values in rows.items())
    else:
        head = txt("<tr><th>setting</th><th>values</th></tr>")
        body = join(txt("<tr><td class='mono'>{}</td><td>{}</td></tr>", name, _counted(values))
                    for name, values in rows.items())
    return txt('<div class="scroll tall"><table>{}{}</table></div>', head, body)


def _counted(values: Sequence[Any]) -> str:
    counts = Counter(_shown(value) for value in values).most_common()
    told = [f"{value} ({count} {'run' if count == 1 else 'runs'})" for value, count in counts[:VALUES]]
    return ", ".join(told) + (f" and {len(counts) - VALUES} other values" if len(counts) > VALUES else "")


def _shown(value: Any) -> str:
    if value is ...:
        return "–"
    if isinstance(value, float):
        return f"{value:.4g}"
    text = str(value)
    return text if len(text) <= 90 else text[:89] + "…"


def standings(feeds: Sequence[Feed], metric: str) -> Markup:
    """The runs with what they came to, the one whose metric was lowest first; a press looks at it."""
    places = {feed.run.name: place for place, feed in enumerate(feeds)}

    def lowest(feed: Feed) -> float:
        found = feed.best(metric)
        return found[0] if found else float("inf")

    rows = join(txt(
        '<tr><td><button type="button" class="pickrun" data-press="first:{0}"><i style="background:{1}"></i>{0}'
        '</button></td><td>{2}</td><td class="num">{3}</td><td class="num">{4}</td><td class="num">{5}</td>'
        '<td class="num">{6}</td><td class="num">{7}</td></tr>',
        feed.run.name, run_colour(places[feed.run.name]), feed.status.state,
        number(found[0]) if (found := feed.best(metric)) else "–",
        number(found[1]) if found else "–", size(tokens) if (tokens := _tokens(feed)) else "–",
        duration(trained_seconds(feed) or 0.0) if tokens else "–",
        energy_words(kwh) if (kwh := feed.last("energy/kwh")) is not None else "–")
        for feed in sorted(feeds, key=lowest))
    return txt('<div class="scroll tall"><table><tr><th>run</th><th>state</th><th class="num">lowest {}</th>'
               '<th class="num">at step</th><th class="num">tokens</th><th class="num">time</th>'
               '<th class="num">energy</th></tr>{}</table></div>', metric, rows)


def _tokens(feed: Feed) -> float:
    return max((float(each.axis("tokens")[-1]) for each in feed.series.values() if each.length), default=0.0)


def legend(names: Sequence[str], most: int = 12) -> Markup:
    """What the colours mean, as long as they can be told apart."""
    if len(names) > most:
        return txt('<div class="legend"><span class="hint">{} runs; point at a curve to see whose it is</span></div>',
                   len(names))
    return txt('<div class="legend">{}</div>', join(
        txt('<span><i style="background:{}"></i>{}</span>', run_colour(place), name)
        for place, name in enumerate(names)))
