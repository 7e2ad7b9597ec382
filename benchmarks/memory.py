"""Peak memory of a training step: ours beside transformers, nanoGPT and litgpt, each in a process of its own.

    python benchmarks/memory.py [--size 12M|30M] [--rows 16] [--nanogpt FOLDER] [--litgpt FOLDER] [--small]

Three steps of each, of the same size, batch and fused AdamW, in float32 and in bf16. Of the process's peak, what it
held before its model was built (the libraries) is told apart. Prints Markdown.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import peers
import psutil
import torch
from train import FORMATS, SIZES, ours, plain_loop, vocabulary

from engine import hardware
from engine.model import ModelConfig, estimate
from engine.model.decoder import Decoder
from engine.model.operators import Operators, use

GIB = 2**30
Build = Callable[[ModelConfig], tuple[Any, peers.Loss]]


def own(family: str) -> Build:
    def build(shape: ModelConfig) -> tuple[Any, peers.Loss]:
        model = Decoder(shape if family == "llama" else ModelConfig(
            family="gpt2", num_layers=shape.num_layers, hidden_size=shape.hidden_size, num_heads=shape.num_heads,
            context_length=shape.context_length, vocab_size=shape.vocab_size))
        use(model, Operators(fused=True))
        return model, ours()
    return build


def contenders(asked: argparse.Namespace) -> dict[str, Build]:
    found: dict[str, Build] = {"ours": own("llama"), "ours, GPT-2": own("gpt2"),
                               "transformers Llama": peers.transformers_llama,
                               "transformers GPT-2": peers.transformers_gpt2}
    if asked.nanogpt:
        found["nanoGPT"] = peers.nanogpt(asked.nanogpt)
    if asked.litgpt:
        found["litgpt"] = peers.litgpt(asked.litgpt)
    return found


def shape_of(size: str) -> ModelConfig:
    layers, width, heads, context, _ = SIZES[size]
    return ModelConfig(num_layers=layers, hidden_size=width, num_heads=heads, num_kv_heads=heads,
                       context_length=context, vocab_size=vocabulary(size))


def alone(asked: argparse.Namespace) -> None:
    """Three steps of one contender, in this process; prints its bytes before the model was built, and at the peak."""
    hardware.keep_freed_memory()
    torch.set_float32_matmul_precision(hardware.choose_matmul_precision()[0])
    shape, build = shape_of(asked.size), contenders(asked)[asked.alone]
    tiny = shape_of("small")
    with redirect_stdout(sys.stderr):
        build(tiny)  # loads its library
        before = psutil.Process().memory_info().rss
        model, loss = build(shape)
    step = plain_loop(model, loss, asked.precision)
    batch = torch.randint(shape.vocab_size, (asked.rows, shape.context_length + 1))
    for _ in range(3):
        step(batch)
    print(before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


def compare(asked: argparse.Namespace) -> None:
    shape = shape_of(asked.size)
    print(f"\n{asked.size}: {estimate.parameters(shape):,} parameters, context {shape.context_length}, {asked.rows} "
          "rows; the model, its gradients, fused AdamW and three steps; each in a process of its own.\n\n"
          "| | peak GiB of the process | of that, for training | × ours |\n|---|---|---|---|")
    for precision in asked.formats or FORMATS:
        first = 0.0
        for name in contenders(asked):
            more = [word for option in ("nanogpt", "litgpt") if getattr(asked, option)
                    for word in (f"--{option}", str(getattr(asked, option)))]
            command = [sys.executable, __file__, "--size", asked.size, "--rows", str(asked.rows), "--alone", name,
                       "--precision", precision, *more]
            said = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.split()
            before, peak = int(said[0]), int(said[1])
            first = first or peak - before
            print(f"| {name}, {precision} | {peak / GIB:.2f} | {(peak - before) / GIB:.2f} "
                  f"| {(peak - before) / first:.2f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=SIZES, default="12M")
    parser.add_argument("--rows", type=int, help="of a batch; 16 without")
    parser.add_argument("--formats", nargs="*", choices=FORMATS)
    parser.add_argument("--nanogpt", type=Path, help="a checkout of karpathy/nanoGPT")
    parser.add_argument("--litgpt", type=Path, help="a checkout of Lightning-AI/litgpt")
    parser.add_argument("--small", action="store_true", help="a toy size, to see that it works")
    parser.add_argument("--alone", help=argparse.SUPPRESS)
    parser.add_argument("--precision", choices=FORMATS, default="float32", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.small:
        asked.size = "small"
    asked.rows = asked.rows or SIZES[asked.size][4]
    alone(asked) if asked.alone else compare(asked)


if __name__ == "__main__":
    main()
