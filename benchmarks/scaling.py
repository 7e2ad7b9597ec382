"""Small models on one text, each trained once: what the law for small models in `engine/plan/scaling.py` is fitted to.

    python benchmarks/scaling.py TEXT --out points.json          TEXT: a folder of .txt files, some megabytes

Every run has the step size and the batch that the one-dial plan would give it, and a new seed's data order.
Prints one line a run: parameters, tokens, epochs, validation loss in nats a token, bytes a token.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from engine import files
from engine.model import estimate
from engine.recipe import Recipe
from engine.runs import create
from engine.runs.worker import Worker
from engine.workspace import Workspace

SHAPES = ((3, 64, 2), (4, 128, 4), (4, 256, 4))  # layers, width, heads
TOKENS = (100_000, 300_000, 900_000)
CONTEXT = 128


def recipe(text: Path, shape: tuple[int, int, int], tokens: int, vocabulary: int) -> Recipe:
    """One run of the grid, its batch and step size by the step law (Li et al. 2025)."""
    layers, width, heads = shape
    made = Recipe().override(
        "name=point", f"corpus.sources=[{{path: '{text}'}}]", f"tokens.vocab_size={vocabulary}",
        f"model.num_layers={layers}", f"model.hidden_size={width}", f"model.num_heads={heads}",
        f"model.num_kv_heads={heads // 2}", f"model.context_length={CONTEXT}", "jobs=[train]")
    size = estimate.non_embedding_parameters(made.model)
    rows = max(1, round(0.58 * tokens ** 0.571 / CONTEXT))
    steps = max(1, round(tokens / (rows * CONTEXT)))
    rate = min(0.01, 1.79 * size ** -0.713 * tokens ** 0.307)
    return made.override(
        f"train.micro_batch_size={rows}", f"train.max_steps={steps}", f"train.validate_every={steps}",
        f"train.checkpoint_every={steps}", "train.sample_every=0",
        f"train.validation_batches={40_000 // (rows * CONTEXT)}", f"optim.lr={rate:.3g}",
        f"schedule.warmup_steps={max(1, steps // 20)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("text", type=Path)
    parser.add_argument("--vocabulary", type=int, default=2048)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    points = []
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(folder)
        workspace.allow(asked.text.resolve())
        for tokens in TOKENS:
            for shape in SHAPES:
                run = create(recipe(asked.text.resolve(), shape, tokens, asked.vocabulary), workspace)
                assert Worker(run).work() == "finished", run.status().error
                points.append(point(run, workspace))
                print(json.dumps(points[-1]), flush=True)
                if asked.out:
                    files.write_json(asked.out, points)


def point(run, workspace) -> dict[str, float]:  # type: ignore[no-untyped-def]
    """What one run came to."""
    from engine import runs

    made = runs.recipe_of(run)
    summary = files.read_json(run.artefact("tokens") / files.MANIFEST)["summary"]
    last = [row for row in run.rows("metrics")[0] if "val/loss" in row][-1]
    bits = last["val/bits_per_byte"]
    return {"parameters": estimate.parameters(made.model),
            "non_embedding": estimate.non_embedding_parameters(made.model), "tokens": last["tokens"],
            "unique": summary["train"]["tokens"], "loss": last["val/loss"],
            "bytes_per_token": last["val/loss"] / 0.6931471805599453 / bits, "lr": made.optim.lr}


if __name__ == "__main__":
    main()
