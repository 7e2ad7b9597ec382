"""Files for llama.cpp: read back they hold the checkpoint. What llama.cpp makes of them: test_export_clients."""

from __future__ import annotations

import json
import math
import sys

import gguf
import numpy as np
import pytest
import torch
import toy_bundle
import toy_models
import toy_tokens
from safetensors.numpy import load_file
from tokenizers import Tokenizer, processors
from transformers import AutoModelForCausalLM

from engine import files
from engine.config import UserError, read
from engine.export import ExportConfig
from engine.export.bundle import export
from engine.export.gguf import _add_words, make
from engine.export.gguf_vocabulary import PATTERNS, vocabulary
from engine.export.held_out import held_out
from engine.model.pretrained import load
from engine.model.rope import stretch
from engine.workspace import Workspace

pytestmark = pytest.mark.usefixtures("one_thread")
KINDS = ("f32", "f16", "q8_0", "q4_0")
ROUNDED = {"f32": 0, "f16": 2**-11, "q8_0": 0.5 / 127 + 2**-11, "q4_0": 1 / 8 + 2**-11}
"""How far a weight may be from the checkpoint's, in parts of the largest of its 32: half a step, or a whole one at the
end that Q4_0 cuts, and the rounding of the scale."""


ANYTHING = {"max_loss": 99.0, "max_divergence": 99.0, "min_agreement": 0.0}    # toys suffer more than models do


def asked(**changes):
    """The limits of the files are those of the precisions of as many bits."""
    return read(ExportConfig, {"precisions": [{"kind": kind, **ANYTHING} for kind in ("int8", "int4")], **changes})


def made(folder, form="llama", **changes):
    """A checkpoint's folder with files for llama.cpp in it, and what is told of them."""
    checkpoint = toy_bundle.checkpoint(folder / "checkpoint", form, hidden_size=64, **changes)
    model = load(checkpoint)
    weights = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    return checkpoint, make(model.config, weights, checkpoint, "toy", KINDS)


@pytest.fixture(scope="module", params=["llama3", "qwen3", "gpt2-untied"])
def written(request, tmp_path_factory):
    return made(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="module")
def tokenizer_json(tmp_path_factory):
    return toy_bundle.checkpoint(tmp_path_factory.mktemp("words") / "checkpoint") / "tokenizer.json"


def fields(path):
    return {name: field.contents() for name, field in gguf.GGUFReader(path).fields.items()}


def published(path, family):
    """The tensors of a file of llama.cpp as float32, under the names and in the layout of model.safetensors."""
    arch = {"llama": gguf.MODEL_ARCH.LLAMA, "qwen3": gguf.MODEL_ARCH.QWEN3, "gpt2": gguf.MODEL_ARCH.GPT2}[family]
    config = json.loads((path.parent.parent / "config.json").read_text())
    stored = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    found = {}
    for name in load_file(path.parent.parent / "model.safetensors"):
        # llama.cpp's own table of the published names, and its own reading of what it stores.
        tensor = stored.pop(gguf.get_tensor_name_map(arch, 8).get_name(name, (".weight", ".bias")))
        array = gguf.dequantize(tensor.data, tensor.tensor_type)
        if family == "llama" and ("q_proj" in name or "k_proj" in name):
            heads = config["num_attention_heads" if "q_proj" in name else "num_key_value_heads"]
            array = array.reshape(heads, -1, 2, array.shape[-1]).swapaxes(1, 2).reshape(array.shape)
        found[name] = array.T if family == "gpt2" and ".h." in name and array.ndim == 2 else array
    return found, stored


def test_the_tensors_are_the_checkpoints(written):
    out, told = written
    family = json.loads((out / "config.json").read_text())["model_type"]
    weights = load_file(out / "model.safetensors")
    for kind, path in told["files"].items():
        found, others = published(out / path, family)
        assert set(others) <= {"rope_freqs.weight"}
        for name, wanted in weights.items():
            rounded, exact = found[name], wanted
            if family == "gpt2" and ".h." in name:      # blocks lie along what a row of llama.cpp's holds
                rounded, exact = rounded.T, wanted.T
            most = np.abs(exact).max() if exact.shape[-1] % 32 else np.repeat(
                np.abs(exact).reshape(*exact.shape[:-1], -1, 32).max(-1), 32, axis=-1)
            assert (np.abs(rounded - exact) <= ROUNDED[kind] * most).all(), (kind, name)


