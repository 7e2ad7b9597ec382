"""Preview: a checkpoint made to speak, and a bundle beside PyTorch, in a process of its own: the studio has no torch.

    python -m engine.export.preview speak CHECKPOINT FOLDER    a bundle without proof, to be talked to and thrown away
    python -m engine.export.preview differ BUNDLE PRECISION    the text on stdin, token by token in both; JSON out
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from engine import files
from engine.config import UserError
from engine.export import ExportConfig

MOST_TOKENS = 512       # whose logits are compared; a page shows no more


def speak(checkpoint: Path, out: Path) -> None:
    """Write the bundle of a checkpoint at `out`, unproven: seconds less, and it is not kept."""
    from engine.export.bundle import keep, write_graph, write_sidecars
    from engine.export.checksums import Checksums
    from engine.inference.bundle import SCORES
    from engine.model.scorer import Scorer, load_either
    from engine.workspace import manifest

    model, config = load_either(checkpoint).eval(), ExportConfig()
    tokenizer = checkpoint / "tokenizer.json"
    if not tokenizer.exists():
        raise UserError(f"{tokenizer} is missing, and text needs it; restore it.", where=str(tokenizer))
    with files.making(out) as folder, Checksums(folder) as sums:
        write_graph(model, folder / "onnx" / "model.onnx", config)
        sums.begin("onnx/model.onnx")
        keep(model, folder, tokenizer)
        write_sidecars(folder, model, config)
        told = manifest(folder, "bundles", "", {"checkpoint": checkpoint.name}, {
            "parity": "not proven", **({"task": SCORES} if isinstance(model, Scorer) else {})})
        files.write_json(folder / files.MANIFEST, {**told, "checksums": sums.of(told["files"])})


def differ(bundle: Path, text: str, precision: str = "float32") -> list[dict[str, Any]]:
    """Each token of the text as PyTorch, with the bundle's float32 weights, and the bundle's graph see it.

    One row a token: text, pytorch and onnx (the probability that each gave it, None for the first), and
    difference, the largest between two logits of the token after it.
    """
    import torch

    from engine.inference import load
    from engine.inference.sampling import softmax
    from engine.model.pretrained import load as load_model

    graph, model = load(bundle, precision=precision), load_model(bundle).eval()
    ids = graph.encode(text)[:MOST_TOKENS]
    with torch.no_grad():
        ours = model(torch.from_numpy(ids)[None])[0].numpy()
    theirs = graph.logits(ids[None])[0]
    rows = []
    for place, token in enumerate(ids):
        before = (softmax(side[place - 1])[token] for side in (ours, theirs)) if place else (None, None)
        shares = [None if share is None else float(share) for share in before]
        rows.append({"text": graph.tokenizer.decode([int(token)], skip_special_tokens=False),
                     "pytorch": shares[0], "onnx": shares[1],
                     "difference": float(np.abs(ours[place] - theirs[place]).max())})
    return rows


def main(arguments: Sequence[str]) -> int:
    """Exit code 2 and one sentence on stderr for a UserError."""
    try:
        if arguments[0] == "speak":
            speak(Path(arguments[1]), Path(arguments[2]))
        else:
            print(json.dumps(differ(Path(arguments[1]), sys.stdin.read(), arguments[2])))
    except UserError as error:
        print(error.sentence, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
