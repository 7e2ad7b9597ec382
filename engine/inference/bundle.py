"""Bundle: the folder of an exported model, believed only as far as its manifest bears it out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from engine import files
from engine.config import UserError

MODEL = "onnx/model.onnx"
NEEDED = ("config.json", "tokenizer.json", MODEL)
CHECKED_BYTES = 1 << 30     # a larger file is checked by its size alone: reading it twice would double the wait


def check(folder: Path) -> dict[str, Any]:
    """The bundle's config.json, once every file that inference opens is there, inside and unchanged."""
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; choose the folder of a bundle.", where=str(folder))
    if not (folder / files.MANIFEST).exists():
        raise UserError(f"{folder} has no {files.MANIFEST}, so it is no complete bundle; export it again.",
                        where=str(folder))
    manifest = files.read_json(folder / files.MANIFEST)
    try:
        sizes = {str(name): int(size) for name, size in manifest["files"].items()}
        sums = {str(name): str(mark) for name, mark in manifest["checksums"].items()}
    except (TypeError, KeyError, AttributeError, ValueError):
        raise UserError(f"{folder / files.MANIFEST} is not the manifest of a bundle; export it again.",
                        where=str(folder / files.MANIFEST)) from None
    for name in (*NEEDED, *(n for n in sizes if n.startswith(f"{MODEL}_data"))):
        _check_file(folder, name, sizes.get(name), sums.get(name))
    config = files.read_json(folder / "config.json")
    if not isinstance(config, dict):
        raise UserError(f"{folder / 'config.json'} holds no settings; export the bundle again.",
                        where=str(folder / "config.json"))
    return config


def _check_file(folder: Path, name: str, size: int | None, mark: str | None) -> None:
    path = folder / name
    if not path.is_file():
        raise UserError(f"{path} is missing; export the bundle again.", where=str(path))
    if not path.resolve().is_relative_to(folder.resolve()):
        raise UserError(f"{path} leads out of the bundle's folder and is not opened; export the bundle again.",
                        where=str(path))
    found = path.stat().st_size
    if size is None or mark is None:
        raise UserError(f"{path} is not in the bundle's manifest; export the bundle again.", where=str(path))
    if found != size:
        raise UserError(f"{path} has {found:,} bytes, but its manifest says {size:,}; export the bundle again.",
                        where=str(path))
    if found <= CHECKED_BYTES and files.fingerprint_file(path) != mark:
        raise UserError(f"{path} was changed since it was exported; export the bundle again.", where=str(path))


def context_length(folder: Path, config: dict[str, Any]) -> int:
    """Most tokens that the model sees at once."""
    found = config.get("max_position_embeddings", config.get("n_positions"))
    if not isinstance(found, int) or found < 1:
        raise UserError(f"{folder / 'config.json'} does not say how long the model's context is; "
                        "export the bundle again.", where=str(folder / "config.json"))
    return found
