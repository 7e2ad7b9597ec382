"""The gate: it lets the same model through, and nothing that only looks like it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import toy_models

from engine.export import onnx
from engine.export.graph import INT64
from engine.export.held_out import HeldOut
from engine.export.onnx import DecoderGraph
from engine.export.parity import compare
from engine.progress import Stopped

pytestmark = pytest.mark.usefixtures("one_thread")
TOLERANCE = 1e-3


def weights(model):
    return {name: tensor.numpy().copy() for name, tensor in model.state_dict().items()}


def verdict(model, path, graph, **given):
    graph.save(path)
    return compare(model, path, TOLERANCE, **given)


def failing(found):
    assert not found["passed"]
    return {case["name"] for case in found["cases"] if not case["passed"]}


@pytest.fixture
def model():
    return toy_models.decoder("llama", context_length=80)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.onnx"


@pytest.mark.parametrize("form", ["llama", "qwen3-wide-heads", "gpt2"])
def test_an_honest_export_passes(form, path):
    model = toy_models.decoder(form, context_length=80)
    found = verdict(model, path, DecoderGraph(model.config, weights(model)))
    assert found["passed"]
    assert found["max_difference"] < 1e-4
    assert found["greedy_tokens_equal"] == found["greedy_tokens"] == 64
    assert found["perplexity"]["pytorch"] == pytest.approx(found["perplexity"]["onnxruntime"], rel=1e-5)
    assert len(found["cases"]) == 6
    assert "80 tokens, the full context" in found["cases"][-1]["name"]
    assert found["sentence"].startswith("The ONNX model gives the same logits as PyTorch: largest difference ")
    assert "64 of 64 greedy tokens equal" in found["sentence"]


@pytest.mark.parametrize("name", ["blocks.1.mlp.down.weight", "blocks.0.attention.key.weight", "embedding.weight"])
def test_one_weight_that_changed(model, path, name):
    changed = weights(model)
    changed[name][5, 5] += 0.5
    found = verdict(model, path, DecoderGraph(model.config, changed))
    assert failing(found)
    assert found["sentence"].startswith("The ONNX model differs from PyTorch")


def test_another_rope_theta(model, path):
    other = model.config.replace(rope_theta=20_000.0)
    assert "one text" in failing(verdict(model, path, DecoderGraph(other, weights(model))))


def test_another_epsilon(model, path):
    other = model.config.replace(norm_eps=1e-2)
    assert failing(verdict(model, path, DecoderGraph(other, weights(model))))


def test_a_mask_that_is_ignored_shows_in_the_padded_cases(model, path, monkeypatch):
    monkeypatch.setattr(onnx, "HIDDEN", 0.0)
    found = failing(verdict(model, path, DecoderGraph(model.config, weights(model))))
    assert "padding on the left" in found
    assert "token by token, padding on the left" in found
    assert "one text" not in found, "a gate without padding would have let it through"


def test_positions_that_count_padding_show_in_the_padded_cases(path):
    class Counts(DecoderGraph):
        """Places from the mask's length alone, as graphs without a position input have them."""

        def embed(self, ids, positions):
            one = self.constant("one_int64", np.array([1]))
            ones = self.node("Add", self.node("Mul", positions, self.constant("zero", np.array([0]))), one)
            self.place = self.node("Sub", self.node("CumSum", ones, self.constant("axis", np.array(1))), one)
            return super().embed(ids, self.place)

    model = toy_models.decoder("gpt2", context_length=80)
    found = failing(verdict(model, path, Counts(model.config, weights(model))))
    assert "padding on the left" in found
    assert "one text" not in found
    assert "padding on the right" not in found


def test_a_cache_that_spoils_what_it_keeps_shows_token_by_token(model, path):
    class Spoils(DecoderGraph):
        def attend(self, x, name, layer, positions):
            given = super().attend(x, name, layer, positions)
            attention = next(n for n in reversed(self.nodes) if n.op_type == "GroupQueryAttention")
            kept = attention.output[1]
            attention.output[1] = f"{kept}.right"
            self.node("Mul", attention.output[1], self.constant("nearly", np.float32(0.9)), name=kept)
            return given

    found = failing(verdict(model, path, Spoils(model.config, weights(model))))
    assert "token by token through the cache" in found
    assert "one text" not in found


def test_nan_is_no_small_difference(model, path):
    broken = weights(model)
    broken["norm.weight"][0] = np.nan
    found = verdict(model, path, DecoderGraph(model.config, broken))
    assert len(failing(found)) == 6
    assert found["max_difference"] is None


def test_a_tighter_tolerance_than_arithmetic_allows(model, path):
    DecoderGraph(model.config, weights(model)).save(path)
    assert not compare(model, path, 1e-9)["passed"]


def test_a_file_that_onnxruntime_cannot_read(model, path):
    path.write_bytes(b"not a graph")
    found = compare(model, path, TOLERANCE)
    assert not found["passed"]
    assert "could not run" in found["sentence"]


def test_a_graph_that_onnxruntime_cannot_run(model, path):
    graph = DecoderGraph(model.config, weights(model))
    graph.input("more", INT64, ("batch_size",))
    found = verdict(model, path, graph)
    assert not found["passed"]
    assert "more" in found["sentence"]


def test_the_proof_reads_the_held_out_text_and_nothing_else_when_it_speaks_of_perplexity(model, path):
    graph = DecoderGraph(model.config, weights(model))
    rows = np.full((3, 40), 3)
    rows[1] = 5
    found = [verdict(model, path, graph, held_out=held) for held in (HeldOut(rows, 120.0), None)]
    with torch.no_grad():
        ids = torch.from_numpy(rows)
        loss = torch.nn.functional.cross_entropy(model(ids)[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
    for name in ("pytorch", "onnxruntime"):
        assert found[0]["perplexity"][name] == pytest.approx(float(loss.exp()), rel=1e-4)
    assert "in both on 117 held-out tokens" in found[0]["sentence"]
    assert "in both on 79 random tokens" in found[1]["sentence"]
    assert found[0]["perplexity"]["text"] == "held out"
    assert found[1]["perplexity"]["text"] == "random"


def test_a_short_context_is_compared_as_far_as_it_goes(path):
    model = toy_models.decoder("llama", context_length=8)
    found = verdict(model, path, DecoderGraph(model.config, weights(model)))
    assert found["passed"]
    assert found["greedy_tokens"] == 4


def test_it_hears_a_stop(model, path):
    def stop(done, of, message=""):
        if done == 3:
            raise Stopped

    with pytest.raises(Stopped):
        verdict(model, path, DecoderGraph(model.config, weights(model)), progress=stop)
