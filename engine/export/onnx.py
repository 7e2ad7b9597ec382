"""ONNX: the decoder written as a graph, block by block, from its weights.

Written by hand rather than traced: it takes a fraction of a second, decoding is faster for the
merged operators, and one file serves every client. Names and sizes are those that optimum,
onnxruntime-genai and transformers.js expect:

    input_ids, position_ids      (batch_size, sequence_length)                      int64
    attention_mask               (batch_size, total_sequence_length)                int64, 1 where a token stands
    past_key_values.N.key/value  (batch_size, key-value heads, past_sequence_length, head size)      float32
    logits                       (batch_size, sequence_length, vocabulary)
    present.N.key/value          (batch_size, key-value heads, total_sequence_length, head size)

Positions are an input and the mask becomes a bias on the scores: the form of GroupQueryAttention
that is exact for left padding, for right padding and for a cache of any length.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from engine.export.graph import CONTRIB, FLOAT, INT32, INT64, Graph
from engine.export.heads import kernel_size, norm_eps, widen
from engine.model import ModelConfig

HIDDEN = -1e9   # finite: a row of pads alone must not become NaN, which would leak through the values


@dataclass
class Stream:
    """The residual stream before its last addition: `x + update + bias`, which the next norm adds up."""

    x: str
    update: str = ""
    bias: str = ""


class DecoderGraph(Graph):
    """The graph of one model: `config` gives the blocks, `weights` their float32 numbers by our own names."""

    def __init__(self, config: ModelConfig, weights: Mapping[str, np.ndarray]) -> None:
        super().__init__(config.family)
        self.config, self.head_size, self.given = config, kernel_size(config), widen(config, weights)
        batch, sequence, past, total = "batch_size", "sequence_length", "past_sequence_length", "total_sequence_length"
        caches = [f"{layer}.{part}" for layer in range(config.num_layers) for part in ("key", "value")]
        ids = self.input("input_ids", INT64, (batch, sequence))
        mask = self.input("attention_mask", INT64, (batch, total))
        positions = self.input("position_ids", INT64, (batch, sequence))
        for name in caches:
            self.input(f"past_key_values.{name}", FLOAT, (batch, config.num_kv_heads, past, self.head_size))
        self.output("logits", FLOAT, (batch, sequence, config.vocab_size))
        for name in caches:
            self.output(f"present.{name}", FLOAT, (batch, config.num_kv_heads, total, self.head_size))

        if config.position == "rope":
            for name, table in zip(("rope.cos", "rope.sin"), rope(config), strict=True):
                self.constant(name, table)
        with self.scope("mask"):
            self.attention = self.attention_inputs(mask, ids)
        with self.scope("embed"):
            stream = self.embed(ids, positions)
        for layer in range(config.num_layers):
            with self.scope(f"blocks.{layer}"):
                stream = self.block(stream, layer, positions)
        with self.scope("head"):
            hidden, _ = self.norm(stream, "norm")
            self.node("MatMul", hidden, self.head(), name="logits")

    # The blocks, in the order of the path ------------------------------------------------------------

    def attention_inputs(self, mask: str, ids: str) -> tuple[str, str, str]:
        """From the mask: last place of each row (batch), total length (1), bias (batch, 1, sequence, total)."""
        batch = self.node("Shape", ids, end=1)
        sequence = self.node("Shape", ids, start=1)
        total = self.node("Shape", mask, start=1)
        length = self.node("Cast", total, to=INT32)
        last = self.node("Expand", self.node("Sub", length, self.constant("one_int32", np.array([1], np.int32))), batch)
        seen = self.node("Cast", mask, to=FLOAT)
        bias = self.node("Mul", self.node("Sub", self.constant("one", np.float32(1)), seen),
                         self.constant("hidden", np.float32(HIDDEN)))
        bias = self.node("Unsqueeze", bias, self.constant("axes_1_2", np.array([1, 2])))
        shape = self.node("Concat", batch, self.constant("one_int64", np.array([1])), sequence, total, axis=0)
        return last, length, self.node("Expand", bias, shape)

    def embed(self, ids: str, positions: str) -> Stream:
        """(batch, sequence) ids -> (batch, sequence, width)."""
        if self.config.tied_embeddings:
            # One (width, vocabulary) matrix serves both ends: a second copy would double a small model's file,
            # and FusedMatMul(transB) over (vocabulary, width) is slower.
            x = self.node("Transpose", self.node("Gather", self.head(), ids, axis=1), perm=[1, 2, 0])
        else:
            x = self.node("Gather", self.weight("embedding.weight"), ids)
        if self.config.position == "learned":
            return Stream(x, self.node("Gather", self.weight("positions.weight"), positions))
        return Stream(x)

    def head(self) -> str:
        """The (width, vocabulary) matrix that turns hidden states into logits."""
        name = "embedding.weight" if self.config.tied_embeddings else "head.weight"
        return self.constant("head.weight", self.given[name].T)

    def block(self, stream: Stream, layer: int, positions: str) -> Stream:
        """One decoder layer: each half normalises the stream and gives the update that is added to it."""
        name = f"blocks.{layer}"
        x, stream_x = self.norm(stream, f"{name}.attention_norm")
        stream = Stream(stream_x, *self.attend(x, f"{name}.attention", layer, positions))
        x, stream_x = self.norm(stream, f"{name}.mlp_norm")
        return Stream(stream_x, *self.mlp(x, f"{name}.mlp"))

    def norm(self, stream: Stream, name: str) -> tuple[str, str]:
        """Add the stream up and normalise it; returns (normalised, sum)."""
        rms, eps = self.config.norm == "rmsnorm", self.config.norm_eps
        weights = [self.weight(f"{name}.weight")] + ([] if rms else [self.weight(f"{name}.bias")])
        if not stream.update:
            return self.node("RMSNormalization" if rms else "LayerNormalization", stream.x, *weights,
                             axis=-1, epsilon=eps), stream.x
        op = "SkipSimplifiedLayerNormalization" if rms else "SkipLayerNormalization"
        out = self.nodes_of(op, stream.x, stream.update, *weights, *filter(None, [stream.bias]), domain=CONTRIB,
                            outputs=(f"{name}.out", "", "", f"{name}.sum"), epsilon=eps)
        return out[0], out[3]

    def attend(self, x: str, name: str, layer: int, positions: str) -> tuple[str, str]:
        """Grouped-query attention (Ainslie et al. 2023) with the cache; returns (update, its bias)."""
        c = self.config
        heads, kv = c.num_heads, c.num_kv_heads
        query, key, value = (self.linear(x, f"{name}.{part}", c.attention_bias) for part in ("query", "key", "value"))
        if c.qk_norm:
            query, key = self.head_norm(query, f"{name}.query_norm", heads), self.head_norm(key, f"{name}.key_norm", kv)
        if c.position == "rope":
            query, key = self.rotate(query, positions), self.rotate(key, positions)
        last, length, bias = self.attention
        past = [f"past_key_values.{layer}.{part}" for part in ("key", "value")]
        out, *_ = self.nodes_of("GroupQueryAttention", query, key, value, *past, last, length, "", "", "", bias,
                                outputs=(f"{name}.heads", *(p.replace("past_key_values", "present") for p in past)),
                                domain=CONTRIB, num_heads=heads, kv_num_heads=kv, scale=c.head_size**-0.5)
        return self.product(out, f"{name}.output", c.attention_bias)

    def head_norm(self, x: str, name: str, heads: int) -> str:
        """RMS norm inside each head of (batch, sequence, heads * size)."""
        size = self.head_size
        apart = self.constant(f"shape.{heads}_heads", np.array([0, 0, heads, size]))   # 0: as it was
        side_by_side = self.constant(f"shape.{heads}_joined", np.array([0, 0, heads * size]))
        x = self.node("RMSNormalization", self.node("Reshape", x, apart), self.weight(f"{name}.weight"), axis=-1,
                      epsilon=norm_eps(self.config))
        return self.node("Reshape", x, side_by_side)

    def rotate(self, x: str, positions: str) -> str:
        """Turn the pairs of each head by the angle of its position."""
        return self.node("RotaryEmbedding", x, positions, "rope.cos", "rope.sin", domain=CONTRIB)

    def mlp(self, x: str, name: str) -> tuple[str, str]:
        """SwiGLU (Shazeer 2020) or GELU by tanh (Hendrycks and Gimpel 2016); returns (update, its bias)."""
        bias = self.config.mlp_bias
        if self.config.mlp == "swiglu":
            gate, up = self.linear(x, f"{name}.gate", bias), self.linear(x, f"{name}.up", bias)
            inner = self.node("Mul", self.node("QuickGelu", gate, domain=CONTRIB, alpha=1.0), up)   # alpha 1: SiLU
        else:
            up, up_bias = self.product(x, f"{name}.up", bias)
            inner = self.node("FastGelu", up, *filter(None, [up_bias]), domain=CONTRIB)
        return self.product(inner, f"{name}.down", bias)

    # Weights -----------------------------------------------------------------------------------------

    def weight(self, name: str) -> str:
        return self.constant(name, self.given[name])

    def product(self, x: str, name: str, bias: bool) -> tuple[str, str]:
        """`x` times a matrix kept as (in, out), and the bias, "" if there is none, which the next node adds."""
        matrix = self.constant(f"{name}.weight", self.given[f"{name}.weight"].T)
        return self.node("MatMul", x, matrix), self.weight(f"{name}.bias") if bias else ""

    def linear(self, x: str, name: str, bias: bool) -> str:
        """A product with its bias added."""
        out, addend = self.product(x, name, bias)
        return self.node("Add", out, addend) if bias else out


def rope(config: ModelConfig) -> tuple[np.ndarray, np.ndarray]:
    """Cosines and sines of RoPE's angles (Su et al. 2021), each (context, head size in the graph / 2).

    In float32 from the first operation, as the published models compute them: at long contexts
    the rounding of the angle is part of the model. Pairs that only widen the head stand still.
    """
    pairs = np.arange(0, config.head_size, 2, dtype=np.float32) / np.float32(config.head_size)
    frequency = np.zeros(kernel_size(config) // 2, np.float32)
    frequency[:len(pairs)] = np.float32(1) / np.float32(config.rope_theta) ** pairs
    angles = np.outer(np.arange(config.context_length, dtype=np.float32), frequency)
    return np.cos(angles), np.sin(angles)
