"""Ranks: the processes that train one model together, and what they add up and agree on.

Small numbers that the host knows (token counts, requests) go through a gloo group of their own, so that no step waits
for a GPU; tensors go through the devices' group (NCCL or gloo). Alone, every call gives back what it was given.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

T = TypeVar("T")

PATIENCE = timedelta(hours=6)  # while the first rank samples and saves; one that dies is noticed at once


class Ranks:
    """This process alone, or all that joined a process group. Every rank makes every call, in the same order."""

    def __init__(self, rank: int = 0, size: int = 1, host: Any = None) -> None:
        self.rank, self.size, self._host = rank, size, host

    @classmethod
    def joined(cls) -> Ranks:
        """Those of torch's default process group."""
        return cls(dist.get_rank(), dist.get_world_size(), dist.new_group(backend="gloo", timeout=PATIENCE))

    @property
    def first(self) -> bool:
        """Whether this is the rank that writes."""
        return self.rank == 0

    def add(self, count: int) -> int:
        """The sum of every rank's count."""
        return self._over([count], dist.ReduceOp.SUM)[0]

    def together(self, amount: float) -> float:
        """The sum of every rank's amount, to the millionth."""
        return amount if self.size == 1 else self.add(round(amount * 1e6)) / 1e6

    def most(self, *counts: int) -> list[int]:
        """The greatest of every rank's counts, place by place; of truths, whether any is true."""
        return self._over(list(counts), dist.ReduceOp.MAX)

    def say(self, value: T) -> T:
        """What the first rank gave."""
        if self.size == 1:
            return value
        said: list[Any] = [value]
        dist.broadcast_object_list(said, 0, group=self._host)
        return said[0]

    def wait(self) -> None:
        """Until every rank is here. The host waits, not the device, so that no NCCL watchdog bites meanwhile."""
        self.most(0)

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum of every rank's tensor, on the device."""
        if self.size == 1:
            return tensor
        whole = tensor.detach().clone()
        dist.all_reduce(whole)
        return whole

    def norm(self, gradients: Iterable[Tensor]) -> Tensor:
        """The length of all gradients together. Under DDP each rank holds the same ones; under FSDP its own shards."""
        gradients = list(gradients)
        norm = nn.utils.get_total_norm([own(g) for g in gradients])
        return self.sum(norm**2).sqrt() if gradients and sharded(gradients[0]) else norm

    def _over(self, counts: list[int], how: Any) -> list[int]:
        if self.size == 1:
            return [int(count) for count in counts]
        told = torch.tensor(counts, dtype=torch.int64)
        dist.all_reduce(told, how, group=self._host)
        return told.tolist()


def sharded(tensor: Tensor) -> bool:
    """Whether this rank holds only its part of the tensor (FSDP2's DTensor)."""
    return hasattr(tensor, "to_local")


def own(tensor: Tensor) -> Tensor:
    """The part that this rank holds: all of it, unless it is sharded. Shares its memory."""
    return tensor.to_local() if sharded(tensor) else tensor  # type: ignore[operator]
