"""Graph: a small vocabulary for writing ONNX graphs by hand.

Each method that adds a node returns the name of what it computes, so that a model reads as
nested calls: `graph.node("MatMul", x, graph.constant("head", weight))`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper

CONTRIB = "com.microsoft"       # onnxruntime's own operators, in every build of it
EMBED_BYTES = 1_900_000_000     # protobuf refuses a file of 2 GiB
ALIGNMENT = 4096                # lets onnxruntime map external weights instead of reading them

FLOAT, INT32, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT32, TensorProto.INT64, TensorProto.BOOL


class Graph:
    """Nodes, weights, inputs and outputs, in the order in which they were added."""

    opset, ir_version = 23, 10      # the first with RMSNormalization

    def __init__(self, name: str) -> None:
        self.name = name
        self.nodes: list[onnx.NodeProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []
        self.weights: dict[str, np.ndarray] = {}
        self.about: dict[str, str] = {}     # what a reader of the file is told, by name
        self._scope = ""

    @contextmanager
    def scope(self, name: str) -> Iterator[None]:
        """Names given inside the block begin with `name.`, so that a viewer shows where a node belongs."""
        outer, self._scope = self._scope, f"{self._scope}{name}."
        yield
        self._scope = outer

    def input(self, name: str, kind: int, shape: Sequence[int | str]) -> str:
        """What the caller gives; a string in the shape names a size that may change from call to call."""
        self.inputs.append(helper.make_tensor_value_info(name, kind, shape))
        return name

    def output(self, name: str, kind: int, shape: Sequence[int | str]) -> str:
        """What the caller gets: the name of a node's output."""
        self.outputs.append(helper.make_tensor_value_info(name, kind, shape))
        return name

    def constant(self, name: str, values: Any) -> str:
        """Weights, or a small array of numbers, under a name of their own; given once, used wherever it is named.

        They are kept as they are, turned ones too, and laid out when they are written: no second copy of a model.
        """
        if name not in self.weights:
            self.weights[name] = np.asarray(values)
        return name

    def optional(self, name: str, kind: int, shape: Sequence[int | str], otherwise: Any) -> str:
        """What the caller may give, and else is `otherwise`."""
        self.input(name, kind, shape)
        return self.constant(name, otherwise)

    def node(self, op: str, *inputs: str, name: str = "", domain: str = "", **attributes: Any) -> str:
        """Add an operator with one output; returns the output's name. An empty input is one left out."""
        return self.nodes_of(op, *inputs, outputs=(name or self._name(op),), domain=domain, **attributes)[0]

    def nodes_of(self, op: str, *inputs: str, outputs: Sequence[str], domain: str = "", **attributes: Any) -> list[str]:
        """Add an operator with several outputs, given by name; an empty name is one that nobody needs."""
        self.nodes.append(helper.make_node(op, list(inputs), list(outputs), name=self._name(op), domain=domain,
                                           **attributes))
        return list(outputs)

    def name_output(self, made: str, name: str) -> None:
        """Give what a node made another name, before anyone reads it."""
        node = next(node for node in reversed(self.nodes) if made in node.output)
        node.output[list(node.output).index(made)] = name

    def _name(self, op: str) -> str:
        return f"{self._scope}{op}.{len(self.nodes)}"

    # Writing ---------------------------------------------------------------------------------------

    @property
    def size_bytes(self) -> int:
        return sum(array.nbytes for array in self.weights.values())

    def save(self, path: Path) -> None:
        """Write `path`, and `path` + "_data" beside it when the weights are too many for one protobuf.

        Raises onnx's ValidationError for a graph that is none.
        """
        model = helper.make_model(
            helper.make_graph(self.nodes, self.name, self.inputs, self.outputs),
            opset_imports=[helper.make_opsetid("", self.opset),
                           *(helper.make_opsetid(name, 1) for name in sorted({n.domain for n in self.nodes} - {""}))],
            producer_name="training-studio", ir_version=self.ir_version)
        helper.set_model_props(model, self.about)
        self._check(model)
        if self.size_bytes <= EMBED_BYTES:
            self._write_within(path, model)
            return
        self._write_beside(path.with_name(path.name + "_data"), model.graph.initializer)
        path.write_bytes(model.SerializeToString())

    def _check(self, model: onnx.ModelProto) -> None:
        """Let onnx look at the nodes, the weights standing as inputs: their numbers need no second reading."""
        alone = onnx.ModelProto()
        alone.CopyFrom(model)
        asked = {each.name for each in self.inputs}  # an adapter's parts are both: weights that stand in for an input
        alone.graph.input.extend(helper.make_tensor_value_info(name, _kind(array), array.shape)
                                 for name, array in self.weights.items() if name not in asked)
        onnx.checker.check_model(alone)

    def _write_within(self, path: Path, model: onnx.ModelProto) -> None:
        """The weights straight from where they are: protobuf's own classes would copy all of them three times.

        A message of protobuf is its fields one after the other, in any order; a field that holds a message or bytes
        is its number, a length and the content.
        """
        tensors = []
        for name, array in self.weights.items():
            head = TensorProto(name=name, data_type=_kind(array), dims=array.shape).SerializeToString()
            head += _field(TensorProto.RAW_DATA_FIELD_NUMBER, array.nbytes)
            tensors.append((_field(onnx.GraphProto.INITIALIZER_FIELD_NUMBER, len(head) + array.nbytes) + head, array))
        graph = model.graph.SerializeToString()
        length = len(graph) + sum(len(head) + array.nbytes for head, array in tensors)
        model.ClearField("graph")
        with open(path, "wb") as file:
            file.write(model.SerializeToString() + _field(onnx.ModelProto.GRAPH_FIELD_NUMBER, length) + graph)
            for head, array in tensors:
                file.write(head)
                file.write(_laid_out(array).data)

    def _write_beside(self, path: Path, tensors: Any) -> None:
        """The large weights in a file of their own, which their tensors name by its bare name."""
        with open(path, "wb") as file:
            for name, array in self.weights.items():
                tensor = tensors.add(name=name, data_type=_kind(array), dims=array.shape)
                if array.nbytes < 1024:  # shapes and the like, which must be known to plan the graph
                    tensor.raw_data = array.tobytes()
                    continue
                file.write(b"\0" * (-file.tell() % ALIGNMENT))
                tensor.data_location = TensorProto.EXTERNAL
                for key, value in (("location", path.name), ("offset", file.tell()), ("length", array.nbytes)):
                    tensor.external_data.add(key=key, value=str(value))
                file.write(_laid_out(array).data)


def _field(number: int, length: int) -> bytes:
    """What stands in front of a field of bytes: its number, its kind (2) and its length, seven bits a byte."""
    found = bytearray()
    for value in (number << 3 | 2, length):
        while value > 127:
            found.append(value & 127 | 128)
            value >>= 7
        found.append(value)
    return bytes(found)


def _laid_out(array: np.ndarray) -> np.ndarray:
    """The numbers row by row. PyTorch turns a matrix several times as fast as numpy."""
    return array if array.flags.c_contiguous else torch.from_numpy(array).contiguous().numpy()


def _kind(array: np.ndarray) -> int:
    return helper.np_dtype_to_tensor_dtype(array.dtype)
