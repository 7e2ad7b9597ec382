"""On Ray: the processes of one training as workers of Ray Train, on this machine or on a cluster of them.

Ray starts the workers, tells torch where they meet, and starts all of them again when one dies. They run the same
training as everywhere, off their main thread, so no signal reaches it: the request files do. The run folder must lie
where every worker sees it; the first rank writes it.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.config import UserError
from engine.recipe import Recipe
from engine.runs import spread
from engine.runs.launch import python_path
from engine.runs.spread import Spread

if TYPE_CHECKING:
    from engine.runs.worker import Worker

OUTCOME, STATE = "ray.json", "ray"  # in the run folder: how it ended, and what Ray keeps while it trains


def train(worker: Worker, recipe: Recipe, tokens: Path, how: Spread) -> Path:
    """Train on `how.processes` workers of Ray; returns the best checkpoint. Raises as `trainer.train`, and UserError
    where Ray is missing, and where workers died more often than `train.restarts`."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
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
    # RAY_ADDRESS names a cluster; without it Ray starts on this machine alone.
    shared = {"PYTHONPATH": python_path(), "RAY_TRAIN_V2_ENABLED": "1"}
    alone: dict[str, Any] = {} if os.environ.get("RAY_ADDRESS") else {"num_cpus": how.processes + 1}
    ray.init(runtime_env={"env_vars": shared}, include_dashboard=False, log_to_driver=False, **alone)
    loop = TorchTrainer(
        _rank, train_loop_config={"run": str(worker.run.path), "task": spread.told(recipe, tokens, how)},
        scaling_config=ScalingConfig(num_workers=how.processes, use_gpu=gpu),
        torch_config=TorchConfig(backend=None if gpu else "gloo"),
        run_config=RunConfig(name=STATE, storage_path=str(worker.run.path),
                             failure_config=FailureConfig(max_failures=recipe.train.restarts)))
    worker.tell(0, 0, "waiting for Ray's workers")
    try:
        with worker.silent():
            loop.fit()
    except Exception as problem:
        if not outcome.exists():
            said = str(problem).strip().splitlines()
            raise UserError(f"Ray's workers died more often than train.restarts allows ({said[-1] if said else problem}"
                            f"). Resume the run: {spread.goes_on(worker.run)}.", where=worker.run.name) from problem
    finally:
        ray.shutdown()
        shutil.rmtree(worker.run.path / STATE, ignore_errors=True)
    told = json.loads(outcome.read_text(encoding="utf-8"))
    outcome.unlink(missing_ok=True)
    return spread.fate(told)


def _gpus() -> int:
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def _rank(given: dict[str, Any]) -> None:
    """One of Ray's workers."""
    from engine import files
    from engine.runs import trainer
    from engine.runs.folder import Run
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
            outcome = {"checkpoint": str(trainer.train(worker, *spread.heard(given["task"]), ranks))}
    except Exception as problem:
        outcome = spread.failure(problem)
        if "failed" in outcome:
            raise  # Ray starts the workers again, or gives up
    if ranks.first:
        files.write_json(folder / OUTCOME, outcome)
