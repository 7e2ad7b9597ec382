"""Scorer: a decoder whose last token is read by a score head. Reward models and classifiers are such.

On disk it is the ...ForSequenceClassification of its family: a Hugging Face folder as in `pretrained`, with one
more matrix, `score.weight`, and no head that writes text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from engine import files
from engine.config import UserError
from engine.model import ModelConfig, pretrained
from engine.model.decoder import Decoder
from engine.model.pretrained import from_published, tensors, to_published, write
from engine.model.published import CLASSES, SCORES, config_from, scores

MOST_LABELS = 65_536
ONE_SCORE = ("score",)
"""The labels of a reward model: one number, of which more is better."""


class Scorer(nn.Module):
    """Token ids in, one number for each label out.

    `pad` is the id that stands for padding, None if the model knows none. A text is read at its last token that is
    not `pad`, as the published classes do: a model that was trained with the end of a text as its padding scores the
    token before it.
    """

    def __init__(self, config: ModelConfig, labels: Sequence[str] = ONE_SCORE, pad: int | None = None) -> None:
        super().__init__()
        self.config = config.replace(tied_embeddings=True)  # so that there is no matrix for a head that writes
        self.labels, self.pad = tuple(labels), pad
        self.decoder = Decoder(self.config)
        self.score = nn.Linear(config.hidden_size, len(self.labels), bias=False)
        nn.init.normal_(self.score.weight, std=0.02)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Scores (B, L) of texts (B, T); `attention_mask` (B, T) is 0 at padding, on either side."""
        hidden = self.decoder.hidden(input_ids, attention_mask=attention_mask)                   # (B, T, d)
        last = self._last(input_ids, attention_mask)                                             # (B)
        return self.score(hidden[torch.arange(len(hidden), device=hidden.device), last])         # (B, L)

    def _last(self, input_ids: Tensor, attention_mask: Tensor | None) -> Tensor:
        """The place of each text's last token that counts; 0 where none does."""
        counts = torch.ones_like(input_ids) if attention_mask is None else attention_mask.long()
        if self.pad is not None:
            counts = counts * (input_ids != self.pad)
        places = torch.arange(input_ids.shape[1], device=input_ids.device)
        return (counts * places).amax(-1)

    def weights(self) -> dict[str, Tensor]:
        """The decoder's weights under their names, and `score.weight` (L, d)."""
        return {**self.decoder.state_dict(), "score.weight": self.score.weight.detach()}


def load(folder: Path, device: str | torch.device = "cpu") -> Scorer:
    """The scorer in a Hugging Face folder of a known family, in float32. Raises UserError as `pretrained.load` does."""
    folder = Path(folder)
    config, values = config_from(folder).replace(tied_embeddings=True), files.read_json(folder / "config.json")
    labels, pad = _labels(folder / "config.json", values), values.get("pad_token_id")
    if not (pad is None or (isinstance(pad, int) and not isinstance(pad, bool))):
        raise UserError(f"{folder / 'config.json'} states pad_token_id as {pad!r}; it must be a whole number.",
                        where=str(folder / "config.json"))
    with torch.device("meta"):
        model = Scorer(config, labels, pad)
    found = tensors(folder, config, to_published(config, model.weights()), device)
    model.decoder.load_state_dict(from_published(config, found), assign=True)
    model.score.load_state_dict({"weight": found["score.weight"]}, assign=True)
    return model


def load_either(folder: Path, device: str | torch.device = "cpu") -> Decoder | Scorer:
    """The model in a Hugging Face folder, whether it writes texts or scores them."""
    return load(folder, device) if scores(folder) else pretrained.load(folder, device)


def save(model: Scorer, folder: Path, tokenizer: Path | None = None) -> None:
    """Write `model` as a Hugging Face folder; as `pretrained.save`."""
    named = {str(number): label for number, label in enumerate(model.labels)}
    write(model.config, model.weights(), folder, tokenizer, {
        "architectures": [re.sub("ForCausalLM|LMHeadModel", SCORES, CLASSES[model.config.family])],
        "id2label": named, "label2id": {label: int(number) for number, label in named.items()},
        "pad_token_id": model.pad})


def _labels(path: Path, values: dict[str, Any]) -> tuple[str, ...]:
    """The names of the labels in their order; what is left out means what the published classes take it to mean."""
    named = values.get("id2label")
    if isinstance(named, dict) and named:
        labels = [named.get(str(number)) for number in range(len(named))]
    else:
        count = values.get("num_labels", 2)
        labels = [f"LABEL_{n}" for n in range(count)] if isinstance(count, int) and 1 <= count <= MOST_LABELS else []
    if not 1 <= len(labels) <= MOST_LABELS or not all(isinstance(label, str) for label in labels):
        raise UserError(f"{path} does not number its labels from 0 on in id2label; restore it.", where=str(path))
    return tuple(str(label) for label in labels)
