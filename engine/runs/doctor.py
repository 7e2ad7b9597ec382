"""Doctor: what is wrong with a training, what shows it and what to try, in one sentence each.

Every rule is a pure function over rows of metrics.jsonl, oldest first; it speaks of the newest rows or says None.
Three kinds of rows are told apart: steps (with `train/loss`), looks (with `val/loss` and, beside it, the training
loss of the steps before) and gauges (with `memory/resident_gib`, one every few seconds).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from engine.recipe import Recipe

Row = Mapping[str, Any]
Rows = Sequence[Row]

SPIKE_STEPS, SPIKE_SIGMAS = 128, 6.0  # OLMo-core's spike score
WINDOW = 128           # steps that are "now" for the rules on gradients
CLIPPED_STEPS = 256
LOOKS = 3              # validations in a row that must be worse than the best before
STARVED = 0.2          # share of the time spent waiting for batches
SLOWER = 0.6           # of the earlier tokens per second
REMEMBERED = 640       # newest rows of a kind that are looked at, beside the first 128 steps


class Advice(NamedTuple):
    """One finding: its name, the step at which it was seen, and the sentence."""

    what: str
    step: int
    sentence: str


# Steps --------------------------------------------------------------------------------------------


def spikes(values: np.ndarray) -> np.ndarray:
    """For each value, how many standard deviations it stands above the mean of the 128 before it; 0 where there
    are not so many yet."""
    scores = np.zeros(len(values))
    if len(values) > SPIKE_STEPS:
        before = np.lib.stride_tricks.sliding_window_view(values, SPIKE_STEPS)[:-1]
        spread = np.maximum(before.std(axis=1), 1e-3 * np.abs(before.mean(axis=1)) + 1e-12)
        scores[SPIKE_STEPS:] = (values[SPIKE_STEPS:] - before.mean(axis=1)) / spread
    return scores


def loss_spike(steps: Rows, recipe: Recipe) -> Advice | None:
    """A loss more than 6 sigma above the 128 before it; the newest one among the rows."""
    losses = _column(steps, "train/loss")
    found = np.flatnonzero(spikes(losses) > SPIKE_SIGMAS)
    if not len(found):
        return None
    at = int(found[-1])
    mean, score = losses[at - SPIKE_STEPS:at].mean(), spikes(losses)[at]
    skip = "" if recipe.train.skip_spikes else ", or skip such steps (train.skip_spikes=true)"
    return Advice("loss spike", int(steps[at]["step"]), (
        f"The loss jumped to {losses[at]:.3g} at step {steps[at]['step']}, {score:.0f} standard deviations above "
        f"its mean of {mean:.3g} over the {SPIKE_STEPS} steps before; if it does not come down again, start from "
        f"the checkpoint before it with a lower optim.lr (now {recipe.optim.lr:g}){skip}."))


def gradient_explosion(steps: Rows, recipe: Recipe) -> Advice | None:
    """Gradients ten times as long as before, and for long enough to be no single bad batch."""
    norms = _column(steps[-4 * WINDOW - 16:], "train/grad_norm")
    if len(norms) < WINDOW + 16:
        return None
    before, now = float(np.median(norms[:-16])), float(np.median(norms[-16:]))
    if now <= 10 * before or now < 1e-3:
        return None
    clip = "a lower optim.lr" if 0 < recipe.train.max_grad_norm <= 1 else "train.max_grad_norm=1 or a lower optim.lr"
    return Advice("gradient explosion", _newest(steps), (
        f"The gradient grew to {now / before:.0f} times its length, from {before:.3g} to {now:.3g} over the last 16 "
        f"steps (step {_newest(steps)}); the run is about to diverge: stop it and go on from an earlier checkpoint "
        f"with {clip} (now {recipe.optim.lr:g})."))


def vanishing_gradient(steps: Rows, recipe: Recipe) -> Advice | None:
    """Gradients a thousandth of what they were, with a loss that is far from nothing."""
    if len(steps) < 2 * WINDOW:
        return None
    first = float(np.median(_column(steps[:WINDOW], "train/grad_norm")))
    now, loss = (_column(steps[-32:], name) for name in ("train/grad_norm", "train/loss"))
    if np.median(now) > max(1e-3 * first, 1e-7) or loss.mean() < 0.1:
        return None
    return Advice("vanishing gradient", _newest(steps), (
        f"The gradient shrank to {np.median(now):.2g} (it was {first:.2g}) while the loss is still {loss.mean():.3g} "
        f"at step {_newest(steps)}, so nothing is learnt any more; try a lower optim.lr (now {recipe.optim.lr:g}), a "
        "longer schedule.warmup_steps, or fewer model.num_layers."))


def dead_learning_rate(steps: Rows, recipe: Recipe) -> Advice | None:
    """A rate near zero long before the end, or one so small that the loss is still that of guessing."""
    step, peak, of = _newest(steps), recipe.optim.lr, recipe.train.max_steps
    if len(steps) < 32 or step <= recipe.schedule.warmup_steps + 32:
        return None
    rate = float(_column(steps[-32:], "train/lr").max())
    if rate <= 1e-3 * peak and of - step > of / 20:
        return Advice("dead learning rate", step, (
            f"The learning rate is {rate:.1g} at step {step}, under a thousandth of optim.lr ({peak:g}), and "
            f"{of - step} steps are still to come that will change nothing; choose a schedule that ends with "
            "train.max_steps, or stop here."))
    guess, loss = math.log(recipe.model.vocab_size), float(_column(steps[-64:], "train/loss").mean())
    if step >= recipe.schedule.warmup_steps + 256 and len(steps) >= 256 and 0.98 * guess < loss < 1.05 * guess:
        return Advice("dead learning rate", step, (
            f"After {step} steps the loss is {loss:.2f}, that of guessing among {recipe.model.vocab_size} tokens "
            f"({guess:.2f}); raise optim.lr (now {peak:g}), tenfold at first."))
    return None


def clipped_every_step(steps: Rows, recipe: Recipe) -> Advice | None:
    """Clipping that never rests sets the length of the step in the place of the learning rate."""
    limit, norms = recipe.train.max_grad_norm, _column(steps[-CLIPPED_STEPS:], "train/grad_norm")
    warm = _newest(steps) > recipe.schedule.warmup_steps + CLIPPED_STEPS
    if not limit or len(norms) < CLIPPED_STEPS or not warm or norms.min() <= limit:
        return None
    return Advice("clipped every step", _newest(steps), (
        f"Each of the last {CLIPPED_STEPS} gradients was longer than train.max_grad_norm ({limit:g}) and was cut, the "
        f"median one to {limit / float(np.median(norms)):.0%} of its length; raise train.max_grad_norm to about "
        f"{_round(float(np.quantile(norms, 0.9)))}, or lower optim.lr (now {recipe.optim.lr:g})."))


def data_starved(steps: Rows, recipe: Recipe) -> Advice | None:
    """A fifth of the time or more goes by waiting for the next batch."""
    waits = _column([row for row in steps[-WINDOW:] if "speed/data_wait" in row], "speed/data_wait")
    if len(waits) < 64 or np.median(waits) < STARVED:
        return None
    return Advice("data-starved", _newest(steps), (
        f"{float(np.median(waits)):.0%} of the time of the last {len(waits)} steps went by waiting for the next batch "
        f"(step {_newest(steps)}); put the workspace on a faster disk, close what else reads from it, or raise "
        f"train.micro_batch_size (now {recipe.train.micro_batch_size})."))


# Looks --------------------------------------------------------------------------------------------


def overfitting(looks: Rows, recipe: Recipe) -> Advice | None:
    """The validation loss rose three looks in a row above its best while the training loss went on falling."""
    if stale(looks) < LOOKS:
        return None
    losses = _column(looks, "val/loss")
    best, train = int(np.argmin(losses)), _column(looks, "train/loss")
    rising = (np.diff(losses[-LOOKS:]) > 0).all() and losses[-1] > 1.005 * losses[best]
    if not rising or not train[-1] < train[best] or _newest(looks) - looks[best]["step"] < 50:
        return None
    stop = "" if recipe.train.patience else " and let it end by itself (train.patience=3)"
    return Advice("overfitting", _newest(looks), (
        f"The validation loss rose from {losses[best]:.3f} at step {looks[best]['step']} to {losses[-1]:.3f} at step "
        f"{_newest(looks)} while the training loss fell from {train[best]:.3f} to {train[-1]:.3f}: the model learns "
        f"its text by heart; add text, take a smaller model or model.dropout=0.1{stop}; the best checkpoint is kept."))


def stale(looks: Rows) -> int:
    """How many validations in a row, the newest of them, did not beat the best before them."""
    losses = _column(looks, "val/loss")
    return len(losses) - 1 - int(np.argmin(losses)) if len(losses) else 0


# Gauges -------------------------------------------------------------------------------------------


def memory_creeping(gauges: Rows, recipe: Recipe) -> Advice | None:
    """Memory that grows in every quarter of the time watched; what only settles, settles in the first."""
    for name, owner in (("memory/resident_gib", "The process"), ("memory/gpu_gib", "The GPU")):
        if advice := _creeping([row for row in gauges if name in row], name, owner, recipe):
            return advice
    return None


def _creeping(gauges: Rows, name: str, owner: str, recipe: Recipe) -> Advice | None:
    held = _column(gauges, name)
    if len(held) < 24:
        return None
    quarters = [float(np.median(part)) for part in np.array_split(held[len(held) // 5:], 4)]
    growth = quarters[-1] - quarters[0]
    if growth < max(0.2, 0.1 * quarters[0]) or min(np.diff(quarters)) < 0.15 * growth:
        return None
    hours = (gauges[-1]["time"] - gauges[len(held) // 5]["time"]) / 3600 * 0.75
    return Advice("memory creeping", _newest(gauges), (
        f"{owner} holds {quarters[-1]:.2f} GiB at step {_newest(gauges)}, {growth:.2f} GiB more than earlier, and "
        f"grows by about {growth / max(hours, 1e-6):.1f} GiB an hour; it may run out: save checkpoints more often "
        f"(train.checkpoint_every is {recipe.train.checkpoint_every}), so that a resume can start afresh."))


def throughput_dropped(gauges: Rows, recipe: Recipe) -> Advice | None:
    """The last 20 seconds' speed is far under that of the minute and more before."""
    known = [row for row in gauges if "speed/tokens_per_second" in row]
    now = [row for row in known if row["time"] > known[-1]["time"] - 20]
    before = known[:len(known) - len(now)]
    if len(now) < 3 or len(before) < 10 or before[-1]["time"] - before[0]["time"] < 60:
        return None
    fast, slow = (float(np.median(_column(rows, "speed/tokens_per_second"))) for rows in (before, now))
    if slow >= SLOWER * fast:
        return None
    share = [float(np.median(_column(rows, "load/cpu"))) for rows in (before, now)
             if all("load/cpu" in row for row in rows)]
    cause = ("another program is taking the processor: this one got "
             f"{share[1]:.0%} of it, and {share[0]:.0%} before; close the other"
             if len(share) == 2 and share[1] < 0.8 * share[0] else
             "look whether the machine is hot, swaps memory or runs on battery")
    return Advice("throughput dropped", _newest(gauges), (
        f"Training slowed from {fast:,.0f} to {slow:,.0f} tokens a second by step {_newest(gauges)}; {cause}."))


