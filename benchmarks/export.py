"""How fast an exported model writes, side by side: ours in each precision, PyTorch, transformers and other clients.

    python benchmarks/export.py                       15M and 100M parameters, random weights, prompt 128 + 128 new
    python benchmarks/export.py --sizes 15M --rounds 5

Peers that live in environments of their own take part when $OPTIMUM_PYTHON or $GENAI_PYTHON names their
interpreter. Everyone gets the same weights and both cores, batch 1, greedily, and takes turns within a round, so that
a busy moment falls on all; the best round of each counts. Tokens per second, and decoding as a multiple of
transformers' `generate`. Whoever runs this on a busy machine should believe the ratios alone.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from engine.config import read
from engine.export import ExportConfig
from engine.export.bundle import export
from engine.inference import load
from engine.inference.speed import speeds
from engine.model import ModelConfig, estimate, pretrained
from engine.model.decoder import Cache, Decoder
from engine.tokens import TokensConfig
from engine.tokens.tokenizer import train

SHAPES = {"15M": {"num_layers": 8, "hidden_size": 384, "num_heads": 6, "num_kv_heads": 3, "vocab_size": 4096},
          "100M": {"num_layers": 12, "hidden_size": 768, "num_heads": 12, "num_kv_heads": 4, "vocab_size": 32768}}
PROMPT, NEW = 128, 128
ANY = {"max_loss": 1e9, "max_divergence": 1e9, "min_agreement": 0.0}     # random weights have no quality to lose
Speed = tuple[float, float]     # seconds for the prompt, seconds for the new tokens

PEER = r"""
import json, sys, time, numpy as np
kind, bundle, prompt, new = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
ids = np.arange(prompt) % 1000
if kind == "genai":
    import onnxruntime_genai as og
    config = og.Config(bundle)
    if len(sys.argv) > 5:
        config.overlay(json.dumps({"model": {"decoder": {"filename": "onnx/" + sys.argv[5]}}}))
    model = og.Model(config)
    def once():
        params = og.GeneratorParams(model)
        params.set_search_options(do_sample=False, max_length=prompt + new + 1, min_length=prompt + new)
        generator = og.Generator(model, params)
        begun = time.perf_counter(); generator.append_tokens(ids.astype(np.int32)); generator.generate_next_token()
        read = time.perf_counter()
        for _ in range(new):
            if generator.is_done(): break
            generator.generate_next_token()
        return read - begun, time.perf_counter() - read
else:
    import torch
    from optimum.onnxruntime import ORTModelForCausalLM
    model = ORTModelForCausalLM.from_pretrained(bundle, export=kind == "optimum export", use_io_binding=False,
        **({} if kind == "optimum export" else {"subfolder": "onnx", "file_name": "model.onnx"}))
    given = torch.from_numpy(ids)[None]
    def write(count):
        begun = time.perf_counter()
        model.generate(given, attention_mask=torch.ones_like(given), max_new_tokens=count, min_new_tokens=count,
                       do_sample=False, pad_token_id=0, eos_token_id=None)
        return time.perf_counter() - begun
    def once():
        first = write(1)
        return first, write(new + 1) - first
once()
print("ready", flush=True)
for line in sys.stdin:
    print(json.dumps(once()), flush=True)
