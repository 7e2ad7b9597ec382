"""The plan against what happens: peak memory and wall time at five sizes, from the config alone and after measuring.

    python benchmarks/plan.py [--steps 60] [--sizes tiny nano ...]

Each size is measured by the probe, planned, and then trained by an ordinary run in a process of its own, on random
text of its own, one after the other: a machine that is busy with something else shows in the times and not in the
memory. Prints a Markdown table; times are wall seconds from the process's start to its end.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time

from engine import runs
from engine.plan.outline import outline
from engine.recipe import Recipe
from engine.workspace import Workspace

SIZES = {  # layers, width, heads, context, rows
    "tiny": (2, 64, 2, 128, 16),
    "nano": (4, 128, 4, 128, 16),
    "micro": (4, 256, 4, 256, 8),
    "mini": (6, 384, 6, 256, 8),
    "small": (8, 512, 8, 256, 4),
}
GIB = 2**30


def text(workspace: Workspace) -> None:
    """Made-up words, enough for every row length here."""
    dice = random.Random(0)
    words = ["".join(dice.choices("abcdefghijklmnopqrstuvwxyz", k=dice.randint(2, 9))) for _ in range(5000)]
    folder = workspace.place("corpora") / "words"
    folder.mkdir()
    for number in range(40):
        (folder / f"{number}.txt").write_text(". ".join(" ".join(dice.choices(words, k=12)) for _ in range(250)))


def recipe(name: str, steps: int) -> Recipe:
    layers, width, heads, context, rows = SIZES[name]
    return Recipe().override(
        f"name={name}", "corpus.sources=[{path: corpora/words}]", "tokens.vocab_size=2048", "jobs=[train]",
        f"model.num_layers={layers}", f"model.hidden_size={width}", f"model.num_heads={heads}",
        f"model.num_kv_heads={heads // 2}", f"model.context_length={context}", f"train.micro_batch_size={rows}",
        f"train.max_steps={steps}", f"train.validate_every={steps // 2}", "train.validation_batches=5",
        f"train.checkpoint_every={steps // 2}", f"train.sample_every={steps // 2}")


def trained(asked: Recipe, workspace: Workspace) -> tuple[float, float]:
    """(wall seconds, peak GiB) of one run."""
    begun = time.perf_counter()
    run = runs.start(asked, workspace)
    run.wait()
    took = time.perf_counter() - begun
    return took, max(row["memory/peak_gib"] for row in run.rows("metrics")[0] if "memory/peak_gib" in row)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--sizes", nargs="*", default=list(SIZES))
    asked = parser.parse_args()
    print("| size | parameters | memory: config alone | after measuring | happened | off | off | time: config alone "
          "| after measuring | happened | off | off |\n|" + "---|" * 12, flush=True)
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(folder)
        text(workspace)
        runs.start(recipe("tiny", 2).override("jobs=[tokenize]"), workspace).wait()
        # Before anything was measured, since one size's steps correct the plan of the next.
        before = {name: outline(recipe(name, asked.steps), workspace) for name in asked.sizes}
        for name, alone in before.items():
            wanted = recipe(name, asked.steps)
            runs.start(wanted.override("jobs=[probe]"), workspace).wait()
            measured = outline(wanted, workspace)
            assert measured.measured
            seconds, peak = trained(wanted, workspace)
            memory = [plan.memory_bytes / GIB for plan in (alone, measured)]
            times = [plan.wall_seconds for plan in (alone, measured)]
            print(f"| {name} | {alone.parameters:,} | {memory[0]:.2f} | {memory[1]:.2f} | {peak:.2f} GiB "
                  f"| {memory[0] / peak - 1:+.0%} | {memory[1] / peak - 1:+.0%} | {times[0]:.0f} | {times[1]:.0f} "
                  f"| {seconds:.0f} s | {times[0] / seconds - 1:+.0%} | {times[1] / seconds - 1:+.0%} |", flush=True)


if __name__ == "__main__":
    main()
