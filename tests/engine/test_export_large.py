"""Weights of more than 2 GiB: more than one protobuf holds, and than a signed 32-bit offset reaches."""

from __future__ import annotations

import gc
import shutil

import numpy as np
import onnx
import psutil
import pytest
import torch
import toy_bundle
import toy_tokens

from engine import files
from engine.config import UserError
from engine.export import ExportConfig, graph
from engine.export.bundle import export
from engine.inference import load
from engine.model import ModelConfig, pretrained
from engine.model.decoder import Decoder
from engine.tokens import TokensConfig
from engine.tokens.tokenizer import train

SHAPE = {"family": "llama", "vocab_size": 80_000, "hidden_size": 3072, "num_layers": 3, "num_heads": 24,
         "num_kv_heads": 8, "intermediate_size": 8192, "context_length": 16}
NEEDS = 12 << 30


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_more_than_two_gib_of_weights_go_through_export_and_inference(tmp_path):
    free, memory = shutil.disk_usage(tmp_path).free, psutil.virtual_memory().available
    if min(free, memory) < NEEDS:
        pytest.skip(f"needs {NEEDS >> 30} GiB of memory and disk; {memory >> 30} and {free >> 30} are free")
    train([toy_tokens.texts(300, seed=1)], TokensConfig(vocab_size=toy_bundle.VOCABULARY)).save(
        str(tmp_path / "tokenizer.json"))
    torch.manual_seed(5)
    model = Decoder(ModelConfig.model_validate(SHAPE)).eval()
    assert 4 * sum(p.numel() for p in model.parameters()) > 2**31
    ids = torch.randint(SHAPE["vocab_size"], (1, 12))
    with torch.no_grad():
        expected = model(ids).numpy()
        greedy = [int(model(torch.tensor([[5, 6, 7]]))[0, -1].argmax())]
    pretrained.save(model, tmp_path / "checkpoint", tmp_path / "tokenizer.json")
    del model
    gc.collect()
    try:
        bundle, verdict = export(tmp_path / "checkpoint", ExportConfig(), tmp_path / "large")
        assert verdict["passed"], verdict["sentence"]
        shutil.rmtree(tmp_path / "checkpoint")
        path = bundle / "onnx" / "model.onnx"
        data = path.with_name("model.onnx_data")
        assert path.stat().st_size < 1 << 20
        assert data.stat().st_size > graph.EMBED_BYTES
        assert files.read_json(bundle / files.MANIFEST)["files"]["onnx/model.onnx_data"] == data.stat().st_size
        offsets = [int(entry.value) for tensor in onnx.load(path, load_external_data=False).graph.initializer
                   for entry in tensor.external_data if entry.key == "offset"]
        assert max(offsets) > 2**31
        gc.collect()
        ours = load(bundle)
        assert np.abs(ours.logits(ids.numpy()) - expected).max() < 1e-3
        assert [token.id for token in ours.tokens([5, 6, 7], 1, temperature=0)] == greedy
        with open(data, "r+b") as file:
            file.truncate(data.stat().st_size - 4)
        with pytest.raises(UserError, match=r"model\.onnx_data has [\d,]+ bytes, but its manifest says"):
            load(bundle)
    finally:
        shutil.rmtree(tmp_path / "large", ignore_errors=True)
        shutil.rmtree(tmp_path / "checkpoint", ignore_errors=True)
