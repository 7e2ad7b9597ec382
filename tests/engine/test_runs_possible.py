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


def test_the_run_whose_text_is_asked_for_must_be_there_with_its_dataset(workspace):
    recipe = Recipe.load("demo").override("evaluate.text_of=other")
    with pytest.raises(UserError, match=r"text_of is other, and there is no such run; there are none yet"):
        runs.create(recipe, workspace)
    other = runs.create(Recipe.load("demo").override("name=other"), workspace)
    assert not possible.impossible(recipe, workspace), "it may have made one by then"
    other.write_status(state="finished")
    assert "made no dataset; name another run" in str(possible.impossible(recipe, workspace)[0])
    assert possible.impossible(recipe.override("evaluate.text_of=../other"), workspace), "no way out of the folder"
