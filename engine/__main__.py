"""The command line: every job that the studio does, on the same run folders.

    studio run demo                       the whole main job on the bundled corpus
    studio train my.yaml optim.lr=3e-4    any setting by its dotted name
    studio runs                           what there is

`python -m engine work RUN_DIR` is the worker itself; it is what every viewer launches.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence

from engine import runs, terminal
from engine.config import UserError
from engine.inference.commands import score, takes_scored
from engine.recipe import JOBS, Recipe
from engine.runs import commands, imported, planned, serving, talking, timing
from engine.runs.sweep import SAMPLERS, check
from engine.workspace import Workspace

Command = tuple[str, Callable[[argparse.ArgumentParser], None], Callable[[argparse.Namespace], int]]


def main(argv: Sequence[str] | None = None, extra: dict[str, Command] | None = None) -> int:
    """Run one command; returns the exit code. A UserError becomes one line on stderr and exit code 2."""
    top = parser({**COMMANDS, **(extra or {})})
    arguments, rest = top.parse_known_args(argv)
    # argparse takes no more of a list once an option stood in its middle.
    changes = [word for word in rest if "=" in word and not word.startswith("-")]
    if len(changes) < len(rest) or (rest and not hasattr(arguments, "changes")):
        top.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        arguments.changes += changes
    try:
        return arguments.run(arguments)
    except UserError as error:
        print(f"studio: {error.sentence}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        return 0


def parser(commands: dict[str, Command]) -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="studio", description="Make a language model on your own machine.")
    below = top.add_subparsers(metavar="COMMAND", required=True)
    for name, (words, configure, run) in commands.items():
        command = below.add_parser(name, help=words, description=words,
                                   formatter_class=argparse.RawDescriptionHelpFormatter)
        command.add_argument("--workspace", metavar="FOLDER",
                             help="where everything is kept (default: $STUDIO_WORKSPACE, else ~/training-studio)")
        configure(command)
        command.set_defaults(run=run)
    return top


# What a run is asked to do ----------------------------------------------------------------------------


def takes_recipe(command: argparse.ArgumentParser) -> None:
    command.add_argument("recipe", metavar="RECIPE", help="a YAML file, or the name of a shipped recipe such as demo")
    command.add_argument("changes", metavar="SETTING=VALUE", nargs="*",
                         help="settings to change, by dotted name, such as optim.lr=3e-4")
    command.add_argument("--allow", metavar="FOLDER", action="append", default=[],
                         help="let the recipe read from this folder outside the workspace")
    command.add_argument("--detach", action="store_true", help="start in the background and return")
    command.epilog = terminal.settings_help(Recipe)


def starts(*jobs: str) -> Callable[[argparse.Namespace], int]:
    """A command that starts a run with these jobs; none given means those that the recipe names."""

    def run(arguments: argparse.Namespace) -> int:
        workspace = Workspace(arguments.workspace, allow=arguments.allow)
        recipe = Recipe.load(arguments.recipe)
        if jobs:
            recipe = recipe.override(f"jobs=[{', '.join(jobs)}]")
        return _follow(runs.start(recipe.override(*arguments.changes), workspace), workspace, arguments.detach)

    return run


def tries(job: str, name: str) -> Callable[[argparse.Namespace], int]:
    """A command that starts a short run beside a recipe's own, called after both."""

    def run(arguments: argparse.Namespace) -> int:
        arguments.changes = [f"name={Recipe.load(arguments.recipe).name}-{name}", *arguments.changes]
        return starts(job)(arguments)

    return run


def takes_sweep(command: argparse.ArgumentParser) -> None:
    takes_recipe(command)
    command.add_argument("--vary", metavar="SETTING=RANGE", action="append", default=[],
                         help="a setting to vary, such as optim.lr=log:1e-4:1e-2, model.num_layers=int:2:8 or "
                              "optim.kind=adamw,muon; repeatable")
    command.add_argument("--sampler", choices=SAMPLERS, help="who chooses (tpe)")
    command.add_argument("--trials", type=int, metavar="N", help="trials to make (20; a grid makes all of its own)")


def sweep(arguments: argparse.Namespace) -> int:
    asked = {"vary": json.dumps(arguments.vary) if arguments.vary else None, "sampler": arguments.sampler,
             "num_trials": arguments.trials}
    arguments.changes += [f"sweep.{name}={value}" for name, value in asked.items() if value is not None]
    recipe = Recipe.load(arguments.recipe).override(*arguments.changes)
    check(recipe)
    how = f"{recipe.sweep.at_once} at once" if recipe.sweep.at_once > 1 else "one after the other"
    print(f"{recipe.sweep.trials} trials, {how}, of {recipe.train.max_steps:,} steps each")
    arguments.changes += [f"name={recipe.name}-sweep", "jobs=[sweep]"]
    return starts()(arguments)


def takes_run(command: argparse.ArgumentParser) -> None:
    command.add_argument("name", metavar="RUN", help="the name of a run (see: studio runs)")


def takes_run_and_changes(command: argparse.ArgumentParser) -> None:
    takes_run(command)
    command.add_argument("changes", metavar="SETTING=VALUE", nargs="*", help="settings to change")
    command.add_argument("--allow", metavar="FOLDER", action="append", default=[],
                         help="let the settings name files in this folder outside the workspace")
    command.add_argument("--detach", action="store_true", help="start in the background and return")


