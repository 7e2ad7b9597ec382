"""LoRA adapters: PEFT's files added to our models as PEFT adds them, merged or switched on in onnxruntime."""

from __future__ import annotations

import json
import shutil

import numpy as np
import onnxruntime
import pytest
import torch
import toy_bundle
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

from engine import files, inference
from engine.config import UserError
from engine.export import ExportConfig, adapter, parity
from engine.export.bundle import export
from engine.inference.session import Session
from engine.model import lora, pretrained
from engine.model.published import config_from

pytestmark = pytest.mark.usefixtures("one_thread")
TARGETS = {"llama": ["q_proj", "v_proj", "o_proj", "down_proj"], "qwen3-wide-heads": ["q_proj", "k_proj", "o_proj"],
           "gpt2": ["c_attn", "c_proj", "c_fc"]}
IDS = torch.tensor([[5, 6, 7, 8, 9, 10]])


def adapted(folder, form, **options):
    """A checkpoint and the adapter that PEFT wrote for it, with weights far from where training starts; its logits."""
    base = toy_bundle.checkpoint(folder / "checkpoint", form)
    config = LoraConfig(r=3, lora_alpha=7, target_modules=TARGETS[form], task_type="CAUSAL_LM",
                        fan_in_fan_out=form == "gpt2", **options)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
    dice = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.normal_(0, 0.2, generator=dice)
        logits = model.eval()(IDS).logits
    model.save_pretrained(folder / "adapter")
    return base, folder / "adapter", logits


@pytest.mark.parametrize(("form", "options"), [
    ("llama", {"use_rslora": True}), ("qwen3-wide-heads", {"alpha_pattern": {"q_proj": 11}}),
    ("gpt2", {"rank_pattern": {"c_attn": 5}})])
def test_merged_it_is_what_peft_computes(tmp_path, form, options):
    checkpoint, folder, expected = adapted(tmp_path, form, **options)
    base = pretrained.load(checkpoint).eval()
    merged = lora.merge(base, lora.load(folder, base.config))
    with torch.no_grad():
        assert torch.allclose(merged(IDS), expected, atol=2e-5)
        assert not torch.allclose(base(IDS), expected, atol=1e-2)


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """For each form with its target: the bundle that keeps its adapter, and PEFT's logits."""
    made = {}
    for form, target in (("llama", "portable"), ("qwen3-wide-heads", "native"), ("gpt2", "native")):
        folder = tmp_path_factory.mktemp(form)
        checkpoint, own, logits = adapted(folder, form)
        precisions = [{"kind": "int8", "max_loss": 9, "max_divergence": 9, "min_agreement": 0}] * (form == "gpt2")
        bundle, verdict = export(checkpoint, ExportConfig(target=target, adapter=str(own), precisions=precisions),
                                 folder / "toy")
        assert verdict["passed"], verdict["sentence"]
        made[form] = bundle, logits.numpy()
    return made


@pytest.mark.parametrize("form", ["llama", "qwen3-wide-heads", "gpt2"])
def test_kept_apart_it_is_switched_on_by_onnxruntime_by_us_and_by_peft(kept, form):
    bundle, expected = kept[form]
    told = files.read_json(bundle / "parity.json")
    assert told["adapter"]["passed"]
    assert "With its adapter: The ONNX model gives the same logits" in told["sentence"]
    assert len(told["cases"]) == 12
    base = pretrained.load(bundle).eval()
    with torch.no_grad():
        plain = base(IDS).numpy()

    client = parity.Client(bundle / "onnx" / "model.onnx", bundle / "adapter" / "model.onnx_adapter")
    assert client.options is not None, "which is onnxruntime's own switch, RunOptions.add_active_adapter"
    assert np.allclose(client.read(IDS.numpy(), np.ones_like(IDS), [])[0], expected, atol=1e-4)

    off, on = inference.load(bundle), inference.load(bundle, adapter=True)
    assert np.allclose(off.logits(IDS.numpy()), plain, atol=1e-4)
    assert np.allclose(on.logits(IDS.numpy()), expected, atol=1e-4)
    merged = lora.merge(base, lora.load(bundle / "adapter", base.config))
    for model, reference in ((off, base), (on, merged)):
        model.ends = frozenset()
        prompt = "kalo mi sané"
        wanted = pretrained_text(reference, model, prompt)
        assert model.generate(prompt, max_new_tokens=24, temperature=0) == wanted
        assert model.batch([prompt, "mi"], max_new_tokens=24, temperature=0)[0] == wanted

    theirs = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(bundle), bundle / "adapter").eval()
    with torch.no_grad():
        assert np.allclose(theirs(IDS).logits.numpy(), expected, atol=1e-5)


