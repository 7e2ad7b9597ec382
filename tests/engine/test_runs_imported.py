"""A published model comes in: from a folder, or from a hub that was asked for by name; all else is one sentence."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import toy_bundle
import toy_hub
import toy_tokens
import transformers
from toy_models import stir, tokens

from engine import files, runs
from engine.config import UserError
from engine.model import hub, pretrained, scorer
from engine.progress import Stopped, silent
from engine.recipe import Recipe
from engine.runs import checkpoint, imported
from engine.runs.imported import recipe_for
from engine.runs.worker import Worker

ROOT = Path(__file__).resolve().parents[2]
SHAPE = {"vocab_size": toy_bundle.VOCABULARY, "hidden_size": 48, "intermediate_size": 88, "num_hidden_layers": 2,
         "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 32, "bos_token_id": None,
         "eos_token_id": None}


@pytest.fixture
def published(tmp_path):
    """A sharded Llama as its makers publish it, with things beside it that must stay where they are."""
    folder = tmp_path / "published" / "tiny"
    folder.parent.mkdir()
    toy_bundle.checkpoint(folder.parent / "ours")   # for its tokenizer
    theirs = stir(transformers.LlamaForCausalLM(transformers.LlamaConfig(**SHAPE)))
    theirs.save_pretrained(folder, max_shard_size="100KB")
    (folder / "tokenizer.json").write_bytes((folder.parent / "tokenizer.json").read_bytes())
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04pickle")
    (folder / "modeling_tiny.py").write_text("raise SystemExit('run by somebody')\n")
    (folder / "original").mkdir()
    (folder / "original" / "model.safetensors").write_bytes(b"another layout")
    return folder, theirs


@pytest.fixture
def nearby(monkeypatch, published):
    """The library's hub is one on this machine, which has acme/tiny."""
    from huggingface_hub import constants

    with toy_hub.hub() as made:
        made.repositories["acme/tiny"] = published[0]
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, made.address)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "ENDPOINT", made.address)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        yield made


def worked(workspace, recipe) -> runs.Run:
    run = runs.create(recipe, workspace)
    Worker(run).work()
    return run


@torch.no_grad()
def same(folder: Path, theirs) -> bool:
    ids = tokens(2, 20)
    return bool((pretrained.load(folder).eval()(ids) - theirs(ids).logits).abs().max() < 1e-4)


def test_weights_that_are_no_numbers_are_refused_by_name(workspace, published):
    from safetensors.torch import load_file, save_file

    folder, _ = published
    shard = sorted(folder.glob("*.safetensors"))[0]
    weights = load_file(shard)
    name = sorted(weights)[0]
    weights[name].view(-1)[0] = float("nan")
    save_file(weights, shard, {"format": "pt"})
    workspace.allow(folder)
    run = worked(workspace, recipe_for(str(folder), ""))
    assert run.status().state == "failed"
    assert f"{shard.name}: {name} holds values that are not numbers" in run.status().error
    assert not run.checkpoints


def test_the_command_fetches_what_was_named_and_pins_its_commit(workspace, published):
    with toy_hub.hub() as made:
        made.repositories["acme/tiny"] = published[0]
        said = subprocess.run(
            [sys.executable, "-m", "engine", "import", "--hub", "acme/tiny", "--revision", "v1"], cwd=ROOT, text=True,
            env={**os.environ, "HF_ENDPOINT": made.address, "HF_HUB_OFFLINE": "0", "PYTHONPATH": str(ROOT)},
            capture_output=True, check=True)
    assert "acme/tiny is fetched over the network" in said.stdout
    assert "/?" not in said.stdout, "the bar knows of how much"
    run = runs.find("tiny", workspace)
    assert run.made()["published"] == f"acme/tiny@{toy_hub.COMMIT}"
    pinned = next(event for event in run.rows("events")[0] if event.get("setting") == "published.revision")
    assert (pinned["value"], pinned["why"]) == (toy_hub.COMMIT, "what v1 stood for")
    assert same(checkpoint.best(run), published[1])
    assert not [line for line in made.asked if line.endswith((".bin", ".py")) or "original" in line], made.asked
    assert not (run.path / "coming").exists()


def test_a_fetched_model_is_exported_under_its_own_name_and_licence(workspace, published, nearby):
    run = worked(workspace, recipe_for("", "acme/tiny").override("jobs=[import, export]"))
    assert run.status().state == "finished", run.status().error
    bundle = run.artefact("bundle")
    card = (bundle / "README.md").read_text()
    assert f"made by others and published as acme/tiny@{toy_hub.COMMIT}" in card
    assert "license: apache-2.0" in card
    assert "trained from scratch" not in card
    assert "from-scratch" not in card
    assert files.read_json(bundle / files.MANIFEST)["made_from"]["published"] == f"acme/tiny@{toy_hub.COMMIT}"


