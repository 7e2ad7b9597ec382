"""Loss: how well a decoder predicts text that it was not trained on.

Every target counts once: windows share no target, and the tokens before a window are not seen. A context
that slides token by token would flatter the model, and cost as many forward passes as there are tokens.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from engine.config import UserError
from engine.model.decoder import Decoder
from engine.progress import Progress, silent
from engine.tokens.shards import Shards, bits_per_byte

TOKENS_AT_ONCE = 8192        # tokens in one forward pass
LOGITS_AT_ONCE = 1 << 24     # 64 MiB of float32: with a large vocabulary the logits outgrow all else
PASSAGE_TOKENS = 48          # length of the pieces that are ranked by their loss


@dataclass(frozen=True)
class Measured:
    """What a decoder makes of `num_tokens` targets, which stand for `num_bytes` bytes of text."""

    loss: float                 # mean over the targets, in nats
    accuracy: float             # share of targets that were the likeliest token
    num_tokens: int
    num_bytes: float            # the end of a text is a target of no bytes
    by_position: np.ndarray     # (T,) mean loss of the targets with 1 .. T tokens before them
    passages: np.ndarray        # (N,) first target of each passage of PASSAGE_TOKENS targets
    passage_losses: np.ndarray  # (N,) mean loss of each

    @property
    def perplexity(self) -> float:
        """exp(loss): the number of tokens among which the model seems to guess."""
        return math.exp(min(self.loss, 700.0))

    @property
    def bits_per_byte(self) -> float:
        """NaN where the targets stand for no byte."""
        return bits_per_byte(self.loss, self.num_tokens, self.num_bytes)


@torch.no_grad()
def measure(model: Decoder, shards: Shards, max_tokens: int, precision: str = "float32",
            progress: Progress = silent) -> Measured:
    """The loss on at most `max_tokens` targets, in windows of the context spread evenly over the split.

    Measures all of a split that has no more, its rest that fills no window included. `precision`
    ("float32" or "bf16") is that of the matrix products; the loss is always taken from float32 logits.
    The model's mode is as before. Raises UserError for a split of fewer than two tokens, for a
    vocabulary that the model does not have, and for a loss that is not a number.
    """
    if shards.num_tokens < 2:
        raise UserError(f"the {shards.split} text has {shards.num_tokens} tokens, so that there is nothing to predict; "
                        "add text or raise corpus.validation_fraction.", where="corpus.validation_fraction")
    if shards.vocab_size > model.config.vocab_size:
        raise UserError(f"the text is written in {shards.vocab_size} tokens, but the model knows only "
                        f"{model.config.vocab_size}; choose the tokens that it was trained on.", where="tokens")
    length = min(model.config.context_length, max_tokens, shards.num_tokens - 1)
    pieces = _pieces(shards, length, max_tokens)
    tally, of = _Tally(length), sum(starts.size * width for starts, width in pieces)
    device, training = model.head_weight.device, model.training
    model.eval()
    try:
        for starts, width in pieces:
            progress(tally.num_tokens, of, "measuring the loss")
            rows = torch.from_numpy(shards.windows(starts, width + 1))                           # (B, T+1)
            inputs, targets = rows[:, :-1].to(device), rows[:, 1:].to(device)
            with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
                losses, right = _losses(model, inputs, targets)
            tally.add(starts, losses.double().cpu().numpy(), right, shards.count_bytes(rows[:, 1:].numpy()))
        progress(of, of, "measuring the loss")
    finally:
        model.train(training)
    measured = tally.measured()
    if not math.isfinite(measured.loss):
        raise UserError("the model's loss is not a number, so its weights are ruined; choose an earlier checkpoint.")
    return measured


def _pieces(shards: Shards, length: int, max_tokens: int) -> list[tuple[np.ndarray, int]]:
    """Batches of windows: (starts (B,), targets in each window)."""
    starts = shards.spread(length, max_tokens // length)
    rows = max(1, TOKENS_AT_ONCE // length)
    pieces = [(starts[i:i + rows], length) for i in range(0, len(starts), rows)]
    covered = len(starts) * length
    rest = min(shards.num_tokens - 1, max_tokens) - covered
    if rest > 0 and shards.num_tokens - 1 - covered < length:  # every window is in
        pieces.append((np.array([covered]), rest))
    return pieces


def _losses(model: Decoder, inputs: Tensor, targets: Tensor) -> tuple[Tensor, int]:
    """-log p of each target in nats, (B, T) float32, and how many of them were the likeliest token."""
    hidden, flat = model.hidden(inputs).flatten(0, 1), targets.flatten()                         # (B*T, d), (B*T)
    step, losses, right = max(1, LOGITS_AT_ONCE // model.config.vocab_size), [], 0
    for some, wanted in zip(hidden.split(step), flat.split(step), strict=True):
        logits = F.linear(some, model.head_weight).float()                                       # (n, V)
        losses.append(F.cross_entropy(logits, wanted, reduction="none"))
        right += int((logits.argmax(-1) == wanted).sum())
    return torch.cat(losses).view_as(targets), right


class _Tally:
    """Sums in float64, batch by batch."""

    def __init__(self, length: int) -> None:
        self.sums, self.counts = np.zeros(length), np.zeros(length, np.int64)
        self.num_tokens, self.num_bytes, self.right = 0, 0.0, 0
        self.passages: list[np.ndarray] = []
        self.passage_losses: list[np.ndarray] = []

    def add(self, starts: np.ndarray, losses: np.ndarray, right: int, num_bytes: float) -> None:
        rows, width = losses.shape
        self.sums[:width] += losses.sum(axis=0)
        self.counts[:width] += rows
        self.num_tokens += losses.size
        self.num_bytes += num_bytes
        self.right += right
        # A passage starts amid the window: the first targets of a window are hard for want of context.
        first = np.arange(width % PASSAGE_TOKENS, width, PASSAGE_TOKENS)
        if len(first):
            self.passages.append((starts[:, None] + 1 + first).ravel())
            self.passage_losses.append(losses[:, first[0]:].reshape(rows, -1, PASSAGE_TOKENS).mean(axis=-1).ravel())

    def measured(self) -> Measured:
        return Measured(
            loss=float(self.sums.sum() / self.num_tokens), accuracy=self.right / self.num_tokens,
            num_tokens=self.num_tokens, num_bytes=self.num_bytes, by_position=self.sums / self.counts,
            passages=np.concatenate([*self.passages, np.empty(0, np.int64)]).astype(np.int64),
            passage_losses=np.concatenate([*self.passage_losses, np.empty(0)]))
