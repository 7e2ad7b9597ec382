"""History: what finished runs came to, for plans to learn from, and what was foretold of a run before it began."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from engine import files
from engine.config import UserError
from engine.model import estimate
from engine.plan.outline import outline, text_of
from engine.plan.scaling import Seen
from engine.recipe import Recipe
from engine.runs.folder import Run
from engine.workspace import Workspace

_KNOWN: dict[tuple[Path, int, str, float], Seen | None] = {}
LOOKED_AT = 50  # newest runs


def seen(recipe: Recipe, workspace: Workspace, *, but: str = "") -> list[Seen]:
    """The finished trainings on the tokens that this recipe would train on, newest first, without the run `but`."""
    tokens = text_of(recipe, workspace)
    if not tokens.known:
        return []
    found = []
    for path in workspace.listing("runs")[:LOOKED_AT]:
        manifest = path / files.MANIFEST
        if path.name == but or not manifest.exists():
            continue
        key = (path, manifest.stat().st_mtime_ns, tokens.tokens, tokens.unique)
        if key not in _KNOWN:
            _KNOWN[key] = _came_to(Run(path), tokens.tokens, tokens.unique)
        if (run := _KNOWN[key]) is not None:
            found.append(run)
    return found


def _came_to(run: Run, tokens: str, unique: float) -> Seen | None:
    """What one run came to, if it trained on these tokens."""
    try:
        if run.made().get("tokens", "").rpartition("/")[2] != tokens:
            return None
        recipe = Recipe.from_yaml(run.recipe_path.read_text(encoding="utf-8"))
        if "train" not in recipe.jobs:
            return None
        facts = (run.path / "metrics.jsonl").stat()
    except (UserError, OSError):
        return None
    rows, _ = run.rows("metrics", (facts.st_ino, max(0, facts.st_size - 262_144)))  # the last look is near the end
    last = next((row for row in reversed(rows) if "val/bits_per_byte" in row), None)
    if last is None or not math.isfinite(last["val/bits_per_byte"]):
        return None
    return Seen(estimate.parameters(recipe.model), last["tokens"], unique, last["val/bits_per_byte"] * math.log(2),
                estimate.non_embedding_parameters(recipe.model))


def foretell(run: Run, recipe: Recipe, workspace: Workspace) -> None:
    """Keep the plan of a run beside it, to be held against what happens. A run starts without one, too."""
    if "train" not in recipe.jobs:
        return
    try:
        plan = outline(recipe, workspace, seen=seen(recipe, workspace, but=run.name))
        files.write_json(run.path / "plan.json", plan.kept())
    except UserError as problem:
        run.event("warning", sentence=f"The run has no plan: {problem.sentence}")


def foretold(run: Run) -> dict[str, Any]:
    """The plan that was kept when the run was made; empty without one."""
    try:
        found = files.read_json(run.path / "plan.json")
    except UserError:
        return {}
    return found if isinstance(found, dict) else {}
