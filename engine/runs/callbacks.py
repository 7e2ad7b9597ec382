"""What happens between two optimizer steps: rows, validation, samples, checkpoints, and what viewers asked for.

Signals and request files only set flags; they are looked at here, where the weights, the optimizer and
the position agree, so that whatever is saved can be resumed exactly. Several ranks first agree on what was asked of
any of them, so that all do the same; the first alone writes.
"""

from __future__ import annotations

import math
import resource
import signal
import threading
import time
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning
import torch

from engine.model.generate import generate
from engine.optim.averages import evaluated
from engine.progress import Stopped
from engine.recipe import Recipe
from engine.runs import checkpoint, strategy
from engine.runs.checkpoint import Position
from engine.runs.doctor import Doctor
from engine.runs.energy import Meter
from engine.runs.learned import Took
from engine.runs.metrics import Metrics
from engine.runs.saving import Saving
from engine.stages.base import NotFinite, Stage
from engine.tokens import tokenizer as bpe
from engine.tokens.batches import TokenData
from engine.tokens.shards import bits_per_byte

if TYPE_CHECKING:
    from engine.runs.worker import Worker

LOG_SECONDS = 10.0
PAUSE_SECONDS = 0.1
ASKED = ("stop", "pause", "checkpoint", "sample")  # what can be asked of a training


