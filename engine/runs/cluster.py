"""Cluster: which of several processes this one is, and how they meet. torch is imported inside functions alone.

Whoever starts the processes (`local`, torchrun, SLURM's srun, Ray), each finds its place in environment variables:
torch's own RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE, GROUP_RANK, MASTER_ADDR and MASTER_PORT, which srun's
are turned into. The first rank does a run's jobs; the others wait, without a time-out, until it comes to training.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, NamedTuple

from engine.config import UserError

LOCAL = "STUDIO_WORKER"  # in the ranks that the worker of a run started itself: its process id
MEET = timedelta(minutes=30)  # that the ranks may come one after the other


class Place(NamedTuple):
    """One process among those of a run."""

    rank: int = 0         # among all
    size: int = 1
    local_rank: int = 0   # on this machine
    local_size: int = 1
    node: int = 0
    launcher: str = ""    # local, torchrun or slurm; empty for a process alone

    @property
    def nodes(self) -> int:
        return self.size // self.local_size

    @property
    def follows(self) -> bool:
        """Whether another process does the run's jobs, and this one only trains."""
        return self.launcher == "local" or self.rank > 0


ALONE = Place()


def place(given: Mapping[str, str] | None = None) -> Place:
    """This process's place, from its environment.

    Raises UserError for several machines under srun that were not told where the first one is.
    """
    given = os.environ if given is None else given
    if int(given.get("SLURM_STEP_NUM_TASKS", 1)) > 1 and "SLURM_PROCID" in given:  # under srun, not in its batch script
        return _under_slurm(given)
    if not {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"} <= given.keys() or int(given["WORLD_SIZE"]) == 1:
        return Place()
    size = int(given["WORLD_SIZE"])
    return Place(int(given["RANK"]), size, int(given.get("LOCAL_RANK", 0)), int(given.get("LOCAL_WORLD_SIZE", size)),
                 int(given.get("GROUP_RANK", 0)), "local" if given.get(LOCAL) else "torchrun")


def _under_slurm(given: Mapping[str, str]) -> Place:
    size = int(given["SLURM_STEP_NUM_TASKS"])
    told = re.match(r"\d+", given.get("SLURM_STEP_TASKS_PER_NODE", given.get("SLURM_NTASKS_PER_NODE", "")))
    local_size = int(told.group()) if told else size
    if size > local_size and "MASTER_ADDR" not in given:
        raise UserError("MASTER_ADDR is not set, so the processes on several machines cannot meet; start them with the "
                        "script that `studio slurm RUN` writes.", where="MASTER_ADDR")
    return Place(int(given["SLURM_PROCID"]), size, int(given.get("SLURM_LOCALID", 0)), local_size,
                 int(given.get("SLURM_NODEID", 0)), "slurm")


def variables(where: Place, address: str, port: int) -> dict[str, str]:
    """The environment variables that tell torch of a place."""
    return {"RANK": str(where.rank), "WORLD_SIZE": str(where.size), "LOCAL_RANK": str(where.local_rank),
            "LOCAL_WORLD_SIZE": str(where.local_size), "GROUP_RANK": str(where.node), "MASTER_ADDR": address,
            "MASTER_PORT": str(port)}


def meet(where: Place) -> Any:
    """The store through which the ranks find each other; the first one keeps it, unless its launcher does."""
    from torch.distributed import PrefixStore, rendezvous

    if where.launcher == "slurm":
        job = int(re.sub(r"\D", "", os.environ.get("SLURM_JOB_ID", "")) or 0)
        os.environ.update(variables(where, os.environ.get("MASTER_ADDR", "127.0.0.1"),
                                    int(os.environ.get("MASTER_PORT", 20000 + job % 20000))))
    store, _, _ = next(rendezvous("env://", where.rank, where.size, timeout=MEET))
    if where.launcher == "torchrun" and where.nodes == 1:
        # torchrun keeps one store for all its restarts, and in it what the processes before have left. On several
        # machines each counts its own restarts; there `outside.torchrun` asks for a new store instead.
        return PrefixStore(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"), store)
    return store


def join(store: Any, where: Place, device: str) -> None:
    """Join the process group in which tensors are summed: NCCL's for GPUs where torch has it, else gloo's."""
    import torch
    import torch.distributed as dist

    more: dict[str, Any] = {}
    if device == "cuda":
        torch.cuda.set_device(where.local_rank)
        more["device_id"] = torch.device("cuda", where.local_rank)
    dist.init_process_group("nccl" if device == "cuda" and dist.is_nccl_available() else "gloo", store=store,
                            rank=where.rank, world_size=where.size, **more)


class Lost(UserError):
    """Another rank died or cannot be reached any more."""


def again() -> bool:
    """Whether torchrun will start all ranks again when this one ends badly."""
    given = os.environ
    return (place().launcher == "torchrun"
            and int(given.get("TORCHELASTIC_RESTART_COUNT", 0)) < int(given.get("TORCHELASTIC_MAX_RESTARTS", 0)))


def leave() -> None:
    """Leave the process group, if one was joined; without the others, if these are gone."""
    import torch.distributed as dist

    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def lost(problem: BaseException) -> bool:
    """Whether an error means that another rank cannot be reached any more."""
    import torch.distributed as dist

    words = ("gloo/transport", "Connection closed by peer", "Connection reset by peer", "NCCL")
    return isinstance(problem, dist.DistError) or (isinstance(problem, RuntimeError)
                                                   and any(word in str(problem) for word in words))