def on_checkpoint(job: str) -> Callable[[argparse.Namespace], int]:
    """A command that starts a run with one job on another run's checkpoint."""

    def run(arguments: argparse.Namespace) -> int:
        workspace = Workspace(arguments.workspace, allow=arguments.allow)
        source = runs.find(arguments.name, workspace)
        if not source.checkpoints:
            raise UserError(f"run {source.name} has no complete checkpoint; train it first.", where=source.name)
        recipe = runs.recipe_of(source).override(f"jobs=[{job}]", f"from_run={source.name}",
                                                 f"name={source.name}-{job}", *arguments.changes)
        return _follow(runs.start(recipe, workspace), workspace, arguments.detach)

    return run


def _follow(run: runs.Run, workspace: Workspace, detach: bool = False) -> int:
    if (status := run.status()).awaits:
        print(f"{run.name} in {run.path} {status.message}\nwatch it then with: studio watch {run.name}")
        return 0
    if detach:
        print(f"{run.name} started in {run.path}\nstop it with: studio stop {run.name}")
        return 0
    return terminal.follow(run, workspace)


# On runs that exist -----------------------------------------------------------------------------------


def resume(arguments: argparse.Namespace) -> int:
    workspace = Workspace(arguments.workspace)
    return _follow(runs.resume(runs.find(arguments.name, workspace)), workspace, arguments.detach)


def takes_resume(command: argparse.ArgumentParser) -> None:
    takes_run(command)
    command.add_argument("--detach", action="store_true", help="start in the background and return")


def stop(arguments: argparse.Namespace) -> int:
    run = runs.find(arguments.name, Workspace(arguments.workspace))
    if not run.status().active:
        print(f"{run.name} is not running ({run.status().state})")
        return 0
    runs.stop(run)
    status = run.wait(timeout_seconds=120)
    print(f"{run.name} is {status.state} at step {status.step}; go on with: studio resume {run.name}")
    return 0


def pause(arguments: argparse.Namespace) -> int:
    run = runs.find(arguments.name, Workspace(arguments.workspace))
    runs.pause(run)
    print(f"{run.name} will pause at the next step; go on with: studio resume {run.name}")
    return 0


def watch(arguments: argparse.Namespace) -> int:
    workspace = Workspace(arguments.workspace)
    return _follow(runs.find(arguments.name, workspace), workspace)


def list_runs(arguments: argparse.Namespace) -> int:
    terminal.print_runs(runs.listing(Workspace(arguments.workspace)))
    return 0


def takes_folder(command: argparse.ArgumentParser) -> None:
    command.add_argument("folder", metavar="RUN_DIR", help="the run's folder")


def work(arguments: argparse.Namespace) -> int:
    from engine.runs.worker import work as do

    return do(arguments.folder)


COMMANDS: dict[str, Command] = {
    "run": ("do every job that a recipe names", takes_recipe, starts()),
    "import": ("bring in a published model from a folder or, with --hub, over the network", imported.takes_published,
               lambda given: _follow(*imported.begin(given), given.detach)),
    "curate": ("read and clean a corpus", takes_recipe, starts(*JOBS[:1])),
    "tokenize": ("train a tokenizer and pack tokens, curating first if needed", takes_recipe, starts(*JOBS[:2])),
    "plan": ("say what a recipe will take before it is started, and what to make of an hour or of some money",
             planned.takes_plan, planned.plan),
    "measure": ("time a few real steps of a recipe, for its plan", takes_recipe,
                tries("probe", "measured")),
    "train": ("train a model, curating and tokenizing first if needed", takes_recipe, starts(*JOBS[:3])),
    "lr-range": ("find a learning rate: train for a moment while it rises, and say which to take", takes_recipe,
                 tries("lr_range", "lr-range")),
    "sweep": ("search for good settings: many trainings, each a run of its own", takes_sweep, sweep),
    "queue": ("let runs wait for their turn, one at a time on each device", commands.verbs(commands.QUEUE),
              commands.act),
    "resume": ("go on with a run from its last checkpoint", takes_resume, resume),
    "stop": ("save a run and stop it", takes_run, stop),
    "pause": ("save a run and let it wait", takes_run, pause),
    "torchrun": ("show the line by which torchrun starts a run", takes_run, commands.torchrun),
    "slurm": ("write and show the batch script that trains a run under SLURM", takes_run, commands.slurm),
    "watch": ("show a run's progress until it ends", takes_run, watch),
    "verify": ("check every file of a run's checkpoints against its checksum", takes_run, commands.verify),
    "runs": ("list the runs", lambda command: None, list_runs),
    "notes": ("show or change a run's notes and tags", commands.takes_note, commands.note),
    "metrics": ("write a run's metrics as CSV or for TensorBoard", commands.takes_table, commands.metrics),
    "trash": ("move runs to the trash, bring them back, or delete them", commands.takes_trash, commands.trash),
    "evaluate": ("measure a run's best checkpoint", takes_run_and_changes, on_checkpoint("evaluate")),
    "export": ("export a run's checkpoint to ONNX and prove it", takes_run_and_changes, on_checkpoint("export")),
    "benchmark": ("time an exported model beside every other way of running it", timing.takes_benchmark,
                  lambda given: _follow(*timing.begin(given), given.detach)),
    "generate": ("let a bundle or a checkpoint continue a text, or a whole set of prompts", talking.takes_writing,
                 talking.generate),
    "chat": ("talk with a model that has a chat template", talking.takes_chat, talking.chat),
    "differ": ("compare a bundle with PyTorch, token by token of a text", talking.takes_differ, talking.differ),
    "score": ("let an exported reward model or classifier score texts", takes_scored, score),
    "serve": ("answer other programs in OpenAI's words", serving.takes_serve, serving.serve),
    "work": ("do the work of a run folder (what every other command launches)", takes_folder, work),
}

if __name__ == "__main__":
    sys.exit(main())
