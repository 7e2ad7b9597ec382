"""On Ray: the processes of one training as workers of Ray Train, on this machine or on a cluster of them.

Ray starts the workers, tells torch where they meet, and starts all of them again when one dies. They run the same
training as everywhere, off their main thread, so no signal reaches it: the request files do. The run folder must lie
where every worker sees it; the first rank writes it. While no rank trains, since Ray has not given or not started them
yet, a thread of this process keeps the status fresh and answers a stop.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine import files
from engine.config import UserError
from engine.progress import Stopped
from engine.recipe import Recipe
from engine.runs import spread
from engine.runs.folder import STALE_SECONDS, Run
from engine.runs.launch import python_path
from engine.runs.spread import Spread

if TYPE_CHECKING:
    from engine.runs.worker import Worker

OUTCOME, STATE = "ray.json", "ray"  # in the run folder: how it stands, and what Ray keeps while it trains
LOOK_SECONDS = 0.5
EMPTY_SETTINGS = b"\0\0\0\x04\0\0\0\0\0"  # a frame of HTTP/2: its length, kind 4, no flags, stream 0
ANSWER_SECONDS = 30.0  # for a cluster to answer at the address that was given, where `ray_wait_seconds` is longer


def train(worker: Worker, recipe: Recipe, tokens: Path, how: Spread) -> Path:
    """Train on `how.processes` workers of Ray; returns the best checkpoint. Raises as `trainer.train`, and UserError
    where Ray is missing or not there, where it gives no workers within `train.ray_wait_seconds`, and where they died
    more often than `train.restarts`."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ["RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"] = str(recipe.train.ray_wait_seconds)
    try:
        import ray
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchConfig, TorchTrainer
    except ImportError:
        raise UserError("train.launcher is ray, which is not installed; run pip install 'training-studio[cluster]', or "
                        "choose local.", where="train.launcher") from None
    outcome = worker.run.path / OUTCOME
    outcome.unlink(missing_ok=True)
    gpu = recipe.train.device != "cpu" and bool(_gpus())
    _join(worker, recipe, how)
    restarts = recipe.train.restarts
    # What follows is Ray Train's second version, of which its types know nothing.
    failures: dict[str, Any] = {"max_failures": restarts, "controller_failure_limit": restarts}
    loop: Any = TorchTrainer(
        _rank, train_loop_config={"run": str(worker.run.path), "task": spread.told(recipe, tokens, how)},
        scaling_config=ScalingConfig(num_workers=how.processes, use_gpu=gpu),
        torch_config=TorchConfig(backend=None if gpu else "gloo"),
        run_config=RunConfig(name=STATE, storage_path=str(worker.run.path),
                             failure_config=FailureConfig(**failures)))
    # Ray would put its own handler of SIGINT before the worker's; what it hands over for that can be ended.
    controllers: list[Any] = []
    loop._register_sigint_handler = controllers.append
    tries = f" in each of {restarts + 1} tries" if restarts else ""
    words = (f"waiting for {how.processes} workers of Ray, at most {recipe.train.ray_wait_seconds:g} s{tries} until it "
             "has room for them")
    worker.tell(0, 0, words)
    watch = Watch(worker.run, words, lambda: [ray.kill(controller) for controller in controllers])
    try:
        with worker.silent():
            watch.start()
            try:
                loop.fit()
            finally:
                watch.end()
    except Exception as problem:
        if watch.stopped:
            worker.run.requested("stop", take=True)
            raise Stopped from None
        if not _ended(outcome):
            raise _failure(problem, worker.run, recipe, how, ray.cluster_resources()) from problem
    finally:
        told = worker.run.status()
        worker.tell(told.step, told.of, "" if told.message == words else told.message)
        ray.shutdown()
        shutil.rmtree(worker.run.path / STATE, ignore_errors=True)
    found = _ended(outcome)
    outcome.unlink(missing_ok=True)
    return spread.fate(found)


def _join(worker: Worker, recipe: Recipe, how: Spread) -> None:
    """Join the cluster that RAY_ADDRESS names; without it Ray starts on this machine alone."""
    import ray

    shared = {"PYTHONPATH": python_path(), "RAY_TRAIN_V2_ENABLED": "1"}
    address = os.environ.get("RAY_ADDRESS")
    alone: dict[str, Any] = {}
    if address:
        require_answer(worker, address, min(ANSWER_SECONDS, recipe.train.ray_wait_seconds))
    else:
        # Without the word, Ray would look for any cluster that once ran on this machine, or is said to.
        alone |= {"address": "local", "num_cpus": how.processes + 1}
        os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")  # for clouds that take machines away
        # Ray's workers are nice to others (15), and on a busy machine get a thirtieth of a core: minutes to begin.
        os.environ.setdefault("RAY_worker_niceness", "0")
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        ray.init(runtime_env={"env_vars": shared}, include_dashboard=False, log_to_driver=False, **alone)
    except SystemExit:  # Ray's answer to a signal that comes meanwhile
        raise Stopped from None
    except ConnectionError as problem:
        raise _nobody(f"{address}, and no Ray cluster answers there ({problem})") from problem
    if threading.current_thread() is threading.main_thread():
        for number, handler in handlers.items():
            signal.signal(number, handler)  # Ray's would leave at once and save nothing


