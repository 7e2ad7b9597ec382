"""Bundle: one folder that every client of ONNX language models opens, complete and proven, or absent.

    onnx/model.onnx          the decoder (and model.onnx_data beside it, above 1.9 GB)
    onnx/model_*.onnx        the same in the precisions that were asked for and cost little enough
    adapter/                 a LoRA adapter that is kept apart: model.onnx_adapter for onnxruntime, the rest for PEFT
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
from engine.export import ExportConfig, Precision, cost, gguf, gguf_cost, parity, score_card, score_cost, score_parity
from engine.export.adapter import parameters as inputs_of
from engine.export.adapter import write as write_adapter
from engine.export.card import card
from engine.export.checksums import Checksums
from engine.export.held_out import HeldOut
from engine.export.held_out import held_out as held_out_text
from engine.export.onnx import DecoderGraph
from engine.export.pairs import made_pairs
from engine.export.portable import PortableGraph
from engine.export.scoring import PortableScoringGraph, ScoringGraph
from engine.inference.pairs import Pairs, read_pairs
from engine.inference.scorer import Reader
from engine.model import ModelConfig, estimate, lora, pretrained, scorer
from engine.model.decoder import Decoder
from engine.model.scorer import Scorer
from engine.model.special import Special, special
from engine.progress import Progress, silent
from engine.workspace import manifest

TARGETS = {"native": DecoderGraph, "portable": PortableGraph}
SCORING = {"native": ScoringGraph, "portable": PortableScoringGraph}
GENAI = ("do_sample", "temperature", "top_k", "top_p", "repetition_penalty")
UNSTATED_SAMPLING = {"do_sample": False, "temperature": 1.0, "top_k": 50, "top_p": 1.0}
"""What the published classes take what generation_config.json leaves out to be."""

ADAPTER = Path("adapter", "model.onnx_adapter")
NO_GGUF = "No file for llama.cpp was made: this model scores texts, and those files are for models that write them."


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
    model = scorer.load_either(checkpoint).eval()
    writes, adapter = isinstance(model, Decoder), _adapter(model, config)
    if adapter and config.merge_adapter:
        model, adapter = lora.merge(model, adapter), None
    tokenizer = checkpoint / "tokenizer.json"
    if not tokenizer.exists():
        raise UserError(f"{tokenizer} is missing, and a bundle needs its tokenizer; restore it.", where=str(tokenizer))
    count = estimate.parameters(model.config)
    files.require_space(out.parent, (2 + len(config.precisions) + len(config.gguf)) * 4 * count + (16 << 20))
    text: HeldOut | Pairs | None = held_out_text(held_out, model.config, config.held_out_tokens)
    if not isinstance(model, Decoder):
        text = _pairs(model, checkpoint, config, text)
    try:
        with files.making(out) as folder, Checksums(folder) as sums:
            progress(1, steps, "writing the graph")
            write_graph(model, folder / "onnx" / "model.onnx", config, adapter=adapter)
            sums.begin("onnx/model.onnx")
            keep(model, folder, tokenizer)
            sums.begin(pretrained.WEIGHTS)
            if adapter:
                lora.keep(adapter, folder / ADAPTER.parent)
                write_adapter(folder / ADAPTER, inputs_of(model.config, adapter, TARGETS[config.target].size_of_heads(
                    model.config)))
            progress(2, steps, "proving that it is the same model")
            verdict = _prove(model, folder, config, text, adapter, _within(progress, 2, steps))
            if not verdict["passed"]:
                raise _NotTheSame
            if config.gguf:
                progress(3, steps, "writing the files for llama.cpp")
                verdict["gguf"] = gguf.make(model.config, _weights(model), folder, out.name, config.gguf,
                                            config.licence) if writes else {"files": {}, "refused": NO_GGUF}
            for_llama = verdict.get("gguf", {}).get("files", {})
            if config.precisions or for_llama:
                verdict["costs"] = _smaller(model, folder / "onnx", config, text, adapter, for_llama,
                                            _within(progress, 3, steps))
                files.write_json(folder / "cost.json", verdict["costs"])
            progress(steps - 1, steps, "writing the card")
            write_sidecars(folder, model, config)
            files.write_json(folder / "parity.json", {k: v for k, v in verdict.items() if k not in ("costs", "gguf")})
            known = {**facts, "parity": verdict, "licence": config.licence, "name": out.name, "target": config.target}
            told = (card(model.config, known) if isinstance(model, Decoder) else
                    score_card.card(model.config, model.labels, known))
            (folder / "README.md").write_text(told + _adapter_section(config), encoding="utf-8")
            _write_manifest(sums, checkpoint, config, facts, verdict)
    except _NotTheSame:
        pass
    progress(steps, steps, "")
    return out, verdict


def keep(model: Decoder | Scorer, folder: Path, tokenizer: Path) -> None:
    """The checkpoint itself, for transformers."""
    if isinstance(model, Decoder):
        pretrained.save(model, folder, tokenizer)
    else:
        scorer.save(model, folder, tokenizer)


def write_graph(model: Decoder | Scorer, path: Path, config: ExportConfig, precision: Precision | None = None,
                adapter: lora.Adapter | None = None) -> None:
    path.parent.mkdir(exist_ok=True)
    weights, matrices = _weights(model), precision.matrices() if precision else None
    if isinstance(model, Decoder):
        TARGETS[config.target](model.config, weights, matrices, adapter.parts if adapter else ()).save(path)
    else:
        SCORING[config.target](model.config, weights, matrices, model.labels, model.pad).save(path)


def _weights(model: Decoder | Scorer) -> dict[str, np.ndarray]:
    state = model.state_dict() if isinstance(model, Decoder) else model.weights()
    return {name: tensor.numpy() for name, tensor in state.items()}


def _pairs(model: Scorer, checkpoint: Path, config: ExportConfig, held_out: HeldOut | None) -> Pairs:
    if not config.pairs:
        return made_pairs(model.config, held_out)
    return read_pairs(Path(config.pairs), Reader(checkpoint, model.config.context_length, model.config.vocab_size))


def _adapter(model: Decoder | Scorer, config: ExportConfig) -> lora.Adapter | None:
    if not config.adapter:
        return None
    if not isinstance(model, Decoder):
        raise UserError("export.adapter is for models that write texts, and this one scores them; merge the adapter "
                        "with PEFT and export the model that comes out.", where="export.adapter")
    return lora.load(Path(config.adapter), model.config)


def _adapter_section(config: ExportConfig) -> str:
    """What the card says of an adapter."""
    if not config.adapter:
        return ""
    if config.merge_adapter:
        return "\n## Adapter\n\nA LoRA adapter was added to the weights, in every file of this bundle.\n"
    return f"""
