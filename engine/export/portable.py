"""Portable: the same decoder in the standard operators of ONNX opset 24 alone, for runtimes other than onnxruntime.

Its attention gives a new cache at every step instead of appending to the one it was given, and sizes of heads
need no widening. The mask is written out as a bias that hides padding and what comes later: the operator's own
causal masking counts places from the start of the new tokens, which is another thing where there is a past.
"""

from __future__ import annotations

import numpy as np

from engine.export import onnx
from engine.export.graph import BOOL
from engine.export.onnx import DecoderGraph, Stream
from engine.model import ModelConfig


class PortableGraph(DecoderGraph):
    """`DecoderGraph` without an operator of onnxruntime's own."""

    target = "portable"
    opset, ir_version = 24, 11

    @staticmethod
    def size_of_heads(config: ModelConfig) -> int:
        return config.head_size

    @property
    def rotates(self) -> bool:
        return False

    @property
    def packs(self) -> bool:
        return False

    def attention_inputs(self, mask: str, ids: str, positions: str) -> tuple[str, ...]:
        """The bias on the scores (batch, 1, sequence, total): 0 where a query sees a key."""
        zero, one = self.constant("zero_int64", np.array(0)), self.constant("one_int64", np.array(1))
        total = self.node("Squeeze", self.node("Shape", mask, start=1))
        new = self.node("Squeeze", self.node("Shape", ids, start=1))
        keys = self.node("Range", zero, total, one)                                     # (total)
        queries = self.node("Range", self.node("Sub", total, new), total, one)          # (sequence)
        queries = self.node("Unsqueeze", queries, self.constant("axis_1", np.array([1])))
        seen = self.node("LessOrEqual", keys, queries)                                  # (sequence, total)
        real = self.node("Cast", mask, to=BOOL)
        real = self.node("Unsqueeze", real, self.constant("axes_1_2", np.array([1, 2])))
        visible = self.node("And", seen, real)                                          # (batch, 1, sequence, total)
        return (self.node("Where", visible, self.constant("seen", np.float32(0)),
                          self.constant("hidden", np.float32(onnx.HIDDEN))),)

    def norm(self, stream: Stream, name: str) -> tuple[str, str]:
        x = stream.x
        if stream.update:
            update = self.node("Add", stream.update, stream.bias) if stream.bias else stream.update
            x = self.node("Add", x, update)
        rms = self.config.norm == "rmsnorm"
        weights = [self.weight(f"{name}.weight")] + ([] if rms else [self.weight(f"{name}.bias")])
        return self.node("RMSNormalization" if rms else "LayerNormalization", x, *weights, axis=-1,
                         epsilon=self.config.norm_eps), x

    def attention(self, query: str, key: str, value: str, past: list[str], name: str) -> str:
        c = self.config
        present = [p.replace("past_key_values", "present") for p in past]
        return self.nodes_of("Attention", query, key, value, *self.seen, *past, outputs=(f"{name}.heads", *present),
                             q_num_heads=c.num_heads, kv_num_heads=c.num_kv_heads, scale=c.head_size**-0.5)[0]

    def rotate(self, x: str, positions: str, heads: int) -> str:
        return self.node("RotaryEmbedding", x, "rope.cos", "rope.sin", positions, num_heads=heads)

    def silu(self, x: str) -> str:
        return self.node("Mul", x, self.node("Sigmoid", x))

    def gelu(self, x: str, bias: str) -> str:
        x = self.node("Add", x, bias) if bias else x
        return self.node("Gelu", x, approximate="tanh")