def test_a_folder_lands_in_the_same_way_and_asks_nobody(workspace, published, nearby):
    folder, theirs = published
    workspace.allow(folder.parent)
    run = worked(workspace, recipe_for(str(folder), ""))
    assert run.status().state == "finished", run.status().error
    assert run.status().step == run.status().of > 0
    taken = checkpoint.best(run)
    assert same(taken, theirs)
    names = {path.name for path in taken.iterdir()}
    assert {"config.json", "model.safetensors.index.json", "tokenizer.json", "meta.json"} <= names
    assert not names & {"pytorch_model.bin", "modeling_tiny.py", "original"}
    assert len(list(folder.iterdir())) > len(names), "the folder itself is as it was"
    assert [event["path"] for event in run.rows("events")[0] if event["kind"] == "checkpoint"] == [
        "checkpoints/step-000000"]
    assert not nearby.asked


def test_a_published_model_is_measured_on_the_text_of_a_run_with_its_own_tokens(workspace, published):
    folder, _ = published
    workspace.allow(folder.parent)
    worked(workspace, recipe_for(str(folder), ""))
    dataset = toy_tokens.dataset(workspace, toy_tokens.texts(300, seed=1), toy_tokens.texts(40, seed=2), "mine")
    other = runs.create(Recipe(name="mine", jobs=["train"]), workspace)
    files.write_json(other.path / "made.json", {"dataset": f"datasets/{dataset.name}"})
    asked = Recipe(name="measured", jobs=["evaluate"], from_run="tiny", evaluate={"prompts": []})
    with pytest.raises(UserError, match="tiny was trained elsewhere"):
        runs.create(asked, workspace)
    run = worked(workspace, asked.override("evaluate.text_of=mine"))
    assert run.status().state == "finished", run.status().error
    report = files.read_json(run.path / "evaluation.json")
    assert report["text_of"] == "mine"
    assert 0 < report["val/loss"] < 20


def test_what_needs_a_tokenizer_is_refused_before_there_is_a_run(workspace, published):
    folder, _ = published
    workspace.allow(folder.parent)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(UserError, match=r"published\.folder is .*, which has no tokenizer\.json"):
        runs.create(recipe_for(str(folder), "").override("jobs=[import, export]"), workspace)
    run = worked(workspace, recipe_for(str(folder), ""))
    assert run.status().state == "finished", run.status().error
    with pytest.raises(UserError, match=r"from_run is tiny, which came without a tokenizer\.json"):
        runs.create(Recipe(name="out", jobs=["export"], from_run="tiny"), workspace)
    assert runs.listing(workspace) == [run]


def test_what_is_brought_in_to_be_measured_needs_a_text(workspace, published):
    workspace.allow(published[0].parent)
    for asked in (recipe_for(str(published[0]), ""), recipe_for("", "acme/tiny")):
        with pytest.raises(UserError, match=r"evaluate\.text_of is empty, and .*tiny was trained elsewhere"):
            runs.create(asked.override("jobs=[import, evaluate]"), workspace)
    assert runs.listing(workspace) == []


def test_a_fetch_goes_on_where_it_was_stopped(published, nearby, tmp_path):
    out, told = tmp_path / "coming", []
    out.mkdir()

    def stops(done, of, message=""):
        told.append(message)
        if len(set(told)) > 3:
            raise Stopped

    with pytest.raises(Stopped):
        hub.fetch(hub.PublishedConfig(repository="acme/tiny"), out, stops)
    here = {path.name for path in out.iterdir() if path.is_file()}
    assert here
    nearby.asked.clear()
    assert hub.fetch(hub.PublishedConfig(repository="acme/tiny"), out, silent).licence == "apache-2.0"
    assert same(out, published[1])
    again = {line.rpartition("/")[2] for line in nearby.asked if line.startswith("GET")}
    assert not again & here, "what was there is not fetched again"


def nobody_there(nearby, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")


def forbidden(nearby, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def only_pickles(nearby, monkeypatch):
    for path in nearby.repositories["acme/tiny"].glob("*.safetensors"):
        path.unlink()


@pytest.mark.parametrize(("asked", "harm", "sentence"), [
    ({"repository": "acme/none"}, None, "There is no repository acme/none at http://127.0.0.1:.*, or it is private"),
    ({"repository": "acme/terms"}, None, "acme/terms is given to those who accepted its terms"),
    ({"revision": "v9"}, None, "acme/tiny has no revision v9"),
    ({}, only_pickles, "acme/tiny at main has no weights in safetensors"),
    ({}, forbidden, "HF_HUB_OFFLINE forbids it"),
    ({}, nobody_there, "acme/tiny could not be fetched from http://127.0.0.1:9 .*; check the network"),
])
def test_what_stands_in_the_way_is_one_sentence(asked, harm, sentence, nearby, monkeypatch, tmp_path):
    nearby.gated.add("acme/terms")
    if harm:
        harm(nearby, monkeypatch)
    with pytest.raises(UserError, match=sentence) as caught:
        hub.fetch(hub.PublishedConfig(**{"repository": "acme/tiny", **asked}), tmp_path / "out", silent)
    assert caught.value.sentence.count("\n") == 0
    assert not list(tmp_path.glob("out/*.safetensors"))


def test_another_architecture_leaves_no_checkpoint(workspace, published, nearby):
    path = published[0] / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "model_type": "mamba", "state_size": 16}))
    run = worked(workspace, recipe_for("", "acme/tiny"))
    assert run.status().state == "failed"
    assert "type 'mamba', which has state-space blocks" in run.status().error
    assert not run.checkpoints


