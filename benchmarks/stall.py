"""How long training stands still for a checkpoint, and what the checkpoint behind its back costs the steps beside it.

    python benchmarks/stall.py [--sizes mini base] [--rounds 3]

The same steps on random tokens, in one process and taking turns: without checkpoints, with each one copied and written
behind (as runs do), and with each one waited for. Prints a Markdown table with medians; the disk is that of the
temporary folder.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median

import torch
from tokenizers import Tokenizer, models

from engine import hardware
from engine.model import ModelConfig, estimate
from engine.model.decoder import Decoder
from engine.optim.adamw import AdamW
from engine.runs import Run
from engine.runs.checkpoint import Position
from engine.runs.saving import Saving
from engine.stages import TrainConfig

SIZES = {"micro": (4, 256, 4, 2048), "mini": (6, 384, 6, 4096), "base": (12, 768, 12, 8192)}
STEPS, EVERY = 24, 6


def steps(model: Decoder, optimizer: torch.optim.Optimizer, saving: Saving | None, wait: bool, first: int) -> float:
    """Wall seconds of so many steps, the writing of the last checkpoint left out."""
    ids = torch.randint(model.config.vocab_size, (4, 129), generator=torch.Generator().manual_seed(0))
    begun = time.perf_counter()
    for step in range(first, first + STEPS):
        optimizer.zero_grad()
        logits = model(ids[:, :-1])
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten()).backward()
        optimizer.step()
        if saving is not None and step % EVERY == EVERY // 2:
            saving.save(model, optimizer, Position(step), None, wait=wait)
    took = time.perf_counter() - begun
    if saving is not None:
        saving.finish()
    return took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="*", default=list(SIZES))
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    hardware.keep_freed_memory()
    print("| size | parameters | checkpoint | training stood still | written in | waited for it would | "
          "a step | … behind | … waited for |\n|" + "---|" * 9, flush=True)
    for size in asked.sizes:
        layers, width, heads, vocab = SIZES[size]
        config = ModelConfig(num_layers=layers, hidden_size=width, num_heads=heads, num_kv_heads=heads,
                             vocab_size=vocab, context_length=128)
        with tempfile.TemporaryDirectory() as folder:
            tokenizer = Path(folder) / "tokenizer.json"
            Tokenizer(models.BPE({"<|endoftext|>": 0}, [])).save(str(tokenizer))
            model = Decoder(config)
            optimizer = AdamW().build(model)
            told: dict[bool, list[dict]] = {True: [], False: []}
            took: dict[str, list[float]] = {"none": [], "behind": [], "waited": []}
            number = 0
            steps(model, optimizer, None, False, 0)  # warms up
            for _ in range(asked.rounds):
                for way, each in took.items():
                    number += STEPS
                    wait = way == "waited"
                    run = Run(Path(folder))
                    saving = Saving(run, tokenizer, TrainConfig(keep_last=1), 0,
                                    lambda kind, kept=told[wait], **facts: kept.append(facts))
                    each.append(steps(model, optimizer, None if way == "none" else saving, wait, number))
            size_mb = 12 * estimate.parameters(config) / 1e6
            stall = median(event["stall_seconds"] for event in told[False])
            written = median(event["write_seconds"] for event in told[False])
            waited = median(event["stall_seconds"] for event in told[True])
            per = {way: 1000 * median(each) / STEPS for way, each in took.items()}
            print(f"| {size} | {estimate.parameters(config) / 1e6:.1f}M | {size_mb:.0f} MB | {1000 * stall:.0f} ms "
                  f"| {1000 * written:.0f} ms | {1000 * waited:.0f} ms | {per['none']:.0f} ms | {per['behind']:.0f} ms "
                  f"| {per['waited']:.0f} ms |", flush=True)


if __name__ == "__main__":
    main()
