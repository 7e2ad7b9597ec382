"""Run folders written by hand, as a worker would write them, and pages opened on them: no training, no browser."""

from __future__ import annotations

import math
import random
import time
from typing import Any

from engine import files, runs
from engine.recipe import Recipe
from engine.workspace import Workspace

EVIL = "<script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'>"


def plant(workspace: Workspace, name: str, *, steps: int = 400, state: str = "finished", floor: float = 3.0,
          error: str = "", evil: bool = False) -> runs.Run:
    """A run of the demo recipe that made `steps` steps and is now in `state`. A running one holds no lock."""
    run = runs.create(Recipe.load("demo").override(f"name={name}"), workspace)
    begun = time.time() - 600
    for job in ("curate", "tokenize", "train"):
        run.event("job", job=job)
    run.event("resolved", setting="train.precision", value="bf16", why="bf16 is 2.6 times as fast here")
    run.event("resolved", setting="energy", value="estimated", why="RAPL cannot be read here", currency="USD")
    append(run, 1, steps, floor=floor, begun=begun, evil=evil)
    if state == "finished":
        run.event("parity", passed=True, sentence="All cases agree.", tolerance=1e-3, max_difference=1.3e-5, cases=[],
                  greedy_tokens_equal=64, greedy_tokens=64)
        files.write_json(run.path / "made.json", {"bundle": f"bundles/{run.name}"})
    (run.path / "log.txt").write_text("== train\n" + (EVIL if evil else "all is well") + "\n")
    run.event("state", state=state, error=error)
    run.write_status(state=state, job="train", step=steps, of=1200, created=time.time(), started=begun,
                     ended=begun + steps, error=error, heartbeat=time.time())
    return run


def append(run: runs.Run, first: int, last: int, *, floor: float = 3.0, begun: float = 0.0, evil: bool = False) -> None:
    """Steps `first` to `last` in the run's metrics and events, with a validation and samples every 100."""
    dice = random.Random(first)
    lines = []
    for step in range(first, last + 1):
        moment = begun + step * 0.3
        loss = floor + 4 * math.exp(-step / 150)
        facts: dict[str, Any] = {"step": step, "time": moment, "tokens": step * 4096}
        lines.append({**facts, "train/loss": loss + dice.gauss(0, 0.05), "train/lr": 3e-3, "train/grad_norm": 0.5,
                      "speed/data_wait": 0.01, "speed/tokens_per_second": 14_000.0})
        if step % 20 == 0:
            lines.append({**facts, "energy/kwh": step * 1e-5, "energy/cost": 2e-6 * step, "energy/co2e_kg": 5e-6 * step,
                          "energy/watts": 41.0, "load/cpu": 0.93, "memory/resident_gib": 1.31})
        if step % 100 == 0:
            lines.append({**facts, "val/loss": loss + 0.1, "val/perplexity": math.exp(loss),
                          "val/bits_per_byte": loss / 2.5})
            text = f"It was {EVIL if evil else 'a truth'} at step {step}"
            run.event("sample", step=step, prompt="It was", text=text)
    for line in lines:
        run.append("metrics", line)


def opened(page_type: Any, session: Any) -> Any:
    """A page in sight, after its first tick."""
    page = page_type(session)
    page.view().get_root()
    page.shown()
    page.tick()
    return page
