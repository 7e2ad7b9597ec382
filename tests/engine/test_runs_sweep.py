"""Sweeps: ranges as they are typed, trials that are runs, hopeless ones cut short, a search that no kill changes."""

from __future__ import annotations

import math
import os
import signal
import time

import pytest
from test_runs_resume import until

from engine import runs
from engine.config import UserError
from engine.optim.sweep import Range, SweepConfig
from engine.progress import Stopped
from engine.recipe import Recipe
from engine.runs import notes, study, turns
from engine.runs import sweep as sweeps
from engine.runs.folder import Run
from engine.runs.worker import Worker


@pytest.mark.parametrize(("text", "grid"), [
    ("optim.lr=log:1e-4:1e-2:3", [1e-4, 1e-3, 1e-2]),
    ("optim.weight_decay=0:0.2:3", [0.0, 0.1, 0.2]),
    ("optim.weight_decay=float:0:0.2:2", [0.0, 0.2]),
    ("model.num_layers=int:2:4", [2, 3, 4]),
    ("train.micro_batch_size=intlog:4:64:5", [4, 8, 16, 32, 64]),
    ("optim.kind=adamw, muon", ["adamw", "muon"]),
    ("train.skip_spikes=true,false", [True, False]),
    ("optim.lr=3e-4,1e-3", [3e-4, 1e-3]),
])
def test_ranges_are_read_as_typed(text, grid):
    assert Range.read(text).grid() == pytest.approx(grid) if isinstance(grid[0], float) else grid


@pytest.mark.parametrize("text", ["optim.lr", "=1,2", "optim.lr=", "optim.lr=log:0:1", "optim.lr=log:1e-2:1e-4",
                                  "model.num_layers=int:1.5:3", "optim.lr=log:1:x", "optim.lr=float:1:2:1",
                                  "optim.lr=1:2:3:4", "optim.lr=log:1:inf"])
def test_what_is_no_range_says_how_to_write_one(text):
    with pytest.raises(UserError, match=r"log:1e-4:1e-2|must go from"):
        Range.read(text)
    with pytest.raises(UserError, match=r"sweep\.vary"):
        Recipe().override(f"sweep.vary=['{text}']")


def test_a_grid_crosses_all_values_and_its_size_is_known_before():
    vary = ("optim.lr=1e-3,1e-2", "optim.kind=adamw,muon", "model.num_layers=int:2:4")
    sweep = SweepConfig(vary=vary, sampler="grid")
    assert sweep.trials == len(sweep.combinations) == 12
    assert len({tuple(each.items()) for each in sweep.combinations}) == 12
    assert next(iter(sweep.combinations[0])) == "optim.kind", "another kind leaves the old one's settings behind"
    assert SweepConfig(vary=("optim.lr=1e-3,1e-2",)).trials == 20


@pytest.mark.parametrize(("vary", "words"), [
    ("[]", "there is nothing to try"),
    ("['optim.rate=1,2']", r"optim.rate=1 is refused: .*not a setting"),
    ("['optim.lr=float:1:99']", r"optim.lr=99.0 is refused"),
    ("['optim.kind=adamw,adamx']", "adamx"),
    ("['model.num_heads=int:3:4']", r"model.num_heads=3 is refused"),
])
def test_a_sweep_that_cannot_be_is_refused_before_its_first_trial(vary, words):
    with pytest.raises(UserError, match=words):
        sweeps.check(Recipe().override(f"sweep.vary={vary}"))


# The search, on trainings that take no time -------------------------------------------------------------

STEPS = (10, 20, 30, 40)


def loss(recipe: Recipe, step: int) -> float:
    """Best at a rate of 1e-2, and lower with more layers."""
    return 2 + abs(math.log10(recipe.optim.lr) + 2) - 0.1 * recipe.model.num_layers + 1 / step


@pytest.fixture
def quick(monkeypatch):
    """Trials that train at once. `upto` steps only where it is set, as a worker that still goes on."""

    def launch(run: Run, **variables: str) -> None:
        recipe = runs.recipe_of(run)
        seen = [row["step"] for row in run.rows("metrics")[0]]
        run.append("metrics", *({"step": step, "time": time.time(), "tokens": step, "val/loss": loss(recipe, step)}
                                for step in STEPS if step not in seen))
        run.write_status(state="finished", step=STEPS[-1], of=STEPS[-1])

    for module in (sweeps, runs):
        monkeypatch.setattr(module, "launch", launch)
    monkeypatch.setattr(sweeps, "POLL_SECONDS", 0.0)
    return launch