def pretrained_text(model, reader, prompt):
    from engine.model.generate import generate

    ids = reader.encode(prompt)
    return reader.tokenizer.decode(generate(model, torch.from_numpy(ids)[None], 24, temperature=0, end=-1))


def test_a_smaller_form_takes_it_too_and_other_clients_need_not_know(kept):
    bundle, expected = kept["gpt2"]
    session = onnxruntime.InferenceSession(str(bundle / "onnx" / "model.onnx"), providers=["CPUExecutionProvider"])
    assert not [value.name for value in session.get_inputs() if "lora" in value.name]
    assert [value.name for value in session.get_overridable_initializers() if "lora" in value.name]
    small = inference.load(bundle, precision="int8", adapter=True).logits(IDS.numpy())
    base = inference.load(bundle).logits(IDS.numpy())
    assert np.abs(small - expected).mean() < 0.1 * np.abs(base - expected).mean()


def test_an_adapter_that_is_not_the_one_fails_the_gate(tmp_path, monkeypatch):
    checkpoint, own, _ = adapted(tmp_path, "llama")
    honest = adapter.parameters
    monkeypatch.setattr("engine.export.bundle.inputs_of", lambda *given: {
        name: array * 1.5 for name, array in honest(*given).items()})
    made, verdict = export(checkpoint, ExportConfig(adapter=str(own)), tmp_path / "toy")
    assert not verdict["passed"]
    assert all(case["passed"] == ("adapted" not in case["name"]) for case in verdict["cases"])
    assert not made.exists()


def test_merged_for_good_the_bundle_has_no_adapter(tmp_path):
    checkpoint, own, expected = adapted(tmp_path, "llama")
    bundle, verdict = export(checkpoint, ExportConfig(adapter=str(own), merge_adapter=True), tmp_path / "toy")
    assert verdict["passed"]
    assert not (bundle / "adapter").exists()
    model = inference.load(bundle)
    assert np.allclose(model.logits(IDS.numpy()), expected.numpy(), atol=1e-4)
    assert "adapter was added to the weights" in (bundle / "README.md").read_text()
    assert files.read_json(bundle / files.MANIFEST)["made_from"]["adapter"]
    with pytest.raises(UserError, match="keeps no adapter"):
        inference.load(bundle, adapter=True)


def test_an_adapter_of_another_graph_is_refused(kept):
    with pytest.raises(UserError, match="for which this graph has no place"):
        Session(kept["gpt2"][0] / "onnx" / "model.onnx", adapter=kept["llama"][0] / "adapter" / "model.onnx_adapter")
    with pytest.raises(UserError, match="could not be read by onnxruntime"):
        Session(kept["gpt2"][0] / "onnx" / "model.onnx", adapter=kept["gpt2"][0] / "config.json")


@pytest.mark.parametrize(("change", "told"), [
    ({"peft_type": "IA3"}, "is no folder with a LoRA adapter"), ({"use_dora": True}, "sets use_dora to True"),
    ({"modules_to_save": ["lm_head"]}, "sets modules_to_save"), ({"bias": "all"}, "sets bias to 'all'"),
    ({"init_lora_weights": "pissa"}, "sets init_lora_weights"), ({"lora_alpha": "7"}, "states lora_alpha as '7'"),
    ({"alpha_pattern": {"(a+)+$": 3}}, "alpha_pattern that is more than names"),
    ({"alpha_pattern": [1]}, "alpha_pattern")])
def test_what_is_more_than_lora_is_refused(kept, tmp_path, change, told):
    bundle, _ = kept["llama"]
    shutil.copytree(bundle / "adapter", tmp_path / "adapter")
    path = tmp_path / "adapter" / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(UserError, match=told):
        lora.load(tmp_path / "adapter", config_from(bundle))


def test_damage_and_other_models_are_named(tmp_path):
    checkpoint, own, _ = adapted(tmp_path, "llama")
    config = pretrained.load(checkpoint).config
    with pytest.raises(UserError, match="which does not fit the model"):
        lora.load(own, config.replace(hidden_size=96, head_size=12))
    with pytest.raises(UserError, match="only projections inside the blocks"):
        lora.load(own, config.replace(num_layers=1))
    weights = own / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-40])
    with pytest.raises(UserError, match="is cut or damaged"):
        lora.load(own, config)
    weights.unlink()
    with pytest.raises(UserError, match="is missing"):
        lora.load(own, config)
    with pytest.raises(UserError, match="is no folder with a LoRA adapter"):
        lora.load(tmp_path / "nowhere", config)
