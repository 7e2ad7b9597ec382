"""Matrices: how a graph keeps its large weights and multiplies with them, in each precision.

A matrix is given as PyTorch keeps it, (out, in). `product` multiplies with it; `rows` looks up rows
of an embedding, which a tied head shares: whatever the precision, the shared matrix is in the file once.
"""

from __future__ import annotations

import numpy as np

from engine.export.graph import CONTRIB, FLOAT, Graph

SMALLEST = np.float32(1e-12)    # the scale of weights that are all zero
ZERO = 128                      # of unsigned 8-bit weights
INT8_ACTIVATIONS = 4            # MatMulNBits' accuracy_level: activations in 8 bits too, the fast kernels


class Matrices:
    """float32, as they were trained."""

    def product(self, graph: Graph, x: str, name: str, matrix: np.ndarray) -> str:
        """(..., in) -> (..., out)"""
        return graph.node("MatMul", x, graph.constant(name, matrix.T))

    def rows(self, graph: Graph, ids: str, name: str, matrix: np.ndarray, shared: bool) -> str:
        """(batch, sequence) ids of rows -> (batch, sequence, in); `shared` if `product` uses the matrix too."""
        if not shared:
            return graph.node("Gather", graph.constant(name, matrix), ids)
        # One (in, out) matrix serves both ends: a second copy would double a small model's file,
        # and FusedMatMul(transB) over (out, in) is slower.
        found = graph.node("Gather", graph.constant(name, matrix.T), ids, axis=1)
        return graph.node("Transpose", found, perm=[1, 2, 0])


class Half(Matrices):
    """16-bit floats in the file. onnxruntime widens them once, when it loads: few processors compute in 16 bits."""

    def product(self, graph: Graph, x: str, name: str, matrix: np.ndarray) -> str:
        half = graph.constant(name, _half(matrix.T))
        return graph.node("MatMul", x, graph.node("Cast", half, to=FLOAT))

    def rows(self, graph: Graph, ids: str, name: str, matrix: np.ndarray, shared: bool) -> str:
        return graph.node("Cast", super().rows(graph, ids, name, _half(matrix), shared), to=FLOAT)


def _half(matrix: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):    # a weight above 65504 becomes infinite, and the gate calls the file broken
        return matrix.astype(np.float16)


class Dynamic(Matrices):
    """8-bit weights with a scale for each row, and activations quantised as they come, by standard operators.

    (Jacob et al. 2018.) onnxruntime merges them when it loads. Weights are unsigned, around ZERO: the kernels for
    signed ones add up pairs in 16 bits on processors without VNNI and saturate, which cost a tenth of the logits'
    size where it was measured.
    """

    def __init__(self) -> None:
        self._given: dict[str, tuple[str, ...]] = {}

    def product(self, graph: Graph, x: str, name: str, matrix: np.ndarray) -> str:
        weight, scale = self._keep(graph, name, matrix)
        if x not in self._given:    # query, key and value read the same activations
            outputs = tuple(f"{x}.{part}" for part in ("uint8", "scale", "zero"))
            self._given[x] = tuple(graph.nodes_of("DynamicQuantizeLinear", x, outputs=outputs))
        quantised, x_scale, zero = self._given[x]
        centre = graph.constant("zero_of_uint8", np.uint8(ZERO))
        whole = graph.node("MatMulInteger", quantised, weight, zero, centre)
        return graph.node("Mul", graph.node("Cast", whole, to=FLOAT), graph.node("Mul", x_scale, scale))

    def rows(self, graph: Graph, ids: str, name: str, matrix: np.ndarray, shared: bool) -> str:
        weight, scale = self._keep(graph, name, matrix)
        found = graph.node("Cast", graph.node("Gather", weight, ids, axis=1), to=FLOAT)         # (in, batch, sequence)
        found = graph.node("Sub", found, graph.constant("zero_of_8_bits", np.float32(ZERO)))
        found = graph.node("Mul", found, graph.node("Gather", scale, ids))
        return graph.node("Transpose", found, perm=[1, 2, 0])

    def _keep(self, graph: Graph, name: str, matrix: np.ndarray) -> tuple[str, str]:
        """uint8 (in, out) and float32 scales (out)."""
        if name not in graph.weights:
            scale = np.maximum(np.abs(matrix).max(1) / np.float32(127), SMALLEST)
            graph.constant(f"{name}.scale", scale.astype(np.float32))
            graph.constant(name, (np.rint(matrix / scale[:, None]) + ZERO).astype(np.uint8).T)
        return name, f"{name}.scale"