## Adapter

The weights are the model's own. A LoRA adapter lies beside them: `{ADAPTER}` for onnxruntime
(`RunOptions.add_active_adapter`), the folder `{ADAPTER.parent}` for PEFT (`PeftModel.from_pretrained`). Here it is
switched on by `load(..., adapter=True)` or `studio generate --adapter`.
"""


def _prove(model: Decoder | Scorer, folder: Path, config: ExportConfig, text: Any, adapter: lora.Adapter | None,
           progress: Progress) -> dict[str, Any]:
    """The verdict on the graph, and on the graph with its adapter as the merged model."""
    path = folder / "onnx" / "model.onnx"
    if not isinstance(model, Decoder):
        return score_parity.compare(model, path, config.tolerance, text, progress)
    found = parity.compare(model, path, config.tolerance, text, progress)
    if adapter is None:
        return found
    with_it = parity.compare(lora.merge(model, adapter), path, config.tolerance, text, progress, folder / ADAPTER)
    differences = [each["max_difference"] for each in (found, with_it)]
    return {**found, "passed": found["passed"] and with_it["passed"], "adapter": with_it,
            "sentence": f"{found['sentence']} With its adapter: {with_it['sentence']}",
            "max_difference": None if None in differences else max(differences),
            "cases": [*found["cases"], *({**case, "name": f"{case['name']}, adapted"} for case in with_it["cases"])]}


def _smaller(model: Decoder | Scorer, folder: Path, config: ExportConfig, text: Any, adapter: lora.Adapter | None,
             for_llama: dict[str, str], progress: Progress) -> list[dict[str, Any]]:
    """Write each precision, measure what it and the files for llama.cpp cost, and take the broken ones away again."""
    for precision in config.precisions:
        progress(0, 0, f"writing {precision.kind}")
        write_graph(model, folder / precision.file, config, precision, adapter)
    if isinstance(model, Decoder):
        others = gguf_cost.forms(model, folder.parent, for_llama, config.precisions)
        found = cost.measure(folder, config.precisions, text, progress, others)
    else:
        found = score_cost.measure(folder, config.precisions, text, model.pad or 0, progress)
    for row in found:
        if not row["passed"]:
            path = folder.parent / row["file"]
            for part in (path, path.with_name(path.name + "_data")):
                part.unlink(missing_ok=True)
            for_llama.pop(row["precision"], None)
    return found


def _within(progress: Progress, done: int, of: int) -> Progress:
    """The steps of one piece of the work, told without moving the whole; a stop is still heard."""
    return lambda _, __, message="": progress(done, of, message)


def write_sidecars(folder: Path, model: Decoder | Scorer, asked: ExportConfig) -> None:
    """What the clients want to know beside the checkpoint's own files."""
    stated = files.read_json(folder / "config.json")
    beside = sorted(path.name.removesuffix("_data") for path in (folder / "onnx").glob("*.onnx_data"))
    if beside:
        # transformers.js looks for no second file unless it is told of one.
        stated["transformers.js_config"] = {"use_external_data_format": dict.fromkeys(beside, True)}
        files.write_json(folder / "config.json", stated)
    if not isinstance(model, Decoder):
        (folder / "generation_config.json").unlink()
        return
    tokens = special(folder / "tokenizer.json", model.config.vocab_size)
    files.write_json(folder / "genai_config.json", genai(model.config, tokens, TARGETS[asked.target]))