def test_smaller_kinds_are_smaller(written):
    out, told = written
    sizes = [(out / told["files"][kind]).stat().st_size for kind in KINDS]
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) == len(KINDS)


def test_the_file_says_what_the_model_is(written):
    out, told = written
    config = json.loads((out / "config.json").read_text())
    found, arch = fields(out / told["files"]["q8_0"]), config["model_type"]
    assert found["general.architecture"] == arch
    assert found["general.name"] == "toy"
    assert found["general.file_type"] == gguf.LlamaFileType.MOSTLY_Q8_0
    assert found[f"{arch}.context_length"] == toy_bundle.CONTEXT
    assert found[f"{arch}.block_count"] == 2
    assert found[f"{arch}.attention.head_count"] == 4
    if arch == "gpt2":
        assert found["gpt2.feed_forward_length"] == config["n_inner"]
        assert found["gpt2.attention.layer_norm_epsilon"] == pytest.approx(config["layer_norm_epsilon"])
    else:
        assert found[f"{arch}.attention.head_count_kv"] == config["num_key_value_heads"]
        assert found[f"{arch}.attention.layer_norm_rms_epsilon"] == pytest.approx(config["rms_norm_eps"])
        assert found[f"{arch}.rope.freq_base"] == config["rope_theta"]
        assert found[f"{arch}.rope.dimension_count"] == config["head_dim"]


def test_the_file_holds_the_tokenizer(written):
    out, told = written
    tokenizer, found = Tokenizer.from_file(str(out / "tokenizer.json")), fields(out / told["files"]["f32"])
    tokens = found["tokenizer.ggml.tokens"]
    assert (found["tokenizer.ggml.model"], found["tokenizer.ggml.pre"]) == ("gpt2", "gpt-2")
    assert tokens == [tokenizer.id_to_token(i) for i in range(toy_bundle.VOCABULARY)]
    assert found["tokenizer.ggml.token_type"] == [gguf.TokenType.CONTROL] + [gguf.TokenType.NORMAL] * (len(tokens) - 1)
    merges = json.loads((out / "tokenizer.json").read_text())["model"]["merges"]
    assert found["tokenizer.ggml.merges"] == [" ".join(pair) for pair in merges]
    assert tokens[found["tokenizer.ggml.eos_token_id"]] == "<|endoftext|>"
    assert not found["tokenizer.ggml.add_bos_token"]
    assert "tokenizer.chat_template" not in found


def test_the_bundle_lists_and_names_them(tmp_path):
    checkpoint = toy_bundle.checkpoint(tmp_path / "checkpoint", hidden_size=64)
    out, verdict = export(checkpoint, asked(gguf=KINDS), tmp_path / "toy")
    told = verdict["gguf"]
    manifest, card = files.read_json(out / files.MANIFEST), (out / "README.md").read_text()
    assert list(told["files"]) == list(KINDS)
    assert manifest["summary"]["gguf"] == told
    for path in told["files"].values():
        assert manifest["checksums"][path] == files.fingerprint_file(out / path)
        assert path in card


@pytest.mark.parametrize("form", ["llama3", "qwen3", "gpt2"])
def test_the_cost_of_rounding_is_what_transformers_finds(form, tmp_path):
    """With the tensors of the file, read by llama.cpp's own library, in the published class."""
    tokens = toy_tokens.tokens(Workspace(tmp_path / "workspace"), train=120, val=40)
    checkpoint = toy_bundle.checkpoint(tmp_path / "checkpoint", form, hidden_size=64)
    out, verdict = export(checkpoint, asked(gguf=KINDS, held_out_tokens=400), tmp_path / "toy", held_out=tokens)
    rows = {row["precision"]: row for row in files.read_json(out / "cost.json")}
    assert list(rows) == ["float32", "int8", "int4", *KINDS]
    theirs = AutoModelForCausalLM.from_pretrained(out).eval()
    ids = torch.from_numpy(held_out(tokens, load(out).config, 400).rows)
    for kind in KINDS:
        row, path = rows[kind], out / verdict["gguf"]["files"][kind]
        assert (row["file"], row["bytes"]) == (str(path.relative_to(out)), path.stat().st_size)
        found, _ = published(path, theirs.config.model_type)
        theirs.load_state_dict({name: torch.tensor(array) for name, array in found.items()}, strict=False)
        with torch.no_grad():
            shares = theirs(ids).logits[:, :-1].log_softmax(-1)
        assert row["loss"] == pytest.approx(-float(shares.gather(-1, ids[:, 1:, None]).mean()), abs=1e-4)
        assert "tokens_per_second" not in row
    assert rows["f32"]["divergence"] < 1e-8 < rows["f16"]["divergence"] < rows["q8_0"]["divergence"] < \
        rows["q4_0"]["divergence"]
    assert rows["f32"]["greedy_agreement"] == rows["f32"]["agreement"] == 1
    card = (out / "README.md").read_text()
    assert "| q4\\_0 (GGUF) |" in card
    assert "llama.cpp's own arithmetic is not included" in card
    assert set(files.read_json(out / files.MANIFEST)["summary"]["graphs"]) == {"float32", "int8", "int4"}


