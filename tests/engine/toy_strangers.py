"""Strangers: everything that may be brought in from elsewhere, good, in one workspace, and what we do with it.

    WORLD/canary/           what nobody may touch
    WORLD/workspace/        bundles toy (weights beside the graph, a template), adapted, judge; published/tiny
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import toy_bundle
import toy_scorer
from safetensors.torch import load_file, save_file
from toy_harm import Change, changed_bytes, changed_header, changed_json, changed_text

from engine import files, runs
from engine.export import ExportConfig, graph
from engine.export.bundle import export
from engine.inference import asked, load, load_scorer
from engine.model import lora, pretrained, scorer
from engine.runs.imported import bring_in, recipe_for
from engine.runs.worker import Worker
from engine.workspace import Workspace

TEMPLATE = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}{{ eos_token }}{% endfor %}"
MESSAGES = [{"role": "user", "content": "kalo"}]
REQUEST = {"model": "toy", "prompt": ["kalo", "mi"], "messages": MESSAGES, "max_tokens": 3, "temperature": 0.5, "n": 1,
           "top_p": 0.9, "top_k": 3, "seed": 1, "stop": ["."], "logprobs": 2, "echo": True, "stream": False}
JSON, WEIGHTS = (changed_json, changed_bytes), (changed_header, changed_bytes)


class Stranger(NamedTuple):
    """A folder, which of its files are changed and how, and what is then done with it."""

    folder: Path
    plan: dict[str, tuple[Change, ...]]
    use: Callable[[str], None]      # the name of the changed file
    vouched: bool = False           # the manifest agrees with the files, as one who forges a bundle would have it
    weight: float = 1.0


# Making them --------------------------------------------------------------------------------------------


def make(world: Path, kinds: tuple[str, ...]) -> None:
    """The good files. Of `kinds`, "adapted" and "judge" take some seconds."""
    canary = world / "canary"
    canary.mkdir(parents=True)
    (canary / "secret").write_text("what nobody may touch or tell")
    bundles = Workspace(world / "workspace").place("bundles")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graph, "EMBED_BYTES", 1000)
        toy = toy_bundle.bundle(bundles)
    (toy / "chat_template.jinja").write_text(TEMPLATE)
    _say(toy)
    toy_bundle.declare(toy)
    if "imported" in kinds:
        _publish(bundles / "checkpoint", world / "workspace" / "published" / "tiny")
    if "adapted" in kinds:
        _adapter(bundles / "checkpoint", world / "adapter")
        export(bundles / "checkpoint", ExportConfig(adapter=str(world / "adapter")), bundles / "adapted")
        toy_bundle.declare(bundles / "adapted")
    if "judge" in kinds:
        (world / "judged").mkdir()
        shutil.move(toy_scorer.bundle(world / "judged"), bundles / "judge")
    (world / "request.json").write_text(json.dumps(REQUEST))


def _publish(checkpoint: Path, out: Path) -> None:
    """The checkpoint as publishers of large models lay it out: two files of weights and an index."""
    shutil.copytree(checkpoint, out)
    weights = load_file(out / pretrained.WEIGHTS)
    names = sorted(weights)
    shards = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for shard, own in shards.items():
        save_file({name: weights[name] for name in own}, out / shard)
    (out / pretrained.WEIGHTS).unlink()
    files.write_json(out / pretrained.INDEX, {"weight_map": {name: shard for shard, own in shards.items()
                                                             for name in own}})
    (out / "chat_template.jinja").write_text(TEMPLATE)


def _adapter(checkpoint: Path, out: Path) -> None:
    out.mkdir()
    files.write_json(out / lora.CONFIG, {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "alpha_pattern": {"q_proj": 3},
                                         "target_modules": ["q_proj"], "bias": "none"})
    query = load_file(checkpoint / pretrained.WEIGHTS)["model.layers.0.self_attn.q_proj.weight"]
    name = f"{lora.PREFIX}model.layers.0.self_attn.q_proj"
    save_file({f"{name}.lora_A.weight": torch.ones(2, query.shape[1]) / 10,
               f"{name}.lora_B.weight": torch.ones(query.shape[0], 2) / 10}, out / lora.WEIGHTS)


def _say(bundle: Path) -> None:
    """What the Export page shows of a bundle beside its proof: costs and speed."""
    row = {"precision": "float32", "file": "onnx/model.onnx", "bytes": 4_000_000, "passed": True, "sentence": "",
           "perplexity": 7.4, "perplexity_change": 0.0, "bits_per_byte_change": 0.0, "divergence": 0.0, "tokens": 4096,
           "agreement": 1.0, "greedy_agreement": 1.0, "tokens_per_second": 500.0, "text": "held out",
           "prefill_tokens_per_second": 4000.0}
    files.write_json(bundle / "cost.json", [row, {**row, "precision": "int8", "divergence": 1e-4}])


def _timed(bundle: Path) -> None:
    """benchmark.json, which knows the manifest that it was made with."""
    row = {"name": "this bundle", "kind": "ours", "precision": "float32", "size_bytes": 4_000_000, "failed": "",
           "tokens_per_second": 500.0, "prefill_tokens_per_second": 4000.0, "first_token_seconds": 0.01,
           "load_seconds": 0.1, "peak_bytes": 1e8, "limit_tokens_per_second": 900.0, "greedy_tokens_equal": 8}
    files.write_json(bundle / "benchmark.json", {
        "rows": [row], "prompt_tokens": 8, "new_tokens": 8, "rounds": 3, "measured": 1e9, "load": 0.1,
        "machine": {"cores": 2, "processor": "a processor", "memory_bandwidth": 1e10},
        "fingerprint": files.fingerprint_file(bundle / files.MANIFEST)})


# Using them ---------------------------------------------------------------------------------------------


def known(world: Path, kinds: tuple[str, ...]) -> dict[str, Stranger]:
    """Those of `kinds` that were made."""
    workspace = Workspace(world / "workspace")
    bundles = workspace.place("bundles")
    toy, tiny = bundles / "toy", workspace.path / "published" / "tiny"
    words = {"config.json": (changed_json,), "tokenizer.json": JSON, "tokenizer_config.json": JSON,
             files.MANIFEST: JSON}
    found = {
        "checkpoint": Stranger(bundles / "checkpoint", {"config.json": JSON, "model.safetensors": WEIGHTS},
                               lambda _: pretrained.load(bundles / "checkpoint") and None, weight=3),
        "bundle": Stranger(toy, {**words, "onnx/model.onnx": (changed_bytes,), "onnx/model.onnx_data": (changed_bytes,),
                                 "generation_config.json": JSON,
                                 "chat_template.jinja": (changed_text, changed_bytes)}, partial(_write, toy),
                           vouched=True, weight=4),
        "request": Stranger(world, {"request.json": JSON}, _Requests(world, toy)),
        "imported": Stranger(tiny, {"config.json": JSON, pretrained.INDEX: JSON, "tokenizer.json": JSON,
                                    "tokenizer_config.json": JSON, "chat_template.jinja": (changed_text,),
                                    "generation_config.json": JSON,
                                    "model-00002-of-00002.safetensors": WEIGHTS}, partial(_import, workspace, tiny),
                             weight=0.4),
        "adapted": Stranger(bundles / "adapted", {
            "adapter/model.onnx_adapter": (changed_bytes,), f"adapter/{lora.CONFIG}": JSON,
            f"adapter/{lora.WEIGHTS}": WEIGHTS, files.MANIFEST: JSON}, partial(_adapt, bundles / "adapted"),
            vouched=True),
        "judge": Stranger(bundles / "judge", {**words, "onnx/model.onnx": (changed_bytes,),
                                              "model.safetensors": WEIGHTS}, partial(_score, bundles / "judge"),
                          vouched=True),
    }
    if "pages" in kinds:
        _timed(toy)
        found["pages"] = Stranger(toy, {
            "parity.json": JSON, "cost.json": JSON, "benchmark.json": JSON, files.MANIFEST: JSON,
            "README.md": (changed_text, changed_bytes)}, _Pages(workspace), weight=0.2)
    return {name: found[name] for name in kinds}


def _write(bundle: Path, changed: str) -> None:
    model = load(bundle)
    model.generate("kalo mi", 2, seed=1)
    if changed in ("tokenizer_config.json", "chat_template.jinja"):
        model.chat(MESSAGES)


def _adapt(bundle: Path, _: str) -> None:
    load(bundle, adapter=True).generate("kalo mi", 2, seed=1)
    lora.load(bundle / "adapter", pretrained.config_from(bundle))


def _score(bundle: Path, _: str) -> None:
    load_scorer(bundle).score(["kalo mi"])
    scorer.load(bundle)


def _import(workspace: Workspace, folder: Path, _: str) -> None:
    run = runs.create(recipe_for(str(folder), ""), workspace)
    try:
        bring_in(Worker(run), runs.recipe_of(run))
    finally:
        shutil.rmtree(run.path)


class _Requests:
    """The bodies of requests to a served bundle, as far as they are read and the texts are begun."""

    def __init__(self, world: Path, bundle: Path) -> None:
        self.body, self.bundle, self.model = world / "request.json", bundle, None

    def __call__(self, _: str) -> None:
        self.model = self.model or load(self.bundle)
        for chat in (False, True):
            given = self.body.read_bytes()
            wanted = asked.reading(given.replace(b'"echo": true', b'"echo": false') if chat else given, self.model,
                                   chat)
            for prompt, own in wanted.texts():
                tokens = list(self.model.tokens(prompt, **{**own.settings, "max_new_tokens": min(
                    3, own.settings["max_new_tokens"])}))
                json.dumps(asked.choice(own, 0, tokens))


class _Pages:
    """The Export and the Test page, opened once and shown again, as a person would who goes back and forth."""

    def __init__(self, workspace: Workspace) -> None:
        from planted import opened

        from studio.pages.export import Export
        from studio.pages.inference import Test
        from studio.session import Session

        session = Session(workspace)
        self.export, self.test = opened(Export, session), opened(Test, session)
        self.others = {name for name in self.test.sources if not name.startswith("toy")}

    def __call__(self, _: str) -> None:
        self.export.chosen.value = "toy"
        self.export._show()
        self.test.shown()
        shown: Any = set(self.test.sources)
        assert shown >= self.others, "one bundle took another away"
        assert ("toy" in shown) != any("Bundle toy" in sentence for sentence in self.test.refused) or \
            any(name.startswith("toy (") for name in shown)
