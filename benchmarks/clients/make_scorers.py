"""Tiny bundles of reward models and classifiers, with the scores that every client must give.

    python benchmarks/clients/make_scorers.py FOLDER

makes FOLDER/llama-reward and so on, and FOLDER/expected.json. `scoring_client.py` reads them.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from make import TEXT
from tokenizers import Tokenizer

from engine import inference
from engine.config import read
from engine.export import ExportConfig
from engine.export.bundle import export
from engine.model import FAMILIES, ModelConfig, scorer
from engine.model.scorer import ONE_SCORE, Scorer
from engine.tokens import TokensConfig
from engine.tokens.tokenizer import train

PAD = 3
KINDS = {"reward": (ONE_SCORE, "native"), "classifier": (("no", "yes", "perhaps"), "portable")}
TEXTS = ["the old house by the river", "nobody found it", "the small stone by the door was left and nobody kept it"]


def checkpoint(folder: Path, family: str, labels: tuple[str, ...]) -> Path:
    """A checkpoint whose weights are far from where training starts, so that each of them matters."""
    tokenizer = folder.parent / "tokenizer.json"
    train([TEXT], TokensConfig(vocab_size=320)).save(str(tokenizer))
    config = read(ModelConfig, {"family": family, "num_layers": 2, "hidden_size": 64, "num_heads": 4,
                                "num_kv_heads": 4 if family == "gpt2" else 2, "vocab_size": 320, "context_length": 96})
    model, dice = Scorer(config, labels, PAD), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(1.0 if "norm" in name and name.endswith("weight") else 0.0, 0.15, generator=dice)
    folder.mkdir(parents=True, exist_ok=True)
    scorer.save(model, folder, tokenizer)
    return folder


def main(folder: Path) -> None:
    expected = {}
    folder.mkdir(parents=True, exist_ok=True)
    for family in FAMILIES:
        for kind, (labels, target) in KINDS.items():
            made = checkpoint(folder / f"{family}-{kind}-checkpoint", family, labels)
            config = read(ExportConfig, {"target": target, "precisions": [
                {"kind": "float16", "max_score": 99.0, "min_agreement": 0.0},
                {"kind": "int8_dynamic", "max_score": 99.0, "min_agreement": 0.0}]})
            out, verdict = export(made, config, folder / f"{family}-{kind}")
            assert verdict["passed"], verdict["sentence"]
            cut, model = Tokenizer.from_file(str(out / "tokenizer.json")), scorer.load(out).eval()
            with torch.no_grad():
                scores = [model(torch.tensor([cut.encode(text).ids]))[0].tolist() for text in TEXTS]
            told = {"model.onnx": scores, "model.safetensors": scores}
            for row in verdict["costs"][1:]:    # of rounded weights: what our own runtime gives, one text at a time
                small = inference.load_scorer(out, precision=row["precision"])
                told[row["file"].removeprefix("onnx/")] = [small.score([text])[0].tolist() for text in TEXTS]
            expected[out.name] = {"texts": TEXTS, "labels": list(labels), "scores": told}
    (folder / "expected.json").write_text(json.dumps(expected, indent=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
