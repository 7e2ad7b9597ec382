"""Batches: windows of the packed tokens, in an order that is a pure function of seed and position.

Training resumes bit for bit because batch number `index` is computed, not iterated to. Loaders run in
the training process: reading 16 windows through the page cache takes microseconds, a worker milliseconds.
For a GPU, whose steps are short, a thread makes and pins a few batches ahead.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import lightning
import numpy as np
import torch

from engine.config import UserError
from engine.tokens.pack import IGNORED, BestFit, documents_of
from engine.tokens.shards import Shards

AHEAD = 3          # batches made before a GPU asks for them
ENDLESS = 1 << 40  # batches; a run ends by its number of steps


class Rows(NamedTuple):
    """A batch of rows. Where nothing is masked, a batch is a plain (B, T+1) tensor; `Rows.of` takes either."""

    inputs: torch.Tensor            # (B, T) int64
    targets: torch.Tensor           # (B, T) int64, IGNORED at padding
    documents: torch.Tensor | None  # (B, T) int64: attention stays among equal numbers; None: it does not
    num_targets: int                # that count

    @classmethod
    def of(cls, batch: torch.Tensor | Rows) -> Rows:
        if isinstance(batch, Rows):
            return batch
        return cls(batch[:, :-1], batch[:, 1:], None, batch.shape[0] * (batch.shape[1] - 1))

    @classmethod
    def masked(cls, batch: torch.Tensor, end_of_text: int) -> Rows:
        """Rows cut from a stream, (B, T+1), in which attention stays within a document."""
        plain = cls.of(batch)
        return plain._replace(documents=torch.from_numpy(documents_of(plain.inputs.numpy(), end_of_text)))

    def to(self, *where: object, **how: object) -> Rows:
        return self._replace(**{name: part.to(*where, **how) for name, part in self._tensors()})

    def pin_memory(self) -> Rows:
        return self._replace(**{name: part.pin_memory() for name, part in self._tensors()})

    def _tensors(self) -> list[tuple[str, torch.Tensor]]:
        return [(name, part) for name, part in self._asdict().items() if isinstance(part, torch.Tensor)]


class Batches:
    """Training batches without end. Rows are drawn from an endless row of windows: epoch after epoch,
    each a new permutation of windows whose common offset is drawn anew, too.

    No batch is short and no window is left out, since a batch may begin in one epoch and end in
    the next; a corpus smaller than a batch works the same way. Rank `rank` of `world_size` gets its
    slice of the global batch, and the global batch does not depend on how it is sliced.
    With `packing` "best_fit" the rows are those of `pack.BestFit`, in a new order each epoch.
    Raises UserError when the split is shorter than one row.
    """

    def __init__(self, shards: Shards, sequence_length: int, micro_batch_size: int, seed: int,
                 rank: int = 0, world_size: int = 1, packing: str = "concatenate",
                 document_mask: bool = False) -> None:
        require_row(shards, sequence_length)
        self.shards, self.sequence_length, self.micro_batch_size = shards, sequence_length, micro_batch_size
        self.seed, self.rank, self.world_size = seed, rank, world_size
        # One window fewer than fit leaves room for the epoch's offset.
        self.num_windows = max(1, shards.num_tokens // sequence_length - 1)
        self.document_mask, self.packed = document_mask, None
        if packing == "best_fit":
            self.packed = BestFit(shards, sequence_length)
            self.num_windows = len(self.packed)
        self._epoch = lru_cache(maxsize=2)(self._draw)

    def __len__(self) -> int:
        """Batches in one epoch, the one that reaches into the next included."""
        return -(-self.num_windows // (self.micro_batch_size * self.world_size))

    def batch(self, index: int) -> torch.Tensor | Rows:
        """Batch number `index`: inputs and targets in one, (B, T+1) int64, or Rows where something is masked."""
        first = (index * self.world_size + self.rank) * self.micro_batch_size
        drawn = [self._drawn(row) for row in range(first, first + self.micro_batch_size)]
        if self.packed is not None:
            return self._best_fit([number for _, number in drawn])
        starts = np.array([offset + number * self.sequence_length for offset, number in drawn])
        rows = torch.from_numpy(self.shards.windows(starts, self.sequence_length + 1))
        return Rows.masked(rows, self.shards.end_of_text) if self.document_mask else rows

    def _best_fit(self, numbers: list[int]) -> Rows:
        assert self.packed is not None
        inputs, targets, documents = (torch.from_numpy(np.stack(part)) for part in
                                      zip(*map(self.packed.row, numbers), strict=True))
        return Rows(inputs, targets, documents if self.document_mask else None, int((targets != IGNORED).sum()))

    def _drawn(self, row: int) -> tuple[int, int]:
        """The offset of the epoch that a row of the endless row is in, and the number of its window."""
        epoch, place = divmod(row, self.num_windows)
        offset, order = self._epoch(epoch)
        return offset, int(order[place])

    def _draw(self, epoch: int) -> tuple[int, np.ndarray]:
        rng = np.random.default_rng((self.seed, epoch))
        if self.packed is not None:
            return 0, rng.permutation(self.num_windows)
        spare = self.shards.num_tokens - 1 - self.num_windows * self.sequence_length
        return int(rng.integers(min(spare, self.sequence_length - 1) + 1)), rng.permutation(self.num_windows)


class Validation:
    """The same validation batches at every look: windows spread evenly over the whole split.

    All batches have `micro_batch_size` rows; a split with fewer windows than that is one smaller batch.
    `num_tokens` targets stand for `num_bytes` of text, over all ranks. However training packs its rows, these
    windows stay the same, so that losses can be compared; a document mask is put on them too.
    """

    def __init__(self, shards: Shards, sequence_length: int, micro_batch_size: int, num_batches: int,
                 rank: int = 0, world_size: int = 1, document_mask: bool = False) -> None:
        require_row(shards, sequence_length)
        self.shards, self.sequence_length, self.document_mask = shards, sequence_length, document_mask
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

    def batch(self, index: int) -> torch.Tensor | Rows:
        """Batch number `index` of the fixed ones: (B, T+1) int64, or Rows where something is masked."""
        rows = torch.from_numpy(self.shards.windows(self._starts[index], self.sequence_length + 1))
        return Rows.masked(rows, self.shards.end_of_text) if self.document_mask else rows


class Loader:
    """What Lightning iterates: batches from number `first` on, pinned where a GPU will fetch them, and made `ahead`.

    It has a length because Lightning fetches one batch ahead of loaders without, and so loses it on resume.
    """

    def __init__(self, source: Batches | Validation, first: int = 0, pin: bool = False, ahead: int = 0) -> None:
        self.source, self.first, self.pin, self.ahead = source, first, pin, ahead

    def __len__(self) -> int:
        return len(self.source) if isinstance(self.source, Validation) else ENDLESS

    def __iter__(self) -> Iterator[torch.Tensor | Rows]:
        numbers = iter(range(self.first, len(self)))
        if not self.ahead:
            yield from map(self._batch, numbers)
            return
        with ThreadPoolExecutor(1) as thread:
            made = deque(thread.submit(self._batch, number) for number in islice(numbers, self.ahead))
            while made:
                batch = made.popleft().result()
                made.extend(thread.submit(self._batch, number) for number in islice(numbers, 1))
                yield batch

    def _batch(self, number: int) -> torch.Tensor | Rows:
        batch = self.source.batch(number)
        return batch.pin_memory() if self.pin else batch


class TokenData(lightning.LightningDataModule):
    """The batches of one folder of shards. Batches are numbered from 0 over the whole run, micro-batch by
    micro-batch; `first_batch` is the one with which training goes on.

    Raises UserError at once when either split is shorter than one row.
    """

    def __init__(self, folder: str | Path, context_length: int, micro_batch_size: int, seed: int,
                 first_batch: int = 0, validation_batches: int = 20, packing: str = "concatenate",
                 document_mask: bool = False) -> None:
        super().__init__()
        self.train_shards, self.val_shards = Shards(folder, "train"), Shards(folder, "val")
        for shards in (self.train_shards, self.val_shards):
            require_row(shards, context_length)
        self.context_length, self.micro_batch_size, self.seed = context_length, micro_batch_size, seed
        self.first_batch, self.validation_batches = first_batch, validation_batches
        self.packing, self.document_mask = packing, document_mask

    def batches(self) -> Batches:
        """This rank's training batches."""
        return Batches(self.train_shards, self.context_length, self.micro_batch_size, self.seed, *self._place(),
                       packing=self.packing, document_mask=self.document_mask)

    def validation(self) -> Validation:
        """This rank's validation batches."""
        return Validation(self.val_shards, self.context_length, self.micro_batch_size, self.validation_batches,
                          *self._place(), document_mask=self.document_mask)

    def train_dataloader(self) -> Loader:
        return Loader(self.batches(), self.first_batch, self._pin(), AHEAD if self._pin() else 0)

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
