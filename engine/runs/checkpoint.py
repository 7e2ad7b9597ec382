"""Checkpoint: a saved state, complete or absent, that loads in transformers and resumes bit for bit.

    checkpoints/step-000500/
      model.safetensors config.json tokenizer.json ..    the Hugging Face folder
      state/optimizer.safetensors  state/position.json   what training needs to go on
      state/weights.safetensors    weights in training, where those above are an average of them
      meta.json    last: step, tokens, val_loss, size and checksum of every other file, and of itself

No random state is saved: what is random in a step follows from seed and step (`stages.base`). `saving` writes them.
"""

from __future__ import annotations

import json
import shutil
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xxhash

from engine import files
from engine.config import UserError
from engine.runs.folder import Run

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from engine.model.decoder import Decoder

META = "meta.json"
POSITION = "state/position.json"
OPTIMIZER = "state/optimizer.safetensors"
WEIGHTS = "state/weights.safetensors"


@dataclass(frozen=True)
class Position:
    """How far training is, and the arithmetic that it began with and must go on with."""

    step: int = 0
    tokens: int = 0
    device: str = ""            # cpu or cuda
    precision: str = ""         # bf16 or float32
    matmul_precision: str = ""  # of torch.set_float32_matmul_precision
    queries_at_once: int = 0    # these two as in `model.operators.Operators`
    fused: bool = False
    compiled: bool = False      # by torch.compile


# Looking ------------------------------------------------------------------------------------------


def meta(checkpoint: Path) -> dict[str, Any]:
    """What meta.json tells: step, tokens, val_loss (None if it was not measured there), files."""
    found = files.read_json(checkpoint / META)
    try:
        own, listed = found.pop("xxh3", None), found["files"]  # the first ones had no checksum of their own
        whole = own in (None, digest(found)) and {"step", "val_loss"} <= found.keys() and all(
            {"bytes", "xxh3"} <= facts.keys() for facts in listed.values())
    except (AttributeError, KeyError, TypeError):
        whole = False
    if not whole:
        raise _broken(checkpoint / META, "is damaged: it does not list the checkpoint's files as they were saved")
    return dict(found)


def verify(checkpoint: Path) -> Path:
    """The checkpoint, if every file is there in full and as it was written; else a UserError that names the file."""
    for name, facts in meta(checkpoint)["files"].items():
        path = checkpoint / name
        try:
            if not path.is_file():
                raise _broken(path, "is missing")
            if (size := path.stat().st_size) != facts["bytes"]:
                raise _broken(path, f"is cut: it has {size} bytes of {facts['bytes']}")
            if checksum(path) != facts["xxh3"]:
                raise _broken(path, "is damaged: its content is not what was saved")
        except OSError as error:
            raise _broken(path, f"cannot be read ({error.strerror or error})") from None
    return checkpoint


def newest(run: Run) -> tuple[Path | None, list[str]]:
    """The newest checkpoint that is whole, and a sentence for each newer one that is not.

    None if the run saved none yet. Raises UserError if it has some and none is whole.
    """
    wrong: list[str] = []
    for path in sorted((run.path / "checkpoints").glob("step-*"), key=step_of, reverse=True):
        try:
            return verify(path), wrong
        except UserError as problem:
            wrong.append(problem.sentence)
    if wrong:
        raise UserError(f"run {run.name} has no whole checkpoint to go on from: {wrong[0].partition(';')[0]}; "
                        "restore it, or start a new run of the same recipe.", where=run.name)
    return None, wrong


def last(run: Run) -> Path:
    """The newest checkpoint that is whole."""
    found, _ = newest(run)
    if found is None:
        raise UserError(f"run {run.name} has no checkpoint yet; train it first.", where=run.name)
    return found


def best(run: Run) -> Path:
    """The checkpoint of the lowest validation loss; the newest, if none was measured. UserError if it is damaged."""
    found = _best(run.checkpoints)
    return verify(found) if found else last(run)


def is_best(run: Run, checkpoint: Path) -> bool:
    """Whether no other checkpoint that is there has a lower validation loss."""
    return _best(run.checkpoints) == checkpoint


