from __future__ import annotations

import json
import subprocess
import sys

import psutil
import pytest
import torch

from engine import hardware
from engine.config import UserError


def in_a_process(code: str, **environment: str) -> str:
    import os

    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                            env={**os.environ, **environment})
    return result.stdout.strip()


def test_looking_at_the_machine_needs_no_torch():
    code = ("from engine import hardware as h; import sys; h.cores(), h.memory(), h.processor(); "
            "print('torch' in sys.modules)")
    assert in_a_process(code) == "False"


def test_memory_and_cores_are_plausible(monkeypatch):
    total, available = hardware.memory()
    assert 0 < available <= total <= psutil.virtual_memory().total
    assert 0 < hardware.cores() <= psutil.cpu_count()
    limits = {"cpu.max": "50000 100000", "memory.max": str(1 << 20), "memory.current": str(1 << 18)}
    monkeypatch.setattr(hardware, "_cgroup", limits.get)
    assert hardware.cores() == 0.5
    assert hardware.memory() == (1 << 20, 3 << 18)


def test_description_goes_into_json():
    facts = json.loads(json.dumps(hardware.describe()))
    assert facts["devices"][-1]["device"] == "cpu"
    assert facts["packages"]["torch"] == torch.__version__.split()[0]
    assert facts["memory_gib"] > 0


def test_precision_follows_the_measurement(monkeypatch):
    speeds = {torch.float32: 100e9, torch.bfloat16: 280e9}
    monkeypatch.setattr(hardware, "_probe", lambda device, dtype: speeds[dtype])
    precision, why = hardware.choose_precision("cpu")
    assert precision == "bf16"
    assert "280" in why
    assert "100" in why
    for slow in (107e9, 35e9):
        speeds[torch.bfloat16] = slow
        assert hardware.choose_precision("cpu")[0] == "float32"


def test_a_processor_without_bf16_gets_float32():
    """oneDNN is told that the processor has no bf16 instructions; it then emulates them slowly."""
    code = "from engine import hardware as h; print(h.choose_precision('cpu')[0])"
    assert in_a_process(code, ONEDNN_MAX_CPU_ISA="AVX2") == "float32"


def test_probing_leaves_torch_as_it_was():
    threads, before = torch.get_num_threads(), torch.get_float32_matmul_precision()
    value, why = hardware.choose_matmul_precision("cpu")
    hardware.choose_precision("cpu")
    assert (torch.get_num_threads(), torch.get_float32_matmul_precision()) == (threads, before)
    assert value in ("highest", "medium")
    assert why


def test_medium_is_refused_where_it_rounds_to_fewer_bits(monkeypatch):
    honest = hardware._with_matmul_precision
    monkeypatch.setattr(hardware, "_with_matmul_precision",
                        lambda value, measure: 4e-3 if value == "medium" else honest(value, measure))
    assert hardware.choose_matmul_precision("cpu") == ("highest", "medium rounds float32 to fewer bits here "
                                                                  "(relative error 4e-03)")


def test_a_missing_gpu_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert hardware.choose_device("auto") == hardware.choose_device("cpu") == "cpu"
    with pytest.raises(UserError, match=r"train\.device is cuda") as caught:
        hardware.choose_device("cuda")
    assert caught.value.where == "train.device"


def test_peak_is_at_least_what_a_product_reaches():
    assert hardware.peak_flops("cpu", "float32", seconds=0.05) > 1e8


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_freed_memory_is_kept_and_not_faulted_in_again():
    code = """
import resource, sys, torch
from engine import hardware
took = hardware.keep_freed_memory() if sys.argv[1] == "keep" else True
def step():
    torch.ones(12 << 20).mul_(2)
step(), step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10): step()
print(int(took), resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    faults = {}
    for mode in ("keep", "plain"):
        result = subprocess.run([sys.executable, "-c", code, mode], capture_output=True, text=True, check=True)
        took, number = map(int, result.stdout.split())
        if not took:
            pytest.skip("not glibc")
        faults[mode] = number
    assert faults["keep"] < faults["plain"] / 4


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_is_found_and_measured():
    assert hardware.choose_device() == "cuda"
    assert hardware.devices()[0]["memory_bytes"] > 1 << 30
    assert hardware.choose_precision("cuda")[0] in ("bf16", "float32")
    assert hardware.peak_flops("cuda", "bf16") > 1e12
