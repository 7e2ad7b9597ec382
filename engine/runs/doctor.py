"""Doctor: what to try when training went wrong, in one sentence."""

from __future__ import annotations

from pathlib import Path

from engine.recipe import Recipe


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
