"""Bundle: one folder that every client of ONNX language models opens, complete and proven, or absent.

    onnx/model.onnx          the decoder (and model.onnx_data beside it, above 1.9 GB)
    onnx/model_*.onnx        the same in the precisions that were asked for and cost little enough
    gguf/NAME-F32.gguf       the same for llama.cpp, in the kinds that were asked for
    model.safetensors, config.json, generation_config.json            the checkpoint, for transformers
    tokenizer.json, tokenizer_config.json, special_tokens_map.json    the tokenizer
    genai_config.json        for onnxruntime-genai
    parity.json              the proof that the graph is the same model
    cost.json                what each precision costs, how large and how fast it is; the broken ones too
    README.md                the model card
    manifest.json            last: what was made from what, with sizes and checksums
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from engine import files
from engine.config import UserError
from engine.export import ExportConfig, Precision, cost, gguf, parity
from engine.export.card import card
from engine.export.held_out import HeldOut
from engine.export.held_out import held_out as held_out_text
from engine.export.onnx import DecoderGraph
from engine.export.portable import PortableGraph
from engine.model import ModelConfig, estimate
from engine.model.decoder import Decoder
from engine.model.pretrained import load, save
from engine.progress import Progress, silent
from engine.workspace import manifest

TARGETS = {"native": DecoderGraph, "portable": PortableGraph}
SAMPLING = {"do_sample": True, "temperature": 0.8, "top_k": 0, "top_p": 1.0}


class _NotTheSame(Exception):
    """Leaves the making of a bundle, so that nothing of it stays."""


def export(checkpoint: Path, config: ExportConfig, out: Path, progress: Progress = silent,
           facts: Mapping[str, Any] | None = None, held_out: Path | None = None) -> tuple[Path, dict[str, Any]]:
    """Make the bundle of a checkpoint folder at `out`; returns `out` and the verdict of `parity.compare`.

    When the verdict is not `passed`, no bundle is made, and one that was at `out` before stays as it
    was. A precision that costs more than its limits is left out, and the verdict's "costs", which
    has the rows of `cost.measure` where precisions were asked for, calls it broken; its "gguf" has the files
    for llama.cpp, or says why there are none. `facts` goes into
    the card and the manifest: the run's recipe, lineage and evaluation; `held_out` is the tokens folder
    whose validation text is read, random tokens or the model's own otherwise.
    Raises UserError for a damaged checkpoint, one without a tokenizer, a missing library and a full disk.
    """
    facts, steps = dict(facts or {}), 4 + len(config.precisions)
    if config.gguf:
        gguf.require()
    progress(0, steps, "reading the checkpoint")
    model = load(checkpoint).eval()
    tokenizer = checkpoint / "tokenizer.json"
    if not tokenizer.exists():
        raise UserError(f"{tokenizer} is missing, and a bundle needs its tokenizer; restore it.", where=str(tokenizer))
    count = estimate.parameters(model.config)
    files.require_space(out.parent, (2 + len(config.precisions) + len(config.gguf)) * 4 * count + (16 << 20))
    text = held_out_text(held_out, model.config, config.held_out_tokens)
    try:
        with files.making(out) as folder:
            progress(1, steps, "writing the graph")
            write_graph(model, folder / "onnx" / "model.onnx", config)
            save(model, folder, tokenizer)
            progress(2, steps, "proving that it is the same model")
            verdict = parity.compare(model, folder / "onnx" / "model.onnx", config.tolerance, text,
                                     _within(progress, 2, steps))
            if not verdict["passed"]:
                raise _NotTheSame
            if config.precisions:
                verdict["costs"] = _smaller(model, folder / "onnx", config, text, _within(progress, 3, steps))
                files.write_json(folder / "cost.json", verdict["costs"])
            if config.gguf:
                progress(steps - 1, steps, "writing the files for llama.cpp")
                verdict["gguf"] = gguf.make(model.config, _weights(model), folder, out.name, config.gguf,
                                            config.licence)
            progress(steps - 1, steps, "writing the card")
            write_sidecars(folder, model.config, config)
            files.write_json(folder / "parity.json", {k: v for k, v in verdict.items() if k not in ("costs", "gguf")})
            known = {**facts, "parity": verdict, "licence": config.licence, "name": out.name, "target": config.target}
            (folder / "README.md").write_text(card(model.config, known), encoding="utf-8")
            _write_manifest(folder, checkpoint, config, facts, verdict)
    except _NotTheSame:
        pass
    progress(steps, steps, "")
    return out, verdict


def write_graph(model: Decoder, path: Path, config: ExportConfig, precision: Precision | None = None) -> None:
    path.parent.mkdir(exist_ok=True)
    TARGETS[config.target](model.config, _weights(model), precision.matrices() if precision else None).save(path)


def _weights(model: Decoder) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in model.state_dict().items()}


def _smaller(model: Decoder, folder: Path, config: ExportConfig, text: HeldOut | None,
             progress: Progress) -> list[dict[str, Any]]:
    """Write each precision, measure what it costs, and take the broken ones away again."""
    for precision in config.precisions:
        progress(0, 0, f"writing {precision.kind}")
        write_graph(model, folder / precision.file, config, precision)
    found = cost.measure(folder, config.precisions, text, progress)
    for row in found:
        if not row["passed"]:
            path = folder.parent / row["file"]
            for part in (path, path.with_name(path.name + "_data")):
                part.unlink(missing_ok=True)
    return found


def _within(progress: Progress, done: int, of: int) -> Progress:
    """The steps of one piece of the work, told without moving the whole; a stop is still heard."""
    return lambda _, __, message="": progress(done, of, message)


def write_sidecars(folder: Path, config: ModelConfig, asked: ExportConfig) -> None:
    """What the clients want to know beside the checkpoint's own files."""
    published = files.read_json(folder / "config.json")
    beside = sorted(path.name.removesuffix("_data") for path in (folder / "onnx").glob("*.onnx_data"))
    if beside:
        # transformers.js looks for no second file unless it is told of one.
        published["transformers.js_config"] = {"use_external_data_format": dict.fromkeys(beside, True)}
        files.write_json(folder / "config.json", published)
    end = published.get("eos_token_id")
    generation = files.read_json(folder / "generation_config.json")
    files.write_json(folder / "generation_config.json", {**generation, **SAMPLING})
    files.write_json(folder / "genai_config.json", genai(config, end, TARGETS[asked.target]))


