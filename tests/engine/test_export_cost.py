"""What a smaller form costs is measured on held-out text, and a broken one leaves no file."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import toy_bundle
import toy_models
import toy_tokens

from engine import files
from engine.config import UserError, read
from engine.export import PRECISIONS, ExportConfig
from engine.export.bundle import export
from engine.export.held_out import held_out
from engine.inference import load
from engine.inference.bundle import precisions
from engine.model.pretrained import load as load_checkpoint
from engine.workspace import Workspace

pytestmark = pytest.mark.usefixtures("one_thread")
GENEROUS = {"max_loss": 9.0, "max_divergence": 9.0, "min_agreement": 0.0}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A bundle with every precision, int8_dynamic allowed nothing; the tokens that its costs were measured on."""
    folder = tmp_path_factory.mktemp("costs")
    tokens = toy_tokens.tokens(Workspace(folder / "workspace"), train=120, val=40)
    asked = [{"kind": kind, **GENEROUS} for kind in PRECISIONS]
    asked[list(PRECISIONS).index("int8_dynamic")] |= {"max_loss": 1e-9, "max_divergence": 1e-9, "min_agreement": 1.0}
    config = read(ExportConfig, {"precisions": asked, "held_out_tokens": 400})
    out, verdict = export(toy_bundle.checkpoint(folder / "checkpoint"), config, folder / "toy", held_out=tokens)
    assert verdict["passed"]
    return out, {row["precision"]: row for row in verdict["costs"]}, tokens


def test_a_broken_precision_is_called_so_and_leaves_no_file(made):
    out, costs, _ = made
    assert not costs["int8_dynamic"]["passed"]
    assert costs["int8_dynamic"]["sentence"].startswith("int8_dynamic is broken: loss ")
    assert sorted(p.name for p in (out / "onnx").iterdir()) == [
        "model.onnx", "model_fp16.onnx", "model_int8.onnx", "model_q4.onnx"]
    assert "onnx/model_quantized.onnx" not in files.read_json(out / files.MANIFEST)["files"]
    card = (out / "README.md").read_text()
    assert "Left out: int8\\_dynamic is broken" in card
    assert "| int4 |" in card
    assert precisions(out) == ["float32", "float16", "int8", "int4"]
    with pytest.raises(UserError, match="has no int8_dynamic graph; it has float32, float16, int8, int4"):
        load(out, precision="int8_dynamic")


def test_the_costs_are_those_that_pytorch_finds(made):
    out, costs, tokens = made
    model = load_checkpoint(out).eval()
    text = held_out(tokens, model.config, 400)
    ids = torch.from_numpy(text.rows)
    with torch.no_grad():
        theirs = model(ids)[:, :-1].log_softmax(-1)
    for name in ("float32", "int4"):
        row, logits = costs[name], load(out, precision=name).logits(text.rows)[:, :-1]
        ours = torch.from_numpy(logits).log_softmax(-1)
        loss = -ours.gather(-1, ids[:, 1:, None]).mean()
        assert row["loss"] == pytest.approx(float(loss), abs=1e-4)
        assert row["perplexity"] == pytest.approx(float(loss.exp()), rel=1e-3)
        assert row["bits_per_byte"] == pytest.approx(float(loss) * ids[:, 1:].numel() / np.log(2) / text.num_bytes,
                                                     rel=1e-4)
        divergence = torch.nn.functional.kl_div(ours, theirs, log_target=True, reduction="sum") / ids[:, 1:].numel()
        assert row["divergence"] == pytest.approx(float(divergence), rel=1e-2, abs=1e-5)
        agreed = (ours.argmax(-1) == theirs.argmax(-1)).float().mean()
        assert row["agreement"] == pytest.approx(float(agreed), abs=0.006)
    assert costs["float32"]["loss_change"] == costs["float32"]["divergence"] == 0
    assert costs["float16"]["divergence"] < costs["int8"]["divergence"] < costs["int4"]["divergence"]
    sizes = {name: row["bytes"] for name, row in costs.items()}
    assert sizes["int4"] < sizes["int8"] < sizes["float16"] < sizes["float32"]
    assert all(row["tokens_per_second"] > 0 for row in costs.values() if row["passed"])
    assert costs == {row["precision"]: row for row in files.read_json(out / "cost.json")}


@pytest.mark.parametrize("precision", ["float32", "int4"])
def test_every_precision_writes_and_its_cache_gives_what_the_whole_gives(made, precision):
    model = load(made[0], precision=precision)
    model.ends = frozenset()
    tokens = list(model.tokens("kalo mi", 24, temperature=0))
    ids = model.encode("kalo mi").tolist() + [token.id for token in tokens]
    whole = model.logits(np.array([ids[:-1]]))[0]
    # Activations in 8 bits are rounded by the row, so that reading at once and by one differ a little.
    close = [whole[-len(tokens) + place].max() - whole[-len(tokens) + place][token.id]
             for place, token in enumerate(tokens)]
    assert max(close) < (1e-4 if precision == "float32" else 0.3)


def test_without_held_out_text_the_model_writes_its_own(tmp_path):
    config = read(ExportConfig, {"precisions": [{"kind": "float16", **GENEROUS}]})
    _, verdict = export(toy_bundle.checkpoint(tmp_path / "checkpoint"), config, tmp_path / "toy")
    rows = verdict["costs"]
    assert [row["text"] for row in rows] == ["model's own"] * 2
    assert rows[1]["bits_per_byte"] is rows[1]["bits_per_byte_change"] is None
    assert rows[1]["passed"]
    assert rows[1]["greedy_agreement"] > 0.9
    assert "text of the model itself" in (tmp_path / "toy" / "README.md").read_text()


def test_a_weight_that_overflows_breaks_float16_whatever_the_limits(tmp_path):
    from engine.model.pretrained import save

    checkpoint = toy_bundle.checkpoint(tmp_path / "checkpoint")
    model = toy_models.decoder("llama", vocab_size=toy_bundle.VOCABULARY, context_length=toy_bundle.CONTEXT)
    with torch.no_grad():
        model.blocks[0].mlp.up.weight[0, 0] = 70_000.0
    save(model, checkpoint, tmp_path / "tokenizer.json")
    config = read(ExportConfig, {"precisions": [{"kind": "float16", **GENEROUS}], "tolerance": 1.0})
    _, verdict = export(checkpoint, config, tmp_path / "toy")
    assert verdict["passed"]
    assert not verdict["costs"][1]["passed"]
    assert not (tmp_path / "toy" / "onnx" / "model_fp16.onnx").exists()


def test_limits_are_settings_and_a_portable_graph_says_what_it_cannot_have():
    config = read(ExportConfig, {"precisions": ["int8", {"kind": "int4", "max_loss": 0.5}]})
    assert [precision.limits["max_loss"] for precision in config.precisions] == [0.005, 0.5]
    assert read(ExportConfig, config.dump()) == config
    with pytest.raises(UserError, match=r"precisions\.1: is int8 again"):
        read(ExportConfig, {"precisions": ["int8", "int8"]})
    with pytest.raises(UserError, match="is int4, which needs an operator that only onnxruntime has; "
                                        "choose float16 or int8_dynamic"):
        read(ExportConfig, {"target": "portable", "precisions": ["int4"]})