def _best(checkpoints: list[Path]) -> Path | None:
    measured = []
    for path in checkpoints:
        with suppress(UserError):  # a damaged checkpoint must not hide the whole ones
            if (loss := meta(path)["val_loss"]) is not None:
                measured.append((loss, -step_of(path), path))
    return min(measured)[2] if measured else None


def step_of(checkpoint: Path) -> int:
    """The step that the folder is named after; -1 for another name."""
    digits = checkpoint.name.removeprefix("step-")
    return int(digits) if digits.isdigit() else -1


# Keeping ------------------------------------------------------------------------------------------


def sweep(run: Run) -> None:
    """Remove what a kill left of checkpoints that were being written or deleted, and of files that were being
    replaced; for the worker alone."""
    for left in (run.path / "checkpoints").glob(".step-*"):
        shutil.rmtree(left, ignore_errors=True)
    for left in run.path.glob(".*.json*"):
        with suppress(OSError):
            if time.time() - left.stat().st_mtime > 60:  # else the launcher may be at it
                left.unlink()


def set_aside(run: Run, found: Path | None) -> list[str]:
    """Rename what is damaged and newer than `found` to damaged-step-N, for the worker alone: it would count as one of
    the last that are kept, and whole ones would be deleted in its place. Returns the new names."""
    made = []
    for path in (run.path / "checkpoints").glob("step-*"):
        if found is not None and step_of(path) > step_of(found):
            number, target = 1, path.with_name(f"damaged-{path.name}")
            while target.exists():
                number += 1
                target = path.with_name(f"damaged-{path.name}-{number}")
            made.append(path.replace(target).name)
    return made


def tidy(run: Run, keep_last: int, keep_every: int = 0) -> Path | None:
    """Delete all checkpoints but the best, the last `keep_last` and those of every `keep_every` steps; returns the
    best. What cannot be deleted now is left for the next time."""
    root, found = run.path / "checkpoints", run.checkpoints
    chosen = _best(found)
    for path in found[:-keep_last]:
        if path != chosen and not (keep_every and step_of(path) % keep_every == 0):
            with suppress(OSError):
                # Renamed first, so that no checkpoint of that name is ever there in part.
                going = path.replace(root / f".{path.name}.{uuid.uuid4().hex[:8]}")
                shutil.rmtree(going, ignore_errors=True)
    return chosen


def seal(folder: Path, *, step: int, tokens: int, val_loss: float | None) -> None:
    """Write meta.json, last, into a folder that holds all else of a checkpoint."""
    listed = {str(path.relative_to(folder)): {"bytes": path.stat().st_size, "xxh3": checksum(path)}
              for path in sorted(folder.rglob("*")) if path.is_file()}
    told = {"step": step, "tokens": tokens, "val_loss": val_loss, "files": listed}
    files.write_json(folder / META, {**told, "xxh3": digest(told)})


def digest(value: Any) -> str:
    return xxhash.xxh3_128_hexdigest(json.dumps(value, sort_keys=True).encode())


def checksum(path: Path) -> str:
    digest = xxhash.xxh3_128()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


# Restoring ----------------------------------------------------------------------------------------


def position(checkpoint: Path) -> Position:
    """Where training goes on from this checkpoint."""
    values = files.read_json(checkpoint / POSITION)
    return Position(**{name: values[name] for name in Position.__dataclass_fields__ if name in values})


def restore_model(checkpoint: Path, model: Decoder) -> None:
    """Put the weights in training into the model."""
    from safetensors.torch import load_file

    from engine.model import pretrained

    model.load_state_dict(pretrained.load(checkpoint).state_dict())
    if (checkpoint / WEIGHTS).exists():
        model.load_state_dict(load_file(checkpoint / WEIGHTS), strict=False)


def restore_optimizer(checkpoint: Path, optimizer: Optimizer) -> None:
    """Put the saved state into the optimizer; its settings stay those of the recipe."""
    from safetensors.torch import load_file

    state: dict[int, dict[str, Any]] = {}
    saved = {**load_file(checkpoint / OPTIMIZER), **files.read_json(checkpoint / POSITION)["optimizer"]}
    for path, value in saved.items():
        number, _, name = path.partition(".")
        state.setdefault(int(number), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _broken(path: Path, what: str) -> UserError:
    return UserError(f"{path} {what}; restore it, or delete its checkpoint folder, and the one before is taken.",
                     where=str(path))
