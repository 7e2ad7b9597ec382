"""Tiny bundles with files for llama.cpp, of every form of every family and every pattern of a tokenizer.

    python benchmarks/clients/make_gguf.py FOLDER

makes FOLDER/llama and so on, FOLDER/expected.json and FOLDER/logits.npz: what `llama_cpp_client.py` must find. For a
file of rounded weights that is what our own decoder does with the same rounded weights.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import gguf
import numpy as np
import torch
from make import GENEROUS, NEW_TOKENS, PROMPT, TEXT
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from engine import files
from engine.config import read
from engine.export import ExportConfig
from engine.export.bundle import export
from engine.export.gguf import stored
from engine.export.gguf_vocabulary import PATTERNS
from engine.model import ModelConfig
from engine.model.decoder import Decoder
from engine.model.generate import generate
from engine.model.pretrained import load, save

KINDS = ("f32", "f16", "q8_0", "q4_0")
FORMS: dict[str, tuple[dict, str]] = {
    "llama": ({"family": "llama"}, "gpt-2"),
    "llama3": ({"family": "llama", "rope_scaling": "llama3", "rope_factor": 8.0, "rope_original_context": 16,
                "rope_theta": 100.0}, "llama-bpe"),
    "llama-yarn": ({"family": "llama", "rope_scaling": "yarn", "rope_factor": 4.0, "rope_original_context": 24,
                    "rope_theta": 100.0}, "llama-bpe"),
    "llama-linear": ({"family": "llama", "rope_scaling": "linear", "rope_factor": 4.0, "tied_embeddings": False},
                     "dbrx"),
    "llama-biased": ({"family": "llama", "attention_bias": True, "mlp_bias": True, "num_kv_heads": 1}, "smollm"),
    "qwen3": ({"family": "qwen3"}, "qwen2"),
    "qwen3-wide-heads": ({"family": "qwen3", "head_size": 24, "tied_embeddings": False}, "qwen2"),
    "gpt2": ({"family": "gpt2", "num_kv_heads": 4}, "gpt-2"),
    "gpt2-untied": ({"family": "gpt2", "num_kv_heads": 4, "tied_embeddings": False, "intermediate_size": 160}, "gpt-2"),
}
ENDS = {"llama3": [0, 3, 2]}
"""What ends a text, a message and a turn, as Llama 3's makers state it; llama.cpp knows the turn's end by no name."""

MORE = ["in 1999 and 2024 it's 12345 to 67890, I'LL say; they'VE 3.14159 of x²+½", "été señor straße ÅÄÖ naïve",
        "def f(x):\n    return x\n\n\n\tif y == 2:  # a\r\n", "古い家は川のそばに", "дом у реки был старый"] * 8
TEXTS = [PROMPT, *MORE[:5], "", " ", "   three  spaces   ", "tab\tand\n\nlines \n end\n", "1234567890 12 3 ٣٤ Ⅷ",
         "don't DON'T we'll WE'LL", "🦊 and 👩‍👩‍👧 e\u0301te\u0301", "a<|endoftext|>b <|endoftext|>", "<|endoftext",
         "!!??...--- ((x)) \\n",
         "\u00a0\u2003wide\u3000spaces ", "x" * 60, "the the  the\n the"]


def tokenizer(pattern: str, path: Path) -> None:
    """A byte-level BPE of 400 tokens with one of llama.cpp's patterns."""
    (cuts, whole), = [key for key, name in PATTERNS.items() if name == pattern]
    made = Tokenizer(models.BPE(ignore_merges=whole))
    made.pre_tokenizer = pre_tokenizers.Sequence([
        *(pre_tokenizers.Digits(individual_digits=True) if cut == r"\p{N}" else
          pre_tokenizers.Split(Regex(cut), "isolated") for cut in cuts),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    made.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", *(["<|begin_of_text|>", "<turn>", "<|eom_id|>"] if pattern == "llama-bpe" else [])]
    made.train_from_iterator(TEXT + MORE, trainers.BpeTrainer(
        vocab_size=400, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False))
    if pattern == "llama-bpe":
        made.post_processor = processors.TemplateProcessing(single="<|begin_of_text|> $A",
                                                            special_tokens=[("<|begin_of_text|>", 1)])
    if pattern == "smollm":
        made.add_tokens([AddedToken("<tool>", special=False, normalized=False)])
    made.save(str(path))


def checkpoint(folder: Path, form: str) -> Path:
    settings, pattern = FORMS[form]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder.with_name(f"{form}-tokenizer.json")
    tokenizer(pattern, path)
    config = read(ModelConfig, {"num_layers": 2, "hidden_size": 64, "num_heads": 4, "num_kv_heads": 2,
                                "vocab_size": 408, "context_length": 96, **settings})
    model, dice = Decoder(config), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(1.0 if "norm" in name and name.endswith("weight") else 0.0, 0.15, generator=dice)
    save(model, folder, path)
    if form in ENDS:
        for name in ("config.json", "generation_config.json"):
            files.write_json(folder / name, {**files.read_json(folder / name), "bos_token_id": 1,
                                             "eos_token_id": ENDS[form]})
    return folder


def rounded(model: Decoder, kind: str) -> Decoder:
    """The decoder with the weights that a file of a kind keeps."""
    names = {"embedding": "token_embd", "positions": "position_embd", "head": "output"}
    for name, parameter in model.named_parameters():
        module, _, part = name.rpartition(".")
        array = parameter.detach().numpy()
        kept = gguf.GGMLQuantizationType[stored(kind, f"{names.get(module, module)}.{part}", array)]
        with torch.no_grad():
            parameter.copy_(torch.from_numpy(gguf.dequantize(gguf.quantize(array, kept), kept).reshape(array.shape)))
    return model


def main(folder: Path) -> None:
    expected, logits = {}, {}
    for form in FORMS:
        made = checkpoint(folder / f"{form}-checkpoint", form)
        # The limits of a file are those of the precision of as many bits.
        config = read(ExportConfig, {"gguf": KINDS, "precisions": [{"kind": k, **GENEROUS} for k in ("int8", "int4")]})
        out, verdict = export(made, config, folder / form)
        assert verdict["passed"], verdict["sentence"]
        assert not verdict["gguf"]["refused"], verdict["gguf"]["refused"]
        cut = Tokenizer.from_file(str(out / "tokenizer.json"))
        ids = cut.encode(PROMPT, add_special_tokens=False).ids
        ends = ENDS.get(form, [0])
        wanted = expected[form] = {"pattern": FORMS[form][1], "ids": ids, "ends": ends, "new": {}, "texts": [
            (text, cut.encode(text, add_special_tokens=False).ids, cut.encode(text).ids) for text in TEXTS]}
        for kind, path in verdict["gguf"]["files"].items():
            model = rounded(load(out).eval(), kind)
            wanted["new"][path] = generate(model, torch.tensor([ids]), NEW_TOKENS, temperature=0)
            with torch.no_grad():
                logits[f"{form}/{path}"] = model(torch.tensor([ids]))[0].numpy()
    np.savez(folder / "logits.npz", **logits)
    (folder / "expected.json").write_text(json.dumps(expected, indent=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