def genai(config: ModelConfig, tokens: Special, graph: type[DecoderGraph] = DecoderGraph) -> dict[str, Any]:
    """What onnxruntime-genai asks for. Its type "decoder" runs any graph of these names, GPT-2's too."""
    ends = tokens.ends or [0]
    begin, pad = (ends[0] if number is None else number for number in (tokens.begin, tokens.pad))
    stated = {name: tokens.generation.get(name) for name in GENAI}
    search = {**UNSTATED_SAMPLING, **{name: value for name, value in stated.items() if isinstance(value, int | float)}}
    return {
        "model": {
            "type": "decoder", "bos_token_id": begin, "eos_token_id": ends, "pad_token_id": pad,
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
        "search": {"max_length": config.context_length, **search, "past_present_share_buffer": graph is DecoderGraph},
    }


def _write_manifest(sums: Checksums, checkpoint: Path, config: ExportConfig, facts: dict[str, Any],
                    verdict: dict[str, Any]) -> None:
    made_from = {"checkpoint": checkpoint.name, **facts.get("lineage", {}),
                 "weights": sums.of([pretrained.WEIGHTS])[pretrained.WEIGHTS]}
    if config.adapter:
        made_from["adapter"] = files.fingerprint_file(Path(config.adapter) / lora.WEIGHTS)
    kept = {row["precision"]: row["file"] for row in verdict.get("costs", ())
            if row["passed"] and row["file"].startswith("onnx/")}
    summary = {"parity": verdict["sentence"], "max_difference": verdict["max_difference"], "target": config.target,
               "graphs": {"float32": "onnx/model.onnx", **kept}}
    if "task" in verdict:
        summary["task"] = verdict["task"]
    if "adapter" in verdict:
        summary["adapter"] = str(ADAPTER)
    if "gguf" in verdict:
        summary["gguf"] = verdict["gguf"]
    mark = files.fingerprint("bundles", made_from, config.dump())
    told = manifest(sums.folder, "bundles", mark, made_from, summary)
    files.write_json(sums.folder / files.MANIFEST, {**told, "checksums": sums.of(told["files"])})