def require_answer(worker: Worker, address: str, seconds: float) -> None:
    """Wait until a gRPC server answers at a Ray address, at most so long. Ray itself tries 20 times, an attempt
    was measured at 41 seconds, and it answers no stop meanwhile. Raises Stopped, and UserError when none does."""
    if address in ("auto", "local"):
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        raise _nobody(f"{address}, which is no HOST:PORT")
    worker.tell(0, 0, f"looking for the Ray cluster at {address}, at most {seconds:g} s")
    end = time.monotonic() + seconds
    while True:
        try:
            return _greet(host.strip("[]"), int(port), max(0.1, end - time.monotonic()))
        except (OSError, OverflowError) as problem:  # the latter of a port that is none
            if time.monotonic() + LOOK_SECONDS > end:
                raise _nobody(f"{address}, and no Ray cluster answers there within {seconds:g} s ({problem})") from None
        if worker.asked_to_stop():
            raise Stopped
        time.sleep(LOOK_SECONDS)


def _greet(host: str, port: int, seconds: float) -> None:
    """Raise OSError unless an HTTP/2 server, as gRPC's are, answers the greeting of RFC 9113, 3.4, with its own."""
    with socket.create_connection((host, port), seconds) as other:
        if os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true"):
            return  # it would not understand
        other.settimeout(seconds)
        other.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + EMPTY_SETTINGS)
        if other.recv(9)[3:4] != EMPTY_SETTINGS[3:4]:
            raise ConnectionError("somebody else listens there")


def _nobody(what: str) -> UserError:
    return UserError(f"RAY_ADDRESS is {what}; start the cluster, correct the address, or unset RAY_ADDRESS to train on "
                     "this machine.", where="RAY_ADDRESS")


class Watch(threading.Thread):
    """Looks after a run while none of its ranks trains: says for what is waited, and answers a stop with `cancel`."""

    def __init__(self, run: Run, words: str, cancel: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self._run, self._words, self._cancel = run, words, cancel
        self._over = threading.Event()
        self._beat, self._heard = run.status().heartbeat, -math.inf
        self.stopped = False

    def run(self) -> None:
        while not self._over.wait(LOOK_SECONDS):
            with suppress(UserError, OSError):  # a full disk; the next look may find room
                self.look(time.monotonic())

    def look(self, now: float) -> None:
        """One look, at a monotonic time in seconds. A heartbeat that is not this process's own is a rank's."""
        beat = self._run.status().heartbeat
        if beat != self._beat:
            self._beat, self._heard = beat, now
        if now - self._heard < STALE_SECONDS:
            return  # a rank looks at requests itself, and saves before it stops
        if self._run.requested("stop"):
            self.stopped = True
            self._cancel()
        else:
            self._beat = self._run.write_status(message=self._words, heartbeat=time.time()).heartbeat

    def end(self) -> None:
        """Look no more."""
        self._over.set()
        self.join()


def _failure(problem: Exception, run: Run, recipe: Recipe, how: Spread, there: dict[str, float]) -> UserError:
    """What is told of an end that no rank told of."""
    cause = getattr(problem, "controller_failure", None)
    if type(cause).__name__ in ("WorkerGroupStartupTimeoutError", "InsufficientClusterResourcesError"):
        has = f"{there.get('CPU', 0):g} processors and {there.get('GPU', 0):g} GPUs in all"
        return UserError(f"Ray had no room for {how.processes} workers within {recipe.train.ray_wait_seconds:g} s; the "
                         f"cluster has {has}. Take fewer train.devices or train.nodes, add machines to the cluster, or "
                         "wait longer (train.ray_wait_seconds).", where="train.devices")
    said = str(problem).strip().splitlines()
    return UserError(f"Ray's workers died more often than train.restarts allows ({said[-1] if said else problem}). "
                     f"Resume the run: {spread.goes_on(run)}.", where=run.name)


def _ended(outcome: Path) -> dict[str, Any]:
    """How a rank said that training ended; empty if none did."""
    try:
        found: dict[str, Any] = json.loads(outcome.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {} if "begun" in found else found


def _gpus() -> int:
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def _rank(given: dict[str, Any]) -> None:
    """One of Ray's workers."""
    from engine.runs import trainer
    from engine.runs.follow import Mute
    from engine.runs.worker import Worker
    from engine.stages.ranks import Ranks

    os.environ["GROUP_RANK"] = os.environ.get("NODE_RANK", "0")
    ranks = Ranks.joined()
    folder = Path(given["run"])
    worker = Worker(Run(folder) if ranks.first else Mute(folder))
    # Ray would send each line of each worker on, some twice; the log is the first rank's.
    sys.stdout = sys.stderr = open(folder / "log.txt" if ranks.first else os.devnull, "a", buffering=1)  # noqa: SIM115
    try:
        with worker.heart():
            if ranks.first:
                _tell_of_restart(worker, folder / OUTCOME)
            outcome = {"checkpoint": str(trainer.train(worker, *spread.heard(given["task"]), ranks))}
    except Exception as problem:
        outcome = spread.failure(problem)
        if "failed" in outcome:
            raise  # Ray starts the workers again, or gives up
    if ranks.first or "memory" in outcome:
        files.write_json(folder / OUTCOME, outcome)


def _tell_of_restart(worker: Worker, outcome: Path) -> None:
    """Count the times that the ranks began, and say so where it is not the first."""
    begun = files.read_json(outcome).get("begun", 0) if outcome.exists() else 0
    files.write_json(outcome, {"begun": begun + 1})
    if begun:
        worker.event("warning", sentence="A worker of Ray died, and Ray started all of them again. Training goes on "
                                         f"from the last checkpoint (restart {begun}).")
