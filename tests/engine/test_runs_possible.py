"""What cannot come to anything is refused before there is a run's folder, with what to do about it."""

from __future__ import annotations

import pytest

from engine import runs
from engine.config import UserError
from engine.recipe import Recipe
from engine.runs import possible


@pytest.fixture
def with_gpus(monkeypatch, tmp_path):
    """A torch for GPUs; `tmp_path` is the folder of devices."""
    monkeypatch.setattr(possible, "version", lambda name: "2.13.0")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return tmp_path


@pytest.mark.parametrize("device", ["nvidia0", "nvhost-gpu", "kfd", "dxg"])
def test_a_gpu_may_be_anyones(with_gpus, device, monkeypatch):
    assert possible.no_gpu(with_gpus) == "this machine shows no GPU"
    (with_gpus / device).touch()
    assert possible.no_gpu(with_gpus) == ""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert possible.no_gpu(with_gpus) == "CUDA_VISIBLE_DEVICES hides every GPU"
    monkeypatch.setattr(possible, "version", lambda name: "2.13.0+cpu")
    assert "made for processors alone" in possible.no_gpu(with_gpus)


def test_cuda_without_a_gpu_is_refused_where_the_studio_starts_the_processes(workspace, monkeypatch):
    monkeypatch.setattr(possible, "no_gpu", lambda: "this machine shows no GPU")
    cuda = Recipe.load("demo").override("train.device=cuda")
    with pytest.raises(UserError, match=r"train.device is cuda, but this machine shows no GPU; choose auto or cpu\.$"):
        runs.create(cuda, workspace)
    assert runs.listing(workspace) == []
    assert not possible.impossible(cuda.override("jobs=[curate]"), workspace), "it trains nothing"
    assert not possible.impossible(cuda.override("train.launcher=slurm"), workspace), "other machines may have one"


def test_what_holds_no_model_is_not_brought_in(workspace, tmp_path):
    coming = Recipe().override("jobs=[import]", f"published.folder={str(tmp_path)!r}")
    with pytest.raises(UserError, match=r"outside the workspace .* --allow"):
        runs.create(coming, workspace)
    workspace.allow(tmp_path)
    with pytest.raises(UserError, match=r"has no config\.json"):
        runs.create(coming, workspace)
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(UserError, match=r"holds an adapter .* export\.adapter="):
        runs.create(coming, workspace)
    with pytest.raises(UserError, match=r"benchmark\.bundle is nobody"):
        runs.create(Recipe().override("jobs=[benchmark]", "benchmark.bundle=nobody"), workspace)
    with pytest.raises(UserError, match="from_run is other, and a run that trains begins anew"):
        runs.create(Recipe.load("demo").override("from_run=other"), workspace)
    assert runs.listing(workspace) == []


def test_the_run_whose_text_is_asked_for_must_be_there_with_its_dataset(workspace):
    recipe = Recipe.load("demo").override("evaluate.text_of=other")
    with pytest.raises(UserError, match=r"text_of is other, and there is no such run; there are none yet"):
        runs.create(recipe, workspace)
    other = runs.create(Recipe.load("demo").override("name=other"), workspace)
    assert not possible.impossible(recipe, workspace), "it may have made one by then"
    other.write_status(state="finished")
    assert "made no dataset; name another run" in str(possible.impossible(recipe, workspace)[0])
    assert possible.impossible(recipe.override("evaluate.text_of=../other"), workspace), "no way out of the folder"
