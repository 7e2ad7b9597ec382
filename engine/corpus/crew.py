"""Crew: processes that put shards through the steps ahead of the one that keeps account, here or on a Ray cluster.

The unit of work is one shard through the steps up to the next one that sees the whole corpus. All that a worker does
is to fill the stages with what is missing there, complete or absent; the process that keeps account goes on as if it
worked alone, and finds what was done. So the dataset is the same byte for byte whoever does the steps, and what a
worker leaves undone, because it was killed or its machine is gone, is done by another, in the end by the accountant.

Reading, the decisions over the whole corpus and the writing stay in that one process. Daft's own Ray runner is not
used: the steps are not one Daft query, and its results come in no fixed order.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from engine import __version__, files
from engine.config import UserError
from engine.corpus import CorpusConfig
from engine.corpus.intake import Intake
from engine.corpus.passes import Passes
from engine.corpus.references import Inputs, texts_of
from engine.corpus.spill import Spill

RETRIES = 3
"""Times that Ray begins a shard anew when its worker died."""

PATIENCE_SECONDS = 30

STORE_BYTES = 80 << 20
"""Memory of a Ray that is started here: shards go by the disk, so it holds next to nothing."""


@dataclass(frozen=True)
class Plan:
    """All that a worker must know; `stages` is a folder that every worker reaches by this path."""

    config: Mapping[str, Any]
    stages: Path
    mark: str
    compared: list[Inputs]
    read_by: list[Any]

    def passes(self) -> Passes:
        spill = Spill(self.stages, shared=True)
        config = CorpusConfig.model_validate(self.config)
        return Passes(config, Intake([], lambda file: iter(()), spill, self.mark), spill, self.mark,
                      lambda step: texts_of(self.compared[step]), self.read_by)


class Crew(Protocol):
    """Workers. `ahead` is how many shards they are given before the first one is waited for."""

    ahead: int

    def begin(self, num_steps: int, number: int, look: bool) -> Any:
        """Give a shard to a worker, as `Passes.part` takes it."""

    def end(self, work: Any) -> int | None:
        """Wait for it: how many documents are left, or None if no worker did it."""

    def close(self) -> None:
        """Let the workers go."""


def gather(workers: str, plan: Plan) -> Crew | None:
    """The crew that `CorpusConfig.workers` names; None for none.

    Raises UserError when Ray is not installed, or a cluster cannot be reached or does not reach the workspace.
    """
    if not workers:
        return None
    return Processes(int(workers), plan) if workers.isdigit() else OnRay(workers, plan)


_passes: dict[str, Passes] = {}


def part(plan: Plan, num_steps: int, number: int, look: bool) -> int:
    """In a worker: what was asked of one shard. What the steps build (models, term lists) is kept for the next."""
    if plan.mark not in _passes or _passes[plan.mark].spill.folder != plan.stages:
        _passes.clear()
        _passes[plan.mark] = plan.passes()
    return _passes[plan.mark].part(num_steps, number, look=look)


# On this machine -------------------------------------------------------------------------------------------------


class Processes:
    """Processes of this machine, which leave when this one does, however it does."""

    def __init__(self, number: int, plan: Plan) -> None:
        from multiprocessing import get_context

        self.ahead = number + 1
        self._plan = plan
        self._pool = ProcessPoolExecutor(number, get_context("spawn"), initializer=_leave_with_parent)

    def begin(self, num_steps: int, number: int, look: bool) -> Future[int] | None:
        try:
            return self._pool.submit(part, self._plan, num_steps, number, look)
        except BrokenProcessPool:                # one was killed, perhaps for want of memory; nobody works from now on
            return None

    def end(self, work: Future[int] | None) -> int | None:
        try:
            return work.result() if work else None
        except Exception:                        # this process meets it too, and says it in its own place
            return None

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)


def _leave_with_parent() -> None:
    from multiprocessing import parent_process

    def watch() -> None:
        if parent := parent_process():
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


# On Ray ------------------------------------------------------------------------------------------------------------


class OnRay:
    """Tasks on a Ray cluster, or on a Ray that is started here ("local", or "local:2" for two workers)."""

    def __init__(self, workers: str, plan: Plan) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("DO_NOT_TRACK", "1")
        try:
            import ray
        except ImportError:
            raise UserError("corpus.workers names Ray, which is not installed; install it with: pip install "
                            "'training-studio[cluster]', or give a number of processes.",
                            where="corpus.workers") from None
        self._ray, self._lost = ray, False
        self._started = not ray.is_initialized()
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
        try:
            if workers.startswith("local") and self._started:
                number = int(workers.partition(":")[2] or os.cpu_count() or 1)
                ray.init(num_cpus=number, include_dashboard=False, object_store_memory=STORE_BYTES, **quiet)
            elif self._started:
                ray.init(workers, **quiet)
            self._task = ray.remote(num_cpus=1, max_retries=RETRIES)(part)
            self._plan = ray.put(plan)
            self.ahead = 1 + max(1, int(ray.cluster_resources().get("CPU", 1)))
            self._probe(workers, plan)
        except Exception as problem:             # Ray raises plain ones too, such as for a start that took too long
            self.close()
            if isinstance(problem, UserError):
                raise
            why = (str(problem) or repr(problem)).splitlines()[0]
            raise UserError(f"Ray cannot be used as {workers} ({why}); check that it runs, its address, and that its "
                            "machines have the same Training Studio installed.",
                            where="corpus.workers") from None

    def _probe(self, workers: str, plan: Plan) -> None:
        """Refuse, before the work, a cluster that works on other files than these."""
        mark = plan.stages / ".probe"
        plan.stages.mkdir(parents=True, exist_ok=True)
        files.write(mark, plan.mark)
        there, version = self._ray.get(self._ray.remote(num_cpus=1)(_seen).remote(mark), timeout=120)
        mark.unlink(missing_ok=True)
        if there != plan.mark:
            raise UserError(f"The machines of {workers} do not see {plan.stages}; put the workspace on storage that "
                            "all of them reach by the same path.", where="corpus.workers")
        if version != __version__:
            raise UserError(f"The machines of {workers} have Training Studio {version}, and this one {__version__}; "
                            "install the same version.", where="corpus.workers")

    def begin(self, num_steps: int, number: int, look: bool) -> Any:
        return None if self._lost else self._task.remote(self._plan, num_steps, number, look)

    def end(self, work: Any) -> int | None:
        if self._lost or work is None:
            return None
        try:
            while not self._ray.wait([work], timeout=PATIENCE_SECONDS)[0]:
                if not self._ray.cluster_resources().get("CPU"):
                    self._lost = True            # no worker is left, and Ray would wait for one for ever
                    return None
            return int(self._ray.get(work))
        except Exception:                        # a worker died too often, or met what this process will meet
            return None

    def close(self) -> None:
        if self._started:
            self._ray.shutdown()


def _seen(mark: Path) -> tuple[str, str]:
    """On a machine of the cluster: what the workspace holds there, and the version that is installed."""
    return mark.read_text() if mark.exists() else "", __version__
