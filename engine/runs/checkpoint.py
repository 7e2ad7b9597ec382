"""Checkpoint: a saved state, complete or absent, that loads in transformers and resumes bit for bit.

    checkpoints/step-000500/
      model.safetensors config.json tokenizer.json ..    the Hugging Face folder
      state/optimizer.safetensors  state/position.json   what training needs to go on
      state/weights.safetensors    weights in training, where those above are an average of them
      meta.json    last: step, tokens, val_loss, size and checksum of every other file

No random state is saved: what is random in a step follows from seed and step (`stages.base`).
"""

from __future__ import annotations

import shutil
import uuid
from contextlib import suppress
from dataclasses import asdict, dataclass
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
    if not isinstance(found, dict) or not {"step", "val_loss", "files"} <= found.keys():
        raise _broken(checkpoint / META, "is damaged: it does not list the checkpoint's files")
    return found


def verify(checkpoint: Path) -> Path:
    """The checkpoint, if every file is there in full and as it was written; else a UserError that names the file."""
    for name, facts in meta(checkpoint)["files"].items():
        path = checkpoint / name
        if not path.is_file():
            raise _broken(path, "is missing")
        if (size := path.stat().st_size) != facts["bytes"]:
            raise _broken(path, f"is cut: it has {size} bytes of {facts['bytes']}")
        if _checksum(path) != facts["xxh3"]:
            raise _broken(path, "is damaged: its content is not what was saved")
    return checkpoint


def newest(run: Run) -> tuple[Path | None, list[str]]:
    """The newest checkpoint that is whole, and a sentence for each newer one that is not.

    None if the run saved none yet. Raises UserError if it has some and none is whole.
    """
    wrong: list[str] = []
    for path in sorted((run.path / "checkpoints").glob("step-*"), key=_step, reverse=True):
        try:
            return verify(path), wrong
        except UserError as problem:
            wrong.append(problem.sentence)
    if wrong:
        raise UserError(f"run {run.name} has no whole checkpoint to go on from: {wrong[0]}", where=run.name)
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


def _best(checkpoints: list[Path]) -> Path | None:
    measured = []
    for path in checkpoints:
        with suppress(UserError):  # a damaged checkpoint must not hide the whole ones
            if (loss := meta(path)["val_loss"]) is not None:
                measured.append((loss, -_step(path), path))
    return min(measured)[2] if measured else None


def _step(checkpoint: Path) -> int:
    digits = checkpoint.name.removeprefix("step-")
    return int(digits) if digits.isdigit() else -1


# Saving -------------------------------------------------------------------------------------------


def save(run: Run, model: Decoder, optimizer: Optimizer, tokenizer: Path, position: Position,
         val_loss: float | None, keep_last: int) -> tuple[Path, bool]:
    """Write the checkpoint of this step, then delete older ones but the best and the last `keep_last`.

    Returns its path and whether it is the best so far. Raises UserError when there is no room;
    the checkpoints that there were are unharmed then.
    """
    from engine.model import pretrained
    from engine.optim.averages import evaluated

    tensors, plain = _flat(optimizer.state_dict()["state"])
    weights = sum(p.numel() * 4 for p in model.parameters())
    files.require_space(run.path, weights + sum(t.nbytes for t in tensors.values()) + (16 << 20))
    folder = run.path / "checkpoints" / f"step-{position.step:06d}"
    with files.making(folder) as made:
        (made / "state").mkdir()
        with evaluated(optimizer) as trained:
            pretrained.save(model, made, tokenizer)
        if trained:
            _write_tensors(made / WEIGHTS, {name: trained[p] for name, p in model.named_parameters() if p in trained})
        _write_tensors(made / OPTIMIZER, tensors)
        files.write_json(made / POSITION, {**asdict(position), "optimizer": plain})
        listed = {str(path.relative_to(made)): {"bytes": path.stat().st_size, "xxh3": _checksum(path)}
                  for path in sorted(made.rglob("*")) if path.is_file()}
        files.write_json(made / META, {"step": position.step, "tokens": position.tokens, "val_loss": val_loss,
                                       "files": listed})
    return folder, tidy(run, keep_last) == folder


def sweep(run: Run) -> None:
    """Remove what a kill left of checkpoints that were being written or deleted; for the worker alone."""
    for left in (run.path / "checkpoints").glob(".step-*"):
        shutil.rmtree(left, ignore_errors=True)


def tidy(run: Run, keep_last: int) -> Path | None:
    """Delete all checkpoints but the best and the last `keep_last`; returns the best."""
    root, found = run.path / "checkpoints", run.checkpoints
    chosen = _best(found)
    for path in found[:-keep_last]:
        if path != chosen:
            # Renamed first, so that no checkpoint of that name is ever there in part.
            going = path.replace(root / f".{path.name}.{uuid.uuid4().hex[:8]}")
            shutil.rmtree(going, ignore_errors=True)
    return chosen


def _flat(state: dict[int, dict[str, Any]]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The optimizer's state as tensors by name and the rest as JSON values: {"3.exp_avg": ...}."""
    import torch

    tensors, plain = {}, {}
    for number, entries in state.items():
        for name, value in entries.items():
            if isinstance(value, torch.Tensor):
                tensors[f"{number}.{name}"] = value.detach().cpu().contiguous()
            else:
                plain[f"{number}.{name}"] = value
    return tensors, plain


def _write_tensors(path: Path, tensors: dict[str, Any]) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file(tensors, path)
    except SafetensorError as error:  # which is how a full disk looks from there
        raise files.unwritable(path, OSError(str(error))) from error


def _checksum(path: Path) -> str:
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
