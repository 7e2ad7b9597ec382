"""The sweep as a job: trials one after the other or several at once, each an ordinary run, chosen by Optuna.

    trials.jsonl   in the sweep's folder: a row when a trial begins, and one when it ended

Whatever ended the sweep, it goes on where it was: trials that had begun are taken up again, and what Optuna knows is
made anew from these rows before each new one (see `study`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, get_args

from engine import files, hardware
from engine.config import UserError, read
from engine.optim.sweep import SweepConfig
from engine.progress import Stopped
from engine.recipe import Recipe, place
from engine.runs import create, notes, queue, stop, study
from engine.runs.folder import START, Run
from engine.runs.launch import launch
from engine.runs.outside import require_here
from engine.runs.study import Trial

if TYPE_CHECKING:
    import optuna

    from engine.runs.worker import Worker

SAMPLERS: tuple[str, ...] = get_args(SweepConfig.model_fields["sampler"].annotation)
POLL_SECONDS = 0.5


def trials(run: Run) -> list[Trial]:
    """The trials of a sweep so far, in order."""
    found: dict[int, Trial] = {}
    for row in run.rows("trials")[0]:
        known = {key: row[key] for key in ("run", "changes", "state", "value", "seen") if key in row}
        trial = found.setdefault(row["trial"], Trial(row["trial"], "", {}))
        for key, value in known.items():
            setattr(trial, key, value)
    return [found[number] for number in sorted(found)]


def best(found: list[Trial]) -> Trial | None:
    """The finished trial with the lowest value."""
    return min((t for t in found if t.state == "finished" and t.value is not None), key=lambda t: t.value or 0.0,
               default=None)


def trial_recipe(recipe: Recipe, changes: Mapping[str, Any], name: str) -> Recipe:
    """What one trial is asked to do. Raises UserError when a setting is unknown or a value is refused."""
    values = recipe.dump()
    for path, value in changes.items():
        place(values, path.split("."), value)
    return read(Recipe, {**values, "name": name, "jobs": ["train"], "sweep": {}})


def check(recipe: Recipe) -> None:
    """Refuse, before the first trial, what no trial could be asked: a name that is no setting, an end out of limits."""
    ranges = recipe.sweep.ranges
    if not ranges:
        raise UserError("sweep.vary is empty, so there is nothing to try; write a line such as "
                        "optim.lr=log:1e-4:1e-2.", where="sweep.vary")
    require_here(recipe, "a sweep")
    at_once, gpus = recipe.sweep.at_once, _gpus(recipe)
    if at_once > 1 and gpus and recipe.train.devices not in ("auto", "1"):
        raise UserError(f"sweep.at_once is {at_once}, which gives each trial one GPU, and train.devices is "
                        f"{recipe.train.devices}; set one of them to 1.", where="sweep.at_once")
    if at_once > max(1, len(gpus)) and gpus:
        raise UserError(f"sweep.at_once is {at_once}, but each trial needs a GPU and this sweep has {len(gpus)}; take "
                        "as many. The queue gives one.", where="sweep.at_once")
    kinds = {each.name: each.values[0] for each in ranges if each.name.endswith("kind")}
    for each in ranges:
        for value in each.values or (each.low, each.high):
            shown = int(value) if each.kind.startswith("int") else value
            try:
                trial_recipe(recipe, {**kinds, each.name: shown}, recipe.name)
            except UserError as error:
                raise UserError(f"A trial with {each.name}={shown} is refused: {error.sentence}",
                                where="sweep.vary") from None


def sweep(worker: Worker, recipe: Recipe) -> None:
    """Make the trials that are still to make. Raises Stopped when a viewer asked for a stop."""
    check(recipe)
    run, of = worker.run, recipe.sweep.trials
    places = _places(recipe)
    going: list[_Going] = []
    known = trials(run)
    begun = [trial for trial in known if not trial.over]  # by a sweep that was interrupted
    while going or begun or len(known) < of:
        free = [place for place in places if not any(each.place is place for each in going)]
        if free and (begun or len(known) < of):
            going.append(_begin(worker, recipe, known, begun.pop(0) if begun else None, free[0]))
            known = trials(run)
            continue
        over = [each for each in going if each.look(recipe.sweep)]
        for each in over:
            run.append("trials", {"trial": each.number, "time": time.time(), **each.row(worker)})
            going.remove(each)
        if over:
            known = trials(run)
            for each in going:  # is judged by those that have ended meanwhile, too
                for ended in over:
                    study.hear(each.asked.study, recipe.sweep, known[ended.number])
            _tell(worker, known, of)
        elif going:
            _wait(worker, recipe.sweep.metric, going, sum(trial.over for trial in known), of)
    _conclude(worker, recipe, known)


def _gpus(recipe: Recipe) -> list[str]:
    """The GPUs that this process may give to trials, one each."""
    return [device for device in queue.devices() if device != "cpu"] if recipe.train.device != "cpu" else []


def _places(recipe: Recipe) -> list[dict[str, str]]:
    """Where trials run at once: what each one's environment says. One alone has the machine."""
    at_once, gpus = recipe.sweep.at_once, _gpus(recipe)
    if at_once == 1:
        return [{}]
    if gpus:
        return [{"CUDA_VISIBLE_DEVICES": device.removeprefix("cuda:")} for device in gpus[:at_once]]
    threads = str(max(1, int(hardware.cores()) // at_once))
    return [{"OMP_NUM_THREADS": threads} for _ in range(at_once)]


# One trial -----------------------------------------------------------------------------------------------


class _Going:
    """A trial that runs, and what Optuna hears of it."""

    def __init__(self, number: int, run: Run, asked: optuna.Trial, where: dict[str, str]) -> None:
        self.number, self.run, self.asked, self.place = number, run, asked, where
        self.seen: list[tuple[int, float]] = []
        self.reason = ""  # why it was asked to stop
        self._cursor = START

    def look(self, config: SweepConfig) -> bool:
        """Read what is new, and stop the trial when it is hopeless; whether it is over."""
        active = self.run.status().active
        rows, after = self.run.rows("metrics", self._cursor)
        if after[0] != self._cursor[0]:
            self.seen = []  # a resume made its history anew
        self._cursor = after
        for row in rows:
            if isinstance(value := row.get(config.metric), (int, float)):
                self.seen.append((row["step"], value))
                self.asked.report(value, row["step"])
        if active and config.prune and self.seen and not self.reason and self.asked.should_prune():
            lowest = min(value for _, value in self.seen)
            self.reason = (f"Stopped at step {self.seen[-1][0]}: its best {config.metric}, {lowest:.4f}, is worse than "
                           "the median of the earlier trials there.")
            stop(self.run)
        return not active

    def row(self, worker: Worker) -> dict[str, Any]:
        """The last row of a trial that is over."""
        state, reason = self.run.status().state, self.reason
        lowest = min((value for _, value in self.seen if math.isfinite(value)), default=None)
        if state == "stopped" and not reason:
            reason = "It was stopped by hand."
        if reason and state == "stopped":
            with self.run.lock():  # its worker is gone
                self.run.event("advice", what="pruned", step=self.seen[-1][0] if self.seen else 0, sentence=reason)
            worker.run.event("pruned", run=self.run.name, sentence=reason)
        found = {"finished": "finished" if lowest is not None else "failed", "stopped": "pruned"}.get(state, "failed")
        return {"state": found, "value": lowest, "seen": self.seen}

    def words(self, metric: str) -> str:
        last = f", {metric} {self.seen[-1][1]:.3f}" if self.seen else ""
        return f"{self.run.name}: step {self.run.status().step}{last}"


def _begin(worker: Worker, recipe: Recipe, known: Sequence[Trial], begun: Trial | None,
           where: dict[str, str]) -> _Going:
    """The run of a trial: made and started, or found as an interrupted sweep left it and set going again."""
    number = begun.number if begun else len(known)
    others = [trial for trial in known if trial.number != number]
    asked, changes = study.ask(recipe.sweep, others, number, recipe.seed, begun.changes if begun else None)
    name = f"{worker.run.name}-{number + 1:02d}"
    wanted = trial_recipe(recipe, changes, name)
    run = Run(worker.workspace.place("runs") / (begun.run if begun else name))
    if not run.recipe_path.exists() or Recipe.from_yaml(run.recipe_path.read_text(encoding="utf-8")) != wanted:
        run = create(wanted, worker.workspace)
        notes.write(run, tags=[worker.run.name])
    worker.run.append("trials", {"trial": number, "time": time.time(), "run": run.name, "changes": changes})
    state = run.status().state
    if state in ("stopped", "lost") or (state == "queued" and not run.locked()):
        if gpu := where.get("CUDA_VISIBLE_DEVICES"):
            files.write_json(run.path / queue.DEVICE, {"device": f"cuda:{gpu}"})
        launch(run, **where)
    return _Going(number, run, asked, where)


def _wait(worker: Worker, metric: str, going: list[_Going], over: int, of: int) -> None:
    """Show how far the trials are; a stop ends them, and the sweep can go on with them."""
    others = f"; and {len(going) - 1} more" if len(going) > 1 else ""
    try:
        worker.progress(over, of, going[0].words(metric) + others)
    except Stopped:
        for each in going:
            stop(each.run)
        for each in going:
            each.run.wait(60)
        raise
    time.sleep(POLL_SECONDS)


def _tell(worker: Worker, done: list[Trial], of: int) -> None:
    first = best(done)
    over = sum(t.over for t in done)
    worker.tell(over, of, f"best so far {first.value:.4f} ({first.run})" if first and first.value else "")


def _conclude(worker: Worker, recipe: Recipe, done: list[Trial]) -> None:
    """Tell in an event which trial was best, and what mattered."""
    first = best(done)
    if first is None:
        raise UserError("No trial came to an end with a validation loss; their own logs say why.",
                        where=worker.run.name)
    worker.run.event("swept", best=first.run, value=first.value, changes=first.changes,
                     importance=study.importance(recipe.sweep, done, recipe.seed))
    worker.keep(best=f"runs/{first.run}")