def test_a_file_that_costs_too_much_is_broken_and_left_out(tmp_path):
    checkpoint = toy_bundle.checkpoint(tmp_path / "checkpoint", hidden_size=64)
    config = read(ExportConfig, {"gguf": ["q8_0", "q4_0"], "precisions": [
        {"kind": "int8", **ANYTHING}, {"kind": "int4", **ANYTHING, "max_divergence": 1e-9}]})
    out, verdict = export(checkpoint, config, tmp_path / "toy")
    broken = [row for row in verdict["costs"] if not row["passed"]]
    assert [row["file"] for row in broken] == ["onnx/model_q4.onnx", "gguf/toy-Q4_0.gguf"]
    assert list(verdict["gguf"]["files"]) == ["q8_0"]
    assert [path.name for path in (out / "gguf").iterdir()] == ["toy-Q8_0.gguf"]
    assert "q4\\_0 is broken" in (out / "README.md").read_text()


def test_stretched_rope_is_a_tensor_and_a_scale_is_a_number(tmp_path):
    out, told = made(tmp_path, "llama3")
    path = out / told["files"]["f16"]
    _, others = published(path, "llama")
    factors = stretch(toy_models.config("llama3", hidden_size=64))
    assert len(set(factors.tolist())) > 2
    assert np.allclose(others["rope_freqs.weight"].data * factors, 1)
    yarn = tmp_path / "yarn"
    yarn.mkdir()
    out, told = made(yarn, "llama-yarn")
    _, others = published(out / told["files"]["f16"], "llama")
    assert np.allclose(others["rope_freqs.weight"].data * stretch(toy_models.config("llama-yarn", hidden_size=64)), 1)
    found = fields(out / told["files"]["f16"])
    assert found["llama.rope.scaling.attn_factor"] == pytest.approx(0.1 * math.log(4) + 1)
    assert "llama.rope.scaling.type" not in found, "which would let llama.cpp stretch it once more"
    other = tmp_path / "linear"
    other.mkdir()
    out, told = made(other, "llama", rope_scaling="linear", rope_factor=4.0)
    found = fields(out / told["files"]["f16"])
    assert (found["llama.rope.scaling.type"], found["llama.rope.scaling.factor"]) == ("linear", 4.0)


def test_the_chat_template_goes_along(tmp_path):
    template = "{% for m in messages %}{{ m.content }}{% endfor %}"
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))
    out, told = made(tmp_path)
    assert fields(out / told["files"]["q4_0"])["tokenizer.chat_template"] == template


def test_the_ends_and_the_beginning_of_a_published_model_are_told(tmp_path):
    checkpoint = toy_bundle.checkpoint(tmp_path / "checkpoint", hidden_size=64)
    words = Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
    words.add_special_tokens(["<s>", "<turn>", "<|eom_id|>"])
    begin, turn, message = (words.token_to_id(name) for name in ("<s>", "<turn>", "<|eom_id|>"))
    words.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", begin)])
    words.save(str(checkpoint / "tokenizer.json"))
    for name in ("config.json", "generation_config.json"):
        values = json.loads((checkpoint / name).read_text())
        (checkpoint / name).write_text(json.dumps({
            **values, "bos_token_id": begin, "eos_token_id": [0, message, turn], "pad_token_id": turn}))
    words = vocabulary(checkpoint / "tokenizer.json", toy_bundle.VOCABULARY + 3)
    assert (words.begin, words.add_begin, words.ends, words.pad) == (begin, True, [0, turn, message], turn)
    writer = gguf.GGUFWriter(tmp_path / "words.gguf", "llama")
    _add_words(writer, words, "")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    found = fields(tmp_path / "words.gguf")
    told = {name: found[f"tokenizer.ggml.{name}_token_id"] for name in ("bos", "eos", "eot", "eom", "padding")}
    assert told == {"bos": begin, "eos": 0, "eot": turn, "eom": message, "padding": turn}
    (checkpoint / "generation_config.json").write_text(json.dumps({"eos_token_id": [0, 1, 2, 3]}))
    with pytest.raises(UserError, match="4 of its tokens end what is written, and those files have room for 3"):
        vocabulary(checkpoint / "tokenizer.json", toy_bundle.VOCABULARY + 3)


