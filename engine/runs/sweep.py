"""The sweep as a job: trials one after the other, each an ordinary run, chosen and cut short by Optuna.

    trials.jsonl   in the sweep's folder: a row when a trial begins, and one when it ended

Whatever ended the sweep, it goes on where it was: what Optuna knows is made anew from these rows before each trial,
and the sampler's dice are those of the trial's number, so that the next choice is the same. (Akiba et al. 2019)
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engine.config import UserError, read
from engine.optim.sweep import Range, SweepConfig
from engine.progress import Stopped
from engine.recipe import Recipe, place
from engine.runs import create, notes, resume, stop
from engine.runs.folder import START, Run
from engine.runs.launch import launch
from engine.runs.outside import require_here

if TYPE_CHECKING:
    import optuna

    from engine.runs.worker import Worker

POLL_SECONDS = 0.5


@dataclass
class Trial:
    """One trial: `state` is running, finished, pruned or failed; `seen` holds the metric at each validation."""

    number: int
    run: str
    changes: dict[str, Any]
    state: str = "running"
    value: float | None = None
    seen: list[tuple[int, float]] | None = None

    @property
    def over(self) -> bool:
        return self.state != "running"


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
    done = trials(run)
    while (number := sum(t.over for t in done)) < of:
        study = _study(recipe.sweep, done, recipe.seed + number)
        asked = study.ask(_distributions(recipe.sweep))
        changes = _plain(asked.params, recipe.sweep.ranges)
        trial = _trial(worker, recipe, number, changes)
        row = _follow(worker, asked, trial, number, of, recipe.sweep)
        run.append("trials", {"trial": number, "time": time.time(), **row})
        done = trials(run)
        _tell(worker, done, of)
    _conclude(worker, recipe, done)


# One trial -----------------------------------------------------------------------------------------------


def _trial(worker: Worker, recipe: Recipe, number: int, changes: dict[str, Any]) -> Run:
    """The run of a trial: made and started, or found as an interrupted sweep left it and set going again."""
    name = f"{worker.run.name}-{number + 1:02d}"
    wanted = trial_recipe(recipe, changes, name)
    run = Run(worker.workspace.place("runs") / name)
    if not run.recipe_path.exists() or Recipe.from_yaml(run.recipe_path.read_text(encoding="utf-8")) != wanted:
        run = create(wanted, worker.workspace)
        notes.write(run, tags=[worker.run.name])
    worker.run.append("trials", {"trial": number, "time": time.time(), "run": run.name, "changes": changes})
    state = run.status().state
    if state in ("stopped", "lost"):
        resume(run)
    elif state == "queued" and not run.locked():
        launch(run)
    return run


def _follow(worker: Worker, asked: optuna.Trial, run: Run, number: int, of: int, config: SweepConfig) -> dict[str, Any]:
    """Watch a trial to its end, and stop it when it is hopeless; its last row."""
    cursor, seen, reason = START, list[tuple[int, float]](), ""
    while True:
        active = run.status().active
        rows, after = run.rows("metrics", cursor)
        if after[0] != cursor[0]:
            seen = []  # a resume made its history anew
        cursor = after
        for row in rows:
            if isinstance(value := row.get(config.metric), (int, float)):
                seen.append((row["step"], value))
                asked.report(value, row["step"])
        if active and config.prune and seen and not reason and asked.should_prune():
            reason = (f"Stopped at step {seen[-1][0]}: its best {config.metric}, {min(v for _, v in seen):.4f}, is "
                      "worse than the median of the earlier trials there.")
            stop(run)
        if not active:
            break
        try:
            worker.progress(number, of, f"{run.name}: step {run.status().step}"
                                        + (f", {config.metric} {seen[-1][1]:.3f}" if seen else ""))
        except Stopped:
            stop(run)
            run.wait(60)
            raise
        time.sleep(POLL_SECONDS)
    state = run.status().state
    lowest = min((value for _, value in seen if math.isfinite(value)), default=None)
    if state == "stopped" and not reason:
        reason = "It was stopped by hand."
    if reason and state == "stopped":
        with run.lock():  # its worker is gone
            run.event("advice", what="pruned", step=seen[-1][0] if seen else 0, sentence=reason)
        worker.run.event("pruned", run=run.name, sentence=reason)
    found = {"finished": "finished" if lowest is not None else "failed", "stopped": "pruned"}.get(state, "failed")
    return {"state": found, "value": lowest, "seen": seen}


def _tell(worker: Worker, done: list[Trial], of: int) -> None:
    first = best(done)
    over = sum(t.over for t in done)
    worker.tell(over, of, f"best so far {first.value:.4f} ({first.run})" if first and first.value else "")


def _conclude(worker: Worker, recipe: Recipe, done: list[Trial]) -> None:
    """Tell in an event which trial was best, and what mattered (PED-ANOVA or fANOVA, as Optuna has it)."""
    first = best(done)
    if first is None:
        raise UserError("No trial came to an end with a validation loss; their own logs say why.",
                        where=worker.run.name)
    import optuna

    importance: dict[str, float] = {}
    if len(recipe.sweep.ranges) > 1 and sum(t.state == "finished" for t in done) > 3:
        try:
            importance = dict(optuna.importance.get_param_importances(_study(recipe.sweep, done, recipe.seed)))
        except (RuntimeError, ValueError) as problem:  # all trials alike
            print(f"no importance: {problem}", flush=True)
    worker.run.event("swept", best=first.run, value=first.value, changes=first.changes, importance=importance)
    worker.keep(best=f"runs/{first.run}")


# Optuna --------------------------------------------------------------------------------------------------


def _study(config: SweepConfig, done: list[Trial], seed: int) -> optuna.Study:
    """What Optuna knows after these trials. In a grid the next combination stands ready to be asked for."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = (optuna.samplers.TPESampler(seed=seed) if config.sampler == "tpe"
               else optuna.samplers.RandomSampler(seed=seed))
    study = optuna.create_study(sampler=sampler, pruner=optuna.pruners.MedianPruner(
        n_startup_trials=config.prune_after, n_warmup_steps=config.prune_from_step))
    states = {"finished": optuna.trial.TrialState.COMPLETE, "pruned": optuna.trial.TrialState.PRUNED,
              "failed": optuna.trial.TrialState.FAIL}
    distributions = _distributions(config)
    over = [trial for trial in done if trial.over]
    for trial in over:
        study.add_trial(optuna.trial.create_trial(
            state=states[trial.state], value=trial.value if trial.state != "failed" else None, params=trial.changes,
            distributions=distributions,
            intermediate_values={step: value for step, value in trial.seen or () if math.isfinite(value)}))
    if config.sampler == "grid" and len(over) < config.trials:
        study.enqueue_trial(config.combinations[len(over)])
    return study


def _distributions(config: SweepConfig) -> dict[str, Any]:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    found: dict[str, Any] = {}
    for each in config.ranges:
        if each.kind == "choice" or config.sampler == "grid":
            found[each.name] = CategoricalDistribution(each.grid())
        elif each.kind.startswith("int"):
            found[each.name] = IntDistribution(int(each.low), int(each.high), log=each.kind == "intlog")
        else:
            found[each.name] = FloatDistribution(each.low, each.high, log=each.kind == "log")
    return found


def _plain(params: Mapping[str, Any], ranges: list[Range]) -> dict[str, Any]:
    """The chosen values in the ranges' order, as JSON has them."""
    return {each.name: params[each.name] for each in ranges}