RULES: dict[str, tuple[Callable[[Rows, Recipe], Advice | None], ...]] = {
    "steps": (loss_spike, gradient_explosion, vanishing_gradient, dead_learning_rate, clipped_every_step, data_starved),
    "looks": (overfitting,),
    "gauges": (memory_creeping, throughput_dropped),
}
"""Which rules read which kind of row."""


# Over a run ---------------------------------------------------------------------------------------


class Doctor:
    """Reads the rows of a run as they are written. Each finding is told once; spikes, at most one in 128 steps.

    `rows` are those that the run wrote before (a resumed run); `told`, what was said then and at which step.
    """

    def __init__(self, recipe: Recipe, rows: Iterable[Row] = (), told: Mapping[str, int] | None = None) -> None:
        self.recipe = recipe
        self.steps: deque[Row] = deque(maxlen=REMEMBERED)
        self.gauges: deque[Row] = deque(maxlen=REMEMBERED)
        self.looks: list[Row] = []
        self._first: list[Row] = []  # what the run began like
        self._told = dict(told or {})
        self._take(rows)

    def look(self, rows: Iterable[Row]) -> list[Advice]:
        """Take in new rows; what there is to say now."""
        fresh = self._take(rows)
        known = {"steps": [*self._first, *self.steps], "looks": self.looks, "gauges": list(self.gauges)}
        return [advice for kind in RULES if kind in fresh for rule in RULES[kind]
                if (advice := rule(known[kind], self.recipe)) and self._is_new(advice)]

    @property
    def stale(self) -> int:
        """Validations since the best one."""
        return stale(self.looks)

    def _take(self, rows: Iterable[Row]) -> set[str]:
        fresh: set[str] = set()
        for row in rows:
            if "train/loss" in row:
                fresh.add("steps")
                if len(self._first) < WINDOW and len(self.steps) == REMEMBERED:
                    self._first.append(self.steps[0])
                self.steps.append(row)
            if "val/loss" in row:
                fresh.add("looks")
                since = max(self.looks[-1]["step"] if self.looks else 0, row["step"] - 64)
                newest = _column([each for each in self.steps if each["step"] > since], "train/loss")
                self.looks.append({**row, "train/loss": float(newest.mean()) if len(newest) else math.inf})
            if "memory/resident_gib" in row:
                fresh.add("gauges")
                self.gauges.append(row)
        return fresh

    def _is_new(self, advice: Advice) -> bool:
        before = self._told.get(advice.what)
        if before is not None and (advice.what != "loss spike" or advice.step - before < SPIKE_STEPS):
            return False
        self._told[advice.what] = advice.step
        return True


def not_finite(step: int, recipe: Recipe, precision: str, kept: Path | None) -> str:
    """For a loss or gradient that is NaN or infinite; `kept` is the last checkpoint."""
    remedies = [f"a lower learning rate (optim.lr is {recipe.optim.lr:g})",
                f"a longer warmup (schedule.warmup_steps is {recipe.schedule.warmup_steps})"]
    if not 0 < recipe.train.max_grad_norm <= 1:
        remedies.append("clipping (train.max_grad_norm=1)")
    if precision == "bf16":
        remedies.append("train.precision=float32")
    saved = f"checkpoint {kept.name} is kept" if kept else "no checkpoint had been saved yet"
    return (f"The loss or its gradient became NaN or infinite at step {step}, so training stopped before that update "
            f"({saved}); start a new run with {', '.join(remedies[:-1])} or {remedies[-1]}.")


def _column(rows: Rows, name: str) -> np.ndarray:
    return np.array([row[name] for row in rows], dtype=float)


def _newest(rows: Rows) -> int:
    return int(rows[-1]["step"]) if rows else 0


def _round(value: float) -> str:
    return f"{value:.2g}"
