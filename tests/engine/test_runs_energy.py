"""Energy: counters read as their makers say, an estimate that says so, and figures that a person can change."""

from __future__ import annotations

import sys
import types

import pytest

from engine.config import UserError
from engine.plan import prices
from engine.runs import energy
from engine.runs.energy import Gpu, Meter, Rapl


def zone(root, name, label, count, full=1_000_000):
    folder = root / name
    folder.mkdir(parents=True)
    for file, value in (("name", label), ("energy_uj", count), ("max_energy_range_uj", full)):
        (folder / file).write_text(f"{value}\n")
    return folder / "energy_uj"


class Clock:
    """Seconds and processor seconds that a test turns itself."""

    def __init__(self, monkeypatch):
        self.now = self.busy = 100.0
        monkeypatch.setattr(energy.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(Meter, "_busy_seconds", lambda meter: self.busy)


def test_rapl_adds_packages_and_memory_counts_no_part_twice_and_bears_a_full_counter(tmp_path):
    package = zone(tmp_path, "intel-rapl:0", "package-0", 900_000)
    zone(tmp_path, "intel-rapl:0:0", "core", 5)
    memory = zone(tmp_path, "intel-rapl:0:1", "dram", 100)
    zone(tmp_path, "intel-rapl:1", "psys", 7)
    rapl = Rapl(tmp_path)
    assert len(rapl.zones) == 2
    package.write_text("100000")   # it began anew: 100,001 to the end and 100,000 since
    memory.write_text("50100")
    assert rapl.joules() == pytest.approx((100_001 + 100_000 + 50_000) / 1e6)
    assert rapl.joules() == 0


def test_a_machine_without_readable_counters_is_estimated_and_says_so(tmp_path, monkeypatch):
    clock = Clock(monkeypatch)
    meter = Meter("cpu", prices.load(), 1.0, rapl=Rapl(tmp_path))
    assert meter.value == "estimated"
    assert f"{meter.entry.watts:g} W a busy core" in meter.method
    clock.now += 3600
    clock.busy += 7200
    row = meter.read(5, 1000, 50.0)
    memory = row["memory/resident_gib"] * meter.prices.memory_watts.value
    assert row["energy/kwh"] - 1.0 == pytest.approx((2 * meter.entry.watts + memory) / 1000, rel=0.01)
    assert row["energy/watts"] == pytest.approx(2 * meter.entry.watts + memory, rel=0.01)
    assert row["energy/cost"] == pytest.approx(row["energy/kwh"] * meter.prices.electricity.value)
    assert row["energy/co2e_kg"] == pytest.approx(row["energy/kwh"] * meter.prices.carbon.value)
    clock.now += 3600  # a pause is none of the training's
    meter.go_on()
    assert meter.read(5, 1000, 50.0)["energy/kwh"] == pytest.approx(row["energy/kwh"])


def test_counters_that_can_be_read_are_called_measured(tmp_path, monkeypatch):
    clock, counter = Clock(monkeypatch), zone(tmp_path, "intel-rapl:0", "package-0", 0, full=10**10)
    meter = Meter("cpu", prices.load(), rapl=Rapl(tmp_path))
    clock.now += 2
    counter.write_text("90000000")
    row = meter.read(1, 1, float("nan"))
    assert meter.value == "measured"
    assert (row["energy/watts"], row["energy/kwh"]) == (45.0, 90 / 3.6e6)
    assert "speed/tokens_per_second" not in row


def test_ranks_add_up_what_each_draws_and_the_machine_is_counted_once(tmp_path, monkeypatch):
    clock, counter = Clock(monkeypatch), zone(tmp_path / "read", "intel-rapl:0", "package-0", 0, full=10**10)
    others = 40.0  # of the ranks that are not here
    for root, own in ((tmp_path / "read", 0.0), (tmp_path / "none", 3600.0)):
        meter = Meter("cpu", prices.load(), rapl=Rapl(root), local_rank=1, together=lambda drawn: drawn + others)
        clock.now, clock.busy = clock.now + 2, clock.busy + own
        counter.write_text("90000000")
        estimate = own * meter.entry.watts
        assert meter.read(1, 1, 1.0)["energy/kwh"] == pytest.approx((estimate + others) / 3.6e6, rel=0.01)


def nvml(counts, powers):
    """The calls of pynvml that are used, on a GPU whose readings are these."""
    made = types.ModuleType("pynvml")
    made.NVMLError, made.NVML_TEMPERATURE_GPU = RuntimeError, 0
    made.nvmlInit, made.nvmlDeviceGetHandleByIndex = lambda: None, lambda index: index

    def count(handle):
        if not counts:
            raise RuntimeError("Not Supported")
        return counts.pop(0)

    made.nvmlDeviceGetTotalEnergyConsumption = count
    made.nvmlDeviceGetPowerUsage = lambda handle: powers.pop(0)
    made.nvmlDeviceGetUtilizationRates = lambda handle: types.SimpleNamespace(gpu=87)
    made.nvmlDeviceGetMemoryInfo = lambda handle: types.SimpleNamespace(used=3 << 30, total=80 << 30)
    made.nvmlDeviceGetTemperature = lambda handle, sensor: 61
    return made


def test_a_gpu_s_counter_is_in_millijoules_and_power_in_milliwatts(tmp_path, monkeypatch):
    clock = Clock(monkeypatch)
    monkeypatch.setitem(sys.modules, "pynvml", nvml([1_000, 701_000], []))
    meter = Meter("cuda", prices.load(), rapl=Rapl(tmp_path))
    assert meter.value == "GPU measured, processor estimated"
    row = meter.read(1, 1, 1.0)
    assert row["energy/kwh"] >= 700 / 3.6e6
    assert (row["load/gpu"], row["memory/gpu_gib"], row["temperature/gpu"]) == (0.87, 3, 61)
    monkeypatch.setitem(sys.modules, "pynvml", nvml([], [250_000]))
    gpu = Gpu()
    clock.now += 4
    assert gpu.joules() == 1000


def test_a_gpu_without_the_library_is_left_out_and_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    meter = Meter("cuda", prices.load(), rapl=Rapl(tmp_path))
    assert meter.value == "estimated"
    assert "the GPU is left out" in meter.method
    assert meter.read(1, 1, 1.0)["energy/kwh"] >= 0


# Prices -----------------------------------------------------------------------------------------------


def test_every_shipped_figure_names_its_source_and_date():
    shipped = prices.load()
    for figure in (shipped.electricity, shipped.carbon, shipped.overhead, *shipped.processors, *shipped.machines):
        assert figure.source
        assert figure.date.startswith("20")
    assert shipped.processor("AMD EPYC 9R14").name == "EPYC 9"
    assert shipped.processor("something else").name == ""


def test_the_workspace_s_figures_come_before_the_shipped(workspace):
    prices.own_file(workspace).write_text("electricity: {value: 0.4, source: my bill, date: 2026-01}\n"
                                          "machines:\n  - {name: H100, tflops: 989, memory_gb: 80, bandwidth_gb: 3350,"
                                          " link_gb: 900, watts: 700, source: x, price: 1, price_source: me,"
                                          " date: 2026-01}\n")
    own = prices.load(workspace)
    assert (own.electricity.value, own.machine("H100").price) == (0.4, 1)
    assert own.carbon == prices.load().carbon
    assert len(own.machines) == len(prices.load().machines)
    assert prices.put(workspace, "carbon", 0.05).carbon.value == prices.load(workspace).carbon.value == 0.05
    assert prices.load(workspace).electricity.value == 0.4


@pytest.mark.parametrize(("text", "said"), [("electricity: {value: -1}", "electricity.value"), ("- 1", "no figures"),
                                            ("a: [", "is not YAML"), ("elecricity: {value: 1}", "elecricity")])
def test_a_wrong_figure_is_named_with_its_file(workspace, text, said):
    prices.own_file(workspace).write_text(text)
    with pytest.raises(UserError, match=said) as caught:
        prices.load(workspace)
    assert "prices.yaml" in caught.value.sentence
