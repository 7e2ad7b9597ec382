"""Parts of a plan as markup: what a recipe takes, what to change where it does not fit, and other machines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from engine.plan import words as words_of
from engine.plan.dial import Proposal
from engine.plan.machines import Estimate
from engine.plan.outline import Plan
from engine.plan.prices import Machine
from studio.run_account import carbon_words, energy_words, money_words, small
from studio.views import Markup, banner, duration, join, number, press, size, tiles, txt

GIB = 2**30


def figures(plan: Plan) -> Markup:
    """The plan's numbers."""
    epochs = plan.tokens / max(1.0, plan.unique_tokens)
    found: list[tuple[str, Any]] = [
        ("Parameters", size(plan.parameters)),
        ("Tokens", txt("{}{}", size(plan.tokens), txt(" <small>{} epochs</small>", number(epochs, 1))
                       if epochs > 1.05 else "")),
        ("Tokens a parameter", number(plan.tokens_per_parameter, 1)),
        ("FLOPs", power(plan.flops)),
        ("Peak memory", txt("{} <small>GiB{}</small>", number(plan.memory_bytes / GIB, 2),
                            f" of {plan.available_bytes / GIB:.0f}" if plan.available_bytes else "")),
        ("Time", duration(plan.wall_seconds)),
        ("Energy", energy_words(plan.kwh)),
        (_cost(plan), money_words(plan.cost, plan.currency)),
        ("Emissions", carbon_words(plan.co2e_kg)),
    ]
    if plan.prediction is not None:
        found.append(("Validation loss", txt("{} <small>{} to {}</small>", number(plan.prediction.loss, 2),
                                             number(plan.prediction.low, 2), number(plan.prediction.high, 2))))
    return tiles(found)


def _cost(plan: Plan) -> str:
    return "Cost" if plan.pays == "electricity" else "Rent"


def power(value: float) -> Markup:
    """A very large number, with two digits that count: 1.4 × 10¹³."""
    digits, _, exponent = f"{value:.1e}".partition("e")
    return txt("{} × 10<sup>{}</sup>", digits, int(exponent))


def words(plan: Plan) -> Markup:
    """What the figures stand on, and how the text compares with the compute-optimal amount."""
    kind = "Measured" if plan.measured else "Estimated"
    return txt('<p class="line gap"><b>{}:</b> {}. {}</p>', kind, plan.based_on, words_of.balance(plan))


def room(plan: Plan) -> Markup:
    """Nothing where it fits; else what to change, as buttons."""
    if plan.fits:
        return Markup("")
    sentence = words_of.room(plan)
    if not plan.remedies:
        return banner("error", sentence)
    buttons = join(press(remedy.words, f"remedy:{place}") for place, remedy in enumerate(plan.remedies))
    return txt('<div class="stack">{}<div class="fixes">{}</div></div>', banner("error", sentence), buttons)


def assumptions(plan: Plan) -> Markup:
    """Every figure that was taken from somewhere else, with its source."""
    rows = [*plan.assumptions, *((f"Time for {words_of.PIECES[name]}", duration(seconds), "")
                                 for name, seconds in plan.seconds.items() if seconds >= 0.5)]
    told = join(txt("<tr><td>{}</td><td>{}</td><td>{}</td></tr>", *row) for row in rows)
    origin = txt('<p class="line gap">The loss to expect is from {}.</p>',
                 plan.prediction.origin) if plan.prediction else ""
    return txt("<table><tr><th>taken for granted</th><th>as</th><th>from</th></tr>{}</table>{}", told, origin)


def _brief(seconds: float) -> str:
    return duration(seconds) if seconds >= 10 else f"{seconds:.2g} s"


# One dial -----------------------------------------------------------------------------------------------


def proposal(made: Proposal, limit: str) -> Markup:
    """What the dial came to, the sizes it looked at, and the button that takes it."""
    plan, train = made.plan, made.recipe.train
    assert plan.prediction is not None
    rows = train.micro_batch_size * train.accumulation
    facts = [("Size", txt("{} <small>{}</small>", made.recipe.model.size, size(plan.parameters))),
             ("Batch", txt("{} <small>rows of {}</small>", number(rows), number(made.recipe.model.context_length))),
             ("Steps", number(train.max_steps)), ("Learning rate", f"{made.recipe.optim.lr:g}"),
             ("Tokens", size(plan.tokens)), ("Time", duration(plan.wall_seconds)),
             (_cost(plan), money_words(plan.cost, plan.currency)),
             ("Validation loss", txt("{} <small>{} to {}</small>", number(plan.prediction.loss, 2),
                                     number(plan.prediction.low, 2), number(plan.prediction.high, 2)))]
    others = ", ".join(f"{name} {loss:.2f} ({size(tokens)} tokens)" for name, tokens, loss in made.considered)
    return txt('<div class="gap">{}</div><p class="line gap">With {}: expected at each size that fits: {}. Batch and '
               'learning rate by the step law of Li et al. 2025. The loss is from {}.</p>'
               '<div class="fixes gap">{}</div>', tiles(facts), limit, others, plan.prediction.origin,
               press("Put it into the recipe", "take", "full", "check"))


# Machines that are not here -----------------------------------------------------------------------------


def machines(rows: Sequence[Estimate], machine: Machine, currency: str) -> Markup:
    """Time, cost and energy on 1 to 1,024 devices."""
    def line(row: Estimate) -> Markup:
        if not row.fits:
            return txt('<tr><td class="num">{}</td><td>does not fit</td><td class="num">{}</td><td class="num">–</td>'
                       '<td class="num">–</td><td class="num">–</td><td class="num">–</td><td class="num">–</td></tr>',
                       number(row.devices), number(row.memory_gb, 1))
        grown = txt(" <small>batch × {}</small>", number(row.batch_grows, 1)) if row.batch_grows > 1 else ""
        return txt('<tr><td class="num">{}</td><td>{}</td><td class="num">{}</td><td class="num">{}{}</td>'
                   '<td class="num">{}</td><td class="num">{}</td><td class="num">{}</td><td class="num">{:.0%}</td>'
                   "</tr>",
                   number(row.devices), row.strategy, number(row.memory_gb, 1), number(row.rows), grown,
                   _brief(row.seconds), small(row.cost), energy_words(row.kwh), row.utilisation)

    head = txt('<tr><th class="num">devices</th><th>strategy</th><th class="num">GB on each</th>'
               '<th class="num">rows on each</th><th class="num">time</th><th class="num">{}</th>'
               '<th class="num">energy</th><th class="num">of the peak</th></tr>', currency)
    return txt('<p class="line">{}</p><div class="scroll"><table>{}{}</table></div>',
               words_of.table(machine, currency), head, join(map(line, rows)))
