"""Commands on runs: the queue, notes, tables of metrics, the trash, what starts a run elsewhere."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from engine import files
from engine.config import UserError
from engine.recipe import Recipe
from engine.runs import Run, enqueue, find, listing, notes, outside, queue, recipe_of, tables, trashed
from engine.workspace import Workspace

Verb = tuple[str, Callable[[argparse.ArgumentParser], None], Callable[[argparse.Namespace], int]]


def verbs(table: dict[str, Verb]) -> Callable[[argparse.ArgumentParser], None]:
    """A command that is followed by a verb with arguments of its own."""

    def configure(command: argparse.ArgumentParser) -> None:
        below = command.add_subparsers(metavar="VERB", required=True, dest="verb")
        for name, (words, arguments, run) in table.items():
            verb = below.add_parser(name, help=words, description=words)
            verb.add_argument("--workspace", metavar="FOLDER", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
            arguments(verb)
            verb.set_defaults(act=run)

    return configure


def act(arguments: argparse.Namespace) -> int:
    """Do what the verb says."""
    return int(arguments.act(arguments))


# Queue -------------------------------------------------------------------------------------------------


def takes_waiting(command: argparse.ArgumentParser) -> None:
    command.add_argument("name", metavar="RUN", help="a run that waits (see: studio queue list)")


def takes_enqueued(command: argparse.ArgumentParser) -> None:
    command.add_argument("recipe", metavar="RECIPE|RUN", help="a recipe, or a run that was stopped or failed")
    command.add_argument("changes", metavar="SETTING=VALUE", nargs="*", help="settings of the recipe to change")
    command.add_argument("--at", default="", metavar="22:30", help="not before this time of day")
    command.add_argument("--device", default="auto", help=f"one of auto, {', '.join(queue.devices())} (auto)")
    command.add_argument("--hold", action="store_true", help="let it wait until it is released")


def add(arguments: argparse.Namespace) -> int:
    workspace, at = _workspace(arguments), queue.moment(arguments.at)
    if arguments.recipe in [run.name for run in listing(workspace)] and not arguments.changes:
        run = find(arguments.recipe, workspace)
        outside.require_here(recipe_of(run), "the queue")
        queue.add(run, device=arguments.device, start_at=at, held=arguments.hold)
    else:
        recipe = Recipe.load(arguments.recipe).override(*arguments.changes)
        run = enqueue(recipe, workspace, device=arguments.device, start_at=at, held=arguments.hold)
    print(f"{run.name} waits in the queue; see it with: studio queue list")
    return 0


def show(arguments: argparse.Namespace) -> int:
    workspace = _workspace(arguments)
    queue.wake(workspace)  # after a restart of the machine, a look is enough
    found = queue.entries(workspace)
    if not found:
        print("nothing waits; add something with: studio queue add RECIPE")
    place = 0
    for entry in found:
        place += not entry.begun
        print(f"{'now' if entry.begun else place:>3}  {entry.run.name}  {told(entry)}")
    return 0


def told(entry: queue.Entry) -> str:
    """How an entry stands, in words."""
    if entry.begun:
        return f"{entry.run.status().state} on {entry.device}"
    return ", ".join(filter(None, ["held" * entry.held, entry.later])) or "waits for its turn"


def takes_place(command: argparse.ArgumentParser) -> None:
    takes_waiting(command)
    command.add_argument("place", type=int, metavar="PLACE", help="1 is next")


def move(arguments: argparse.Namespace) -> int:
    place = queue.move(find(arguments.name, _workspace(arguments)), arguments.place - 1) + 1
    if place != arguments.place:
        print(f"there is no place {arguments.place}; {arguments.name} has place {place} now")
    return show(arguments)


def remove(arguments: argparse.Namespace) -> int:
    queue.remove(find(arguments.name, _workspace(arguments)))
    print(f"{arguments.name} was taken out of the queue; it is still among the runs")
    return 0


def holds(held: bool) -> Callable[[argparse.Namespace], int]:
    def run(arguments: argparse.Namespace) -> int:
        queue.change(find(arguments.name, _workspace(arguments)), held=held)
        return show(arguments)

    return run


def takes_time(command: argparse.ArgumentParser) -> None:
    takes_waiting(command)
    command.add_argument("at", metavar="22:30", help="a time of day; an empty one means at once")


def at(arguments: argparse.Namespace) -> int:
    queue.change(find(arguments.name, _workspace(arguments)), start_at=queue.moment(arguments.at))
    return show(arguments)


def work(arguments: argparse.Namespace) -> int:
    from engine.runs.turns import drive

    drive(_workspace(arguments))
    return 0


QUEUE: dict[str, Verb] = {
    "list": ("show what has its turn and what waits", lambda command: None, show),
    "add": ("let a recipe, or a run that was stopped, wait for its turn", takes_enqueued, add),
    "move": ("give a waiting run another place", takes_place, move),
    "hold": ("let a waiting run wait until it is released", takes_waiting, holds(True)),
    "release": ("let a held run have its turn again", takes_waiting, holds(False)),
    "at": ("start a waiting run not before a time of day", takes_time, at),
    "remove": ("take a waiting run out of the queue", takes_waiting, remove),
    "work": ("start what waits until nothing is left (what every other verb launches)", lambda command: None, work),
}


# Notes, tables, trash ----------------------------------------------------------------------------------


def takes_note(command: argparse.ArgumentParser) -> None:
    command.add_argument("name", metavar="RUN", help="the name of a run")
    command.add_argument("text", nargs="?", help="Markdown to keep as the run's notes")
    command.add_argument("--tag", action="append", default=[], help="a tag to add; repeatable")
    command.add_argument("--untag", action="append", default=[], help="a tag to take away; repeatable")


def note(arguments: argparse.Namespace) -> int:
    run = find(arguments.name, _workspace(arguments))
    kept = notes.read(run)
    if arguments.text is not None or arguments.tag or arguments.untag:
        tags = [tag for tag in (*kept.tags, *arguments.tag) if tag not in arguments.untag]
        kept = notes.write(run, text=arguments.text, tags=tags)
    print(" ".join(f"#{tag}" for tag in kept.tags) or "no tags")
    print(kept.text or "no notes")
    return 0


def takes_table(command: argparse.ArgumentParser) -> None:
    command.add_argument("name", metavar="RUN", help="the name of a run")
    command.add_argument("--tensorboard", action="store_true", help="write TensorBoard's event files, not CSV")
    command.add_argument("--to", metavar="FILE", help="where the CSV goes (default: the terminal)")


def metrics(arguments: argparse.Namespace) -> int:
    workspace = _workspace(arguments)
    run = find(arguments.name, workspace)
    if arguments.tensorboard:
        made = tables.to_tensorboard(run)
        print(f"{made}\nsee it with: tensorboard --logdir {workspace.place('runs')}")
    elif arguments.to:
        text, target = tables.to_csv(run), Path(arguments.to).expanduser()
        files.write(target, text)
        print(f"{target} holds {text.count(chr(10)) - 1:,} steps of {run.name}")
    else:
        sys.stdout.write(tables.to_csv(run))
    return 0


def takes_trash(command: argparse.ArgumentParser) -> None:
    command.add_argument("names", metavar="RUN", nargs="*", help="runs to move to the trash; none lists what is there")
    command.add_argument("--restore", metavar="RUN", help="bring a run back")
    command.add_argument("--empty", action="store_true", help="delete what is in the trash, for good")
    command.add_argument("--yes", action="store_true", help="do not ask before deleting")


def trash(arguments: argparse.Namespace) -> int:
    workspace = _workspace(arguments)
    for name in arguments.names:
        print(f"{name} lies in {trashed.trash(find(name, workspace), workspace)}")
    if arguments.restore:
        print(f"{trashed.restore(arguments.restore, workspace).name} is back")
    there = trashed.trashed(workspace)
    if arguments.empty:
        size = sum(trashed.size_bytes(path) for path in there) / 2**20
        asked = f"Delete {len(there)} runs ({size:,.0f} MiB) for good? Type yes: "
        if there and (arguments.yes or input(asked).strip().lower() == "yes"):
            print(f"{trashed.empty(workspace)} runs deleted")
    elif not arguments.names and not arguments.restore:
        width = shutil.get_terminal_size().columns
        print("\n".join(path.name[:width] for path in there) or "the trash is empty")
    return 0


def _workspace(arguments: argparse.Namespace) -> Workspace:
    return Workspace(arguments.workspace)


# One run ----------------------------------------------------------------------------------------------


def torchrun(arguments: argparse.Namespace) -> int:
    run = _unfinished(arguments)
    print(outside.torchrun(recipe_of(run), run.path))
    _remark(run)
    return 0


def slurm(arguments: argparse.Namespace) -> int:
    run = _unfinished(arguments)
    script = outside.write_script(run, recipe_of(run))
    print(script.read_text(encoding="utf-8"), end="")
    print(f"# submit it with: sbatch {script}")
    _remark(run)
    return 0


def _unfinished(arguments: argparse.Namespace) -> Run:
    run = find(arguments.name, _workspace(arguments))
    if run.status().state == "finished":
        raise UserError(f"{run.name} is finished, so there is nothing left to train; start a new run for more.")
    return run


def _remark(run: Run) -> None:
    """Say where the processes would be in each other's way; beside what may be piped."""
    state = run.status().state
    if state in ("running", "paused", "stopping"):
        print(f"{run.name} is {state}; stop it before others start its processes.", file=sys.stderr)


def verify(arguments: argparse.Namespace) -> int:
    from engine.runs import checkpoint

    run, damaged = find(arguments.name, _workspace(arguments)), 0
    for path in sorted((run.path / "checkpoints").glob("step-*"), key=checkpoint.step_of):
        try:
            checkpoint.verify(path)
            print(f"{path.name} is whole")
        except UserError as problem:
            damaged += 1
            print(f"{path.name}: {problem.sentence}")
    for path in (aside := sorted((run.path / "checkpoints").glob("damaged-*"))):
        print(f"{path.name} was found damaged, and is set aside")
    if not run.checkpoints and not aside:
        print(f"{run.name} has no checkpoint yet")
    return 1 if damaged else 0
