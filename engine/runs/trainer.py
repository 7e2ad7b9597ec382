"""Trainer: from a recipe and a folder of tokens to the best checkpoint, in this process."""

from __future__ import annotations

import logging
import os
import signal
import threading
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning
import torch
from lightning.pytorch.utilities.exceptions import SIGTERMException

from engine import files, hardware
from engine.config import UserError
from engine.model import operators
from engine.model.decoder import Decoder
from engine.model.operators import Operators
from engine.plan import prices
from engine.progress import Stopped
from engine.recipe import Recipe
from engine.runs import checkpoint, learned, strategy
from engine.runs.callbacks import Boundary, peak_gib
from engine.runs.checkpoint import Position
from engine.runs.compiling import settle_compile
from engine.runs.doctor import Doctor, not_finite
from engine.runs.energy import Meter, spent
from engine.runs.metrics import cut
from engine.runs.spread import Spread
from engine.stages import TrainConfig
from engine.stages.base import NotFinite, Stage, Step
from engine.stages.ranks import Ranks
from engine.tokens.batches import TokenData

if TYPE_CHECKING:
    from engine.runs.worker import Worker


def train(worker: Worker, recipe: Recipe, tokens: Path, how: Spread | None = None, ranks: Ranks | None = None) -> Path:
    """Train from the run's newest whole checkpoint, or from the start; returns the best checkpoint. Of several
    `ranks`, whose process group is joined, each calls this with the same `how`.

    Raises Stopped when a viewer asked for a stop (the state is saved then), and UserError for a corpus
    shorter than a context, for checkpoints of which none is whole, for a full disk, and for a loss that is
    no longer a number.
    """
    run, ranks = worker.run, ranks or Ranks()
    if ranks.size == 1:  # several agree on that at their first boundary
        worker.heed()  # the libraries took seconds to load, which a scheduler's grace may not last for
    begun = ranks.say(_newest(worker) if ranks.first else None)
    position = checkpoint.position(begun) if begun else Position()
    if begun and ranks.first:
        _tell_of(worker, begun)
        checkpoint.tidy(run, recipe.train.keep_last, recipe.train.keep_every)  # a kill may have come before that
    if position.step >= recipe.train.max_steps:
        return checkpoint.best(run)
    used = spent(run)
    if ranks.first:
        cut(run, position.step)
    ranks.wait()
    doctor = Doctor(recipe, run.rows("metrics")[0], {event["what"]: event["step"] for event in run.rows("events")[0]
                                                     if event.get("kind") == "advice" and "what" in event})
    if begun and 0 < recipe.train.patience <= doctor.stale:
        return checkpoint.best(run)

    hardware.keep_freed_memory()
    if ranks.first:
        machine = run.path / "machine.json"
        files.write_json(machine, {**files.read_json(machine), **hardware.describe()})
        position = settle(worker, recipe, position)
    position = ranks.say(position)
    train = recipe.train
    if how is not None:
        worker.resolved(setting="train.devices", value=how.words, why=f"{how.why}; each takes {how.accumulation} x "
                                                                      f"{how.micro_batch_size} rows of a step")
        train = train.replace(devices="auto", micro_batch_size=how.micro_batch_size, accumulation=how.accumulation,
                              validation_batches=looked_at(train, how))
    model = built(recipe, position)
    if begun:
        checkpoint.restore_model(begun, model)
    stage = recipe.stage.module()(model, recipe.stage, train, recipe.optim, recipe.schedule, recipe.seed)
    stage.steps, stage.tokens, stage.ranks = position.step, position.tokens, ranks
    if stage.spikes is not None:
        for row in list(doctor.steps)[-128:]:
            stage.spikes.found(row["train/loss"], row["train/grad_norm"])
    data = TokenData(tokens, recipe.model.context_length, train.micro_batch_size, recipe.seed,
                     first_batch=position.step * train.accumulation, validation_batches=train.validation_batches,
                     packing=recipe.tokens.packing, document_mask=recipe.tokens.document_mask)
    position = _compiled(worker, recipe.replace(train=train), position, stage, data, how)
    meter = Meter(position.device, prices.load(worker.workspace), used, nodes=how.nodes if how else 1,
                  local_rank=int(os.environ.get("LOCAL_RANK", 0)) if ranks.size > 1 else 0, together=ranks.together)
    worker.resolved(setting="energy", value=meter.value, why=meter.method, currency=meter.prices.currency)
    boundary = Boundary(worker, recipe, stage, data, tokens / "tokenizer.json", position, begun, meter, doctor)
    fit(worker, recipe, position, stage, data, boundary, how)
    ranks.wait()  # the last checkpoint is the first rank's to write
    if ranks.first:
        try:
            learned.keep(worker, recipe, tokens, boundary, peak_gib(stage.device))
        except (UserError, OSError) as problem:  # a note for later plans, and no reason to call this training failed
            worker.event("warning", sentence=f"What this training came to is not kept for later plans: {problem}")
    return checkpoint.best(run)


def _compiled(worker: Worker, recipe: Recipe, position: Position, stage: Stage, data: TokenData,
              how: Spread | None) -> Position:
    """Settle it on the first rank; the others do as it does. FSDP's gathering of weights is not compiled."""
    if how is not None and how.strategy == "fsdp":
        recipe, position = recipe.override("train.compile='off'"), replace(position, compiled=False)
    batch = data.batches().batch(data.first_batch)
    if stage.ranks.first:
        position = settle_compile(worker, recipe, position, stage, batch)
    position = stage.ranks.say(position)
    if not stage.ranks.first:
        alike = "on" if position.compiled else "off"
        position = settle_compile(worker, recipe.override(f"train.compile='{alike}'"), position, stage, batch)
    return position