def genai(config: ModelConfig, end: int | None, graph: type[DecoderGraph] = DecoderGraph) -> dict[str, Any]:
    """What onnxruntime-genai asks for. Its type "decoder" runs any graph of these names, GPT-2's too."""
    token = 0 if end is None else end
    return {
        "model": {
            "type": "decoder", "bos_token_id": token, "eos_token_id": [token], "pad_token_id": token,
            "context_length": config.context_length, "vocab_size": config.vocab_size,
            "decoder": {
                "filename": "onnx/model.onnx", "session_options": {"provider_options": []},
                "num_hidden_layers": config.num_layers, "hidden_size": config.hidden_size,
                "num_attention_heads": config.num_heads, "num_key_value_heads": config.num_kv_heads,
                "head_size": graph.size_of_heads(config),
                "inputs": {"input_ids": "input_ids", "attention_mask": "attention_mask",
                           "position_ids": "position_ids", "past_key_names": "past_key_values.%d.key",
                           "past_value_names": "past_key_values.%d.value"},
                "outputs": {"logits": "logits", "present_key_names": "present.%d.key",
                            "present_value_names": "present.%d.value"},
            },
        },
        "search": {"max_length": config.context_length, "do_sample": True, "temperature": SAMPLING["temperature"],
                   "top_k": 0, "top_p": 1.0, "past_present_share_buffer": graph is DecoderGraph},
    }


def _write_manifest(folder: Path, checkpoint: Path, config: ExportConfig, facts: dict[str, Any],
                    verdict: dict[str, Any]) -> None:
    made_from = {"checkpoint": checkpoint.name, **facts.get("lineage", {}),
                 "weights": files.fingerprint_file(folder / "model.safetensors")}
    kept = {row["precision"]: row["file"] for row in verdict.get("costs", ()) if row["passed"]}
    summary = {"parity": verdict["sentence"], "max_difference": verdict["max_difference"], "target": config.target,
               "graphs": {"float32": "onnx/model.onnx", **kept}}
    if "gguf" in verdict:
        summary["gguf"] = verdict["gguf"]
    mark = files.fingerprint("bundles", made_from, config.dump())
    told = manifest(folder, "bundles", mark, made_from, summary)
    sums = {name: files.fingerprint_file(folder / name) for name in told["files"]}
    files.write_json(folder / files.MANIFEST, {**told, "checksums": sums})
