"""GPUs in a plan: which entry of prices.yaml a driver's name means, what is known of the one that is here, and what a
rented one costs."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from engine.plan import gpu, machines, prices
from engine.plan.dial import propose
from engine.plan.here import Here, here, rented
from engine.plan.outline import outline
from engine.recipe import Recipe

GB = 1e9
MACHINE = Here("AMD EPYC 9654", "cpu", 4.0, 16 * 2.0**30, "float32")


@pytest.mark.parametrize(("name", "memory_bytes", "entry"), [
    ("NVIDIA A100-SXM4-80GB", 0, "A100 80 GB"),
    ("NVIDIA A100-SXM4-40GB", 0, "A100 40 GB"),
    ("NVIDIA A100-PCIE-40GB", 0, "A100 40 GB"),
    ("NVIDIA A100 80GB PCIe", 0, "A100 80 GB"),
    ("A100", 85.1 * GB, "A100 80 GB"),
    ("NVIDIA H100 80GB HBM3", 0, "H100"),
    ("NVIDIA H200", 150 * GB, "H200"),
    ("Tesla V100-SXM2-16GB", 0, "V100 16 GB"),
    ("Tesla V100-SXM2-32GB", 0, "V100 32 GB"),
    ("Tesla T4", 0, "T4"),
    ("NVIDIA GeForce RTX 4090", 25.4 * GB, "RTX 4090"),
    ("NVIDIA GeForce RTX 3090", 0, "RTX 3090"),
    ("NVIDIA RTX A6000", 51 * GB, "RTX A6000"),
    ("NVIDIA L4", 24 * GB, "L4"),
    ("NVIDIA L40S", 48 * GB, "L40S"),
    ("NVIDIA A10", 24 * GB, "A10"),
    ("NVIDIA A10G", 24 * GB, ""),
    ("NVIDIA L40", 48 * GB, ""),
    ("NVIDIA GeForce RTX 3060", 12 * GB, ""),
    ("NVIDIA GeForce RTX 3090 Ti", 24 * GB, ""),
    ("NVIDIA GeForce RTX 4090 Laptop GPU", 16 * GB, ""),
    ("Quadro RTX 6000", 24 * GB, ""),
])
def test_a_driver_s_name_finds_its_entry_or_none(name, memory_bytes, entry):
    found = prices.load().machine_of(name, memory_bytes)
    assert (found.name if found else "") == entry


@pytest.fixture
def nvml(monkeypatch):
    """An NVML that tells of the given GPUs."""
    def put(*found: tuple[str, float]) -> None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        monkeypatch.setitem(sys.modules, "pynvml", SimpleNamespace(
            nvmlInit=lambda: None, nvmlDeviceGetCount=lambda: len(found), nvmlDeviceGetHandleByIndex=lambda n: n,
            nvmlDeviceGetName=lambda n: found[n][0],
            nvmlDeviceGetMemoryInfo=lambda n: SimpleNamespace(total=found[n][1])))
    return put


def test_a_gpu_that_is_here_has_its_memory_and_what_is_too_large_for_it_says_so(workspace, nvml):
    nvml(("NVIDIA GeForce RTX 4090", 24 * 2.0**30))
    machine = here(workspace)
    assert (machine.device, machine.memory_bytes, machine.precision) == ("cuda", 24 * 2**30, "bf16")
    big = Recipe.load("demo").override("model={family: llama, size: 3b}", "train.micro_batch_size=8")
    plan = outline(big, workspace)
    assert not plan.fits
    assert plan.remedies
    small = outline(Recipe.load("demo"), workspace)
    assert small.fits
    assert small.watts == 0.8 * 450 + machines.HOST_WATTS
    assert "RTX 4090's peak" in small.based_on


def test_without_nvml_the_kernel_s_driver_names_the_gpu_and_the_list_knows_its_memory(workspace, tmp_path, monkeypatch):
    (tmp_path / "0000:01:00.0").mkdir()
    (tmp_path / "0000:01:00.0" / "information").write_text("Model: \t\t Tesla T4\nIRQ:   33\n")
    monkeypatch.setattr(gpu, "GPUS", tmp_path)
    monkeypatch.setitem(sys.modules, "pynvml", None)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    machine = here(workspace)
    assert (machine.name, machine.memory_bytes) == ("Tesla T4", 16e9)
    assert machine.precision == "float32"  # it has no bf16
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert here(workspace).device == "cpu"


def test_a_gpu_that_nobody_knows_is_an_assumption_and_says_so(workspace, nvml):
    nvml(("NVIDIA GeForce RTX 3060", 12e9))
    plan = outline(Recipe.load("demo"), workspace)
    assert plan.available_bytes == 12e9
    assert "an assumption" in plan.based_on
    assert "prices.yaml has no NVIDIA GeForce RTX 3060" in plan.based_on
    assert any(name == "GPU" and "assumptions" in source for name, _, source in plan.assumptions)


def test_several_gpus_share_the_rows_and_where_one_is_too_small_the_model_is_cut(workspace, nvml):
    recipe = Recipe.load("demo").override("model={family: llama, size: 3b, context_length: 1024}",
                                          "train.micro_batch_size=1", "train.accumulation=8")
    nvml(("NVIDIA A100-SXM4-40GB", 40e9))
    assert not outline(recipe, workspace).fits
    nvml(*[("NVIDIA A100-SXM4-40GB", 40e9)] * 8)
    eight = outline(recipe, workspace)
    assert eight.fits
    assert eight.watts == pytest.approx(8 * (0.8 * 400 + 60))


def test_devices_without_bf16_are_reckoned_at_their_float32_peak():
    figures, recipe = prices.load(), Recipe.load("demo")
    t4, v100, a100 = (figures.machine(name) for name in ("T4", "V100 32 GB", "A100 40 GB"))
    assert (t4.tflops, v100.tflops) == (8.1, 15.7)
    assert "float16" in t4.source
    assert machines.peak_flops(recipe, t4) == 8.1e12
    assert machines.peak_flops(recipe, a100) == 312e12
    assert machines.peak_flops(recipe.override("train.precision=float32"), a100) == 156e12  # TF32


# Rent ---------------------------------------------------------------------------------------------------


def test_money_is_spent_on_rent_where_a_machine_is_rented(workspace):
    figures = prices.load()
    a100 = figures.machine("A100 80 GB")
    here_it_is = propose(Recipe.load("demo"), workspace, money=5, hours=1, figures=figures, machine=MACHINE)
    assert here_it_is.plan.pays == "electricity"
    made = propose(Recipe.load("demo"), workspace, money=5, figures=figures, machine=MACHINE, rent=a100, devices=2)
    assert made.plan.pays == "rent"
    assert made.plan.cost == pytest.approx(5, rel=0.05)
    assert made.plan.cost == pytest.approx(made.plan.wall_seconds / 3600 * 2 * a100.price)
    assert made.plan.prediction.loss < here_it_is.plan.prediction.loss
    train = made.recipe.train
    assert train.micro_batch_size * train.accumulation % 2 == 0, "both devices have rows of each step"
    assert any(name == "Rent" for name, _, _ in made.plan.assumptions)
    assert "measure it" not in made.plan.based_on, "it is not here"


def test_rent_and_watts_can_be_changed_for_one_device(workspace):
    prices.put(workspace, "price", 1.5, "H100")
    prices.put(workspace, "device_watts", 350, "H100")
    prices.put(workspace, "price", 1.25, "H100")
    figures = prices.load(workspace)
    assert (figures.machine("H100").price, figures.machine("H100").watts) == (1.25, 350)
    assert figures.machine("H100").price_source == "set in the studio"
    assert figures.machine("H200") == prices.load().machine("H200")
    assert [each.name for each in figures.machines].count("H100") == 1
    plan = outline(Recipe.load("demo"), workspace, machine=rented(figures.machine("H100")),
                   rent=figures.machine("H100"))
    assert plan.cost == pytest.approx(plan.wall_seconds / 3600 * 1.25)


def test_watts_of_a_core_and_of_memory_can_be_changed(workspace):
    before = outline(Recipe.load("demo"), workspace, machine=MACHINE)
    prices.put(workspace, "core_watts", 10, MACHINE.name)
    prices.put(workspace, "memory_watts", 0)
    after = outline(Recipe.load("demo"), workspace, machine=MACHINE)
    assert before.watts < after.watts == 40
    assert prices.load(workspace).processor("Intel Xeon").watts == prices.load().processor("Intel Xeon").watts
