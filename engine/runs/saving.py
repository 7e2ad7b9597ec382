"""Saving: checkpoints that are copied at a step boundary and written behind training's back, one at a time.

A checkpoint is first taken, as plain tensors, and then written, which needs neither model nor optimizer: whoever has
gathered a model from several processes may hand it in as well.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from engine import files, hardware
from engine.config import UserError
from engine.model import pretrained
from engine.optim.averages import evaluated
from engine.runs.checkpoint import OPTIMIZER, POSITION, WEIGHTS, Position, seal, tidy
from engine.runs.folder import Run

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from engine.model import ModelConfig
    from engine.model.decoder import Decoder
    from engine.stages import TrainConfig

SLOW_SECONDS = 1.0  # waiting for the checkpoint before that is worth a sentence
SPARE = 0.08  # of the memory there is: with less left beside a copy, none is made (`plan.memory.SAFETY`)


class Content(NamedTuple):
    """All that a checkpoint holds, as plain tensors in main memory; whoever gathers them may write them."""

    config: ModelConfig
    weights: dict[str, Tensor]    # to evaluate and export, by our names
    trained: dict[str, Tensor]    # those in training, where they differ from the ones above
    optimizer: dict[str, Tensor]  # "3.exp_avg"
    plain: dict[str, Any]         # the optimizer's state that is no tensor, by such names
    position: Position
    val_loss: float | None        # if it was measured at this step

    @property
    def num_bytes(self) -> int:
        return sum(tensor.nbytes for part in (self.weights, self.trained, self.optimizer) for tensor in part.values())


def take(model: Decoder, optimizer: Optimizer, position: Position, val_loss: float | None, *,
         copy: bool) -> Content:
    """What a checkpoint of now holds. Without a `copy`, training must stand still until it is written."""
    def kept(tensor: Tensor, again: bool) -> Tensor:
        tensor = tensor.detach()
        if tensor.is_cuda:
            # To pinned memory, which torch keeps for the next time; nothing waits for one tensor alone.
            return torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True).copy_(tensor, non_blocking=True)
        return tensor.clone(memory_format=torch.contiguous_format) if again else tensor.contiguous()

    tensors, plain = _flat(optimizer.state_dict()["state"])
    tensors = {name: kept(tensor, copy) for name, tensor in tensors.items()}
    with evaluated(optimizer) as trained:
        weights = {name: kept(tensor, copy or bool(trained)) for name, tensor in model.state_dict().items()}
        differ = {name: kept(trained[p], False) for name, p in model.named_parameters() if p in trained}
    if any(p.is_cuda for p in model.parameters()):
        torch.cuda.synchronize()
    return Content(model.config, weights, differ, tensors, plain, position, val_loss)


def write(run: Run, content: Content, tokenizer: Path, keep_last: int, keep_every: int = 0) -> tuple[Path, bool]:
    """Write a checkpoint, then delete older ones as `tidy` says. May run beside the training.

    Returns its path and whether it is the best so far. Raises UserError when there is no room;
    the checkpoints that there were are unharmed then.
    """
    if not run.path.is_dir():  # which `making` would make anew
        raise UserError(f"{run.path} is no longer there: the run's folder was moved or deleted while it ran. "
                        "Move it back.", where=run.name)
    position = content.position
    files.require_space(run.path, content.num_bytes + (16 << 20))
    if (rows := run.path / "metrics.jsonl").exists():
        files.sync(rows)  # a resume begins after these rows, so they must not be lost where this is kept
    folder = run.path / "checkpoints" / f"step-{position.step:06d}"
    with files.making(folder) as made:
        (made / "state").mkdir()
        pretrained.write(content.config, content.weights, made, tokenizer)
        if content.trained:
            _write_tensors(made / WEIGHTS, content.trained)
        _write_tensors(made / OPTIMIZER, content.optimizer)
        files.write_json(made / POSITION, {**asdict(position), "optimizer": content.plain})
        seal(made, step=position.step, tokens=position.tokens, val_loss=content.val_loss)
    return folder, tidy(run, keep_last, keep_every) == folder


class Writing(NamedTuple):
    """A checkpoint on its way to the disk."""

    position: Position
    val_loss: float | None
    begun: float                # time.perf_counter() when training stopped for it
    waited_seconds: float       # for the checkpoint before it
    stall_seconds: float | None  # how long training stood still; None if it does until this is written
    result: Future[tuple[Path, bool, float]]


class Saving:
    """The checkpoints of one training. `tell(kind, **facts)` puts an event in the timeline.

    Training stands still while a checkpoint is copied; it waits for the disk as well when the checkpoint before is not
    written yet, when memory is too short for a copy, and when the caller waits.
    """

    def __init__(self, run: Run, tokenizer: Path, train: TrainConfig, step: int, tell: Callable[..., None]) -> None:
        self.run, self.tokenizer, self.train, self.tell = run, tokenizer, train, tell
        self.step = step  # of the newest checkpoint that is whole
        self._writing: Writing | None = None
        self._thread = ThreadPoolExecutor(1, "checkpoint")
        self._said: set[str] = set()

    def save(self, model: Decoder, optimizer: Optimizer, position: Position, val_loss: float | None, *,
             wait: bool = False, must: bool = False) -> None:
        """Save a step once, and return when that is written if the caller has to `wait`.

        What goes wrong is told, and training goes on; if it `must` be saved, it is waited for and a UserError raised.
        """
        begun = time.perf_counter()
        self.finish()
        if self.step == position.step:
            return
        waited, wait = time.perf_counter() - begun, wait or must
        copy = not wait and self._room(model, optimizer)
        content = take(model, optimizer, position, val_loss, copy=copy)
        stall = time.perf_counter() - begun if copy else None
        self._writing = Writing(position, val_loss, begun, waited, stall, self._thread.submit(self._write, content))
        if not copy:
            self.finish(must=must)

    def look(self) -> None:
        """Tell of a checkpoint that was written, or could not be, since the last call."""
        if self._writing is not None and self._writing.result.done():
            self.finish()

    def finish(self, *, must: bool = False) -> None:
        """Wait until nothing is being written, and tell how it went."""
        if (made := self._writing) is None:
            return
        step = made.position.step
        try:
            path, best, seconds = made.result.result()
        except UserError as problem:
            if must:
                raise
            self.tell("warning", sentence=f"No checkpoint at step {step}: {problem.sentence} "
                                          "Training goes on; the older checkpoints are kept.")
            return
        finally:
            self._writing = None
        self.step = step
        stall = made.stall_seconds if made.stall_seconds is not None else time.perf_counter() - made.begun
        print(f"step {step}: saved as {path.name}; training stood still for {stall:.3f} s", flush=True)
        self.tell("checkpoint", step=step, path=str(path.relative_to(self.run.path)), val_loss=made.val_loss,
                  best=best, stall_seconds=stall, write_seconds=seconds, waited_seconds=made.waited_seconds)
        if made.waited_seconds > SLOW_SECONDS:
            self._say("slow", f"The checkpoint of step {step} waited {made.waited_seconds:.1f} s until the one before "
                              f"it was written: the disk is slower than train.checkpoint_every="
                              f"{self.train.checkpoint_every} asks for; save less often, or on a faster disk.")

    def _write(self, content: Content) -> tuple[Path, bool, float]:
        begun = time.perf_counter()
        try:
            path, best = write(self.run, content, self.tokenizer, self.train.keep_last, self.train.keep_every)
        except OSError as problem:
            raise files.unwritable(self.run.path, problem) from problem
        return path, best, time.perf_counter() - begun

    def _room(self, model: Decoder, optimizer: Optimizer) -> bool:
        """Whether memory has room for a copy of weights and optimizer state."""
        tensors, _ = _flat(optimizer.state_dict()["state"])
        size = sum(t.nbytes for t in (*tensors.values(), *model.state_dict().values()))
        total, available = hardware.memory()
        if size <= available - SPARE * total:
            return True
        self._say("short", f"Training waits while checkpoints are written, since a copy of {size / 2**30:.1f} GiB has "
                           f"no room in the memory ({available / 2**30:.1f} GiB are free).")
        return False

    def _say(self, what: str, sentence: str) -> None:
        """A warning, once."""
        if what not in self._said:
            self._said.add(what)
            self.tell("warning", sentence=sentence)


def _flat(state: dict[int, dict[str, Any]]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The optimizer's state as tensors by name and the rest as JSON values: {"3.exp_avg": ...}."""
    tensors, plain = {}, {}
    for number, entries in state.items():
        for name, value in entries.items():
            if isinstance(value, torch.Tensor):
                tensors[f"{number}.{name}"] = value
            else:
                plain[f"{number}.{name}"] = value
    return tensors, plain


def _write_tensors(path: Path, tensors: dict[str, Any]) -> None:
    try:
        save_file(tensors, path)
    except SafetensorError as error:  # which is how a full disk looks from there
        raise files.unwritable(path, OSError(str(error))) from error


