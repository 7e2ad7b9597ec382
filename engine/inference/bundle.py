"""Bundle: the folder of an exported model, believed only as far as its manifest bears it out."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from engine import files
from engine.config import UserError

MODEL = "onnx/model.onnx"
FULL = "float32"
SCORES = "text-classification"      # the task of a model that scores, in the Hub's words
WRITES_NONE = ("scores texts and writes none, so there is no speed of writing to measure; how fast it reads is "
               "measured when it is exported with precisions")
NEEDED = ("config.json", "tokenizer.json")
BESIDE = ("tokenizer_config.json", "chat_template.jinja", "generation_config.json")    # where a bundle has them
TOLD_BYTES = 4 << 20        # of what a bundle says about itself: its manifest, proof, costs and speed
MOST_GRAPHS = 64
CHECKED_BYTES = 1 << 30     # a larger file is checked by its size alone: reading it twice would double the wait


def check(folder: Path, precision: str = FULL) -> tuple[dict[str, Any], Path]:
    """The bundle's config.json and its graph of a precision, once every file that inference opens is there,
    inside and unchanged."""
    manifest = _manifest(folder)
    graph = _graphs(folder, manifest).get(precision)
    if graph is None:
        raise UserError(f"{folder} has no {precision} graph; it has {', '.join(precisions(folder))}.",
                        where="precision")
    sizes, sums = _listed(folder, manifest)
    for name in (*NEEDED, graph, *(n for n in sizes if n.startswith(f"{graph}_data"))):
        _check_file(folder, name, sizes.get(name), sums.get(name))
    for name in BESIDE:
        beside(folder, name)
    config = files.read_json(folder / "config.json")
    if not isinstance(config, dict):
        raise UserError(f"{folder / 'config.json'} holds no settings; export the bundle again.",
                        where=str(folder / "config.json"))
    return config, folder / graph


def beside(folder: Path, name: str) -> Path | None:
    """A file that a bundle may have, once it is inside and unchanged; None where there is none.

    A folder without a manifest, as checkpoints are, has none to hold it against.
    """
    path = folder / name
    if not (folder / files.MANIFEST).exists():
        if not os.path.lexists(path):
            return None
        _require_inside(folder, name)
        return path
    sizes, sums = _listed(folder, _manifest(folder))
    if name not in sizes and not os.path.lexists(path):
        return None
    _check_file(folder, name, sizes.get(name), sums.get(name))
    return path


def _listed(folder: Path, manifest: Any) -> tuple[dict[str, int], dict[str, str]]:
    """Sizes and checksums of the files, by their names."""
    try:
        return ({str(name): int(size) for name, size in manifest["files"].items()},
                {str(name): str(mark) for name, mark in manifest["checksums"].items()})
    except files.MISSHAPEN:
        raise UserError(f"{folder / files.MANIFEST} is not the manifest of a bundle; export it again.",
                        where=str(folder / files.MANIFEST)) from None


def precisions(folder: Path) -> list[str]:
    """The names of the graphs in a bundle, float32 first."""
    return list(_graphs(folder, _manifest(folder)))


def keeps_adapter(folder: Path) -> bool:
    """Whether a bundle has a LoRA adapter apart from its weights."""
    return isinstance(_summary(folder).get("adapter"), str)


def adapter(folder: Path) -> Path | None:
    """The .onnx_adapter file of a bundle that keeps one, once it is there, inside and unchanged."""
    if not keeps_adapter(folder):
        return None
    name, (sizes, sums) = _summary(folder)["adapter"], _listed(folder, _manifest(folder))
    _check_file(folder, name, sizes.get(name), sums.get(name))
    return folder / name


def scores(folder: Path) -> bool:
    """Whether a bundle's model scores texts, as reward models and classifiers do, and writes none."""
    return _summary(folder).get("task") == SCORES


def _summary(folder: Path) -> dict[str, Any]:
    manifest = _manifest(folder)
    summary = manifest.get("summary") if isinstance(manifest, dict) else None
    return summary if isinstance(summary, dict) else {}


def _graphs(folder: Path, manifest: Any) -> dict[str, str]:
    """Paths of the graphs by precision; bundles of the first version have but one."""
    summary = manifest.get("summary") if isinstance(manifest, dict) else None
    graphs = summary.get("graphs") if isinstance(summary, dict) else None
    if not isinstance(graphs, dict):
        return {FULL: MODEL}
    if not 1 <= len(graphs) <= MOST_GRAPHS:
        raise UserError(f"{folder / files.MANIFEST} names {len(graphs):,} graphs, and an honest one from 1 to "
                        f"{MOST_GRAPHS}; choose another bundle.", where=str(folder / files.MANIFEST))
    return {str(name): str(path) for name, path in graphs.items()}


def _manifest(folder: Path) -> Any:
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; choose the folder of a bundle.", where=str(folder))
    if not (folder / files.MANIFEST).exists():
        raise UserError(f"{folder} has no {files.MANIFEST}, so it is no complete bundle; export it again.",
                        where=str(folder))
    _require_inside(folder, files.MANIFEST)
    return files.read_json(folder / files.MANIFEST, TOLD_BYTES)


def told(folder: Path, name: str) -> Any:
    """What a bundle says of itself in a JSON file: its manifest, proof, costs or speed; of whatever shape it is.

    Raises UserError for a file that is missing, damaged or larger than any honest one, or that leads out of the folder.
    """
    _require_inside(folder, name)
    return files.read_json(folder / name, TOLD_BYTES)


def _check_file(folder: Path, name: str, size: int | None, mark: str | None) -> None:
    path = folder / name
    try:
        there = path.is_file()
    except OSError:     # a name that is too long for one
        there = False
    if not there:
        raise UserError(f"{path} is missing; export the bundle again.", where=str(path))
    _require_inside(folder, name)
    found = path.stat().st_size
    if size is None or mark is None:
        raise UserError(f"{path} is not in the bundle's manifest; export the bundle again.", where=str(path))
    if found != size:
        raise UserError(f"{path} has {found:,} bytes, but its manifest says {size:,}; export the bundle again.",
                        where=str(path))
    if found <= CHECKED_BYTES and files.fingerprint_file(path) != mark:
        raise UserError(f"{path} was changed since it was exported; export the bundle again.", where=str(path))


def _require_inside(folder: Path, name: str) -> None:
    path = folder / name
    try:
        inside = path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError):     # a link to itself
        inside = False
    if not inside:
        raise UserError(f"{path} leads out of the bundle's folder and is not opened; export the bundle again.",
                        where=str(path))


def context_length(folder: Path, config: dict[str, Any]) -> int:
    """Most tokens that the model sees at once."""
    found = config.get("max_position_embeddings", config.get("n_positions"))
    if not isinstance(found, int) or found < 1:
        raise UserError(f"{folder / 'config.json'} does not say how long the model's context is; "
                        "export the bundle again.", where=str(folder / "config.json"))
    return found


def size_of(graph: Path) -> int:
    """Bytes of a graph's file, and of the weights that lie beside it."""
    return sum(part.stat().st_size for part in (graph, graph.with_name(graph.name + "_data")) if part.exists())
