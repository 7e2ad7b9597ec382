"""How fast an exported model writes, side by side: ours in each precision, PyTorch, transformers and other clients.

    python benchmarks/export.py                       15M and 100M parameters, random weights, prompt 128 + 128 new
    python benchmarks/export.py --sizes 15M --rounds 5
    python benchmarks/export.py --no-compile          leaves out the compiled PyTorch, which takes minutes to get ready

Peers that live in environments of their own take part when $OPTIMUM_PYTHON, $GENAI_PYTHON or $XLLAMACPP_PYTHON names
their interpreter (packages optimum-onnx; onnxruntime-genai with onnx-ir, transformers and torch, which its own exporter
wants; xllamacpp). Everyone gets the same weights and both cores, batch 1, greedily, each in a process of its own, and
takes turns within a round, so that a busy moment falls on all; the best round of each counts. This is the benchmark of
the Export page (`engine.export.benchmark`) with more peers. Whoever runs it on a busy machine should believe the
ratios alone.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from engine import hardware
from engine.config import read
from engine.export import ExportConfig
from engine.export.benchmark import llama_cpp, read_for_a_token
from engine.export.bundle import export
from engine.export.preview import speak
from engine.export.turns import Contender, Lengths, measure
from engine.inference.bundle import check, size_of
from engine.inference.speed_table import cells, heads, notes
from engine.model import ModelConfig, estimate, pretrained
from engine.model.decoder import Decoder
from engine.tokens import TokensConfig
from engine.tokens.tokenizer import train

SHAPES = {"15M": {"num_layers": 8, "hidden_size": 384, "num_heads": 6, "num_kv_heads": 3, "vocab_size": 4096},
          "100M": {"num_layers": 12, "hidden_size": 768, "num_heads": 12, "num_kv_heads": 4, "vocab_size": 32768}}
PROMPT, NEW = 128, 128
ANY = {"max_loss": 1e9, "max_divergence": 1e9, "min_agreement": 0.0}     # random weights have no quality to lose
KINDS = {"native": ("int8", "int8_dynamic", "int4"), "portable": ("int8_dynamic",)}
BASE = "transformers"
WITH_OPTIMUM = """
import sys
from optimum.onnxruntime import ORTModelForCausalLM
ORTModelForCausalLM.from_pretrained(sys.argv[1], export=True).save_pretrained(sys.argv[2])
"""


class Stopwatch:
    """A progress that adds up how long each piece of an export took."""

    def __init__(self) -> None:
        self.taken: dict[str, tuple[float, float]] = {}     # by the clock, and of the processor
        self._piece, self._since = "", (time.perf_counter(), time.process_time())

    def __call__(self, done: int, of: int, message: str = "") -> None:
        now = time.perf_counter(), time.process_time()
        before = self.taken.get(self._piece, (0.0, 0.0))
        self.taken[self._piece] = (before[0] + now[0] - self._since[0], before[1] + now[1] - self._since[1])
        self._since, self._piece = now, message

    def told(self, *pieces: str) -> str:
        """Of the pieces whose names begin so: "1.2 s (CPU 0.9 s)"."""
        found = [seconds for name, seconds in self.taken.items() if name.startswith(pieces)]
        return f"{sum(wall for wall, _ in found):.2f} s (CPU {sum(cpu for _, cpu in found):.2f} s)"


def checkpoint(folder: Path, config: ModelConfig) -> Path:
    tokenizer = folder / "tokenizer.json"
    words = [f"w{number:04d} and the old house {number * 7919 % 9973}" for number in range(4000)]
    train([words], TokensConfig(vocab_size=1000)).save(str(tokenizer))
    model, dice = Decoder(config), torch.Generator().manual_seed(0)
    with torch.no_grad():   # far from where training starts, where a model repeats one token for ever
        for name, parameter in model.named_parameters():
            parameter.normal_(1.0 if "norm" in name and name.endswith("weight") else 0.0, 0.1, generator=dice)
    pretrained.save(model, folder / "checkpoint", tokenizer)
    return folder / "checkpoint"


def exported(made: Path, target: str, out: Path) -> Path:
    """The bundle with all precisions; prints how long which piece took."""
    export(made, read(ExportConfig, {"target": target, "tolerance": 1.0}), out)     # imports, first allocations
    asked = {"target": target, "precisions": [{"kind": kind, **ANY} for kind in KINDS[target]], "tolerance": 1.0,
             "held_out_tokens": 128}
    if target == "native":
        begun = time.perf_counter(), time.process_time()
        speak(made, out.with_name("unproven"))
        print(f"  a bundle without the proof, from the checkpoint to the disk: {time.perf_counter() - begun[0]:.2f} s "
              f"(CPU {time.process_time() - begun[1]:.2f} s)", flush=True)
    watch = Stopwatch()
    bundle, verdict = export(made, read(ExportConfig, asked), out, watch)
    watch(0, 0)
    assert verdict["passed"], verdict["sentence"]
    print(f"  {target}: reading the checkpoint {watch.told('reading')}, graph and weights "
          f"{watch.told('writing the graph')}, proof {watch.told('proving', 'parity')}, {len(KINDS[target])} smaller "
          f"forms and their costs {watch.told('writing in', 'writing fl', 'measuring')}, card, checksums and the disk "
          f"{watch.told('writing the card')}", flush=True)
    return bundle


def timed(name: str, command: list[str]) -> bool:
    """Let a peer export the checkpoint its own way; False, and its words, if it can't."""
    begun = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    told = f"{time.perf_counter() - begun:.1f} s, its imports included" if done.returncode == 0 else \
        f"failed: {(done.stderr.strip().splitlines() or ['no word'])[-1]}"
    print(f"  {name}: {told}", flush=True)
    return done.returncode == 0