# What llama.cpp would read otherwise -------------------------------------------------------------------


def changed(path, folder, **changes):
    """The tokenizer.json at `path`, with some of its settings changed, in `folder`."""
    values = json.loads(path.read_text())
    for name, value in changes.items():
        (values["model"] if name in values["model"] else values)[name] = value
    (folder / path.name).write_text(json.dumps(values))
    return folder / path.name


def split(*patterns):
    return {"type": "Sequence", "pretokenizers": [
        *({"type": "Split", "pattern": {"Regex": cut}, "behavior": "Isolated", "invert": False} for cut in patterns),
        {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}]}


@pytest.mark.parametrize(("changes", "why"), [
    ({"pre_tokenizer": split(r"\w+|\W+")}, "does not know the pattern"),
    ({"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": True}}, "does not know the pattern"),
    ({"ignore_merges": True}, "does not know the pattern"),
    ({"normalizer": {"type": "Lowercase"}}, "changes texts before"),
    ({"byte_fallback": True}, "no byte-level BPE"),
])
def test_another_tokenizer_is_refused(tokenizer_json, tmp_path, changes, why):
    with pytest.raises(UserError, match=f"No GGUF file was made.*{why}"):
        vocabulary(changed(tokenizer_json, tmp_path, **changes), toy_bundle.VOCABULARY)


def test_the_rest_of_the_bundle_is_made(tmp_path):
    checkpoint = toy_bundle.checkpoint(tmp_path / "checkpoint", hidden_size=64)
    changed(checkpoint / "tokenizer.json", checkpoint, ignore_merges=True)
    why = "does not know the pattern"
    out, verdict = export(checkpoint, ExportConfig(gguf=("q8_0",)), tmp_path / "toy")
    assert verdict["passed"]
    assert why in verdict["gguf"]["refused"]
    assert files.read_json(out / files.MANIFEST)["summary"]["gguf"] == {
        "files": {}, "refused": verdict["gguf"]["refused"]}
    assert not (out / "gguf").exists()
    assert why in (out / "README.md").read_text()


@pytest.mark.parametrize("changes", [{"attention_bias": True},
                                     {"rope_scaling": "yarn", "rope_factor": 4.0, "rope_original_context": 16},
                                     {"rope_scaling": "llama3", "rope_factor": 8.0, "rope_original_context": 16}])
def test_a_qwen3_that_llama_cpp_does_not_compute_is_refused(tmp_path, changes):
    out, told = made(tmp_path, "qwen3", **changes)
    assert "llama.cpp's qwen3 has no" in told["refused"]
    assert not (out / "gguf").exists()


@pytest.mark.parametrize(("cuts", "whole", "name"), [(cuts, whole, name) for (cuts, whole), name in PATTERNS.items()])
def test_known_patterns_are_named(tokenizer_json, tmp_path, cuts, whole, name):
    path = changed(tokenizer_json, tmp_path, pre_tokenizer=split(*cuts), ignore_merges=whole)
    assert vocabulary(path, toy_bundle.VOCABULARY).pattern == name


def test_rows_beyond_the_tokenizer_are_unused_and_tokens_beyond_the_rows_refused(tokenizer_json):
    words = vocabulary(tokenizer_json, toy_bundle.VOCABULARY + 2)
    assert words.kinds[-3:] == [gguf.TokenType.NORMAL, gguf.TokenType.UNUSED, gguf.TokenType.UNUSED]
    assert len(set(words.tokens)) == toy_bundle.VOCABULARY + 2
    with pytest.raises(UserError, match="it has the token"):
        vocabulary(tokenizer_json, toy_bundle.VOCABULARY - 1)


def test_a_missing_library_is_told_before_the_work(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(UserError, match=r"pip install 'training-studio\[gguf\]'"):
        export(tmp_path / "no checkpoint", ExportConfig(gguf=("f16",)), tmp_path / "toy")
    assert not list(tmp_path.iterdir())


def test_a_kind_stands_once():
    with pytest.raises(UserError, match="gguf: names a kind twice"):
        read(ExportConfig, {"gguf": ["f16", "f16"]})