def test_a_folder_outside_or_one_that_links_outside_is_refused(workspace, published, tmp_path):
    folder, _ = published
    with pytest.raises(UserError, match="outside the workspace"):
        runs.create(recipe_for(str(folder), ""), workspace)
    workspace.allow(folder)
    secret = tmp_path / "secret.json"
    secret.write_text("{}")
    (folder / "generation_config.json").unlink(missing_ok=True)
    (folder / "generation_config.json").symlink_to(secret)
    run = worked(workspace, recipe_for(str(folder), ""))
    assert "generation_config.json leads to" in run.status().error
    assert not run.checkpoints


def of(size: int):
    def harm(path):
        path.write_bytes(b"")
        os.truncate(path, size)

    return harm


@pytest.mark.parametrize(("name", "harm", "sentence"), [
    ("config.json", lambda path: path.symlink_to("/dev/zero"), "config.json leads to /dev/zero, which is outside"),
    ("config.json", os.mkfifo, "config.json is no plain file"),
    ("tokenizer.json", lambda path: path.symlink_to("nowhere"), "tokenizer.json is no plain file, or a link to none"),
    ("other.safetensors", os.mkfifo, "other.safetensors is no plain file"),
    ("config.json", of(5 << 20), "no honest one has more than 4,194,304"),
    ("tokenizer.json", of(129 << 20), "more than 134,217,728"),
])
def test_nothing_is_opened_that_has_no_end(workspace, published, name, harm, sentence, monkeypatch):
    folder, _ = published
    workspace.allow(folder)
    run = runs.create(recipe_for(str(folder), ""), workspace)
    (folder / name).unlink(missing_ok=True)
    harm(folder / name)
    monkeypatch.setattr(scorer, "load_either", lambda *_: pytest.fail("it was read before it was looked at"))
    Worker(run).work()
    assert run.status().state == "failed"
    assert sentence in run.status().error
    assert not run.checkpoints


def test_an_index_names_no_other_files(workspace, published):
    folder, _ = published
    workspace.allow(folder)
    index = json.loads((folder / pretrained.INDEX).read_text())
    index["weight_map"] = dict.fromkeys(index["weight_map"], "endless")
    (folder / pretrained.INDEX).write_text(json.dumps(index))
    os.mkfifo(folder / "endless")
    run = worked(workspace, recipe_for(str(folder), ""))
    assert "does not map tensors to files of its folder" in run.status().error


def test_a_file_of_a_repository_is_too_large_before_it_is_fetched(published, nearby, tmp_path):
    with (published[0] / "tokenizer_config.json").open("wb") as file:
        file.truncate(17 << 20)
    with pytest.raises(UserError, match=r"tokenizer_config\.json of acme/tiny has 17,825,792 bytes"):
        hub.fetch(hub.PublishedConfig(repository="acme/tiny"), tmp_path / "out", silent)
    assert not any("resolve" in line for line in nearby.asked)


def test_a_relative_path_is_taken_from_where_one_stands(workspace, published, tmp_path, monkeypatch):
    folder, theirs = published
    monkeypatch.chdir(folder.parent)
    asked = argparse.Namespace(workspace=workspace.path, allow=[str(folder)], folder="tiny", hub="", revision="main")
    monkeypatch.setattr(imported, "start", runs.create)
    run, _ = imported.begin(asked)
    Worker(run).work()
    assert same(checkpoint.best(run), theirs)
    monkeypatch.chdir(folder)
    asked.folder = "."
    assert imported.begin(asked)[0].name.startswith("tiny")
    monkeypatch.chdir(tmp_path)
    shutil.copytree(folder, workspace.path / "models")
    asked.folder = "models"
    run, _ = imported.begin(asked)
    Worker(run).work()
    assert same(checkpoint.best(run), theirs), "one of the workspace is still found"
    asked.folder = "some/folder"
    with pytest.raises(UserError, match=f"no some/folder in {tmp_path}, nor in the workspace {workspace.path}"):
        imported.begin(asked)


@pytest.mark.parametrize(("changes", "sentence"), [
    (["jobs=[import]"], "published.folder: is empty"),
    (["published.repository=https://a.b/c/d"], "published.repository: is .*; write it as OWNER/NAME"),
    (["published.repository=../../etc"], "write it as OWNER/NAME"),
    (["published.repository=a/b", "published.folder=c"], "is named beside a folder"),
])
def test_what_is_named_wrongly_is_laid_at_its_field(changes, sentence):
    with pytest.raises(UserError, match=sentence):
        Recipe().override(*changes)
