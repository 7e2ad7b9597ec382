"""Local: the processes of one training on this machine, started, watched and, when one dies, started again.

The worker stays outside: it holds the run's lock, and lives when a rank dies. The first rank writes the folder for as
long as it trains. Ranks die with the worker.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine import hardware
from engine.config import UserError
from engine.recipe import Recipe
from engine.runs import cluster, spread
from engine.runs.cluster import Place
from engine.runs.launch import python_path
from engine.runs.spread import Spread

if TYPE_CHECKING:
    from engine.runs.worker import Worker

GRACE_SECONDS = 10.0  # for the other ranks to end by themselves, once one has
PEER_LOST = 70        # exit code of a rank that another one left alone

Death = tuple[int, int]  # rank, exit code: below 0 a signal


def train(worker: Worker, recipe: Recipe, tokens: Path, how: Spread) -> Path:
    """Train in `how.devices` processes; returns the best checkpoint. Raises as `trainer.train`, and UserError that
    says which process died once it died more often than `train.restarts`."""
    for left in range(recipe.train.restarts, -1, -1):
        with worker.silent():
            outcome, death = _train(worker, recipe, tokens, how)
        if outcome:
            return spread.fate(outcome)
        sentence = _told(death, how)
        if left:
            times = "once more" if left == 1 else f"up to {left} times more"
            worker.event("warning", sentence=f"{sentence} Training goes on from the last checkpoint, {times}.")
            print(sentence, flush=True)
    raise UserError(f"{sentence} The others were ended. Resume the run: {spread.goes_on(worker.run)}.",
                    where=worker.run.name)


def _train(worker: Worker, recipe: Recipe, tokens: Path, how: Spread) -> tuple[dict[str, Any], Death]:
    """What the first rank says of the end, and which rank died first if one did."""
    from torch.distributed import TCPStore

    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    store.set(spread.TASK, spread.told(recipe, tokens, how))
    threads = max(1, int(hardware.cores()) // how.devices)
    shared = {"OMP_NUM_THREADS": str(threads), **os.environ, cluster.LOCAL: str(os.getpid()),
              "TORCHELASTIC_USE_AGENT_STORE": "True",  # which torch means to say: do not keep a store, connect to it
              "PYTHONPATH": python_path()}
    ranks: list[subprocess.Popen[bytes]] = []
    try:
        for rank in range(how.devices):
            place = Place(rank, how.devices, rank, how.devices)
            ranks.append(subprocess.Popen(
                [sys.executable, "-m", "engine", "work", str(worker.run.path)], stdin=subprocess.DEVNULL,
                env={**shared, **cluster.variables(place, "127.0.0.1", store.port)}))
        death = _watch(ranks)
    finally:
        for process in ranks:
            if process.poll() is None:
                process.kill()  # what is on the disk is whole at any moment
            process.wait()
    return json.loads(store.get("outcome")) if store.check(["outcome"]) else {}, death


def _watch(ranks: list[subprocess.Popen[bytes]]) -> Death:
    """Wait until all ended well, or one did not and the others had time to."""
    first: Death | None = None
    until = float("inf")
    while any(process.poll() is None for process in ranks) and time.monotonic() < until:
        ended = [(rank, process.returncode) for rank, process in enumerate(ranks) if process.returncode is not None]
        bad = [each for each in ended if each[1] not in (0, PEER_LOST)]
        if first is None and bad:
            first = bad[0]
        if until == float("inf") and (bad or any(rank == 0 or code for rank, code in ended)):
            until = time.monotonic() + GRACE_SECONDS
        time.sleep(0.05)
    if first is None:
        codes = [(rank, process.poll()) for rank, process in enumerate(ranks)]
        first = next(((rank, code) for rank, code in codes if code not in (0, None, PEER_LOST)), (0, 0))
    return first


def _told(death: Death, how: Spread) -> str:
    rank, code = death
    name = f"Process {rank} of {how.devices} (counted from 0)"
    if code == -signal.SIGKILL:
        return f"{name} was killed, as the system does when memory runs out."
    if code < 0:
        return f"{name} died of signal {signal.Signals(-code).name}."
    return f"{name} ended with exit code {code}; the log has the details."