def swept(workspace, *changes, name="s") -> tuple[Worker, Recipe]:
    vary = "sweep.vary=['optim.lr=log:1e-4:1', 'model.num_layers=int:1:3']"
    recipe = Recipe.load("demo").override(f"name={name}", "jobs=[sweep]", vary, "sweep.num_trials=8",
                                          "sweep.prune=false", *changes)
    return Worker(runs.create(recipe, workspace)), recipe


def test_trials_are_runs_of_their_own_and_the_best_is_told(workspace, quick):
    worker, recipe = swept(workspace)
    sweeps.sweep(worker, recipe)
    found = sweeps.trials(worker.run)
    assert [t.state for t in found] == ["finished"] * 8
    for trial in found:
        asked = runs.recipe_of(runs.find(trial.run, workspace))
        assert (asked.optim.lr, asked.model.num_layers) == tuple(trial.changes.values())
        assert asked.jobs == ("train",)
        assert trial.value == pytest.approx(min(loss(asked, step) for step in STEPS))
    first = min(found, key=lambda t: t.value)
    told = next(e for e in worker.run.rows("events")[0] if e["kind"] == "swept")
    assert (told["best"], worker.made["best"]) == (first.run, f"runs/{first.run}")
    assert told["importance"]["optim.lr"] > told["importance"]["model.num_layers"]
    assert notes.read(runs.find(first.run, workspace)).tags == ("s",)
    assert first.value < sum(t.value for t in found) / 8


def test_a_grid_tries_every_combination_once(workspace, quick):
    worker, recipe = swept(workspace, "sweep.sampler=grid",
                           "sweep.vary=['optim.kind=adamw,sgd', 'optim.lr=log:1e-3:1e-1:2']")
    sweeps.sweep(worker, recipe)
    assert [t.changes for t in sweeps.trials(worker.run)] == recipe.sweep.combinations


@pytest.mark.parametrize("sampler", ["tpe", "qmc", "grid"])
def test_a_sweep_that_was_killed_goes_on_as_if_it_had_not_been(workspace, quick, monkeypatch, sampler):
    changes = (f"sweep.sampler={sampler}", "sweep.num_trials=8",
               "sweep.vary=['optim.lr=log:1e-4:1:4', 'model.num_layers=int:1:2']")
    whole, recipe = swept(workspace, *changes, name="whole")
    sweeps.sweep(whole, recipe)

    torn, recipe = swept(workspace, *changes, name="torn")
    for dies_at in (0, 3, 6):
        def dying(run: Run, at: int = dies_at) -> None:
            if run.name == f"torn-{at + 1:02d}":
                run.write_status(state="running")  # and is lost with the machine
                raise KeyboardInterrupt
            quick(run)

        monkeypatch.setattr(sweeps, "launch", dying)
        with pytest.raises(KeyboardInterrupt):
            sweeps.sweep(Worker(torn.run), recipe)
    monkeypatch.setattr(sweeps, "launch", quick)
    sweeps.sweep(Worker(torn.run), recipe)
    assert ([(t.changes, t.value) for t in sweeps.trials(torn.run)]
            == [(t.changes, t.value) for t in sweeps.trials(whole.run)])
    names = [run.name for run in runs.listing(workspace) if run.name.startswith("torn-")]
    assert len(names) == 8, "a trial that was interrupted was taken up again, not made twice"


def test_a_hopeless_trial_is_asked_to_stop_and_says_why(workspace, quick, monkeypatch):
    worker, recipe = swept(workspace, "sweep.prune=true", "sweep.prune_after=2", "sweep.sampler=grid",
                           "sweep.vary=['optim.lr=1e-2,2e-2,1e-4']")

    def slow(run: Run) -> None:
        """The third trial trains on until it is asked to stop."""
        if not run.name.endswith("-03"):
            return quick(run)
        run.append("metrics", {"step": 10, "time": 0.0, "tokens": 1, "val/loss": loss(runs.recipe_of(run), 10)})
        run.write_status(state="queued", created=time.time())
        return None

    def stop(run: Run) -> None:
        run.write_status(state="stopped")

    monkeypatch.setattr(sweeps, "launch", slow)
    monkeypatch.setattr(sweeps, "stop", stop)
    sweeps.sweep(worker, recipe)
    third = sweeps.trials(worker.run)[2]
    assert (third.state, third.seen) == ("pruned", [[10, loss(runs.recipe_of(runs.find(third.run, workspace)), 10)]])
    run = runs.find(third.run, workspace)
    assert "worse than the median" in next(e["sentence"] for e in run.rows("events")[0] if e["kind"] == "advice")
    assert [e["run"] for e in worker.run.rows("events")[0] if e["kind"] == "pruned"] == [third.run]