def ways(folder: Path, config: ModelConfig, compiled: bool) -> Iterator[Contender]:
    """Everyone who takes part, ours first."""
    made = checkpoint(folder, config)
    bundles = {target: exported(made, target, folder / target) for target in KINDS}

    def files_of(path: Path, precision: str = "float32") -> dict[str, Any]:
        return {"size_bytes": size_of(path), "read_bytes": read_for_a_token(path, precision, config)}

    for target, kinds in KINDS.items():
        for kind in ("float32", *kinds):
            yield Contender(f"ours, {target}, {kind}", "ours", bundles[target], kind, kind,
                            **files_of(check(bundles[target], kind)[1], kind))
    weights = files_of(bundles["native"] / "onnx/model.onnx")
    yield Contender(BASE, "transformers", made, **weights)
    yield Contender("PyTorch, our decoder", "pytorch", made, **weights)
    if compiled:
        yield Contender("PyTorch, our decoder, compiled", "pytorch", made, "compiled", **weights)
    if python := os.environ.get("OPTIMUM_PYTHON"):
        own = folder / "optimum"
        if timed("optimum's export", [python, "-c", WITH_OPTIMUM, str(made), str(own)]):
            yield Contender("optimum, its own export", "optimum", own, "model.onnx", python=python, **weights)
            yield Contender("optimum's export, a plain onnxruntime loop", "onnxruntime", own / "model.onnx", **weights)
        yield Contender("optimum, our native file", "optimum", bundles["native"], "onnx/model.onnx", python=python,
                        **weights)
    if python := os.environ.get("GENAI_PYTHON"):
        for kind, name in (("fp32", "float32"), ("int4", "int4")):
            own = folder / f"genai-{kind}"
            if timed(f"onnxruntime-genai's {kind} export", [
                    python, "-m", "onnxruntime_genai.models.builder", "-i", str(made), "-o", str(own), "-p", kind,
                    "-e", "cpu", "-c", str(folder / "cache")]):
                size = sum(path.stat().st_size for path in own.glob("model.onnx*"))     # its weights lie beside
                yield Contender(f"onnxruntime-genai, its own {name}", "genai", own, "", name, size, size, python)
        for file, name in (("onnx/model.onnx", "float32"), ("onnx/model_q4.onnx", "int4")):
            path = bundles["native"] / file
            yield Contender(f"onnxruntime-genai, our native {name}", "genai", bundles["native"], file, name,
                            python=python, **files_of(path, name))
    if python := os.environ.get("XLLAMACPP_PYTHON"):
        place = folder / "llama.cpp"
        place.mkdir()
        yield from llama_cpp(bundles["native"], config, place, python=python)


def main() -> None:
    command = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    command.add_argument("--sizes", nargs="+", choices=list(SHAPES), default=list(SHAPES))
    command.add_argument("--rounds", type=int, default=3)
    command.add_argument("--no-compile", action="store_true")
    given: Any = command.parse_args()
    machine = {"processor": hardware.processor(), "cores": hardware.cores()}
    for size in given.sizes:
        with tempfile.TemporaryDirectory() as folder:
            config = read(ModelConfig, {"family": "llama", **SHAPES[size], "context_length": 512})
            print(f"\n{size}: {estimate.parameters(config):,} parameters", flush=True)
            load, bandwidth = os.getloadavg()[0], hardware.memory_bandwidth()
            rows = measure(list(ways(Path(folder), config, not given.no_compile)),
                           Lengths(PROMPT, NEW, 1000), given.rounds,
                           lambda done, of, message="": print(f"{done}/{of} {message}", end="\33[K\r", file=sys.stderr))
        for row in rows:
            row["limit_tokens_per_second"] = bandwidth / row["read_bytes"] if row["read_bytes"] else None
        print("\n| " + " | ".join(heads(BASE)) + " |\n|" + "---|" * len(heads(BASE)))
        for row in rows:
            print("| " + " | ".join(cells(row, rows, BASE)) + " |")
        told = notes({"rows": rows, "prompt_tokens": PROMPT, "new_tokens": NEW, "rounds": given.rounds, "load": load,
                      "machine": {**machine, "memory_bandwidth": bandwidth}})
        print("\n" + "\n".join(told), flush=True)


if __name__ == "__main__":
    main()