def looked_at(train: TrainConfig, how: Spread) -> int:
    """Micro-batches of validation text for each process, so that all together look at as many rows as one would."""
    return -(-train.validation_batches * train.micro_batch_size // (how.micro_batch_size * how.processes))


class Ranging(lightning.Callback):
    """Hands every step to `take`, and ends training when that says so."""

    def __init__(self, stage: Stage, take: Callable[[Step], bool]) -> None:
        self.stage, self.take, self.seen = stage, take, stage.steps
        self.handler = signal.getsignal(signal.SIGTERM)  # as in Boundary

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self.handler)

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any, **__: Any) -> None:
        if self.stage.steps > self.seen:
            self.seen = self.stage.steps
            trainer.should_stop = self.take(self.stage.last)


def _newest(worker: Worker) -> Path | None:
    """The checkpoint to go on from; what is wrong with a newer one is said in the timeline."""
    checkpoint.sweep(worker.run)
    found, wrong = checkpoint.newest(worker.run)
    if found and wrong:
        aside = checkpoint.set_aside(worker.run, found)
        worker.event("warning", sentence=f"Training goes on from {found.name}, since {wrong[0].partition(';')[0]}. "
                                         f"What is damaged is now called {', '.join(aside)}.")
    return found


def _tell_of(worker: Worker, begun: Path) -> None:
    """A kill may come between a checkpoint and the event that tells of it."""
    told, found = worker.run.rows("events")[0], checkpoint.meta(begun)
    if not any(event.get("kind") == "checkpoint" and event.get("step") == found["step"] for event in told):
        worker.event("checkpoint", step=found["step"], path=str(begun.relative_to(worker.run.path)),
                     val_loss=found["val_loss"], best=checkpoint.is_best(worker.run, begun))


def settle(worker: Worker, recipe: Recipe, position: Position) -> Position:
    """Decide the arithmetic of a new run; one that goes on keeps what it began with, or its curve would bend."""
    device, before = hardware.choose_device(recipe.train.device), "as when the run began"
    precision, why = position.precision, before
    if not precision and recipe.train.precision == "auto":
        precision, why = hardware.choose_precision(device)
    elif not precision:
        precision, why = recipe.train.precision, "as asked"
    matmul, why_matmul = position.matmul_precision, before
    if not matmul:
        matmul, why_matmul = hardware.choose_matmul_precision(device)
    worker.resolved(setting="train.device", value=device, why="as asked" if recipe.train.device != "auto" else
                    "a GPU is there" if device == "cuda" else "no GPU that torch can use is there")
    worker.resolved(setting="train.precision", value=precision, why=why)
    worker.resolved(setting="float32 matrix products", value=matmul, why=why_matmul)
    block, why_block = position.queries_at_once, before
    fused, why_fused = position.fused, before
    if not position.step:
        block, why_block = operators.choose_attention(recipe.model, device, precision)
        fused, why_fused = operators.choose_fused(device)
    worker.resolved(setting="attention", value=f"by blocks of {block} queries" if block else "torch's", why=why_block)
    worker.resolved(setting="norms and rotation", value="fused" if fused else "torch's", why=why_fused)
    return replace(position, device=device, precision=precision, matmul_precision=matmul, queries_at_once=block,
                   fused=fused)


def built(recipe: Recipe, position: Position) -> Decoder:
    """The recipe's model with the weights that its seed draws, computing as was settled."""
    torch.manual_seed(recipe.seed)
    model = Decoder(recipe.model)
    operators.use(model, Operators(position.queries_at_once, position.fused))
    return model


def fit(worker: Worker, recipe: Recipe, position: Position, stage: Stage, data: TokenData | Any,
        boundary: lightning.Callback, how: Spread | None = None) -> None:
    """Lightning's loop, and its ends in our words."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(position.matmul_precision)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"lightning\.")  # of what we do on purpose
            loop = _lightning(worker.run.path, recipe, position, stage, boundary, how)
            loop.fit(stage, data)
    except NotFinite as problem:
        if isinstance(boundary, Ranging):
            boundary.take(stage.last)  # it looked for where the loss breaks
            return
        kept = worker.run.checkpoints
        sentence = not_finite(problem.step, recipe, position.precision, kept[-1] if kept else None)
        worker.event("advice", sentence=sentence)
        raise UserError(sentence, where=worker.run.name) from None
    except SIGTERMException:  # before the first step, when Lightning's own handler was still in place
        raise Stopped from None
    except RuntimeError as problem:
        if isinstance(problem, torch.OutOfMemoryError) or "can't allocate memory" in str(problem):
            raise MemoryError from problem
        raise
    finally:
        torch.set_float32_matmul_precision(before)


def _lightning(folder: Path, recipe: Recipe, position: Position, stage: Stage, boundary: lightning.Callback,
               how: Spread | None) -> lightning.Trainer:
    """The Trainer with all that writes, prints or counts by itself turned off: `Boundary` does that."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    loop = lightning.Trainer(
        accelerator="gpu" if position.device == "cuda" else "cpu",
        precision="bf16-mixed" if position.precision == "bf16" else "32-true",
        max_steps=recipe.train.max_steps - position.step, max_epochs=-1,
        accumulate_grad_batches=stage.train_config.accumulation, callbacks=[boundary],
        **strategy.arguments(stage, how),
        logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        limit_val_batches=0, num_sanity_val_steps=0, default_root_dir=folder,
    )
    # Between any two batches of several ranks it would send its own flag for SIGTERM around, and wait for the device.
    loop.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None  # type: ignore[method-assign]
    return loop
