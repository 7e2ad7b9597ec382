"""Stage: the mechanics of an optimizer step, which all stages share. A stage's own file spells out its loss.

One step = `accumulation` micro-batches on every rank, whose loss is divided by the tokens of the whole step: a mean of
the micro-batches' means weighs tokens unequally where masks leave rows of different length. Everything
random in a step follows from seed, step and rank, so there is no random state to save, validation and
samples cannot disturb training, and a resumed run draws what an uninterrupted one would have drawn.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import lightning
import torch
from torch import Tensor

from engine.model.decoder import Decoder
from engine.optim import LrRange, Optimizer, Schedule
from engine.optim.averages import average
from engine.optim.groups import freeze
from engine.stages import StageConfig, TrainConfig
from engine.stages.ranks import Ranks, own, sharded
from engine.stages.spikes import Spikes


class NotFinite(Exception):
    """Loss or gradient of step `step` is NaN or infinite. The update of that step was not made."""

    def __init__(self, step: int) -> None:
        super().__init__(f"loss or gradient of step {step} is not finite")
        self.step = step


class Step(NamedTuple):
    """One optimizer update that was made. The tensors stay on the device until somebody needs their values."""

    number: int        # from 1
    tokens: int        # targets trained on since the start of the run
    lr: float          # of parameters that have none of their own
    loss: Tensor       # mean over the tokens of the step, in nats
    grad_norm: Tensor  # before clipping
    skipped: bool = False  # a spike, whose update was left out


class Stage(lightning.LightningModule):
    """A model and how it is trained. A subclass defines `loss`; Lightning calls the rest.

    `steps` and `tokens` say how far training is; set both to go on from a checkpoint. Where several ranks train it
    together, set `ranks`; `train.micro_batch_size` and `train.accumulation` are then those of one rank.
    """

    model: Decoder
    last: Step  # the newest one
    shard: Callable[[Stage], None] | None = None  # cuts the model among the ranks (FSDP), before there is an optimizer

    def __init__(self, model: Decoder, config: StageConfig, train: TrainConfig, optim: Optimizer,
                 schedule: Schedule | LrRange, seed: int) -> None:
        super().__init__()
        self.model, self.config, self.train_config = model, config, train
        self.optim, self.schedule, self.seed = optim, schedule, seed
        self.steps = self.tokens = 0
        self.ranks = Ranks()
        freeze(model, optim)  # before DDP looks at which parameters get a gradient
        self._count, self._total = 0, torch.zeros(())
        self.spikes = Spikes() if train.skip_spikes else None
        self.compiled: Callable[..., Tensor] | None = None  # what `model.hidden` became, if it was compiled

    def hidden(self, input_ids: Tensor, documents: Tensor | None = None) -> Tensor:
        """The model's last hidden states (B, T, d). Only training is compiled: a look would be compiled anew."""
        run = self.compiled if self.compiled is not None and self.training else self.model.hidden
        return run(input_ids, documents=documents)

    def loss(self, batch: Any) -> tuple[Tensor, int]:
        """The loss summed over the tokens of a batch that count, in nats, and how many these are."""
        raise TypeError(f"{type(self).__name__} does not define a loss")

    @torch.no_grad()
    def validate(self, batches: Iterable[Any]) -> float:
        """The mean loss over the tokens of every rank's batches, in nats, without dropout; the mode is as before."""
        training, total, count = self.training, torch.zeros((), dtype=torch.float64), 0
        self.eval()
        try:
            for batch in batches:
                with self.trainer.precision_plugin.val_step_context():
                    loss, tokens = self.loss(batch.to(self.device, non_blocking=True))
                total, count = total.to(loss.device) + loss.double(), count + tokens
        finally:
            self.train(training)
        return float(self.ranks.sum(total)) / max(1, self.ranks.add(count))

    # What Lightning calls, in this order, during a step ----------------------------------------------

    def configure_model(self) -> None:
        if self.shard is not None:
            self.shard(self)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return self.optimizer_of(self.model)

    def optimizer_of(self, model: Decoder) -> torch.optim.Optimizer:
        """A new optimizer of this training, for this model."""
        optimizer = self.optim.build(model)
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"]
        if self.train_config.ema_decay:
            average(optimizer, self.train_config.ema_decay)
        return optimizer

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        if batch_idx % self.train_config.accumulation:
            return
        self._count, self._total = 0, torch.zeros((), device=self.device)
        _reseed(self.seed, self.steps, self.global_rank, self.device)
        factor = self.schedule.factor(self.steps, self.train_config.max_steps)
        self._lr = self.optim.lr * factor
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = group["initial_lr"] * factor

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss, count = self.loss(batch)
        self._total, self._count = self._total + loss.detach(), self._count + count
        return loss

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Turn the summed gradients into those of the mean, refuse what is not finite, clip."""
        grads = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        count = self.ranks.add(self._count)
        # Lightning has divided by the accumulation, and DDP and FSDP by the ranks.
        scale = self.train_config.accumulation * self.ranks.size / count
        norm = self.ranks.norm(grads) * scale
        self.last = Step(self.steps + 1, self.tokens + count, self._lr, self.ranks.sum(self._total) / count, norm)
        finite = torch.isfinite(self.last.loss) & torch.isfinite(norm)
        if finite.device.type == "cpu" and not finite:
            raise NotFinite(self.last.number)
        if self.spikes is not None and self.spikes.found(float(self.last.loss), float(self.last.grad_norm)):
            self.last = self.last._replace(skipped=True)
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    parameter.grad = None  # which every optimizer passes over
            return
        if self.train_config.max_grad_norm:
            scale = scale * (self.train_config.max_grad_norm / (norm + 1e-6)).clamp(max=1.0)
        torch._foreach_mul_([own(g) for g in grads], scale)
        if finite.device.type == "cpu":
            return
        # On a GPU nothing waits for the answer: the update is made harmless there, and whoever reads the loss of this
        # step finds out. A fused optimizer skips it by itself.
        if getattr(optimizer, "_step_supports_amp_scaling", False) and not sharded(next(self.parameters())):
            optimizer.found_inf = (~finite).float()
        else:
            clear_unless(finite, grads)

    def optimizer_step(self, *arguments: Any, **named: Any) -> None:
        super().optimizer_step(*arguments, **named)
        self.steps, self.tokens = self.last.number, self.last.tokens


def clear_unless(finite: Tensor, grads: Iterable[Tensor]) -> None:
    """Set the gradients to zero unless `finite`, a scalar on their device, without reading it."""
    for grad in grads:
        own(grad).masked_fill_(~finite, 0.0)


def _reseed(seed: int, step: int, rank: int, device: torch.device) -> None:
    digest = hashlib.blake2b(f"{seed}/{step}/{rank}".encode(), digest_size=8).digest()
    number = int.from_bytes(digest, "big") >> 1
    torch.default_generator.manual_seed(number)
    random.seed(number)
    if device.type == "cuda":
        torch.cuda.manual_seed(number)
