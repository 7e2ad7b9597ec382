"""Scoring: the graph of a model that reads a text and gives a number for each label; it writes nothing.

    input_ids, attention_mask    (batch_size, sequence_length)    int64; 0 in the mask is padding, on either side
    logits                       (batch_size, labels)             the scores

These are the names that optimum and transformers.js ask of a text classifier. There is no cache, and positions
are counted from the mask.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import numpy as np

from engine.export.graph import FLOAT, INT64
from engine.export.matrices import Matrices
from engine.export.onnx import DecoderGraph
from engine.export.portable import PortableGraph
from engine.model import ModelConfig


class ScoringGraph(DecoderGraph):
    """`DecoderGraph` with a score head in place of the one that writes; `weights` has its `score.weight` too."""

    shared = False

    def __init__(self, config: ModelConfig, weights: Mapping[str, np.ndarray], matrices: Matrices | None = None,
                 labels: Sequence[str] = ("score",), pad: int | None = None) -> None:
        self.labels, self.pad = labels, pad
        super().__init__(config, weights, matrices)

    def asks(self) -> tuple[str, str, str]:
        self.about |= {"labels": json.dumps(list(self.labels)), "pad": json.dumps(self.pad)}
        ids, mask = (self.input(name, INT64, ("batch_size", "sequence_length"))
                     for name in ("input_ids", "attention_mask"))
        self.output("logits", FLOAT, ("batch_size", len(self.labels)))
        if self.rotates:    # by places from 0 on: there is no cache, and RoPE sees differences alone
            return ids, mask, ""
        with self.scope("positions"):
            count = self.node("CumSum", mask, self.constant("one_int64", np.array(1)))
            place = self.node("Sub", count, self.constant("one_int64", np.array(1)))
            return ids, mask, self.node("Max", place, self.constant("zero_int64", np.array(0)))

    def past(self, layer: int) -> list[str]:
        return ["", ""]

    def answers(self, hidden: str, ids: str, mask: str) -> None:
        """The hidden state of each text's last token that is no padding, and what the score head makes of it."""
        zero, one = self.constant("zero_int64", np.array(0)), self.constant("one_int64", np.array(1))
        counts = mask
        if self.pad is not None:
            padding = self.node("Equal", ids, self.constant("pad", np.array(self.pad)))
            counts = self.node("Where", padding, zero, mask)
        length = self.node("Squeeze", self.node("Shape", ids, start=1))
        places = self.node("Mul", counts, self.node("Range", zero, length, one))                # (batch, sequence)
        last = self.node("ReduceMax", places, self.constant("axis_1", np.array([1])), keepdims=1)     # (batch, 1)
        text = self.node("GatherND", hidden, last, batch_dims=1)                                # (batch, width)
        # A row or two of numbers: whole in every precision, they weigh nothing and decide everything.
        self.name_output(Matrices().product(self, text, "score.weight", self.given["score.weight"]), "logits")


class PortableScoringGraph(ScoringGraph, PortableGraph):
    """`ScoringGraph` in the standard operators of ONNX opset 24 alone."""
