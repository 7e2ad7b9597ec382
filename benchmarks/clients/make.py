"""Tiny bundles of each family and target, with the greedy text that every client must write.

    python benchmarks/clients/make.py FOLDER

makes FOLDER/llama-native and so on, and FOLDER/expected.json. The other scripts here read them.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer

from engine import inference
from engine.config import read
from engine.export import ExportConfig
from engine.export.bundle import export
from engine.model import FAMILIES, ModelConfig
from engine.model.decoder import Decoder
from engine.model.generate import generate
from engine.model.pretrained import load, save
from engine.tokens import TokensConfig
from engine.tokens.tokenizer import train

PROMPT, NEW_TOKENS = "the old house by the river", 48
READ = "the old garden by the hill was quiet again and nobody found it, and the small stone by the door was left"
GENEROUS = {"max_loss": 99.0, "max_divergence": 99.0, "min_agreement": 0.0}
TEXT = [f"the old {thing} by the {place} was {colour} again and nobody {did} it"
        for thing in ("house", "garden", "stone", "winter") for place in ("river", "hill", "road", "door")
        for colour in ("grey", "small", "quiet") for did in ("saw", "left", "found", "kept")]


def checkpoint(folder: Path, family: str) -> Path:
    """A checkpoint whose weights are far from where training starts, so that each of them matters."""
    tokenizer = folder.parent / "tokenizer.json"
    train([TEXT], TokensConfig(vocab_size=320)).save(str(tokenizer))
    config = read(ModelConfig, {"family": family, "num_layers": 2, "hidden_size": 64, "num_heads": 4,
                                "num_kv_heads": 4 if family == "gpt2" else 2, "vocab_size": 320,
                                "context_length": 96, "tied_embeddings": True})
    model, dice = Decoder(config), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(1.0 if "norm" in name and name.endswith("weight") else 0.0, 0.15, generator=dice)
    folder.mkdir(parents=True, exist_ok=True)
    save(model, folder, tokenizer)
    return folder


def spoken(bundle: Path, precision: str) -> list[int]:
    model = inference.load(bundle, precision=precision)
    model.ends = frozenset()
    return [token.id for token in model.tokens(PROMPT, NEW_TOKENS, temperature=0)]


def logits(bundle: Path, precision: str, ids: list[int]) -> list[list[float]]:
    """Of the token after each of the ids, in our own runtime."""
    found = inference.load(bundle, precision=precision).logits(np.array([ids]))[0]
    return [[round(float(number), 4) for number in row] for row in found]


def main(folder: Path) -> None:
    expected = {}
    folder.mkdir(parents=True, exist_ok=True)
    for family in FAMILIES:
        made = checkpoint(folder / f"{family}-checkpoint", family)
        for target in ("native", "portable"):
            kinds = ["float16", "int8_dynamic"] + (["int8", "int4"] if target == "native" else [])
            config = read(ExportConfig, {"target": target, "precisions": [{"kind": k, **GENEROUS} for k in kinds]})
            out, verdict = export(made, config, folder / f"{family}-{target}")
            assert verdict["passed"], verdict["sentence"]
            tokenizer = Tokenizer.from_file(str(out / "tokenizer.json"))
            ids = tokenizer.encode(PROMPT, add_special_tokens=False).ids
            new = {"model.onnx": generate(load(out).eval(), torch.tensor([ids]), NEW_TOKENS, temperature=0)}
            # Greedy text of rounded weights is not float32's: there the client must write what our own runtime does.
            kinds = {row["file"].removeprefix("onnx/"): row["precision"] for row in verdict["costs"]}
            new |= {file: spoken(out, kind) for file, kind in kinds.items() if kind != "float32"}
            read_ids = tokenizer.encode(READ, add_special_tokens=False).ids
            expected[out.name] = {"prompt": PROMPT, "ids": ids, "read": READ, "read_ids": read_ids, "files": {
                file: {"new": tokens, "text": tokenizer.decode(tokens, skip_special_tokens=False),
                       "logits": logits(out, kinds[file], read_ids)}
                for file, tokens in new.items()}}
    (folder / "expected.json").write_text(json.dumps(expected, indent=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