"""


class Peer:
    """A client in another environment, asked for one round at a time."""

    def __init__(self, python: str, *arguments: str) -> None:
        self.process = subprocess.Popen([python, "-c", PEER, *arguments], stdin=subprocess.PIPE, text=True,
                                        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        while (line := self._line()) and line != "ready":
            pass
        if not line:
            raise RuntimeError(f"{arguments[0]} did not start")

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def __call__(self) -> Speed:
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        prefill, decode = json.loads(self._line())
        return prefill, decode


def eager(model: Decoder) -> Callable[[], Speed]:
    @torch.no_grad()
    def once() -> Speed:
        ids, cache = torch.arange(PROMPT)[None] % 1000, Cache()
        begun = time.perf_counter()
        logits = model(ids, cache=cache)
        read = time.perf_counter()
        for _ in range(NEW):
            logits = model(logits[:, -1:].argmax(-1), cache=cache)
        return read - begun, time.perf_counter() - read

    return once


def generate(folder: Path) -> Callable[[], Speed]:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    ids = torch.arange(PROMPT)[None] % 1000

    def write(count: int) -> float:
        begun = time.perf_counter()
        model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=count, min_new_tokens=count,
                       do_sample=False, pad_token_id=0, eos_token_id=None)
        return time.perf_counter() - begun

    def once() -> Speed:
        first = write(1)
        return first, write(NEW + 1) - first

    return once


def ours(bundle: Path, precision: str) -> Callable[[], Speed]:
    session = load(bundle, precision=precision)._session

    def once() -> Speed:
        found = speeds({"one": session}, PROMPT, NEW, rounds=1)["one"]
        return PROMPT / found["prefill_tokens_per_second"], NEW / found["tokens_per_second"]

    return once


def runners(folder: Path, size: str) -> dict[str, Callable[[], Speed]]:
    """Everyone who takes part, by name."""
    config = read(ModelConfig, {"family": "llama", **SHAPES[size], "context_length": 512})
    print(f"\n{size}: {estimate.parameters(config):,} parameters")
    tokenizer = folder / "tokenizer.json"
    words = [f"w{number:04d} and the old house {number * 7919 % 9973}" for number in range(4000)]
    train([words], TokensConfig(vocab_size=1000)).save(str(tokenizer))
    model = Decoder(config).eval()
    pretrained.save(model, folder / "checkpoint", tokenizer)
    found: dict[str, Callable[[], Speed]] = {"transformers generate": generate(folder / "checkpoint"),
                                             "PyTorch eager, our decoder": eager(model)}
    bundles = {}
    for target, kinds in (("native", ["int8", "int8_dynamic", "int4"]), ("portable", ["int8_dynamic"])):
        asked = {"target": target, "precisions": [{"kind": kind, **ANY} for kind in kinds], "tolerance": 1.0,
                 "held_out_tokens": 128}
        begun = time.perf_counter()
        bundles[target], verdict = export(folder / "checkpoint", read(ExportConfig, asked), folder / target)
        assert verdict["passed"], verdict["sentence"]
        print(f"  {target}: exported and proven in {time.perf_counter() - begun:.1f} s")
        for kind in ("float32", *kinds):
            found[f"ours, {target}, {kind}"] = ours(bundles[target], kind)
    if python := os.environ.get("OPTIMUM_PYTHON"):
        found["optimum, its own export"] = Peer(python, "optimum export", str(folder / "checkpoint"), str(PROMPT),
                                                str(NEW))
        found["optimum, our native file"] = Peer(python, "optimum", str(bundles["native"]), str(PROMPT), str(NEW))
    if python := os.environ.get("GENAI_PYTHON"):
        for file in ("model.onnx", "model_q4.onnx"):
            found[f"onnxruntime-genai, our {file}"] = Peer(python, "genai", str(bundles["native"]), str(PROMPT),
                                                           str(NEW), file)
    return found


def table(found: dict[str, Speed]) -> str:
    base = found["transformers generate"][1]
    rows = ["| | prefill tokens/s | decode tokens/s | decode × transformers |", "|---|---|---|---|"]
    rows += [f"| {name} | {PROMPT / prefill:,.0f} | {NEW / decode:,.0f} | {base / decode:.2f} |"
             for name, (prefill, decode) in found.items()]
    return "\n".join(rows)


def main() -> None:
    command = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    command.add_argument("--sizes", nargs="+", choices=list(SHAPES), default=list(SHAPES))
    command.add_argument("--rounds", type=int, default=3)
    given: Any = command.parse_args()
    for size in given.sizes:
        with tempfile.TemporaryDirectory() as folder:
            everyone = runners(Path(folder), size)
            best = {name: (float("inf"), float("inf")) for name in everyone}
            for _ in range(given.rounds):
                for name, once in everyone.items():
                    prefill, decode = once()
                    best[name] = (min(best[name][0], prefill), min(best[name][1], decode))
            for once in everyone.values():
                if isinstance(once, Peer):
                    once.process.kill()
            print(table(best), flush=True)
    print(f"\nbest of {given.rounds} rounds; {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