def test_a_stop_ends_the_trial_and_the_sweep_goes_on_with_it(workspace, quick, monkeypatch):
    worker, recipe = swept(workspace, "sweep.num_trials=2")

    def forever(run: Run) -> None:
        run.write_status(state="queued", created=time.time())
        worker.run.request("stop")

    monkeypatch.setattr(sweeps, "launch", forever)
    monkeypatch.setattr(sweeps, "stop", lambda run: run.write_status(state="stopped"))
    with pytest.raises(Stopped):
        sweeps.sweep(worker, recipe)
    assert [t.state for t in sweeps.trials(worker.run)] == ["running"]
    monkeypatch.setattr(sweeps, "launch", quick)
    sweeps.sweep(worker, recipe)
    assert [t.state for t in sweeps.trials(worker.run)] == ["finished"] * 2


def test_a_trial_that_fails_is_one_trial_less(workspace, quick, monkeypatch):
    worker, recipe = swept(workspace, "sweep.num_trials=3")
    monkeypatch.setattr(sweeps, "launch", lambda run: run.write_status(state="failed", error="no room")
                        if run.name.endswith("-01") else quick(run))
    sweeps.sweep(worker, recipe)
    assert [t.state for t in sweeps.trials(worker.run)] == ["failed", "finished", "finished"]
    none, recipe = swept(workspace, "sweep.num_trials=2", name="none")
    monkeypatch.setattr(sweeps, "launch", lambda run: run.write_status(state="failed"))
    with pytest.raises(UserError, match="No trial came to an end"):
        sweeps.sweep(none, recipe)


# Several at once ------------------------------------------------------------------------------------------


@pytest.fixture
def hands(quick, monkeypatch, workspace):
    """Trials that train on until they are let go by their number, and what each was started with."""
    started = {}

    def launch(run: Run, **variables: str) -> None:
        started[run.name] = variables
        run.write_status(state="queued", created=time.time())

    def let_go(number: int) -> None:
        [run] = [run for run in runs.listing(workspace) if run.name == f"s-{number:02d}"]
        quick(run)

    monkeypatch.setattr(sweeps, "launch", launch)
    return started, let_go


@pytest.mark.parametrize("sampler", ["tpe", "grid"])
def test_as_many_trials_run_at_once_as_are_asked_for(workspace, hands, monkeypatch, sampler):
    started, let_go = hands
    monkeypatch.setattr(sweeps.queue, "devices", lambda: ["cpu"])
    monkeypatch.setattr(sweeps.hardware, "cores", lambda: 5.0)
    worker, recipe = swept(workspace, "sweep.at_once=2", f"sweep.sampler={sampler}", "sweep.num_trials=4",
                           "sweep.vary=['optim.lr=1e-3,1e-2', 'model.num_layers=1,2']")
    order, seen = [2, 1, 4, 3], []

    def looks(*_: object, **__: object) -> None:
        """Between two looks of the sweep, one trial ends: not in the order in which they began."""
        seen.append(len(started))
        let_go(order.pop(0))

    monkeypatch.setattr(sweeps.time, "sleep", looks)
    sweeps.sweep(worker, recipe)
    assert seen == [2, 3, 4, 4]
    assert started == {f"s-{number:02d}": {"OMP_NUM_THREADS": "2"} for number in range(1, 5)}
    found = sweeps.trials(worker.run)
    assert [(t.number, t.state) for t in found] == [(n, "finished") for n in range(4)]
    if sampler == "grid":
        assert [t.changes for t in found] == recipe.sweep.combinations


def test_each_trial_has_a_gpu_of_its_own_and_the_queue_knows(workspace, hands, monkeypatch):
    started, let_go = hands
    monkeypatch.setattr(sweeps.queue, "devices", lambda: ["cuda:0", "cuda:3", "cpu"])
    worker, recipe = swept(workspace, "sweep.at_once=2", "sweep.num_trials=3")
    order = [2, 3, 1]
    monkeypatch.setattr(sweeps.time, "sleep", lambda _: let_go(order.pop(0)))
    sweeps.sweep(worker, recipe)
    assert [started[f"s-{n:02d}"]["CUDA_VISIBLE_DEVICES"] for n in (1, 2, 3)] == ["0", "3", "3"]
    run = runs.find("s-02", workspace)
    with run.lock():
        assert "cuda:3" in turns._used(workspace)
    with pytest.raises(UserError, match="each trial needs a GPU and this sweep has 2"):
        sweeps.check(recipe.override("sweep.at_once=3"))
    with pytest.raises(UserError, match=r"gives each trial one GPU, and train\.devices is 2"):
        sweeps.check(recipe.override("train.devices=2"))


