"""Small matrices: what a graph computes is the arithmetic of its own stored numbers, kept once."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import toy_models
from onnxruntime.quantization.matmul_nbits_quantizer import DefaultWeightOnlyQuantConfig, MatMulNBitsQuantizer

from engine.export import matrices
from engine.export.graph import FLOAT, INT64, Graph
from engine.export.matrices import Blocks, Dynamic, Half, Matrices, quantise
from engine.export.onnx import DecoderGraph
from engine.export.parity import Client
from engine.export.portable import PortableGraph
from engine.model.decoder import Decoder

pytestmark = pytest.mark.usefixtures("one_thread")
KINDS = {"float16": Half, "dynamic": Dynamic, "8 bits": lambda: Blocks(8, 8, 16), "4 bits": lambda: Blocks(4, 8, 32),
         "4 bits, head too": lambda: Blocks(4, 4, 16)}


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def run(graph, path, **inputs):
    graph.save(path)
    onnx.checker.check_model(str(path))
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, inputs)[0]


def restored(kept: Matrices, matrix: np.ndarray, path) -> np.ndarray:
    """The matrix that a graph looks rows up in."""
    graph = Graph("rows")
    ids = graph.input("ids", INT64, ("batch", "sequence"))
    graph.output(kept.rows(graph, ids, "head.weight", matrix, shared=True), FLOAT, ("batch", "sequence", "width"))
    return run(graph, path, ids=np.arange(len(matrix))[None])[0]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("inside", [64, 48])
def test_the_product_is_with_the_matrix_that_is_looked_up(kind, inside, tmp_path, monkeypatch):
    """Both ends of a tied embedding read the same stored numbers; 48 is no multiple of a block of 32."""
    monkeypatch.setattr(matrices, "INT8_ACTIVATIONS", 0)    # else the activations are rounded too
    matrix, x = random(96, inside), random(1, 5, inside, seed=1)
    known = restored(KINDS[kind](), matrix, tmp_path / "rows.onnx")
    spread = {"float16": 1e-3, "dynamic": 0.02, "8 bits": 0.02}.get(kind, 0.35)
    assert 0 < np.abs(known - matrix).max() < spread
    graph = Graph("product")
    name = graph.input("x", FLOAT, (1, 5, inside))
    graph.output(KINDS[kind]().product(graph, name, "head.weight", matrix), FLOAT, (1, 5, 96))
    given = run(graph, tmp_path / "product.onnx", x=x)
    rounding = 0.25 if kind == "dynamic" else 1e-4      # its activations are always rounded
    assert np.abs(given - x @ known.T).max() < rounding


@pytest.mark.parametrize("bits", [4, 8])
def test_blocks_lose_no_more_than_those_of_onnxruntimes_own_tool(bits, tmp_path, monkeypatch):
    monkeypatch.setattr(matrices, "INT8_ACTIVATIONS", 0)
    matrix, x = random(80, 128), random(1, 128, seed=1)
    graph = Graph("float32")
    graph.output(Matrices().product(graph, graph.input("x", FLOAT, (1, 128)), "w", matrix), FLOAT, (1, 80))
    exact = run(graph, tmp_path / "float32.onnx", x=x)
    theirs = MatMulNBitsQuantizer(onnx.load(tmp_path / "float32.onnx"), algo_config=DefaultWeightOnlyQuantConfig(
        block_size=32, is_symmetric=True, accuracy_level=0, bits=bits))
    theirs.process()
    theirs.model.save_model_to_file(str(tmp_path / "theirs.onnx"))
    session = onnxruntime.InferenceSession(str(tmp_path / "theirs.onnx"), providers=["CPUExecutionProvider"])
    graph = Graph("ours")
    graph.output(Blocks(bits, bits, 32).product(graph, graph.input("x", FLOAT, (1, 128)), "w", matrix), FLOAT, (1, 80))
    ours = run(graph, tmp_path / "ours.onnx", x=x)
    assert np.square(ours - exact).mean() <= 1.05 * np.square(session.run(None, {"x": x})[0] - exact).mean()


def test_a_block_of_zeros_stays_zero():
    values, scale = quantise(np.zeros((2, 64), np.float32), 4, 32)
    assert (values == 0x88).all()
    assert np.isfinite(scale).all()


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "dynamic"])  # which rounds activations too
@pytest.mark.parametrize("form", ["llama", "qwen3-wide-heads", "gpt2"])
def test_the_graph_is_the_model_with_the_rounded_weights(kind, form, tmp_path, monkeypatch):
    """PyTorch with the numbers that the file holds gives the logits of the file, cache and padding included."""
    monkeypatch.setattr(matrices, "INT8_ACTIVATIONS", 0)
    model = toy_models.decoder(form)
    weights = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    path = tmp_path / "model.onnx"
    graph = DecoderGraph(model.config, weights, KINDS[kind]())
    graph.save(path)
    rounded = Decoder(model.config).eval()
    rounded.load_state_dict({name: torch.from_numpy(_stored(graph, name, array, KINDS[kind](), tmp_path / "rows.onnx"))
                             for name, array in weights.items()})
    ids, mask = toy_models.tokens(2, 12).numpy(), np.ones((2, 12), np.int64)
    mask[0, :5] = 0
    with torch.no_grad():
        wanted = rounded(torch.from_numpy(ids), attention_mask=torch.from_numpy(mask)).numpy()
    client = Client(path)
    given, past = client.read(ids[:, :8], mask[:, :8], [])
    assert np.abs(given - wanted[:, :8])[mask[:, :8] == 1].max() < 2e-4
    for place in range(8, 12):
        logits, past = client.read(ids[:, place:place + 1], mask[:, :place + 1], past)
        assert np.abs(logits[:, 0] - wanted[:, place]).max() < 2e-4


def _stored(graph, name, array, kept, path):
    """The numbers of a weight as the file has them; heads as wide as the model's."""
    ours = "head.weight" if name == "embedding.weight" and graph.config.tied_embeddings else name
    large = array.ndim == 2 and name != "positions.weight"
    if not large:
        return array
    wide = graph.given.get(name, array)
    bits = getattr(kept, "head_bits", 0) if ours in ("head.weight", "embedding.weight") else getattr(kept, "bits", 0)
    known = restored(Blocks(bits, bits, kept.block) if bits else kept, wide, path)
    if known.shape == array.shape:
        return known
    # A widened head: the places that stand for the model's own are those where `widen` put something.
    keep = [np.abs(wide).max(axis=1 - axis) > 0 for axis in (0, 1)]
    return np.ascontiguousarray(known[keep[0]][:, keep[1]])


@pytest.mark.parametrize("graph", [DecoderGraph, PortableGraph])
@pytest.mark.parametrize("kind", ["dynamic", "float16"])
def test_the_large_matrices_are_in_the_file_once(graph, kind, tmp_path):
    model = toy_models.decoder("llama", vocab_size=3000)
    weights = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    graph(model.config, weights, KINDS[kind]()).save(tmp_path / "model.onnx")
    size, bytes_each = (tmp_path / "model.onnx").stat().st_size, {"dynamic": 1, "float16": 2}[kind]
    parameters = sum(array.size for array in weights.values())
    assert size == pytest.approx(bytes_each * parameters, rel=0.25)
