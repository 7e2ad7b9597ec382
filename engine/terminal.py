"""The command line as a viewer: progress bars, the list of runs, the settings' help."""

from __future__ import annotations

import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table as Grid

from engine import files, runs
from engine.config import Config, Part, settings
from engine.inference import speed_table
from engine.plan.outline import outline
from engine.runs import energy
from engine.runs.folder import START, Run
from engine.runs.history import seen
from engine.workspace import Workspace

POLL_SECONDS = 0.2
SPEED_COLUMNS = 112     # of a benchmark's table; a narrower terminal breaks its lines


def follow(run: Run, workspace: Workspace) -> int:
    """Show a run until it ends; the exit code is 0 if it finished or was stopped.

    Ctrl-C asks the run to save and stop; a second one leaves it running and returns.
    """
    console = Console(highlight=False)
    console.print(f"[bold]{escape(run.name)}[/] in {escape(str(run.path))}")
    asked = False
    view = _Bars(run, console)
    with view.progress:
        while True:
            try:
                status = run.status()
                view.update()
                if not status.active:
                    break
                time.sleep(POLL_SECONDS)
            except KeyboardInterrupt:
                if asked:
                    console.print(f"{run.name} goes on; watch it with: studio watch {run.name}, or in the studio")
                    return 0
                asked = True
                runs.stop(run)
                console.print("saving and stopping; press Ctrl-C again to leave it running")
    return _conclude(run, workspace, console)


class _Bars:
    """One bar for each job of a run, fed from its status and events."""

    def __init__(self, run: Run, console: Console) -> None:
        self.run, self.cursor, self.told = run, START, 0.0
        self.progress = Progress(TextColumn("{task.description:<9}"), BarColumn(), MofNCompleteColumn(),
                                 TimeRemainingColumn(), TextColumn("{task.fields[message]}"), console=console)
        self.bars: dict[str, TaskID] = {}
        self.live = console.is_terminal

    def update(self) -> None:
        events, self.cursor = self.run.rows("events", self.cursor)
        for event in events:
            if event["time"] > self.told:  # a resume replaces the file, and all of it is read again
                self.told = event["time"]
                self._tell(event)
        status = self.run.status()
        if status.job and status.of:
            self._bar(status.job)
            self.progress.update(self.bars[status.job], completed=status.step, total=status.of,
                                 message=escape(status.message))

    def _bar(self, job: str) -> None:
        if job in self.bars:
            return
        for before in self.bars.values():
            total = self.progress.tasks[before].total or 1
            self.progress.update(before, completed=total, total=total, message="")
        self.bars[job] = self.progress.add_task(job, total=None, message="")

    def _tell(self, event: dict[str, Any]) -> None:
        say = self.progress.console.print
        kind = event.get("kind")
        if kind == "job":
            self._bar(event["job"])
            if not self.live:
                say(f"== {event['job']}")
        elif kind == "reused":
            say(f"[dim]made before from the same inputs and settings: {escape(event['path'])}[/]", soft_wrap=True)
        elif kind == "sample":
            say(f"[dim]step {event['step']}:[/] {escape(event['prompt'])}[cyan]{escape(event['text'][:160])}[/]",
                soft_wrap=True)
        elif kind == "resolved":
            say(f"[dim]{escape(str(event['setting']))} = {escape(str(event['value']))}: {escape(event['why'])}[/]")
        elif kind in ("warning", "advice"):
            say(f"[yellow]{escape(str(event.get('sentence', '')))}[/]")