class Boundary(lightning.Callback):
    """Keeps the run folder truthful at every step boundary."""

    def __init__(self, worker: Worker, recipe: Recipe, stage: Stage, data: TokenData, tokenizer: Path,
                 position: Position, begun: Path | None, meter: Meter, doctor: Doctor) -> None:
        self.worker, self.run, self.recipe, self.stage, self.data = worker, worker.run, recipe, stage, data
        self.tokenizer_path, self.tokenizer = tokenizer, bpe.load(tokenizer)
        self.position, self.begun = position, begun
        self.ranks, self.bad = stage.ranks, 0  # a step that was not finite, which the others must hear of
        self.measures = False  # whether all ranks read their gauges at this boundary
        self.metrics = Metrics(self.run, position.tokens)
        self.meter, self.doctor = meter, doctor
        self.saving = Saving(worker.run, tokenizer, recipe.train, position.step, worker.event)
        self.seen = position.step
        self.logged = -math.inf
        self.left = math.nan  # when training went on after the last boundary
        self.took = Took(peak_gib(stage.device))
        # Lightning puts a handler of its own before the worker's, which would leave in mid-accumulation.
        self.handler = signal.getsignal(signal.SIGTERM)

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self.handler)
        if any(self.ranks.most(self.worker.signalled)):  # nothing to save yet; all ranks leave, or none
            raise Stopped
        self.worker.tell(self.position.step, self.recipe.train.max_steps, "first step")
        if self.begun:
            checkpoint.restore_optimizer(self.begun, trainer.optimizers[0])
        strategy.scatter(trainer.optimizers[0])
        if not self.begun:
            # What would fail at the first validation, such as memory, fails now.
            self.stage.validate(islice(self.data.val_dataloader(), 2))
        self.took.begin()
        self._go_on()

    def on_train_batch_start(self, *_: Any, **__: Any) -> None:
        self.metrics.waited(time.perf_counter() - self.left)

    def on_train_batch_end(self, *given: Any, **named: Any) -> None:
        self._boundary(*given, **named)
        self.left = time.perf_counter()

    def _boundary(self, trainer: lightning.Trainer, *_: Any, **__: Any) -> None:
        if self.stage.steps == self.seen:
            return  # amid an accumulation
        step = self.seen = self.stage.steps
        self.saving.look()
        train, asked = self.recipe.train, self._asked()
        last = step == train.max_steps
        ends, stops = last, "stop" in asked and not last
        saves = ends or step % train.checkpoint_every == 0
        validates = saves or step % train.validate_every == 0
        samples = "sample" in asked or (train.sample_every and (ends or step % train.sample_every == 0))
        if self.metrics.add(self.stage.last) or self.measures or validates or samples or asked:
            self._write(step)
            if self.measures and not self.bad:
                self._measure(step)
        if self.ranks.size == 1 or validates or samples or asked:
            self._refuse(*self.ranks.most(self.bad))
        if not (validates or samples or asked):
            return
        with evaluated(trainer.optimizers[0]):
            val_loss = self._validate() if validates else None
            stale = self.ranks.most(self.doctor.stale)[0] if validates else 0
            if validates and not last and train.patience and stale >= train.patience:
                ends, trainer.should_stop = True, True
                self._advise(step, "early stop", f"Training ended at step {step} of {train.max_steps}: the last "
                             f"{train.patience} validations were no better than the best one before (train.patience).")
            if samples:
                self._sample()
            strategy.forget(self.stage)
        if stops:
            self.worker.state("stopping")
        elif "pause" in asked and not ends:
            self._save(trainer.optimizers[0], val_loss, wait=True)
            stops = self._stopped_while_paused()
            self.meter.go_on()
        if saves or ends or stops or "checkpoint" in asked:
            self._save(trainer.optimizers[0], val_loss, must=ends or stops)
        self.ranks.wait()
        if stops:
            raise Stopped
        self._go_on()

    def on_exception(self, trainer: lightning.Trainer, *_: Any, **__: Any) -> None:
        self.metrics.write()
        self.saving.finish()

    # Inside ---------------------------------------------------------------------------------------

    def _asked(self) -> set[str]:
        """What was asked of any rank since the last boundary. A stop in the last step is for the job after this one."""
        last = self.seen == self.recipe.train.max_steps
        there = {kind for kind in self.run.requests() if kind in ASKED
                 and self.run.requested(kind, take=not (last and kind == "stop"))}
        if self.worker.signalled:
            there.add("stop")
        due = self.ranks.first and time.monotonic() >= self.meter.due
        *agreed, measures, bad = self.ranks.most(*(kind in there for kind in ASKED), due or last, self.bad)
        self._refuse(bad)
        self.measures = bool(measures)
        return {kind for kind, asked in zip(ASKED, agreed, strict=True) if asked}

    def _refuse(self, bad: int) -> None:
        if bad:
            raise NotFinite(bad)

    def _write(self, step: int) -> None:
        """Rows, status and log. A loss that turns out not to be a number is remembered as `bad`."""
        self.bad = self.metrics.write() or 0
        if self.bad:
            return
        loss, speed, of = self.metrics.loss, self.metrics.speed, self.recipe.train.max_steps
        waiting = "" if not self.metrics.owed else "; waits for room on the disk"
        self.worker.tell(step, of, f"loss {loss:.3f}, {speed:,.0f} tokens/s{waiting}")
        if time.monotonic() - self.logged >= LOG_SECONDS:
            self.logged = time.monotonic()
            print(f"step {step} of {of}: loss {loss:.4f}, {speed:,.0f} tokens/s", flush=True)

    def _go_on(self) -> None:
        self.metrics.go_on()
        self.left = time.perf_counter()

    def _measure(self, step: int) -> None:
        """The gauges' row, and what the doctor says to all rows since the one before."""
        row = self.meter.read(step, self.stage.tokens, self.metrics.speed)
        self.took.drew(row["energy/watts"])
        self.metrics.row(**row)
        self._consult()

    def _consult(self) -> None:
        rows, self.metrics.fresh = self.metrics.fresh, []
        for advice in self.doctor.look(rows):
            self._advise(advice.step, advice.what, advice.sentence)

    def _advise(self, step: int, what: str, sentence: str) -> None:
        print(f"advice: {sentence}", flush=True)
        self.worker.event("advice", step=step, what=what, sentence=sentence)

    def _validate(self) -> float:
        stage, looked_at = self.stage, self.data.validation()
        at_once = stage.train_config.micro_batch_size * self.ranks.size * self.recipe.model.context_length
        with self.took.of("look", -(-looked_at.num_tokens // at_once)):
            loss = stage.validate(self.data.val_dataloader())
        bits = bits_per_byte(loss, looked_at.num_tokens, looked_at.num_bytes)
        self.metrics.row(**{"step": stage.steps, "time": time.time(), "tokens": stage.tokens, "val/loss": loss,
                            "val/perplexity": math.exp(min(loss, 700.0)), "val/bits_per_byte": bits,
                            "memory/peak_gib": peak_gib(stage.device)})
        self._consult()
        print(f"step {stage.steps}: validation loss {loss:.4f}, {bits:.4f} bits per byte", flush=True)
        return loss

    def _sample(self) -> None:
        cut = strategy.cut(self.stage)
        if not self.ranks.first and not cut:
            return  # a model that is cut is run by all ranks, or by none
        end = bpe.end_of_text(self.tokenizer)
        for prompt in self.recipe.train.sample_prompts:
            ids = self.tokenizer.encode(prompt, add_special_tokens=False).ids or [end]
            dice = torch.Generator().manual_seed(self.recipe.seed)
            with self.took.of("token", self.recipe.train.sample_tokens):
                made = generate(self.stage.model, torch.tensor([ids]), self.recipe.train.sample_tokens, generator=dice,
                                end=end, agree=self.ranks.say if cut else None)
            self.worker.event("sample", step=self.stage.steps, prompt=prompt, text=self.tokenizer.decode(made))

    def _save(self, optimizer: torch.optim.Optimizer, val_loss: float | None, **how: bool) -> None:
        if strategy.cut(self.stage):
            self.saving.finish()
            if self.ranks.say(self.saving.step) == self.stage.steps:
                return  # it need not be gathered again
        with self.took.of("save"):
            model, optimizer = strategy.whole(self.stage, optimizer)
            if self.ranks.first:
                position = replace(self.position, step=self.stage.steps, tokens=self.stage.tokens)
                self.saving.save(model, optimizer, position, val_loss, **how)

    def _stopped_while_paused(self) -> bool:
        """Sleep until a viewer wakes the run (False) or stops it (True)."""
        self.worker.state("paused")
        stops = wakes = 0
        while not (stops or wakes):
            time.sleep(PAUSE_SECONDS)
            stops, wakes = self.ranks.most(self.worker.asked_to_stop(), self.run.requested("resume", take=True))
        self.run.requested("pause", take=True)  # asked for twice
        self.worker.state("stopping" if stops else "running")
        return bool(stops)


class Timing(lightning.Callback):
    """Times the steps of a short training and ends it after `steps` or `seconds`; the first few warm up.

    One look without learning comes first, as in every run, since it may be what takes the most memory.
    """

    WARM = 3

    def __init__(self, worker: Worker, stage: Stage, batch: Any, steps: int, seconds: float) -> None:
        self.worker, self.stage, self.batch, self.steps, self.seconds = worker, stage, batch, steps, seconds
        self.ends: list[float] = []
        self.look_seconds = self.warm_at = 0.0

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        for _ in range(2):  # the first warms up
            begun = time.perf_counter()
            self.stage.validate([self.batch])
            self.look_seconds = time.perf_counter() - begun
        self.ends.append(self._now())

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any, **__: Any) -> None:
        if self.stage.steps < len(self.ends):
            return  # amid an accumulation
        self.ends.append(self._now())
        if len(self.ends) == self.WARM + 1:
            self.warm_at = time.time()
        self.worker.progress(self.stage.steps, self.steps, "measuring")
        if self.counted >= self.WARM and self.ends[-1] - self.ends[0] > self.seconds:
            trainer.should_stop = True

    @property
    def counted(self) -> int:
        return max(0, len(self.ends) - 1 - self.WARM)

    @property
    def step_seconds(self) -> float:
        """The mean of the steps after the warm ones; what a run pays is their sum, slow ones too."""
        return (self.ends[-1] - self.ends[self.WARM]) / max(1, self.counted)

    def _now(self) -> float:
        if self.stage.device.type == "cuda":
            torch.cuda.synchronize(self.stage.device)
        return time.perf_counter()


def peak_gib(device: torch.device) -> float:
    """Most memory that this process held: on the GPU, or in all (Linux tells it in KiB)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
