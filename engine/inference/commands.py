"""Commands on bundles: texts scored on the command line."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from engine import inference
from engine.config import UserError
from engine.workspace import Workspace


def bundle_of(arguments: argparse.Namespace) -> Path:
    """The folder of a bundle that was given by its name or its path."""
    workspace = Workspace(arguments.workspace)
    for folder in (workspace.place("bundles") / arguments.bundle, Path(arguments.bundle).expanduser()):
        if folder.is_dir() and arguments.bundle:
            return folder
    names = ", ".join(path.name for path in workspace.listing("bundles")[:12])
    raise UserError(f"{arguments.bundle} is neither a bundle nor a folder; there are {names or 'none yet'}.",
                    where=arguments.bundle)


def takes_model(command: argparse.ArgumentParser) -> None:
    """A bundle, and which of its graphs; what else a command takes comes behind."""
    command.add_argument("bundle", metavar="BUNDLE", help="the name of a bundle, or its folder")
    command.add_argument("--precision", default="float32", metavar="P",
                         help="which of the bundle's graphs: float32, float16, int8, int8_dynamic or int4 (float32)")


def takes_adapter(command: argparse.ArgumentParser) -> None:
    command.add_argument("--adapter", action="store_true", help="switch on the LoRA adapter that the bundle keeps")


def takes_scored(command: argparse.ArgumentParser) -> None:
    takes_model(command)
    command.add_argument("texts", metavar="TEXT", nargs="*", help="texts to score; two are compared")
    command.add_argument("--prompt", default="", metavar="TEXT", help="what stands before each of the texts")
    command.add_argument("--pairs", metavar="FILE", help="JSONL of chosen and rejected texts: in how many pairs does "
                                                         "the chosen one score more?")


def score(arguments: argparse.Namespace) -> int:
    from engine.inference.pairs import read_pairs
    from engine.inference.sampling import softmax

    if not arguments.texts and not arguments.pairs:
        raise UserError("there is nothing to score; give texts, or a file with --pairs.", where="texts")
    model = inference.load_scorer(bundle_of(arguments), precision=arguments.precision)
    if arguments.pairs and len(model.labels) > 1:
        raise UserError(f"{model.bundle.name} gives {len(model.labels)} labels, and only one score can put pairs in an "
                        "order; give texts.", where="pairs")
    found = model.score([arguments.prompt + text for text in arguments.texts])
    for text, row in zip(arguments.texts, found, strict=True):
        if len(row) == 1:
            print(f"{row[0]:+.4f}  {text}")
        else:
            best = int(np.argmax(row))
            print(f"{model.labels[best]} ({softmax(row)[best]:.1%})  {text}")
    if found.shape == (2, 1):
        apart = float(found[0, 0] - found[1, 0])
        print(f"the {'first' if apart > 0 else 'second'} scores {abs(apart):.4f} more" if apart else "both score alike")
    if arguments.pairs:
        pairs = read_pairs(Path(arguments.pairs).expanduser(), model.reader)
        scores = model.score_ids(pairs.texts)[:, 0]
        right = float((scores[:len(pairs.chosen)] > scores[len(pairs.chosen):]).mean())
        left = f"; {pairs.left_out} pairs are longer than the context and were left out" if pairs.left_out else ""
        print(f"the chosen text scores more in {right:.1%} of {len(pairs.chosen)} pairs{left}")
    return 0