class Blocks(Matrices):
    """Weights of few bits, with a scale for every `block` of a row, for onnxruntime's MatMulNBits."""

    def __init__(self, bits: int, head_bits: int, block: int) -> None:
        self.bits, self.head_bits, self.block = bits, head_bits, block

    def product(self, graph: Graph, x: str, name: str, matrix: np.ndarray) -> str:
        out, inside = matrix.shape
        bits = self._bits(name)
        return graph.node("MatMulNBits", x, *self._keep(graph, name, matrix), domain=CONTRIB, K=inside, N=out,
                          bits=bits, block_size=self.block, accuracy_level=INT8_ACTIVATIONS)

    def rows(self, graph: Graph, ids: str, name: str, matrix: np.ndarray, shared: bool) -> str:
        # GatherBlockQuantized would do this in one node, but the builds for browsers lack it.
        kept, scale = self._keep(graph, name, matrix)
        inside, bits = matrix.shape[1], self._bits(name)
        blocks = -(-inside // self.block)
        found = graph.node("Gather", kept, ids)                                  # (batch, sequence, blocks, bytes)
        if bits == 4:
            last = graph.constant("axis_last", np.array([-1]))
            halves = (graph.node("BitwiseAnd", found, graph.constant("low_half", np.uint8(15))),
                      graph.node("BitShift", found, graph.constant("four", np.uint8(4)), direction="RIGHT"))
            found = graph.node("Concat", *(graph.node("Unsqueeze", half, last) for half in halves), axis=-1)
            found = graph.node("Reshape", found, graph.constant("shape.blocks", np.array([0, 0, blocks, self.block])))
        centred = graph.node("Sub", graph.node("Cast", found, to=FLOAT),
                             graph.constant(f"zero_of_{bits}_bits", np.float32(1 << bits - 1)))
        shape = graph.constant("shape.scales", np.array([0, 0, blocks, 1]))
        whole = graph.node("Mul", centred, graph.node("Reshape", graph.node("Gather", scale, ids), shape))
        whole = graph.node("Reshape", whole, graph.constant("shape.row", np.array([0, 0, blocks * self.block])))
        if inside == blocks * self.block:
            return whole
        ends = [graph.constant(f"cut.{part}", np.array([place])) for part, place in
                (("from", 0), ("to", inside), ("axis", 2))]
        return graph.node("Slice", whole, *ends)

    def _bits(self, name: str) -> int:
        return self.head_bits if name in ("head.weight", "embedding.weight") else self.bits

    def _keep(self, graph: Graph, name: str, matrix: np.ndarray) -> tuple[str, str]:
        """uint8 (out, blocks, bytes of a block) and float32 scales (out, blocks)."""
        if name not in graph.weights:
            quantised, scale = quantise(matrix, self._bits(name), self.block)
            graph.constant(name, quantised)
            graph.constant(f"{name}.scale", scale)
        return name, f"{name}.scale"


def quantise(matrix: np.ndarray, bits: int, block: int) -> tuple[np.ndarray, np.ndarray]:
    """Weights (out, in) in `bits` 4 or 8, block by block: uint8 (out, blocks, block * bits / 8), scales (out, blocks).

    A weight is (value - 2**(bits - 1)) * scale. Symmetric, with the weight of the largest size exact: 4 bits reach
    from -8 to 7, so it stands at -8.
    """
    out, inside = matrix.shape
    blocks, zero = -(-inside // block), 1 << bits - 1
    parts = np.zeros((out, blocks * block), np.float32)
    parts[:, :inside] = matrix
    parts = parts.reshape(out, blocks, block)
    place = np.abs(parts).argmax(-1)[..., None]
    largest = np.take_along_axis(parts, place, -1)[..., 0]
    scale = -largest / np.float32(zero)
    scale = np.where(np.abs(scale) < SMALLEST, SMALLEST, scale).astype(np.float32)
    values = np.clip(np.rint(parts / scale[..., None]) + zero, 0, 2 * zero - 1).astype(np.uint8)
    if bits == 4:
        values = values[..., 0::2] | values[..., 1::2] << 4
    return values, scale