@pytest.mark.usefixtures("hands")
def test_trials_that_ran_at_once_are_all_taken_up_again(workspace, quick, monkeypatch):
    worker, recipe = swept(workspace, "sweep.at_once=2", "sweep.num_trials=3", "train.device=cpu")
    monkeypatch.setattr(sweeps, "stop", lambda run: run.write_status(state="stopped"))
    worker.run.request("stop")
    with pytest.raises(Stopped):
        sweeps.sweep(worker, recipe)
    before = sweeps.trials(worker.run)
    assert [t.state for t in before] == ["running", "running"]
    monkeypatch.setattr(sweeps, "launch", quick)
    sweeps.sweep(worker, recipe)
    after = sweeps.trials(worker.run)
    assert [t.state for t in after] == ["finished"] * 3
    assert [(t.run, t.changes) for t in after[:2]] == [(t.run, t.changes) for t in before], "not made twice"


@pytest.mark.slow
def test_a_sweep_of_real_trainings_finds_the_better_rate(workspace, toy_recipe):
    recipe = toy_recipe.override("name=real", "jobs=[sweep]", "train.max_steps=20", "train.validate_every=10",
                                 "sweep.sampler=grid", "sweep.vary=['optim.lr=1e-7,1e-2']")
    run = runs.start(recipe, workspace)
    assert run.wait(170).state == "finished"
    assert run.made()["best"] == "runs/real-02"


def test_sobols_points_cover_the_ranges_evenly_from_the_first_on():
    """By hand: of the first 8 points of such a sequence each eighth of each range holds one (a (0, 3, 1) net)."""
    config = SweepConfig(vary=("optim.lr=log:1e-4:1e-2", "train.ema_decay=float:0:0.8", "model.num_layers=int:1:8",
                               "optim.kind=adamw,muon"), sampler="qmc")
    asked = [study.ask(config, [], number, seed=3)[1] for number in range(8)]
    places = {"optim.lr": lambda value: math.log(value / 1e-4) / math.log(100) * 8,
              "train.ema_decay": lambda value: value * 10, "model.num_layers": lambda value: value - 1}
    for name, place in places.items():
        assert sorted(int(place(each[name])) for each in asked) == list(range(8)), name
    assert sorted(each["optim.kind"] for each in asked) == ["adamw"] * 4 + ["muon"] * 4


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_killed_sweep_of_real_trainings_at_once_loses_and_doubles_nothing(workspace, toy_recipe):
    recipe = toy_recipe.override(
        "name=real", "jobs=[sweep]", "train.max_steps=60", "train.validate_every=5", "sweep.at_once=2",
        "sweep.num_trials=8", "sweep.vary=['optim.lr=log:1e-5:1e-1', 'train.accumulation=1,2']", "sweep.prune_after=2")
    run = runs.start(recipe, workspace)
    for over in (2, 5):
        until(lambda over=over: sum(trial.over for trial in sweeps.trials(run)) >= over, f"{over} trials are over", 900)
        os.kill(run.status().pid, signal.SIGKILL)
        until(lambda: not run.status().active, "the sweep is lost")
        going = [trial.run for trial in sweeps.trials(run) if not trial.over]
        assert run.status().state == "lost"
        assert 1 <= len(going) <= 2
        runs.resume(run)
    until(lambda: not run.status().active, "the sweep has ended", 900)
    assert run.status().state == "finished", run.status().error

    found = sweeps.trials(run)
    assert [trial.number for trial in found] == list(range(8))
    assert [trial.run for trial in found] == [f"real-{number:02d}" for number in range(1, 9)]
    assert sorted(path.name for path in workspace.place("runs").iterdir() if not path.name.startswith(".")) == [
        "real", *(trial.run for trial in found)], "a run for each trial, and none besides"
    ended = [row["trial"] for row in run.rows("trials")[0] if "state" in row]
    assert sorted(ended) == list(range(8)), "each came to its end once"
    for trial in found:
        its = runs.find(trial.run, workspace)
        rows = its.rows("metrics")[0]
        seen = [[row["step"], row["val/loss"]] for row in rows if "val/loss" in row]
        steps = [row["step"] for row in rows if "train/loss" in row]
        assert trial.seen == seen
        assert trial.value == min(value for _, value in seen)
        assert steps == list(range(1, len(steps) + 1)), "no step is lost or told twice"
        asked = runs.recipe_of(its)
        assert trial.changes == {"optim.lr": asked.optim.lr, "train.accumulation": asked.train.accumulation}
        assert its.status().state == {"finished": "finished", "pruned": "stopped"}[trial.state]
        assert trial.state == "pruned" or steps[-1] == 60
    [told] = [event for event in run.rows("events")[0] if event["kind"] == "swept"]
    first = min((trial for trial in found if trial.state == "finished"), key=lambda trial: trial.value)
    assert (told["best"], told["value"], run.made()["best"]) == (first.run, first.value, f"runs/{first.run}")
