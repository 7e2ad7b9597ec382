"""Bundles that are damaged, incomplete or up to no good are refused in a sentence that names the file."""

from __future__ import annotations

import os
import shutil

import onnx
import pytest
import toy_bundle
from toy_bundle import declare

from engine import files
from engine.config import UserError
from engine.export import graph
from engine.inference import load
from engine.inference.chat import template_of


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return toy_bundle.bundle(tmp_path_factory.mktemp("good"))


@pytest.fixture
def bundle(good, tmp_path):
    return shutil.copytree(good, tmp_path / "toy")


def test_a_good_one_opens(bundle):
    load(bundle).generate("kalo", 4)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "onnx/model.onnx"])
def test_a_missing_file_is_named(bundle, name):
    (bundle / name).unlink()
    with pytest.raises(UserError, match=f"{name} is missing"):
        load(bundle)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "onnx/model.onnx"])
def test_a_cut_file_is_named(bundle, name):
    (bundle / name).write_bytes((bundle / name).read_bytes()[:-7])
    with pytest.raises(UserError, match=f"{name} has .* bytes, but its manifest says"):
        load(bundle)


def test_a_changed_byte_is_found(bundle):
    path = bundle / "onnx" / "model.onnx"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"onnx/model\.onnx was changed since it was exported"):
        load(bundle)


def test_a_folder_without_a_manifest_is_no_bundle(bundle):
    (bundle / files.MANIFEST).unlink()
    with pytest.raises(UserError, match="no complete bundle"):
        load(bundle)


@pytest.mark.parametrize("content", ["{", "[]", '{"files": 3}', '{"files": {}, "checksums": {}}', "[" * 200_000,
                                     '{"files": 1' + "0" * 5000 + "}", '{"files": {"a": Infinity}, "checksums": {}}',
                                     '{"summary": {"graphs": {' + ",".join(f'"{n}": ""' for n in range(99)) + "}}}",
                                     " " * (5 << 20) + "{}"], ids=lambda content: content[:20].strip() or "large")
def test_a_broken_manifest_is_told(bundle, content):
    (bundle / files.MANIFEST).write_text(content)
    with pytest.raises(UserError, match="manifest"):
        load(bundle)


def test_a_graph_whose_name_no_disk_takes_is_missing(bundle):
    manifest = files.read_json(bundle / files.MANIFEST)
    files.write_json(bundle / files.MANIFEST, {**manifest, "summary": {"graphs": {"float32": "x" * 999}}})
    with pytest.raises(UserError, match="x is missing"):
        load(bundle)


def test_a_file_is_no_bundle(bundle):
    for path in (bundle / "README.md", bundle / "nowhere"):
        with pytest.raises(UserError, match="is not a folder"):
            load(path)


@pytest.mark.parametrize(("name", "content", "sentence"), [
    ("onnx/model.onnx", b"not a graph", "could not be read by onnxruntime"),
    ("tokenizer.json", b'{"version": "1.0"}', "tokenizer.json is damaged"),
    ("config.json", b"[1]", "config.json holds no settings"),
    ("config.json", b'{"vocab_size": 5}', "does not say how long the model's context is"),
])
def test_files_that_the_manifest_vouches_for_are_still_not_trusted(bundle, name, content, sentence):
    (bundle / name).write_bytes(content)
    declare(bundle)
    with pytest.raises(UserError, match=sentence):
        load(bundle)


def test_a_graph_of_something_else_is_refused(bundle):
    other = graph.Graph("other")
    other.output(other.node("Neg", other.input("x", graph.FLOAT, (1,)), name="y"), graph.FLOAT, (1,))
    other.save(bundle / "onnx" / "model.onnx")
    declare(bundle)
    with pytest.raises(UserError, match="is no decoder with a cache"):
        load(bundle)


def test_a_tokenizer_of_another_model_is_told(tmp_path):
    out = toy_bundle.bundle(tmp_path, vocab_size=300)
    with pytest.raises(UserError, match=r"the model knows 300 tokens; tokenizer\.json is of another model"):
        load(out).generate("lozußa tékanevö saru vövö kaßa " * 2, 4)


def test_a_link_out_of_the_folder_is_not_followed(bundle, tmp_path):
    for name in ("tokenizer.json", "onnx/model.onnx", "tokenizer_config.json", files.MANIFEST):
        outside = shutil.copy(bundle / name, tmp_path / "outside")
        (bundle / name).unlink()
        os.symlink(outside, bundle / name)
        with pytest.raises(UserError, match=f"{name} leads out of the bundle's folder"):
            load(bundle)
        (bundle / name).unlink()
        shutil.copy(outside, bundle / name)


