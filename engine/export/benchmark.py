"""Benchmark: how fast a bundle is on this machine, beside every other way of running the same model that is here.

    onnxruntime, by our own inference   each of the bundle's precisions
    PyTorch                             the checkpoint in our own decoder, and in transformers where it is installed
    onnxruntime-genai, llama.cpp        where they are installed: the bundle's graphs, and its GGUF files or new ones
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from engine import files
from engine.config import Config, UserError, setting
from engine.export.turns import Contender, Lengths, measure
from engine.inference import bundle as folder_of
from engine.model import ModelConfig
from engine.model.published import config_from
from engine.progress import Progress, silent

RESULT = "benchmark.json"       # in the bundle
GGUF_KINDS = ("f32", "q8_0", "q4_0")
EMBEDDING_BYTES = {"float32": 4.0, "float16": 4.0, "f32": 4.0, "f16": 2.0, "q8_0": 1.0625, "q4_0": 1.0625}
"""Of one number of an embedding; of the others about 1. onnxruntime widens 16 bits when it loads."""


class BenchmarkConfig(Config):
    """How the speed of a bundle is measured."""

    bundle: str = setting("", "Bundle whose speed is measured; empty for the one that the same run exports")
    prompt_tokens: int = setting(128, "Length of the prompt; shorter where the model's context is", ge=1, le=100_000,
                                 unit="tokens")
    new_tokens: int = setting(128, "Tokens that are written after it; fewer where the model's context is short", ge=2,
                              le=100_000, unit="tokens")
    rounds: int = setting(3, "Turns that each way of running the model gets; the best of them counts", ge=1, le=100)


def benchmark(bundle: Path, config: BenchmarkConfig, machine: Mapping[str, Any],
              progress: Progress = silent) -> dict[str, Any]:
    """Measure, and keep the result in the bundle as benchmark.json.

        rows                        of `turns.measure`, each with limit_tokens_per_second: what the machine's memory
                                    bandwidth allows if all weights are read for each token
        prompt_tokens, new_tokens, rounds
        measured, machine, load     when, on what, and the load average before (None where there is none)
        fingerprint                 of the bundle

    `machine` is told as it is; its "memory_bandwidth" (bytes/s) gives the limits. Raises UserError for a damaged
    bundle, for one whose model scores texts, and for one that was exported anew meanwhile.
    """
    if folder_of.scores(bundle):
        raise UserError(f"{bundle.name} {folder_of.WRITES_NONE}.", where="benchmark.bundle")
    fingerprint = files.fingerprint_file(_manifest(bundle))
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    shape = config_from(bundle)
    lengths = fitting(config, shape)
    with tempfile.TemporaryDirectory() as work:
        progress(0, 0, "preparing")
        rows = measure(list(contenders(bundle, shape, Path(work))), lengths, config.rounds, progress)
    for row in rows:
        row["limit_tokens_per_second"] = machine["memory_bandwidth"] / row["read_bytes"] if row["read_bytes"] else None
    found = {"rows": rows, "prompt_tokens": lengths.prompt_tokens, "new_tokens": lengths.new_tokens,
             "rounds": config.rounds, "measured": time.time(), "machine": dict(machine), "load": load,
             "fingerprint": fingerprint}
    if files.fingerprint_file(_manifest(bundle)) != fingerprint:
        raise UserError(f"{bundle.name} was exported anew while its speed was measured; measure it again.",
                        where=bundle.name)
    files.write_json(bundle / RESULT, found)
    return found


def result(bundle: Path) -> dict[str, Any] | None:
    """What was measured of a bundle as it is; None if nothing was. Raises UserError for a damaged file."""
    path = bundle / RESULT
    if not path.exists():
        return None
    found = folder_of.told(bundle, RESULT)
    if not isinstance(found, dict) or not isinstance(found.get("rows"), list):
        raise UserError(f"{path} is damaged; measure the speed again.", where=str(path))
    return found if found.get("fingerprint") == files.fingerprint_file(_manifest(bundle)) else None


def _manifest(bundle: Path) -> Path:
    path = bundle / files.MANIFEST
    if not path.is_file():
        raise UserError(f"{bundle} has no {files.MANIFEST}, so it is no complete bundle; export it again.",
                        where=str(bundle))
    return path


def fitting(config: BenchmarkConfig, shape: ModelConfig) -> Lengths:
    """The lengths that were asked for, or as much of both as the context holds."""
    if shape.context_length < 3:
        raise UserError(f"the model sees {shape.context_length} tokens at once, too few to time it.")
    new = min(config.new_tokens, max(2, shape.context_length // 2))
    return Lengths(min(config.prompt_tokens, shape.context_length - new), new, shape.vocab_size)


# Who takes part -----------------------------------------------------------------------------------------


def contenders(bundle: Path, shape: ModelConfig, work: Path) -> Iterator[Contender]:
    """Every way of running this model that is installed here, ours first. `work` is an empty folder for files."""
    graphs = {kind: folder_of.check(bundle, kind)[1] for kind in folder_of.precisions(bundle)}
    for kind, graph in graphs.items():
        yield Contender(f"this bundle, {kind}", "ours", bundle, kind, kind, folder_of.size_of(graph),
                        read_for_a_token(graph, kind, shape))
    weights = {"size_bytes": folder_of.size_of(graphs["float32"]),
               "read_bytes": read_for_a_token(graphs["float32"], "float32", shape)}
    yield Contender("PyTorch, our decoder", "pytorch", bundle, **weights)
    if find_spec("transformers"):
        yield Contender("transformers", "transformers", bundle, **weights)
    if find_spec("onnxruntime_genai"):
        for kind, graph in graphs.items():
            yield Contender(f"onnxruntime-genai, {kind}", "genai", bundle, str(graph.relative_to(bundle)), kind,
                            folder_of.size_of(graph), read_for_a_token(graph, kind, shape))
    if find_spec("xllamacpp"):
        yield from llama_cpp(bundle, shape, work)


def llama_cpp(bundle: Path, shape: ModelConfig, work: Path, kinds: tuple[str, ...] = GGUF_KINDS,
              **asked: Any) -> Iterator[Contender]:
    """The bundle's own GGUF files in llama.cpp, or new ones in `work`; `asked` goes to the contenders."""
    found = {path.stem.rpartition("-")[2].lower(): path for path in sorted((bundle / "gguf").glob("*.gguf"))}
    if not found:
        made = _gguf(bundle, work, kinds)
        if isinstance(made, str):
            yield Contender("llama.cpp", "llama_cpp", bundle, refused=made)
            return
        found = made
    for kind, path in found.items():
        yield Contender(f"llama.cpp, {kind.upper()}", "llama_cpp", path, "", "float32" if kind == "f32" else kind,
                        folder_of.size_of(path), read_for_a_token(path, kind, shape), **asked)


def _gguf(bundle: Path, work: Path, kinds: tuple[str, ...]) -> dict[str, Path] | str:
    """GGUF files by their kinds, or why there are none."""
    from engine.export import gguf
    from engine.model.pretrained import load

    try:
        gguf.require()
    except UserError:
        return "the bundle has no GGUF files, and the library gguf, which makes them, is not installed."
    for name in ("tokenizer.json", "tokenizer_config.json"):
        if (bundle / name).exists():
            shutil.copy(bundle / name, work / name)
    model = load(bundle)
    weights = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    made = gguf.make(model.config, weights, work, "model", kinds)
    return made["refused"] or {kind: work / path for kind, path in made["files"].items()}


def read_for_a_token(path: Path, precision: str, shape: ModelConfig) -> int:
    """Bytes of weights that one new token needs: all, but of an embedding that is no head too only one row."""
    widened = 2 if precision == "float16" else 1
    apart = 0 if shape.tied_embeddings else shape.vocab_size * shape.hidden_size * EMBEDDING_BYTES.get(precision, 1.0)
    return max(1, int(folder_of.size_of(path) * widened - apart))
