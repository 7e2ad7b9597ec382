"""ONNX: the decoder written as a graph, block by block, from its weights.

Written by hand rather than traced: it takes a fraction of a second, decoding is faster for the
merged operators, and one file serves every client. Names and sizes are those that optimum,
onnxruntime-genai and transformers.js expect:

    input_ids, position_ids      (batch_size, sequence_length)                      int64
    attention_mask               (batch_size, total_sequence_length)                int64, 1 where a token stands
    past_key_values.N.key/value  (batch_size, key-value heads, past_sequence_length, head size)      float32
    logits                       (batch_size, sequence_length, vocabulary)
    present.N.key/value          (batch_size, key-value heads, total_sequence_length, head size)

The mask becomes a bias on the scores and positions count from a row's first token: the form of
GroupQueryAttention that is exact for left padding, for right padding and for a cache of any length.
Matrices that read the same activations are one product: for a single token, what a product of a few
rows costs is mostly its beginning and its end.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from engine.export.graph import CONTRIB, FLOAT, INT32, INT64, Graph
from engine.export.heads import kernel_size, norm_eps, widen
from engine.export.matrices import Matrices
from engine.model import ModelConfig
from engine.model.rope import amplitude, stretch

HIDDEN = -1e9   # finite: a row of pads alone must not become NaN, which would leak through the values
ROTATED = 16    # what GroupQueryAttention rotates itself are heads of a multiple of this size


@dataclass
class Stream:
    """The residual stream before its last addition: `x + update + bias`, which the next norm adds up."""

    x: str
    update: str = ""
    bias: str = ""


class DecoderGraph(Graph):
    """The graph of one model: `config` gives the blocks, `weights` their float32 numbers by our own names.

    `matrices` says how the large ones are kept, `adapted` to which modules an adapter may add something.
    """

    target = "native"

    def __init__(self, config: ModelConfig, weights: Mapping[str, np.ndarray],
                 matrices: Matrices | None = None, adapted: Collection[str] = ()) -> None:
        super().__init__(config.family)
        self.matrices, self.adapted = matrices or Matrices(), frozenset(adapted)
        self.config, self.head_size = config, self.size_of_heads(config)
        self.given = widen(config, weights, self.head_size)
        self.about |= {"target": self.target, "context_length": str(config.context_length)}
        ids, mask, positions = self.asks()
        if config.position == "rope":
            for name, table in zip(("rope.cos", "rope.sin"), rope(config, self.head_size), strict=True):
                self.constant(name, table)
        with self.scope("mask"):
            self.seen = self.attention_inputs(mask, ids, positions)
        with self.scope("embed"):
            stream = self.embed(ids, positions)
        for layer in range(config.num_layers):
            with self.scope(f"blocks.{layer}"):
                stream = self.block(stream, layer, positions)
        with self.scope("head"):
            hidden, _ = self.norm(stream, "norm")
            self.answers(hidden, ids, mask)

    def asks(self) -> tuple[str, str, str]:
        """The inputs, and the outputs that they lead to: (input_ids, attention_mask, position_ids)."""
        config = self.config
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
        return ids, mask, positions

    def answers(self, hidden: str, ids: str, mask: str) -> None:
        """From the last hidden states (batch, sequence, width) to the output."""
        self.name_output(self.matrices.product(self, hidden, "head.weight", self.head), "logits")

    @staticmethod
    def size_of_heads(config: ModelConfig) -> int:
        """Width of one head in the graph, which the caches have too."""
        return kernel_size(config)

    @property
    def rotates(self) -> bool:
        """Whether the attention operator rotates queries and keys itself."""
        return self.config.position == "rope" and self.head_size % ROTATED == 0

    @property
    def packs(self) -> bool:
        """Whether it takes queries, keys and values side by side, as one product gives them."""
        return not self.config.qk_norm and (self.rotates or self.config.position != "rope")

    # The blocks, in the order of the path ------------------------------------------------------------

    def attention_inputs(self, mask: str, ids: str, positions: str) -> tuple[str, ...]:
        """From the mask: last place of each row (batch), total length (1), bias (batch, 1, sequence, total), and where
        the operator rotates, the places that it rotates by, "" for those from 0 on."""
        batch = self.node("Shape", ids, end=1)
        sequence = self.node("Shape", ids, start=1)
        total = self.node("Shape", mask, start=1)
        length = self.node("Cast", total, to=INT32)
        last = self.node("Expand", self.node("Sub", length, self.constant("one_int32", np.array([1], np.int32))), batch)
        seen = self.node("Cast", mask, to=FLOAT)
        bias = self.node("Mul", self.node("Sub", self.constant("one", np.float32(1)), seen),
                         self.constant("hidden", np.float32(HIDDEN)))
        bias = self.node("Unsqueeze", bias, self.constant("axes_1_2", np.array([1, 2])))
        one = self.constant("one_alone", np.array([1]))
        places = ""
        if self.rotates and positions:
            # The operator counts the tokens of a prompt from 0 on, pads included, whatever it is told: what follows
            # must count the pads in front too. RoPE sees differences alone, which are those of the positions.
            pads = self.node("ArgMax", seen, axis=1, keepdims=1)
            later = self.node("Min", self.node("Sub", total, sequence), one)                # 0 in a prompt
            places = self.node("Mul", self.node("Add", positions, pads), later)
        shape = self.node("Concat", batch, one, sequence, total, axis=0)
        return last, length, self.node("Expand", bias, shape), places

    def embed(self, ids: str, positions: str) -> Stream:
        """(batch, sequence) ids -> (batch, sequence, width)."""
        tied = self.shared
        x = self.matrices.rows(self, ids, "head.weight" if tied else "embedding.weight",
                               self.given["embedding.weight"], shared=tied)
        if self.config.position == "learned":
            return Stream(x, self.node("Gather", self.weight("positions.weight"), positions))
        return Stream(x)

    @property
    def shared(self) -> bool:
        """Whether the head multiplies with the embedding's matrix."""
        return self.config.tied_embeddings

    @property
    def head(self) -> np.ndarray:
        """The (vocabulary, width) matrix that turns hidden states into logits."""
        return self.given["embedding.weight" if self.shared else "head.weight"]

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
        parts = [f"{name}.{part}" for part in ("query", "key", "value")]
        if self.packs and not self.adapted.intersection(parts):
            query, key, value = self.joined(x, f"{name}.query_key_value", parts, c.attention_bias), "", ""
        else:
            query, key, value = self.apart(x, f"{name}.query_key_value", parts, c.attention_bias)
        if c.qk_norm:
            query, key = self.head_norm(query, f"{name}.query_norm", heads), self.head_norm(key, f"{name}.key_norm", kv)
        if c.position == "rope" and not self.rotates:
            query, key = self.rotate(query, positions, heads), self.rotate(key, positions, kv)
        out = self.attention(query, key, value, self.past(layer), name)
        return self.product(out, f"{name}.output", c.attention_bias)

    def past(self, layer: int) -> list[str]:
        """The inputs that hold keys and values of what was read before."""
        return [f"past_key_values.{layer}.{part}" for part in ("key", "value")]

    def attention(self, query: str, key: str, value: str, past: list[str], name: str) -> str:
        """The mixed heads; writes the outputs of the cache."""
        c = self.config
        last, length, bias, places = self.seen
        present = [p.replace("past_key_values", "present") for p in past]
        turn = ("rope.cos", "rope.sin", places) if self.rotates else ("", "", "")
        return self.nodes_of("GroupQueryAttention", query, key, value, *past, last, length, *turn, bias,
                             outputs=(f"{name}.heads", *present), domain=CONTRIB, num_heads=c.num_heads,
                             kv_num_heads=c.num_kv_heads, scale=c.head_size**-0.5, do_rotary=int(self.rotates))[0]

    def head_norm(self, x: str, name: str, heads: int) -> str:
        """RMS norm inside each head of (batch, sequence, heads * size)."""
        size = self.head_size
        apart = self.constant(f"shape.{heads}_heads", np.array([0, 0, heads, size]))   # 0: as it was
        side_by_side = self.constant(f"shape.{heads}_joined", np.array([0, 0, heads * size]))
        x = self.node("RMSNormalization", self.node("Reshape", x, apart), self.weight(f"{name}.weight"), axis=-1,
                      epsilon=norm_eps(self.config, size))
        return self.node("Reshape", x, side_by_side)

    def rotate(self, x: str, positions: str, heads: int) -> str:
        """Turn the pairs of each of the heads by the angle of its position."""
        return self.node("RotaryEmbedding", x, positions, "rope.cos", "rope.sin", domain=CONTRIB)

    def mlp(self, x: str, name: str) -> tuple[str, str]:
        """SwiGLU (Shazeer 2020) or GELU by tanh (Hendrycks and Gimpel 2016); returns (update, its bias)."""
        bias = self.config.mlp_bias
        if self.config.mlp == "swiglu":
            gate, up = self.apart(x, f"{name}.gate_up", [f"{name}.gate", f"{name}.up"], bias)
            inner = self.node("Mul", self.silu(gate), up)
        else:
            inner = self.gelu(*self.product(x, f"{name}.up", bias))
        return self.product(inner, f"{name}.down", bias)

    def silu(self, x: str) -> str:
        """x * sigmoid(x)"""
        return self.node("QuickGelu", x, domain=CONTRIB, alpha=1.0)

    def gelu(self, x: str, bias: str) -> str:
        """GELU of x + bias."""
        return self.node("FastGelu", x, *filter(None, [bias]), domain=CONTRIB)

    # Weights -----------------------------------------------------------------------------------------

    def weight(self, name: str) -> str:
        return self.constant(name, self.given[name])

    def product(self, x: str, name: str, bias: bool) -> tuple[str, str]:
        """`x` times a matrix, and the bias, "" if there is none, which the next node adds."""
        out = self.matrices.product(self, x, f"{name}.weight", self.given[f"{name}.weight"])
        if name in self.adapted:
            out = self.node("Add", out, self.adapter(x, name))
        return out, self.weight(f"{name}.bias") if bias else ""

    def adapter(self, x: str, name: str) -> str:
        """What a LoRA adapter (Hu et al. 2021) adds; zeros unless one is given."""
        outside, inside = self.given[f"{name}.weight"].shape
        first = self.optional(f"{name}.lora_A", FLOAT, (inside, "lora_rank"), np.zeros((inside, 0), np.float32))
        second = self.optional(f"{name}.lora_B", FLOAT, ("lora_rank", outside), np.zeros((0, outside), np.float32))
        return self.node("MatMul", self.node("MatMul", x, first), second)

    def linear(self, x: str, name: str, bias: bool) -> str:
        """A product with its bias added."""
        out, addend = self.product(x, name, bias)
        return self.node("Add", out, addend) if bias else out

    def joined(self, x: str, name: str, parts: Sequence[str], bias: bool) -> str:
        """`linear` by several modules at once, their results side by side."""
        matrix = np.concatenate([self.given[f"{part}.weight"] for part in parts])
        out = self.matrices.product(self, x, f"{name}.weight", matrix)
        if not bias:
            return out
        return self.node("Add", out, self.constant(f"{name}.bias", np.concatenate([self.given[f"{part}.bias"]
                                                                                   for part in parts])))

    def apart(self, x: str, name: str, parts: Sequence[str], bias: bool) -> list[str]:
        """`linear` by several modules, in one product unless an adapter adds something to one of them."""
        if self.adapted.intersection(parts):
            return [self.linear(x, part, bias) for part in parts]
        sizes = np.array([len(self.given[f"{part}.weight"]) for part in parts])
        return self.nodes_of("Split", self.joined(x, name, parts, bias),
                             self.constant(f"sizes.{name.rpartition('.')[2]}", sizes),
                             outputs=[f"{part}.out" for part in parts], axis=-1)


def rope(config: ModelConfig, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Cosines and sines of RoPE's angles (Su et al. 2021), each (context, `size` of a head in the graph / 2).

    In float32 from the first operation, as the published models compute them: at long contexts
    the rounding of the angle is part of the model. Pairs that only widen the head stand still.
    """
    pairs = np.arange(0, config.head_size, 2, dtype=np.float32) / np.float32(config.head_size)
    frequency = np.zeros(size // 2, np.float32)
    frequency[:len(pairs)] = np.float32(1) / np.float32(config.rope_theta) ** pairs
    if (factors := stretch(config)) is not None:
        frequency[:len(pairs)] *= factors
    angles = np.outer(np.arange(config.context_length, dtype=np.float32), frequency)
    size_of_both = np.float32(amplitude(config))
    return np.cos(angles) * size_of_both, np.sin(angles) * size_of_both
