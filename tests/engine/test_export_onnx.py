"""The graph against the published classes: transformers and onnxruntime get the same tokens."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import toy_models
from toy_models import CONTEXT, FORMS, VOCABULARY
from transformers import AutoModelForCausalLM

from engine.export import graph as graphs
from engine.export.onnx import DecoderGraph
from engine.export.parity import Client
from engine.export.portable import PortableGraph
from engine.model.pretrained import save

pytestmark = pytest.mark.usefixtures("one_thread")


def graph(model, path, kind=DecoderGraph):
    path.parent.mkdir(exist_ok=True)
    kind(model.config, {name: tensor.numpy() for name, tensor in model.state_dict().items()}).save(path)
    return path


@pytest.fixture(scope="module", params=FORMS)
def pair(request, tmp_path_factory):
    """The transformers model and the graph of the same weights."""
    folder = tmp_path_factory.mktemp(request.param)
    model = toy_models.decoder(request.param)
    save(model, folder)
    theirs = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()
    return theirs, graph(model, folder / "model.onnx")


def padded(side, rows=3, length=20):
    ids, mask = toy_models.tokens(rows, length).numpy(), np.ones((rows, length), np.int64)
    for row, pads in enumerate((7, 3) if side else ()):
        mask[row, slice(0, pads) if side == "left" else slice(length - pads, None)] = 0
    return ids, mask


def expected(theirs, ids, mask):
    positions = np.maximum(mask.cumsum(-1) - 1, 0)
    with torch.no_grad():
        return theirs(torch.tensor(ids), attention_mask=torch.tensor(mask),
                      position_ids=torch.tensor(positions)).logits.numpy()


@pytest.mark.parametrize("side", ["", "left", "right"])
def test_logits_are_those_of_transformers(pair, side):
    theirs, path = pair
    ids, mask = padded(side)
    given, _ = Client(path).read(ids, mask, [])
    assert np.abs(given - expected(theirs, ids, mask))[mask == 1].max() < 1e-4


@pytest.mark.parametrize("side", ["", "left"])
def test_the_cache_gives_the_logits_of_the_whole(pair, side):
    theirs, path = pair
    ids, mask = padded(side)
    client, wanted = Client(path), expected(theirs, ids, mask)
    _, past = client.read(ids[:, :10], mask[:, :10], [])
    for place in range(10, ids.shape[1]):
        logits, past = client.read(ids[:, place:place + 1], mask[:, :place + 1], past)
        assert np.abs(logits[:, 0] - wanted[:, place]).max() < 1e-4


def test_the_full_context_is_right_to_its_last_token(pair):
    theirs, path = pair
    ids = toy_models.tokens(1, CONTEXT, seed=3).numpy()
    mask = np.ones_like(ids)
    assert np.abs(Client(path).read(ids, mask, [])[0] - expected(theirs, ids, mask)).max() < 1e-4


def test_a_token_looks_at_nothing_after_it(pair):
    _, path = pair
    ids, mask = padded("")
    before, _ = Client(path).read(ids, mask, [])
    ids[:, 12:] = (ids[:, 12:] + 1) % VOCABULARY
    after, _ = Client(path).read(ids, mask, [])
    assert np.array_equal(before[:, :12], after[:, :12])
    assert not np.allclose(before[:, 12:], after[:, 12:])


def test_the_file_is_valid_and_has_the_names_that_clients_look_for(pair):
    _, path = pair
    onnx.checker.check_model(str(path), full_check=True)
    model = onnx.load(path)
    shapes = {value.name: [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
              for value in (*model.graph.input, *model.graph.output)}
    assert shapes["input_ids"] == shapes["position_ids"] == ["batch_size", "sequence_length"]
    assert shapes["attention_mask"] == ["batch_size", "total_sequence_length"]
    assert shapes["logits"] == ["batch_size", "sequence_length", VOCABULARY]
    for layer in range(2):
        for part in ("key", "value"):
            heads, size = shapes[f"past_key_values.{layer}.{part}"][1::2]
            assert shapes[f"past_key_values.{layer}.{part}"] == ["batch_size", heads, "past_sequence_length", size]
            assert shapes[f"present.{layer}.{part}"] == ["batch_size", heads, "total_sequence_length", size]
    assert len(shapes) == 4 + 8


def test_a_batch_padded_on_the_right_goes_on(pair):
    """As onnxruntime-genai does: prompts padded on the right, then a token for each row, behind the pads."""
    theirs, path = pair
    ids, mask = padded("right")
    client = Client(path)
    _, past = client.read(ids, mask, [])
    for step in range(3):
        ids = np.concatenate([ids, np.full((3, 1), 5 + step)], axis=1)
        mask = np.concatenate([mask, np.ones((3, 1), np.int64)], axis=1)
        given, past = client.read(ids[:, -1:], mask, past)
        for row in range(3):    # in transformers without any padding
            alone = ids[row][mask[row] == 1][None]
            wanted = expected(theirs, alone, np.ones_like(alone))[0, -1]
            assert np.abs(given[row, 0] - wanted).max() < 1e-4


@pytest.mark.parametrize("pads", [0, 3])
def test_one_text_goes_on_by_several_tokens_at_once(pair, pads):
    theirs, path = pair
    ids, mask = padded("", rows=1)
    mask[0, :pads] = 0
    client, wanted, past = Client(path), expected(theirs, ids, mask), []
    for begun, end in ((0, 9), (9, 14), (14, 15), (15, 20)):
        given, past = client.read(ids[:, begun:end], mask[:, :end], past)
        assert np.abs(given - wanted[:, begun:end])[mask[:, begun:end] == 1].max() < 1e-4


def test_positions_at_pads_mean_nothing(pair):
    """transformers gives 1 there, others 0."""
    theirs, path = pair
    ids, mask = padded("left")
    client, positions = Client(path), np.where(mask == 1, mask.cumsum(-1) - 1, 1)
    past = [np.zeros((3, heads, 0, size), np.float32) for _, heads, _, size in client.past.values()]
    wanted = expected(theirs, ids, mask)
    for begun, end in ((0, 12), (12, 13), (13, 14)):
        given, *past = client.session.run(None, {
            "input_ids": ids[:, begun:end], "attention_mask": mask[:, :end], "position_ids": positions[:, begun:end],
            **dict(zip(client.past, past, strict=True))})
        assert np.abs(given - wanted[:, begun:end])[mask[:, begun:end] == 1].max() < 1e-4


@pytest.mark.parametrize("form", ["llama3", "llama-yarn", "llama-untied-biased", "qwen3-wide-heads", "gpt2"])
def test_the_portable_graph_is_standard_onnx_and_the_same_model(form, tmp_path):
    model = toy_models.decoder(form)
    save(model, tmp_path)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path, attn_implementation="eager").eval()
    path = graph(model, tmp_path / "model.onnx", PortableGraph)
    file = onnx.load(path)
    assert [(entry.domain, entry.version) for entry in file.opset_import] == [("", 24)]
    onnx.checker.check_model(file, full_check=True)
    client = Client(path)
    for side in ("", "left", "right"):
        ids, mask = padded(side)
        assert np.abs(client.read(ids, mask, [])[0] - expected(theirs, ids, mask))[mask == 1].max() < 1e-4
    ids, mask = padded("left")
    wanted = expected(theirs, ids, mask)
    _, past = client.read(ids[:, :9], mask[:, :9], [])
    several, past = client.read(ids[:, 9:14], mask[:, :14], past)   # several at once after a past
    one, _ = client.read(ids[:, 14:15], mask[:, :15], past)
    assert np.abs(np.concatenate([several, one], axis=1) - wanted[:, 9:15]).max() < 1e-4


@pytest.mark.parametrize("form", ["llama", "qwen3", "gpt2"])
@pytest.mark.parametrize("size", [8, 12, 18])
def test_heads_of_any_size(form, size, tmp_path):
    """The attention operator takes multiples of 8; other sizes are widened, and nothing changes."""
    changes = {"num_heads": 2, "num_kv_heads": 2, "hidden_size": 2 * size, "head_size": size}
    model = toy_models.decoder(form, **changes)
    save(model, tmp_path)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path, attn_implementation="eager").eval()
    ids, mask = padded("left")
    given, _ = Client(graph(model, tmp_path / "model.onnx")).read(ids, mask, [])
    assert np.abs(given - expected(theirs, ids, mask))[mask == 1].max() < 1e-4


def test_a_tied_head_is_stored_once(tmp_path):
    tied = graph(toy_models.decoder("llama", vocab_size=5000), tmp_path / "tied.onnx").stat().st_size
    loose = graph(toy_models.decoder("llama", vocab_size=5000, tied_embeddings=False), tmp_path / "loose.onnx")
    assert loose.stat().st_size - tied == pytest.approx(5000 * 48 * 4, rel=0.01)


def test_weights_too_many_for_one_file_stand_beside_it(tmp_path, monkeypatch):
    monkeypatch.setattr(graphs, "EMBED_BYTES", 1000)
    model = toy_models.decoder("llama")
    path = graph(model, tmp_path / "onnx" / "model.onnx")
    assert (tmp_path / "onnx" / "model.onnx_data").stat().st_size > 10 * path.stat().st_size
    onnx.checker.check_model(str(path))
    ids, mask = padded("")
    with torch.no_grad():
        wanted = model(torch.tensor(ids)).numpy()
    assert np.abs(Client(path).read(ids, mask, [])[0] - wanted).max() < 1e-4


def test_the_same_weights_give_the_same_bytes(tmp_path):
    model = toy_models.decoder("qwen3")
    assert graph(model, tmp_path / "a.onnx").read_bytes() == graph(model, tmp_path / "b.onnx").read_bytes()


def test_clients_see_no_warning(tmp_path, capfd):
    path = graph(toy_models.decoder("llama"), tmp_path / "model.onnx")
    onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert capfd.readouterr().err == ""