def _conclude(run: Run, workspace: Workspace, console: Console) -> int:
    status, made = run.status(), run.made()
    _tell_of_energy(run, console)
    if status.state in ("failed", "lost"):
        console.print(f"[red]{status.state}:[/] {escape(status.error or 'the worker died.')}",
                      soft_wrap=True)
        if run.checkpoints:
            console.print(f"go on from the last checkpoint with: studio resume {run.name}")
        return 1
    if status.state == "stopped":
        console.print(f"stopped and saved at step {status.step}; go on with: studio resume {run.name}")
        return 0
    if "evaluation" in made:
        report = files.read_json(workspace.path / made["evaluation"])
        console.print(f"validation loss {report['val/loss']:.3f}, perplexity {report['val/perplexity']:.1f}, "
                      f"{report['val/bits_per_byte']:.3f} bits per byte")
        console.print(f"report: {escape(str(workspace.path / made['evaluation']))}", soft_wrap=True)
    if "benchmark" in made:
        print_speed(files.read_json(workspace.path / made["benchmark"]), console)
    if "bundle" in made:
        bundle = workspace.path / made["bundle"]
        parity = files.read_json(bundle / "parity.json")
        _speak(bundle, runs.recipe_of(run).evaluate.prompts[0], console)
        console.print(f"parity: [green]{'passed' if parity['passed'] else 'FAILED'}[/]. {escape(parity['sentence'])}")
        console.print(f"bundle: {escape(str(bundle))}", soft_wrap=True)
    elif "checkpoint" in made:
        console.print(f"checkpoint: {escape(str(workspace.path / made['checkpoint']))}", soft_wrap=True)
    elif "evaluation" not in made and "tokens" in made:
        console.print(f"tokens: {escape(str(workspace.path / made['tokens']))}", soft_wrap=True)
    elif "evaluation" not in made and "dataset" in made:
        console.print(f"dataset: {escape(str(workspace.path / made['dataset']))}", soft_wrap=True)
    if status.job == "curate" and "dataset" in made:
        console.print(escape(_dropped(workspace.path / made["dataset"])), soft_wrap=True)
    if status.job == "probe":
        _tell_of_plan(run, workspace, console)
    if "dataset" in made and (told := _left_out(workspace.path / made["dataset"])):
        console.print(f"[yellow]{escape(told)}[/]", soft_wrap=True)
    return 0


def _tell_of_energy(run: Run, console: Console) -> None:
    used = energy.account(run.rows("metrics")[0], run.rows("events")[0])
    if used:
        console.print(f"energy: {used['kwh']:.3g} kWh {used['value']}, {used['cost']:.2g} {used['currency']}, "
                      f"{used['co2e_kg'] * 1000:.3g} g CO2e")


def _dropped(dataset: Path) -> str:
    """What the steps dropped, most first."""
    summary = files.read_json(dataset / files.MANIFEST)["summary"]
    dropped = [(sum(step["reasons"].values()), step) for step in summary["steps"] if step["reasons"]]
    told = []
    for count, step in sorted(dropped, key=lambda pair: -pair[0]):
        reason, most = max(step["reasons"].items(), key=lambda pair: pair[1])
        told.append(f"{step['step']} {count:,} (most for '{reason}', {most:,})")
    return f"{summary['documents']:,} documents kept; dropped: {', '.join(told) or 'none'}"


def _tell_of_plan(run: Run, workspace: Workspace, console: Console) -> None:
    """What the recipe that was measured will take."""
    recipe = runs.recipe_of(run)
    plan = outline(recipe, workspace, seen=seen(recipe, workspace))
    figures = [("time", f"{timedelta(seconds=round(plan.wall_seconds))} to train"),
               ("memory", f"{plan.memory_bytes / 2**30:.2f} GiB at the peak"
                          + ("" if plan.fits else ", which does not fit here")),
               ("energy", f"{plan.kwh:.2g} kWh, {plan.cost:.2g} {plan.currency}, {plan.co2e_kg * 1000:.2g} g CO2e")]
    if plan.prediction:
        figures.append(("loss", f"{plan.prediction.loss:.2f} to expect ({plan.prediction.low:.2f} to "
                                f"{plan.prediction.high:.2f})"))
    for name, value in [*figures, ("from", plan.based_on)]:
        console.print(f"{name:<7} {escape(value)}", soft_wrap=True)


