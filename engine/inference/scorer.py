"""Scorer: texts in, numbers out, with an exported reward model or classifier.

    model = load_scorer("bundles/helpful")
    model.score(["a text", "another"])              # (2, labels)
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from engine.config import UserError
from engine.inference import bundle as folder_of
from engine.inference.chat import render, template_of, tokens_of
from engine.inference.session import options_for, told
from engine.inference.text import encoded
from engine.tokens.tokenizer import load as load_tokenizer

Text = str | Sequence[Mapping[str, Any]]
"""A text, or the messages ({"role", "content"}) of a conversation."""

BATCH_TOKENS = 8192     # that are read at once, padding included: what they take grows with them


class TooLong(UserError):
    """A text that is longer than the context."""


class Reader:
    """Texts as the token ids that a scorer reads."""

    def __init__(self, folder: Path, context_length: int, vocab_size: int) -> None:
        self.tokenizer = load_tokenizer(folder / "tokenizer.json")
        self.context_length, self.vocab_size = context_length, vocab_size
        self._template, self._named = template_of(folder), tokens_of(folder)

    def ids(self, text: Text) -> np.ndarray:
        """The token ids (T,). A conversation goes through the chat template, which brings its own special tokens.

        Raises UserError for a text that is empty, and TooLong for one that is longer than the context.
        """
        plain = isinstance(text, str)
        if not plain and not self._template:
            raise UserError("this model has no chat template, so it scores texts and no messages; give it texts.",
                            where="messages")
        whole = text if isinstance(text, str) else render(self._template, text, self._named, answer=False)
        ids = encoded(self.tokenizer, whole, add_special_tokens=plain)
        if not ids:
            raise UserError("the text is empty; write at least one word.", where="text")
        if len(ids) > self.context_length:
            raise TooLong(f"the text has {len(ids)} tokens, but the model sees {self.context_length} at once; "
                          "shorten it.", where="text")
        if max(ids) >= self.vocab_size:
            raise UserError(f"the text has the token {max(ids)}, but the model knows {self.vocab_size} tokens; "
                            "tokenizer.json is of another model.", where="text")
        return np.array(ids, np.int64)


class Scorer:
    """An exported model that scores. Calls from several threads need one each."""

    def __init__(self, bundle: Path, threads: int = 0, precision: str = folder_of.FULL) -> None:
        self.config, graph = folder_of.check(bundle, precision)
        if not folder_of.scores(bundle):
            raise UserError(f"{bundle.name} writes texts and scores none; choose a bundle of a reward model or a "
                            "classifier.", where=str(bundle))
        self.bundle, self.precision = bundle, precision
        try:
            self._run = onnxruntime.InferenceSession(str(graph), options_for(graph, threads),
                                                     providers=["CPUExecutionProvider"])
            about = self._run.get_modelmeta().custom_metadata_map
            labels, self.pad = json.loads(about["labels"]), json.loads(about["pad"])
            shape = self._run.get_outputs()[0].shape
            right = ({value.name for value in self._run.get_inputs()} == {"input_ids", "attention_mask"}
                     and isinstance(labels, list) and shape[-1] == len(labels))
        except Exception as error:  # onnxruntime's errors share no base class of their own
            reason = " ".join(str(error).split())[:300]
            raise UserError(f"{graph} could not be read as a model that scores ({reason}); export the bundle again.",
                            where=str(graph)) from None
        if not right:
            raise UserError(f"{graph} is no model that scores; export the bundle again.", where=str(graph))
        self.labels = tuple(map(str, labels))
        vocabulary = self.config.get("vocab_size")
        if not isinstance(vocabulary, int):
            raise UserError(f"{bundle / 'config.json'} does not say how many tokens the model knows; export the bundle "
                            "again.", where=str(bundle / "config.json"))
        self.context_length = folder_of.context_length(bundle, self.config)
        self.reader = Reader(bundle, self.context_length, vocabulary)

    def score(self, texts: Sequence[Text]) -> np.ndarray:
        """Scores (N, labels), float32: of a reward model one for each text, more is better; of a classifier logits.

        Raises UserError for a text that is empty or longer than the context.
        """
        return self.score_ids([self.reader.ids(text) for text in texts])

    def score_ids(self, rows: Sequence[np.ndarray]) -> np.ndarray:
        """`score` for texts as token ids, each (T,) int64."""
        made = np.empty((len(rows), len(self.labels)), np.float32)
        for places in _batches(rows):
            ids, mask = padded([rows[place] for place in places], self.pad or 0)
            made[places] = self.logits(ids, mask)
        return made

    def logits(self, ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """Scores (B, labels) of rows of tokens (B, T); `mask` (B, T) is 0 at padding, on either side."""
        with told():
            return self._run.run(["logits"], {"input_ids": ids, "attention_mask": mask})[0]


def padded(rows: Sequence[np.ndarray], pad: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Rows of several lengths as one batch, padded on the right, and its mask: (B, T) int64 each."""
    longest = max(map(len, rows))
    ids, mask = np.full((len(rows), longest), pad, np.int64), np.zeros((len(rows), longest), np.int64)
    for number, row in enumerate(rows):
        ids[number, :len(row)], mask[number, :len(row)] = row, 1
    return ids, mask


def _batches(rows: Sequence[np.ndarray]) -> Iterator[list[int]]:
    """The places of the rows, those of alike length together."""
    batch: list[int] = []
    for place in sorted(range(len(rows)), key=lambda number: len(rows[number])):
        if batch and (len(batch) + 1) * len(rows[place]) > BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch
