"""Tables: a run's metrics as files that other programs read: CSV, and TensorBoard's event files."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

from engine import files
from engine.config import UserError
from engine.runs.folder import Run

FACTS = ("step", "time", "tokens")


def to_csv(run: Run) -> str:
    """One line a step: step, time (seconds since the epoch), tokens, and a column for each metric."""
    rows, _ = run.rows("metrics")
    if not rows:
        raise UserError(f"run {run.name} has no metrics; it trained nothing.", where=run.name)
    names = dict.fromkeys(name for row in rows for name in row)
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, [*FACTS, *(name for name in names if name not in FACTS)], lineterminator="\n")
    table.writeheader()
    lines: dict[Any, dict[str, Any]] = {}
    for row in rows:
        lines[row.get("step")] = {**row, **lines.get(row.get("step"), {})}  # of each step, when it was first told of
    table.writerows(lines.values())
    return text.getvalue()


def to_tensorboard(run: Run) -> Path:
    """Write every metric as scalars into `tensorboard/` in the run's folder; `tensorboard --logdir RUNS` shows them.

    What was written there before is replaced. Raises UserError without the library.
    """
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        raise UserError("tensorboardX is missing; install it with: pip install 'training-studio[tensorboard]'.",
                        where="tensorboard") from None
    rows, _ = run.rows("metrics")
    if not rows:
        raise UserError(f"run {run.name} has no metrics; it trained nothing.", where=run.name)
    target = run.path / "tensorboard"
    with files.making(target) as folder:
        writer = SummaryWriter(str(folder), write_to_disk=True)
        for row in rows:
            for name, value in row.items():
                if name not in FACTS and isinstance(value, (int, float)):
                    writer.add_scalar(name, value, global_step=row.get("step"), walltime=row.get("time"))
        writer.close()
    return target