def _left_out(dataset: Path) -> str:
    """What of the sources is not in a dataset because it could not be read or was not looked at; empty if nothing."""
    if not (dataset / files.MANIFEST).exists():
        return ""
    summary = files.read_json(dataset / files.MANIFEST)["summary"]
    unread, aside = summary["quarantined"], sum(source["files"] for source in summary.get("skipped", ()))
    told = []
    if unread:
        told.append(f"{unread} {'record' if unread == 1 else 'records'} could not be read")
    if aside:
        told.append(f"{aside} {'file was' if aside == 1 else 'files were'} skipped")
    return ", ".join(told) + (f"; the records are in {dataset / 'quarantine.jsonl'}" if unread else "")


def _speak(bundle: Any, prompt: str, console: Console) -> None:
    from engine import inference
    from engine.inference.bundle import scores

    if scores(bundle):
        prompt = prompt or "a text"
        found = inference.load_scorer(bundle).score([prompt])[0]
        console.print(f"the bundle scores, in onnxruntime: {escape(prompt)} "
                      f"[cyan]{', '.join(f'{value:+.4f}' for value in found)}[/]", soft_wrap=True)
        return
    text = inference.load(bundle).generate(prompt, max_new_tokens=100, seed=1)
    console.print(f"the bundle continues, in onnxruntime: {escape(prompt)}[cyan]{escape(text)}[/]", soft_wrap=True)


def print_speed(found: dict[str, Any], console: Console) -> None:
    """A benchmark as a table."""
    grid = Grid(box=None, pad_edge=False)
    for place, title in enumerate(speed_table.heads(speed_table.BASE)):
        grid.add_column(title, justify="right" if place else "left", no_wrap=True)
    for row in found["rows"]:
        grid.add_row(*map(escape, speed_table.cells(row, found["rows"], speed_table.BASE)))
    # Its lines may wrap in a narrow terminal, and go whole into a pipe: cut columns would say nothing.
    Console(file=console.file, width=max(console.width, SPEED_COLUMNS)).print(grid)
    for sentence in speed_table.notes(found):
        console.print(escape(sentence), soft_wrap=True)


def print_runs(found: list[Run]) -> None:
    """The runs as a table, newest first."""
    if not found:
        print("no runs yet; start one with: studio run demo")
        return
    grid = Grid(box=None, pad_edge=False)
    for title in ("run", "state", "job", "step", "of", "made"):
        grid.add_column(title)
    for run in found:
        status = run.status()
        grid.add_row(escape(run.name), status.state, status.job, str(status.step), str(status.of),
                     escape(", ".join(run.made())))
    Console(highlight=False).print(grid)


def settings_help(config: type[Config], prefix: str = "", title: str = "settings:") -> str:
    """Every dotted setting with its default, unit and words, for `--help`."""
    return "\n".join([title, *_lines(config, prefix)])


def _lines(config: type[Config], prefix: str) -> list[str]:
    found: list[str] = []
    for s in settings(config):
        name = f"{prefix}{s.name}"
        if s.config and issubclass(s.config, Part) and not s.many:
            found.append(f"  {name}.kind = {s.default}  ({' | '.join(s.config.table)})\n        {s.words}")
            for kind, part in s.config.table.items():
                inner = _lines(part, f"{name}.")
                found += [f"  with {name}.kind={kind}:", *inner] if inner else []
        elif s.config and not s.many:
            found += _lines(s.config, f"{name}.")
        else:
            choices = f"  ({' | '.join(map(str, s.choices))})" if len(s.choices) > 1 and not s.many else ""
            default = "[" + ", ".join(map(_short, s.default)) + "]" if isinstance(s.default, tuple) else s.default
            found.append(f"  {name} = {default}{' ' + s.unit if s.unit else ''}{choices}\n        {s.words}")
    return found


def _short(value: Any) -> str:
    return "{" + ", ".join(f"{k}: {v}" for k, v in value.items()) + "}" if isinstance(value, dict) else str(value)
