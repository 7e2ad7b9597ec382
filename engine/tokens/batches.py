"""Batches: windows of the packed tokens, in an order that is a pure function of seed and position.

Training resumes bit for bit because batch number `index` is computed, not iterated to. Loaders run in
the training process: reading 16 windows through the page cache takes microseconds, a worker milliseconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import lightning
import numpy as np
import torch

from engine.config import UserError
from engine.tokens.shards import Shards

ENDLESS = 1 << 40  # batches; a run ends by its number of steps


class Batches:
    """Training batches without end. Rows are drawn from an endless row of windows: epoch after epoch,
    each a new permutation of windows whose common offset is drawn anew, too.

    No batch is short and no window is left out, since a batch may begin in one epoch and end in
    the next; a corpus smaller than a batch works the same way. Rank `rank` of `world_size` gets its
    slice of the global batch, and the global batch does not depend on how it is sliced.
    Raises UserError when the split is shorter than one row.
    """

    def __init__(self, shards: Shards, sequence_length: int, micro_batch_size: int, seed: int,
                 rank: int = 0, world_size: int = 1) -> None:
        require_row(shards, sequence_length)
        self.shards, self.sequence_length, self.micro_batch_size = shards, sequence_length, micro_batch_size
        self.seed, self.rank, self.world_size = seed, rank, world_size
        # One window fewer than fit leaves room for the epoch's offset.
        self.num_windows = max(1, shards.num_tokens // sequence_length - 1)
        self._epoch = lru_cache(maxsize=2)(self._draw)

    def __len__(self) -> int:
        """Batches in one epoch, the one that reaches into the next included."""
        return -(-self.num_windows // (self.micro_batch_size * self.world_size))

    def batch(self, index: int) -> torch.Tensor:
        """Batch number `index`: inputs and targets in one, (B, T+1) int64."""
        first = (index * self.world_size + self.rank) * self.micro_batch_size
        starts = [self._start(row) for row in range(first, first + self.micro_batch_size)]
        return torch.from_numpy(self.shards.windows(np.array(starts), self.sequence_length + 1))

    def _start(self, row: int) -> int:
        epoch, place = divmod(row, self.num_windows)
        offset, order = self._epoch(epoch)
        return offset + int(order[place]) * self.sequence_length

    def _draw(self, epoch: int) -> tuple[int, np.ndarray]:
        rng = np.random.default_rng((self.seed, epoch))
        spare = self.shards.num_tokens - 1 - self.num_windows * self.sequence_length
        return int(rng.integers(min(spare, self.sequence_length - 1) + 1)), rng.permutation(self.num_windows)


class Validation:
    """The same validation batches at every look: windows spread evenly over the whole split.

    All batches have `micro_batch_size` rows; a split with fewer windows than that is one smaller batch.
    `num_tokens` targets stand for `num_bytes` of text, over all ranks.
    """

    def __init__(self, shards: Shards, sequence_length: int, micro_batch_size: int, num_batches: int,
                 rank: int = 0, world_size: int = 1) -> None:
        require_row(shards, sequence_length)
        self.shards, self.sequence_length = shards, sequence_length
        starts = shards.spread(sequence_length, num_batches * micro_batch_size * world_size)
        # Equal batches on every rank: a compiled model knows one shape, and a mean of means is the mean.
        rows = min(micro_batch_size, max(1, len(starts) // world_size))
        whole = max(1, len(starts) // (rows * world_size)) * rows * world_size
        starts = np.resize(starts, whole) if len(starts) < whole else starts[:whole]
        targets = shards.windows(starts + 1, sequence_length)
        self.num_tokens, self.num_bytes = targets.size, shards.count_bytes(targets)
        self._starts = starts.reshape(-1, world_size, rows)[:, rank]

    def __len__(self) -> int:
        return len(self._starts)

    def batch(self, index: int) -> torch.Tensor:
        """Batch number `index` of the fixed ones: (B, T+1) int64."""
        return torch.from_numpy(self.shards.windows(self._starts[index], self.sequence_length + 1))


class Loader:
    """What Lightning iterates: batches from number `first` on, pinned where a GPU will fetch them.

    It has a length because Lightning fetches one batch ahead of loaders without, and so loses it on resume.
    """

    def __init__(self, source: Batches | Validation, first: int = 0, pin: bool = False) -> None:
        self.source, self.first, self.pin = source, first, pin

    def __len__(self) -> int:
        return len(self.source) if isinstance(self.source, Validation) else ENDLESS

    def __iter__(self) -> Iterator[torch.Tensor]:
        for index in range(self.first, len(self)):
            batch = self.source.batch(index)
            yield batch.pin_memory() if self.pin else batch


class TokenData(lightning.LightningDataModule):
    """The batches of one folder of shards. Batches are numbered from 0 over the whole run, micro-batch by
    micro-batch; `first_batch` is the one with which training goes on.

    Raises UserError at once when either split is shorter than one row.
    """

    def __init__(self, folder: str | Path, context_length: int, micro_batch_size: int, seed: int,
                 first_batch: int = 0, validation_batches: int = 20) -> None:
        super().__init__()
        self.train_shards, self.val_shards = Shards(folder, "train"), Shards(folder, "val")
        for shards in (self.train_shards, self.val_shards):
            require_row(shards, context_length)
        self.context_length, self.micro_batch_size, self.seed = context_length, micro_batch_size, seed
        self.first_batch, self.validation_batches = first_batch, validation_batches

    def batches(self) -> Batches:
        """This rank's training batches."""
        return Batches(self.train_shards, self.context_length, self.micro_batch_size, self.seed, *self._place())

    def validation(self) -> Validation:
        """This rank's validation batches."""
        return Validation(self.val_shards, self.context_length, self.micro_batch_size, self.validation_batches,
                          *self._place())

    def train_dataloader(self) -> Loader:
        return Loader(self.batches(), self.first_batch, self._pin())

    def val_dataloader(self) -> Loader:
        return Loader(self.validation(), pin=self._pin())

    def _place(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _pin(self) -> bool:
        return self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"


def require_row(shards: Shards, sequence_length: int) -> None:
    """Refuse a split that is shorter than one row of inputs and its last target."""
    if shards.num_tokens > sequence_length:
        return
    words = {"train": ("training", "add text"),
             "val": ("validation", "add text or raise corpus.validation_fraction")}[shards.split]
    raise UserError(f"model.context_length is {sequence_length}, but the {words[0]} text has only {shards.num_tokens} "
                    f"tokens and one context needs {sequence_length + 1}; {words[1]}, or choose a shorter context.",
                    where="model.context_length")