@pytest.mark.parametrize("place", ["../../outside", "{outside}", "link"])
def test_weights_outside_the_folder_are_never_read(tmp_path, monkeypatch, place):
    """A graph names the file of its weights; onnxruntime must open none but in the graph's own folder."""
    monkeypatch.setattr(graph, "EMBED_BYTES", 1000)
    bundle = toy_bundle.bundle(tmp_path)
    outside = shutil.copy(bundle / "onnx" / "model.onnx_data", tmp_path / "outside")
    os.symlink(outside, bundle / "onnx" / "link")
    path = bundle / "onnx" / "model.onnx"
    model = onnx.load(path, load_external_data=False)
    for entry in (entry for tensor in model.graph.initializer for entry in tensor.external_data):
        if entry.key == "location":
            entry.value = place.format(outside=outside)
    path.write_bytes(model.SerializeToString())
    declare(bundle)
    with pytest.raises(UserError, match="could not be read by onnxruntime"):
        load(bundle)


# What says how to chat ---------------------------------------------------------------------------------


@pytest.fixture
def chatty(bundle):
    """A bundle that was exported with a chat template."""
    path = bundle / "tokenizer_config.json"
    files.write_json(path, {**files.read_json(path), "chat_template": "Say: {{ messages[0]['content'] }}"})
    declare(bundle)
    return bundle


ASKED = [{"role": "user", "content": "kalo"}]


def test_a_template_that_was_changed_after_the_export_is_not_used(chatty):
    model = load(chatty)
    assert model.chat(ASKED) == "Say: kalo"
    path = chatty / "tokenizer_config.json"
    path.write_text(path.read_text().replace("Say", "Lie"))
    assert model.chat(ASKED) == "Say: kalo", "what was read when it was opened"
    with pytest.raises(UserError, match=r"tokenizer_config\.json was changed since it was exported"):
        load(chatty)


def test_an_end_that_was_changed_after_the_export_is_not_used(chatty):
    path = chatty / "generation_config.json"
    files.write_json(path, {**files.read_json(path), "eos_token_id": 9})
    with pytest.raises(UserError, match=r"generation_config\.json (was changed|has [\d,]+ bytes, but its manifest)"):
        load(chatty)


def test_a_template_that_somebody_put_beside_is_not_used(chatty, tmp_path):
    (tmp_path / "secret").write_text("something of this machine")
    own = chatty / "chat_template.jinja"
    own.write_text("another")
    with pytest.raises(UserError, match=r"chat_template\.jinja is not in the bundle's manifest"):
        load(chatty)
    own.unlink()
    own.symlink_to(tmp_path / "secret")
    with pytest.raises(UserError, match=r"chat_template\.jinja leads out of the bundle's folder"):
        load(chatty)
    (chatty / files.MANIFEST).unlink()      # a checkpoint has none, and its links are not followed either
    with pytest.raises(UserError, match=r"chat_template\.jinja leads out"):
        template_of(chatty)


@pytest.mark.parametrize("name", ["tokenizer_config.json", "chat_template.jinja"])
@pytest.mark.parametrize("content", [b"[" * 200_000, b"\xff\xfe", b" " * 5000, b'{"a": 1' + b"0" * 5000 + b"}"],
                         ids=["deep", "no text", "large", "long"])
def test_a_broken_template_that_the_manifest_vouches_for_is_told(chatty, monkeypatch, name, content):
    monkeypatch.setitem(files.MOST_BYTES, name, 4000)
    (chatty / name).write_bytes(content)
    declare(chatty)
    with pytest.raises(UserError, match=rf"{name}|template"):
        load(chatty).chat(ASKED)


def test_a_cache_that_no_machine_holds_is_refused_in_a_sentence(bundle):
    files.write_json(bundle / "config.json", {**files.read_json(bundle / "config.json"),
                                              "max_position_embeddings": 10**12})
    declare(bundle)
    model = load(bundle)
    with pytest.raises(UserError, match=r"keys and values of 1,000,000,0\d\d tokens take [\d,.]+ GiB") as error:
        model.generate("kalo", max_new_tokens=10**9)
    assert error.value.where == "max_new_tokens"
    assert isinstance(model.generate("kalo", max_new_tokens=3), str)
