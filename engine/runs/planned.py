"""Planned: the plan of a recipe on the command line, what one dial proposes, and the table of other machines."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from datetime import timedelta

from rich.console import Console
from rich.markup import escape
from rich.table import Table as Grid

from engine.config import UserError
from engine.plan import prices, words
from engine.plan.dial import Proposal, propose
from engine.plan.here import here, rented
from engine.plan.machines import Estimate, estimates
from engine.plan.outline import GIB, Plan, outline
from engine.plan.prices import Prices
from engine.recipe import Recipe
from engine.runs.history import seen
from engine.workspace import Workspace

WIDE = 112  # columns of the table of machines; a narrower terminal breaks its lines


def takes_plan(command: argparse.ArgumentParser) -> None:
    command.add_argument("recipe", metavar="RECIPE", help="a YAML file, or the name of a shipped recipe such as demo")
    command.add_argument("changes", metavar="SETTING=VALUE", nargs="*", help="settings to change")
    command.add_argument("--hours", type=float, default=0.0, metavar="H", help="propose what to make of so much time")
    command.add_argument("--money", type=float, default=0.0, metavar="M",
                         help="propose what to make of so much money: for electricity here, for rent with --machine")
    command.add_argument("--machine", metavar="NAME", help="plan for a rented machine of prices.yaml, such as H100")
    command.add_argument("--devices", type=int, metavar="N", help="how many of those, with --machine (1)")


def plan(arguments: argparse.Namespace) -> int:
    """Print all of it. Raises UserError for a machine that is not in prices.yaml, and devices without one."""
    workspace, devices = Workspace(arguments.workspace), 1 if arguments.devices is None else arguments.devices
    recipe = Recipe.load(arguments.recipe).override(*arguments.changes)
    if arguments.devices is not None and not arguments.machine:
        raise UserError("--devices counts those of --machine; name one, or set train.devices for this machine.",
                        where="devices")
    if not 1 <= devices <= 1024:
        raise UserError(f"--devices is {devices}, must be from 1 to 1024.", where="devices")
    figures = prices.load(workspace)
    rent = figures.machine(arguments.machine) if arguments.machine else None
    machine, known = rented(rent, devices) if rent else here(workspace), seen(recipe, workspace)
    console = Console(highlight=False)
    console.print(f"[bold]{escape(recipe.name)}[/] on {escape(words.place(machine))}", soft_wrap=True)
    _tell(outline(recipe, workspace, figures=figures, machine=machine, seen=known, rent=rent), console)
    if arguments.hours or arguments.money:
        made = propose(recipe, workspace, hours=arguments.hours, money=arguments.money, figures=figures,
                       machine=machine, seen=known, rent=rent, devices=devices)
        _tell_of_proposal(made, arguments, console)
    if rent:
        console.print(f"\n{escape(words.table(rent, figures.currency))}", soft_wrap=True)
        _table(estimates(recipe, rent, figures), figures, console)
    return 0


def _tell(plan: Plan, console: Console) -> None:
    epochs = plan.tokens / max(1.0, plan.unique_tokens)
    available = f" of {plan.available_bytes / GIB:.1f}" if plan.available_bytes else ""
    seconds = ", ".join(f"{words.PIECES[name]} {_time(took)}" for name, took in plan.seconds.items() if took)
    rows = [
        ("parameters", words.count(plan.parameters)),
        ("tokens", words.count(plan.tokens) + (f", {epochs:.1f} epochs" if epochs > 1.05 else "")),
        ("tokens a parameter", f"{plan.tokens_per_parameter:.1f}"),
        ("FLOPs", f"{plan.flops:.2g}"),
        ("peak memory", f"{plan.memory_bytes / GIB:.2f} GiB{available}: " + ", ".join(
            f"{name} {amount / GIB:.2f}" for name, amount in plan.memory.items())),
        ("time", f"{_time(plan.wall_seconds)}: {seconds}"),
        ("energy", f"{plan.kwh:.2g} kWh"),
        ("cost", f"{plan.cost:.2g} {plan.currency} for {plan.pays}"),
        ("emissions", f"{plan.co2e_kg:.2g} kg CO2e"),
    ]
    if plan.prediction:
        rows.append(("validation loss", f"{plan.prediction.low:.2f} to {plan.prediction.high:.2f}, expected "
                                        f"{plan.prediction.loss:.2f}"))
    _pairs(rows, console)
    console.print(f"[bold]{'Measured' if plan.measured else 'Estimated'}:[/] {escape(plan.based_on)}.", soft_wrap=True)
    console.print(escape(words.balance(plan)), soft_wrap=True)
    if not plan.fits:
        console.print(f"[red]{escape(words.room(plan))}[/]", soft_wrap=True)
        for remedy in plan.remedies:
            console.print(f"  {escape(remedy.words)}: [cyan]{escape(_settings(remedy.changes))}[/]", soft_wrap=True)
    console.print("[bold]Taken for granted[/]")
    _pairs([(name, f"{value} ({source})") for name, value, source in plan.assumptions], console)
    if plan.prediction:
        console.print(f"The loss to expect is from {escape(plan.prediction.origin)}.", soft_wrap=True)


def _tell_of_proposal(made: Proposal, arguments: argparse.Namespace, console: Console) -> None:
    plan, train = made.plan, made.recipe.train
    assert plan.prediction is not None
    limits = [f"{arguments.hours:g} h" if arguments.hours else "",
              f"{arguments.money:g} {plan.currency} for {plan.pays}" if arguments.money else ""]
    console.print(f"\n[bold]With {' and '.join(filter(None, limits))}[/]")
    _pairs([
        ("size", f"{made.recipe.model.size}, {words.count(plan.parameters)} parameters"),
        ("batch", f"{train.micro_batch_size * train.accumulation} rows of {made.recipe.model.context_length} tokens"),
        ("steps", f"{train.max_steps:,}, {words.count(plan.tokens)} tokens"),
        ("learning rate", f"{made.recipe.optim.lr:g}"),
        ("time", _time(plan.wall_seconds)),
        ("cost", f"{plan.cost:.2g} {plan.currency} for {plan.pays}"),
        ("validation loss", f"{plan.prediction.low:.2f} to {plan.prediction.high:.2f}, expected "
                            f"{plan.prediction.loss:.2f}"),
        ("other sizes", ", ".join(f"{name} {loss:.2f}" for name, _, loss in made.considered)),
        ("settings", _settings(made.changes))], console)


def _table(rows: Sequence[Estimate], figures: Prices, console: Console) -> None:
    grid = Grid(box=None, pad_edge=False)
    for place, title in enumerate(("devices", "strategy", "GB on each", "rows on each", "time", figures.currency, "kWh",
                                   "of the peak")):
        grid.add_column(title, justify="left" if place == 1 else "right", no_wrap=True)
    for row in rows:
        if not row.fits:
            grid.add_row(f"{row.devices:,}", row.strategy, f"{row.memory_gb:.1f}", *"–––––")
            continue
        grown = f" (batch × {row.batch_grows:.1f})" if row.batch_grows > 1 else ""
        grid.add_row(f"{row.devices:,}", row.strategy, f"{row.memory_gb:.1f}", f"{row.rows:,}{grown}",
                     _time(row.seconds), f"{row.cost:,.2f}", f"{row.kwh:.3g}", f"{row.utilisation:.0%}")
    # Its lines may wrap in a narrow terminal, and go whole into a pipe: cut columns would say nothing.
    Console(file=console.file, width=max(console.width, WIDE), highlight=False).print(grid)


def _pairs(rows: Sequence[tuple[str, str]], console: Console) -> None:
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        console.print(f"  {name:<{width}}  {escape(value)}", soft_wrap=True)


def _settings(changes: dict[str, object]) -> str:
    """As they are typed behind a recipe's name."""
    return " ".join(f"'{name}={value}'" if " " in f"{value}" else f"{name}={value}" for name, value in changes.items())


def _time(seconds: float) -> str:
    return f"{seconds:.2g} s" if seconds < 10 else str(timedelta(seconds=round(seconds)))
