"""What a run draws and costs, how busy the machine is, and what was foretold of it, as markup."""

from __future__ import annotations

import math
from typing import Any

from engine.runs.history import foretold
from studio.elapsed import trained_seconds
from studio.views import Markup, duration, join, number, tiles, txt
from studio.watch import Feed

CENT = 0.01
LOADS = (("load/cpu", "Processor, this run"), ("load/gpu", "GPU"), ("speed/data_wait", "Waiting for data"))
HELD = (("memory/resident_gib", "Memory held"), ("memory/gpu_gib", "GPU memory held"))
HEAT = (("temperature/gpu", "GPU"), ("temperature/cpu", "Processor"))


def account(feed: Feed) -> Markup:
    """What the training draws and how busy the machine is; empty before the first reading."""
    kwh = feed.last("energy/kwh")
    if kwh is None:
        return Markup("")
    how = next((event for event in reversed(feed.told("resolved")) if event.get("setting") == "energy"), {})
    tokens = max(1.0, float(feed.series["energy/kwh"].axis("tokens")[-1]))
    carbon, money = feed.last("energy/co2e_kg") or 0.0, feed.last("energy/cost") or 0.0
    found = [("Energy", energy_words(kwh)),
             ("Cost", money_words(money, how.get("currency", ""))),
             ("Emissions", carbon_words(carbon)),
             ("For a million tokens", energy_words(kwh * 1e6 / tokens))]
    if (watts := feed.last("energy/watts")) is not None and feed.status.active:
        found.append(("Power", txt("{} <small>W</small>", number(watts, 1))))
    found += [(words, f"{feed.last(name):.0%}") for name, words in LOADS if feed.last(name) is not None]
    found += [(words, txt("{} <small>GiB</small>", number(feed.last(name), 2))) for name, words in HELD
              if feed.last(name) is not None]
    found += [(words, txt("{:.0f} <small>°C</small>", feed.last(name))) for name, words in HEAT
              if feed.last(name) is not None]
    return txt('{}<p class="line gap">Energy is {}: {}.</p>', tiles(found), how.get("value", "counted"),
               how.get("why", ""))


def energy_words(kwh: float) -> Markup:
    """Energy in the unit that reads best."""
    value, unit = (kwh, "kWh") if kwh >= 0.1 else (kwh * 1000, "Wh")
    return txt("{} <small>{}</small>", small(value), unit)


def carbon_words(kilograms: float) -> Markup:
    value, unit = (kilograms, "kg CO2e") if kilograms >= 0.1 else (kilograms * 1000, "g CO2e")
    return txt("{} <small>{}</small>", small(value), unit)


def money_words(amount: float, currency: str) -> Markup:
    """An amount of money; below a cent its size is told where one points at it."""
    if not 0 < amount < CENT:
        return txt("{} <small>{}</small>", small(amount), currency)
    return txt('<span title="{1} {2}">under {0} <small>{2}</small></span>', CENT, small(amount), currency)


def small(value: float) -> str:
    """A number with two digits that count, as long as it is small; never as a power of ten."""
    if value >= 10 or value <= 0:
        return number(value, 1)
    return f"{value:.{max(0, 1 - math.floor(math.log10(value)))}f}" if value < 1 else f"{value:.2g}"


# What was foretold --------------------------------------------------------------------------------------


def check(feed: Feed) -> Markup:
    """The plan that was kept when the run began, beside what happened; empty for a run without one."""
    plan = foretold(feed.run)
    if not plan:
        return Markup("")
    over = feed.status.state in ("finished", "stopped", "failed", "lost")
    rows = [_loss(plan, feed, over), *_rest(plan, feed)]
    head = txt('<tr><th></th><th class="num">foretold</th><th class="num">{}</th><th></th></tr>',
               "happened" if over else "so far")
    origin = f"The loss is from {plan['loss']['origin']}." if plan.get("loss") else ""
    return txt('<table>{}{}</table><p class="line gap">Foretold from {}. {}</p>', head, join(filter(None, rows)),
               plan.get("based_on", ""), origin)


def _row(words: str, foretold_value: object, happened: object, verdict: object) -> Markup:
    return txt('<tr><td>{}</td><td class="num">{}</td><td class="num">{}</td><td>{}</td></tr>', words, foretold_value,
               happened, verdict)


def _loss(plan: dict[str, Any], feed: Feed, over: bool) -> Markup | None:
    said, got = plan.get("loss"), feed.last("val/loss")
    if not said:
        return None
    verdict = ""
    if got is not None and over and _whole(plan, feed):
        verdict = ("within the interval" if said["low"] <= got <= said["high"] else
                   "better than foretold" if got < said["low"] else "worse than foretold")
    return _row("Validation loss", txt("{} <small>{} to {}</small>", number(said["loss"], 2), number(said["low"], 2),
                                       number(said["high"], 2)), number(got, 3), verdict)


def _whole(plan: dict[str, Any], feed: Feed) -> bool:
    """Whether the run saw the tokens that the plan was made for."""
    series = feed.series.get("train/loss")
    return series is not None and bool(series.length) and series.axis("tokens")[-1] >= 0.999 * plan.get("tokens", 0)


def _rest(plan: dict[str, Any], feed: Feed) -> list[Markup]:
    """Time, memory and energy of the training alone."""
    found = []
    whole = _whole(plan, feed)
    if (took := trained_seconds(feed)) is not None:
        found.append(_row("Training time", duration(plan["seconds"]), duration(took),
                          _off(took, plan["seconds"], whole)))
    if (peak := feed.last("memory/peak_gib")) is not None:
        found.append(_row("Peak memory", txt("{} <small>GiB</small>", number(plan["memory_gib"], 2)),
                          txt("{} <small>GiB</small>", number(peak, 2)),
                          _off(peak, plan["memory_gib"], True) + _shared(feed)))
    if (kwh := feed.last("energy/kwh")) is not None:
        found.append(_row("Energy", energy_words(plan["kwh"]), energy_words(kwh), _off(kwh, plan["kwh"], whole)))
    return found


def _shared(feed: Feed) -> str:
    """A process that prepared the text first still holds what that took; the plan is of the training."""
    before = {event.get("job") for event in feed.told("job")} & {"curate", "tokenize"}
    return ", the preparation of the text in it" if before else ""


def _off(happened: float, said: float, comparable: bool) -> str:
    if not comparable or not said:
        return ""
    share = happened / said - 1
    return "as foretold" if abs(share) < 0.05 else f"{abs(share):.0%} {'more' if share > 0 else 'less'}"
