"""Precisions: the smaller forms of a model, each with the most that it may cost.

The costs were measured. On a trained model of 15.7M parameters int8 raised the loss by 0.0002, int8_dynamic by
0.0006, int4 by less than noise with its head in 8 bits; on one of 1M, where fewer numbers average out, int8 by
nothing, int8_dynamic by 0.014 and int4 by 0.006. The limits leave twice the worst of these and more, and are far
below what a broken file costs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from engine.config import setting
from engine.export import PRECISIONS, Precision

if TYPE_CHECKING:
    from engine.export.matrices import Matrices


def _loss(most: float) -> Any:
    return setting(most, "Most that the loss on held-out text may rise by; a form above it is called broken", gt=0,
                   unit="nats per token")


def _divergence(most: float) -> Any:
    return setting(most, "Largest mean KL divergence of its next-token probabilities from float32's", gt=0,
                   unit="nats", advanced=True)


def _agreement(least: float) -> Any:
    return setting(least, "Smallest share of places at which it finds the same token likeliest as float32 does; of a "
                          "model that scores, of decisions that are the same", ge=0, le=1, advanced=True)


def _score(most: float) -> Any:
    return setting(most, "Most that the scores of a reward model or classifier may move by on average, as a share of "
                         "their standard deviation", gt=0, advanced=True)


@PRECISIONS.add("float16")
class Float16(Precision):
    """Weights kept in 16 bits and computed with in 32: half the file at the same speed, and nearly exact."""

    file = "model_fp16.onnx"

    max_loss: float = _loss(0.002)
    max_divergence: float = _divergence(0.001)
    min_agreement: float = _agreement(0.98)
    max_score: float = _score(0.01)

    def matrices(self) -> Matrices:
        from engine.export.matrices import Half

        return Half()


@PRECISIONS.add("int8")
class Int8(Precision):
    """Weights in 8 bits, with a scale for every block of them (Dettmers et al. 2022): small and nearly exact."""

    file = "model_int8.onnx"
    targets = ("native",)

    block_size: Literal[16, 32, 64, 128] = setting(32, "Weights that share one scale", advanced=True)
    max_loss: float = _loss(0.005)
    max_divergence: float = _divergence(0.005)
    min_agreement: float = _agreement(0.97)
    max_score: float = _score(0.05)

    def matrices(self) -> Matrices:
        from engine.export.matrices import Blocks

        return Blocks(8, 8, self.block_size)


@PRECISIONS.add("int8_dynamic")
class Int8Dynamic(Precision):
    """Weights in 8 bits with a scale for every row, activations as they come: the fast form in browsers."""

    file = "model_quantized.onnx"

    max_loss: float = _loss(0.03)
    max_divergence: float = _divergence(0.03)
    min_agreement: float = _agreement(0.85)
    max_score: float = _score(0.2)

    def matrices(self) -> Matrices:
        from engine.export.matrices import Dynamic

        return Dynamic()


@PRECISIONS.add("int4")
class Int4(Precision):
    """Weights in 4 bits, with a scale for every block of them: the smallest, and the fastest on a processor."""

    file = "model_q4.onnx"
    targets = ("native",)

    block_size: Literal[16, 32, 64, 128] = setting(32, "Weights that share one scale", advanced=True)
    head_bits: Literal[4, 8] = setting(8, "Bits of the embedding and the head, which suffer most", unit="bits",
                                       advanced=True)
    max_loss: float = _loss(0.05)
    max_divergence: float = _divergence(0.05)
    min_agreement: float = _agreement(0.85)
    max_score: float = _score(0.3)

    def matrices(self) -> Matrices:
        from engine.export.matrices import Blocks

        return Blocks(4, self.head_bits, self.block_size)
