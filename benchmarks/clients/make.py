"""Tiny bundles of each family and target, and of a published chat model, with the greedy text that every client must
write.

    python benchmarks/clients/make.py FOLDER

makes FOLDER/llama-native and so on, FOLDER/published-native and FOLDER/expected.json. The other scripts here read them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, processors

from engine import files, inference
from engine.config import read
from engine.export import ExportConfig
from engine.export.bundle import export
from engine.model import FAMILIES, ModelConfig
from engine.model.decoder import Decoder
from engine.model.generate import generate
from engine.model.pretrained import load, save
from engine.tokens import TokensConfig
from engine.tokens.presets import CHAT_TEMPLATES
from engine.tokens.tokenizer import train

PROMPT, NEW_TOKENS = "the old house by the river", 48
READ = "the old garden by the hill was quiet again and nobody found it, and the small stone by the door was left"
GENEROUS = {"max_loss": 99.0, "max_divergence": 99.0, "min_agreement": 0.0}
TEXT = [f"the old {thing} by the {place} was {colour} again and nobody {did} it"
        for thing in ("house", "garden", "stone", "winter") for place in ("river", "hill", "road", "door")
        for colour in ("grey", "small", "quiet") for did in ("saw", "left", "found", "kept")]


PUBLISHED = "published"
BEGIN, TURN = 1, 2
MESSAGES = [{"role": "user", "content": "the house"}, {"role": "assistant", "content": "was grey"},
            {"role": "user", "content": "the garden"}]
STRETCHED = {"rope_scaling": "llama3", "rope_factor": 8.0, "rope_original_context": 16, "rope_theta": 100.0}


def decoder(family: str, **settings: Any) -> Decoder:
    """A model whose weights are far from where training starts, so that each of them matters."""
    config = read(ModelConfig, {"family": family, "num_layers": 2, "hidden_size": 64, "num_heads": 4,
                                "num_kv_heads": 4 if family == "gpt2" else 2, "vocab_size": 320,
                                "context_length": 96, "tied_embeddings": True, **settings})
    model, dice = Decoder(config), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(1.0 if "norm" in name and name.endswith("weight") else 0.0, 0.15, generator=dice)
    return model


def checkpoint(folder: Path, family: str) -> Path:
    """A checkpoint as training here writes it."""
    tokenizer = folder.parent / "tokenizer.json"
    train([TEXT], TokensConfig(vocab_size=320)).save(str(tokenizer))
    folder.mkdir(parents=True, exist_ok=True)
    save(decoder(family), folder, tokenizer)
    return folder


def published(folder: Path) -> Path:
    """A checkpoint as Llama 3's makers publish it: its tokenizer puts a token before each text, one token ends a text
    and another a turn, it has defaults of its own and a chat template, and soon after the prompt it ends its turn."""
    model, template = decoder("llama", **STRETCHED), CHAT_TEMPLATES["llama3"]
    cut = train([TEXT], TokensConfig(vocab_size=320, special_tokens=(
        "<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>")))
    cut.post_processor = processors.TemplateProcessing(single="<|begin_of_text|> $A",
                                                       special_tokens=[("<|begin_of_text|>", BEGIN)])
    ids = cut.encode(PROMPT).ids
    new = generate(model.eval(), torch.tensor([ids]), NEW_TOKENS, temperature=0)
    often = next(token for place, token in enumerate(new) if place >= 6 and token not in [*ids, *new[:place]])
    with torch.no_grad():
        model.embedding.weight[[often, TURN]] = model.embedding.weight[[TURN, often]]
    folder.mkdir(parents=True, exist_ok=True)
    save(model, folder)
    cut.save(str(folder / "tokenizer.json"))
    stated = {"bos_token_id": BEGIN, "eos_token_id": [0, TURN]}
    words = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>",
             "chat_template": template.template.replace("{%- generation %}", "").replace("{% endgeneration %}", "")}
    for name, values in (("config.json", {**files.read_json(folder / "config.json"), **stated}),
                         ("generation_config.json", {**stated, "temperature": 0.6, "top_p": 0.9, "do_sample": True}),
                         ("tokenizer_config.json", words)):
        files.write_json(folder / name, values)
    return folder


def until(new: list[int], ends: Collection[int]) -> list[int]:
    """Up to the first end, which is the last of them."""
    return next((new[:place + 1] for place, token in enumerate(new) if token in ends), new)


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
    for family in (*FAMILIES, PUBLISHED):
        place = folder / f"{family}-checkpoint"
        made = published(place) if family == PUBLISHED else checkpoint(place, family)
        for target in ("native", "portable"):
            kinds = ["float16", "int8_dynamic"] + (["int8", "int4"] if target == "native" else [])
            config = read(ExportConfig, {"target": target, "precisions": [{"kind": k, **GENEROUS} for k in kinds]})
            out, verdict = export(made, config, folder / f"{family}-{target}")
            assert verdict["passed"], verdict["sentence"]
            tokenizer = Tokenizer.from_file(str(out / "tokenizer.json"))
            ids, ours = tokenizer.encode(PROMPT).ids, inference.load(out)
            new = {"model.onnx": generate(load(out).eval(), torch.tensor([ids]), NEW_TOKENS, temperature=0)}
            # Greedy text of rounded weights is not float32's: there the client must write what our own runtime does.
            kinds = {row["file"].removeprefix("onnx/"): row["precision"] for row in verdict["costs"]}
            new |= {file: spoken(out, kind) for file, kind in kinds.items() if kind != "float32"}
            read_ids = tokenizer.encode(READ, add_special_tokens=False).ids
            # "ended" is what is written up to the first of the ends, "new" what a client writes that is told of none.
            expected[out.name] = {"prompt": PROMPT, "ids": ids, "read": READ, "read_ids": read_ids, "files": {
                file: {"new": tokens, "text": tokenizer.decode(tokens), "ended": until(tokens, ours.ends),
                       "ended_text": tokenizer.decode(until(tokens, ours.ends)),
                       "logits": logits(out, kinds[file], read_ids)}
                for file, tokens in new.items()}}
            if family == PUBLISHED:
                assert expected[out.name]["files"]["model.onnx"]["ended"][-1] == TURN
                chat = ours.chat(MESSAGES)
                expected[out.name]["chat"] = {"messages": MESSAGES, "ids": ours.encode(chat).tolist()}
    (folder / "expected.json").write_text(json.dumps(expected, indent=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
