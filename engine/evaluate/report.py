"""Report: what a checkpoint is worth on validation text, in figures and in samples of its writing."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer

from engine import files
from engine.config import UserError
from engine.evaluate import EvaluateConfig
from engine.evaluate.loss import PASSAGE_TOKENS, Measured, measure
from engine.model.decoder import Decoder
from engine.model.generate import generate
from engine.model.pretrained import load
from engine.model.special import special
from engine.progress import Progress, silent
from engine.tokens import tokenizer as bpe
from engine.tokens.shards import Shards

NUM_PASSAGES = 3


def evaluate(checkpoint: Path, tokens: Path, config: EvaluateConfig, progress: Progress = silent, seed: int = 1,
             device: str = "auto") -> dict[str, Any]:
    """The report on a checkpoint folder, measured in float32 on the validation split of a tokens folder; JSON values.

        val/loss              mean over the targets, in nats        val/accuracy   share guessed right
        val/perplexity        exp(loss)                             val/bits_per_byte   None without bytes
        tokens, bytes         targets measured, and the text they stand for
        text, tokenizer       fingerprints of the dataset measured on, and of what cut it into tokens: the
                              figures of two reports compare where these are the same
        by_position           {"places", "losses"}: mean loss of targets with that many tokens before them or more
        passages              {"easiest", "hardest"}: [{"text", "loss"}]
        samples               [{"prompt", "text"}]: each continued with a seed of its own, so none depends on the others

    Raises UserError if either folder is damaged, or if the checkpoint was trained on other tokens.
    """
    chosen = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    shards, tokenizer = Shards(tokens, "val"), bpe.load(tokens / "tokenizer.json")
    _require_same_tokenizer(checkpoint, tokens, tokenizer)
    model = load(checkpoint, chosen).eval()
    measuring = max(0, min(config.max_tokens, shards.num_tokens - 1))
    of = measuring + len(config.prompts) * config.sample_tokens
    measured = measure(model, shards, config.max_tokens,
                       progress=lambda done, _, message="": progress(done, of, message))
    own = checkpoint / "tokenizer.json"
    samples, speaks = [], own if own.exists() else tokens / "tokenizer.json"
    for i, prompt in enumerate(config.prompts):
        progress(measuring + i * config.sample_tokens, of, "writing samples")
        samples.append({"prompt": prompt, "text": _continue(model, speaks, prompt, config, seed + i)})
    progress(of, of, "")
    return {
        "text": files.read_json(tokens / files.MANIFEST)["made_from"]["dataset"],
        "tokenizer": files.fingerprint_file(tokens / "tokenizer.json"),
        "checkpoint": checkpoint.name, "precision": "float32", "device": chosen,
        "val/loss": measured.loss, "val/perplexity": measured.perplexity,
        "val/bits_per_byte": None if math.isnan(measured.bits_per_byte) else measured.bits_per_byte,
        "val/accuracy": measured.accuracy, "tokens": measured.num_tokens, "bytes": round(measured.num_bytes),
        "by_position": _by_position(measured.by_position), "passages": _passages(measured, shards, tokenizer),
        "samples": samples,
    }


def _require_same_tokenizer(checkpoint: Path, tokens: Path, tokenizer: Tokenizer) -> None:
    """Ids of another vocabulary mean other words: the loss would be nonsense, and nothing would say so."""
    own = checkpoint / "tokenizer.json"
    if own.exists() and bpe.load(own).get_vocab() != tokenizer.get_vocab():
        raise UserError(f"{checkpoint} was trained with another tokenizer than that of {tokens.name}; choose the "
                        "tokens that it was trained on.", where="tokens")


def _continue(model: Decoder, path: Path, prompt: str, config: EvaluateConfig, seed: int) -> str:
    """The text that the model adds to the prompt; its tokenizer.json is at `path`."""
    tokenizer, known = bpe.load(path), special(path, model.config.vocab_size)
    begin = bpe.end_of_text(tokenizer) if known.begin is None else known.begin
    ids = tokenizer.encode(prompt).ids or [begin]
    made = generate(model, torch.tensor([ids]), config.sample_tokens, config.temperature, end=known.ends,
                    generator=torch.Generator().manual_seed(seed))
    return tokenizer.decode(made)


def _by_position(losses: np.ndarray) -> dict[str, list[Any]]:
    """Means over places 1, 2-3, 4-7, ...: single places are too noisy to read."""
    places = [1 << k for k in range(len(losses).bit_length())]
    return {"places": places, "losses": [float(np.mean(losses[p - 1:2 * p - 1])) for p in places]}


def _passages(measured: Measured, shards: Shards, tokenizer: Tokenizer) -> dict[str, list[dict[str, Any]]]:
    """The validation passages that the model found easiest and hardest."""
    order = np.argsort(measured.passage_losses, kind="stable")
    few = min(NUM_PASSAGES, len(order) // 2)
    return {name: [{"text": tokenizer.decode(shards.window(int(measured.passages[i]), PASSAGE_TOKENS).tolist()),
                    "loss": float(measured.passage_losses[i])} for i in chosen]
            for name, chosen in (("easiest", order[:few]), ("hardest", order[::-1][:few]))}
