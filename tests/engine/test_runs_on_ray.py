"""Training on Ray while no rank trains: a stop is answered, a cluster without room is told of, a restart as well."""

from __future__ import annotations

import os
import signal
import socket
import time

import pytest
from test_runs_resume import launched, until  # noqa: F401
from test_runs_spread import BATCH

from engine import files, runs
from engine.config import UserError
from engine.progress import Stopped
from engine.runs import on_ray, spread
from engine.runs.folder import STALE_SECONDS
from engine.runs.worker import Worker


@pytest.fixture
def waits(world):
    """A run that waits for Ray's workers, and what was cancelled."""
    run = world.run(*BATCH, "train.devices=2", "train.launcher=ray")
    run.write_status(state="running", heartbeat=1.0)
    cancelled = []
    return run, on_ray.Watch(run, "waiting for 2 workers", lambda: cancelled.append(True)), cancelled


def test_a_stop_is_answered_before_a_rank_trains(waits):
    run, watch, cancelled = waits
    watch.look(now=0.0)
    assert run.status().message == "waiting for 2 workers"
    assert time.time() - run.status().heartbeat < STALE_SECONDS, "a viewer elsewhere sees that somebody is there"
    assert not cancelled
    run.request("stop")
    watch.look(now=1.0)
    assert cancelled
    assert watch.stopped


def test_a_stop_is_left_to_ranks_that_train_and_answered_when_they_are_gone(waits):
    run, watch, cancelled = waits
    watch.look(now=0.0)
    run.write_status(message="step 3", heartbeat=2.0)  # as a rank does, whatever its machine's clock says
    run.request("stop")
    watch.look(now=1.0)
    watch.look(now=STALE_SECONDS)
    assert not cancelled
    assert run.status().message == "step 3"
    watch.look(now=STALE_SECONDS + 2.0)
    assert cancelled


def test_a_cluster_without_room_is_told_of_with_what_to_do(waits):
    class WorkerGroupStartupTimeoutError(Exception):
        pass

    problem = RuntimeError("Training failed due to controller error")
    problem.controller_failure = WorkerGroupStartupTimeoutError()
    run = waits[0]
    recipe = runs.recipe_of(run).override("train.ray_wait_seconds=5")
    told = on_ray._failure(problem, run, recipe, spread.spread(recipe, "cpu"), {"CPU": 1.0})
    assert told.sentence == (
        "Ray had no room for 2 workers within 5 s; the cluster has 1 processors and 0 GPUs in all. Take fewer "
        "train.devices or train.nodes, add machines to the cluster, or wait longer (train.ray_wait_seconds).")
    died = on_ray._failure(RuntimeError("gone"), run, recipe, spread.spread(recipe, "cpu"), {})
    assert "died more often than train.restarts allows (gone)" in died.sentence


def test_a_restart_is_told_of(waits, tmp_path):
    run = waits[0]
    for _ in range(2):
        on_ray._tell_of_restart(Worker(run), run.path / on_ray.OUTCOME)
    [warning] = [event for event in run.rows("events")[0] if event["kind"] == "warning"]
    assert "A worker of Ray died" in warning["sentence"]
    assert on_ray._ended(run.path / on_ray.OUTCOME) == {}
    files.write_json(run.path / on_ray.OUTCOME, {"stopped": True})
    assert on_ray._ended(run.path / on_ray.OUTCOME) == {"stopped": True}


# A cluster that is not there ------------------------------------------------------------------------------


@pytest.fixture
def nobody():
    """An address of this machine at which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{taken.getsockname()[1]}"


@pytest.mark.parametrize("address", ["{}", "ray://{}"])
def test_an_address_at_which_nobody_answers_ends_in_a_sentence(waits, nobody, address):
    worker, address = Worker(waits[0]), address.format(nobody)
    begun = time.monotonic()
    with pytest.raises(UserError, match=r"no Ray cluster answers there within 1 s .* correct the address, or unset"):
        on_ray.require_answer(worker, address, seconds=1.0)
    assert time.monotonic() - begun < 60
    worker.run.request("stop")
    with pytest.raises(Stopped):
        on_ray.require_answer(worker, address, seconds=600.0)


@pytest.mark.parametrize("address", ["nonsense", "ray://here", "127.0.0.1:x", ":1", "127.0.0.1:99999"])
def test_what_is_no_address_is_told(waits, address):
    with pytest.raises(UserError, match=r"RAY_ADDRESS is .* unset RAY_ADDRESS to train on this machine"):
        on_ray.require_answer(Worker(waits[0]), address, seconds=1.0)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("listens", [False, True])
def test_a_run_ends_where_no_ray_cluster_answers(launched, nobody, listens, monkeypatch):  # noqa: F811
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_ADDRESS", nobody)
    with socket.socket() if not listens else socket.create_server(("127.0.0.1", 0)) as silent:
        if listens:
            monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{silent.getsockname()[1]}")
        run = launched(*BATCH, "train.devices=2", "train.launcher=ray", "train.ray_wait_seconds=5")
        told = ends(run)
    assert told.state == "failed"
    assert "no Ray cluster answers there within 5 s" in told.error


# A real cluster that has room for one --------------------------------------------------------------------


@pytest.fixture(scope="module")
def small_cluster():
    pytest.importorskip("ray")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        from ray.cluster_utils import Cluster

        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
        patch.setenv("RAY_ADDRESS", cluster.address)
        yield cluster
        cluster.shutdown()


def ends(run):
    """However long the machine takes to start Ray."""
    until(lambda: not run.status().active, "the run has ended", seconds=600)
    return run.status()


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.usefixtures("small_cluster")
def test_a_cluster_that_never_has_room_ends_in_an_error(launched):  # noqa: F811
    run = launched(*BATCH, "train.devices=2", "train.launcher=ray", "train.ray_wait_seconds=5")
    assert ends(run).state == "failed"
    assert "Ray had no room for 2 workers within 5 s; the cluster has 1 processors" in run.status().error


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.usefixtures("small_cluster")
@pytest.mark.parametrize("signalled", [False, True])
def test_a_stop_while_the_cluster_has_no_room_is_answered(launched, signalled):  # noqa: F811
    run = launched(*BATCH, "train.devices=2", "train.launcher=ray", "train.ray_wait_seconds=3000")
    until(lambda: run.status().message.startswith("waiting for 2 workers of Ray, at most 3000 s"), "it waits", 600)
    if signalled:
        os.kill(run.status().pid, signal.SIGTERM)
    else:
        runs.stop(run)
    assert ends(run).state == "stopped", run.log()
    assert not run.requests()
    assert not (run.path / "ray").exists()
