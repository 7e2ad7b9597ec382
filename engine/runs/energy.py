"""Energy: what training draws, measured where the machine tells it and estimated elsewhere, and the gauges beside it.

Measured: RAPL counts the joules of each processor package (with its memory, where the processor counts that), and
NVML those of a GPU; both count everything that runs there, other programs too. Estimated: the processor time of
this process times the watts of a core (`assets/prices.yaml`), and its memory times the watts of a GiB.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import psutil

from engine import hardware
from engine.plan import Prices
from engine.runs.folder import Run

POWERCAP = Path("/sys/class/powercap")
GAUGE_SECONDS = 2.0
JOULES = 3.6e6  # in a kWh
GIB = 1 << 30


class Rapl:
    """The counters of the processor's packages, and of the memory beside them. Empty where they cannot be read."""

    def __init__(self, root: Path = POWERCAP) -> None:
        self.zones: list[tuple[Path, int]] = []
        for zone in sorted(root.glob("intel-rapl:*")):  # AMD's counters go by the same name
            try:
                name = (zone / "name").read_text().strip()
                if name.startswith("package") or name == "dram":
                    int((zone / "energy_uj").read_text())
                    self.zones.append((zone / "energy_uj", int((zone / "max_energy_range_uj").read_text())))
            except (OSError, ValueError):
                continue  # since 2020 only root may read them, unless the machine's owner allows it
        self._last = [self._count(path) for path, _ in self.zones]

    def joules(self) -> float:
        """Joules since the last call. The counters begin anew when they are full."""
        total = 0
        for place, (path, full) in enumerate(self.zones):
            now = self._count(path)
            total += (now - self._last[place]) % (full + 1)
            self._last[place] = now
        return total / 1e6

    @staticmethod
    def _count(path: Path) -> int:
        return int(path.read_text())


class Gpu:
    """One NVIDIA GPU, through NVML (`nvidia-ml-py`)."""

    def __init__(self, index: int = 0) -> None:
        import pynvml

        self.nvml = pynvml
        pynvml.nvmlInit()
        self.handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        self._counts = True
        self._since = time.monotonic()
        try:
            self._last = float(pynvml.nvmlDeviceGetTotalEnergyConsumption(self.handle))
        except pynvml.NVMLError:  # before Volta
            self._counts = False

    def joules(self) -> float:
        """Joules since the last call; without a counter, the power of now over the time since."""
        now, before = time.monotonic(), self._since
        self._since = now
        if not self._counts:
            return float(self.nvml.nvmlDeviceGetPowerUsage(self.handle)) / 1e3 * (now - before)
        count = float(self.nvml.nvmlDeviceGetTotalEnergyConsumption(self.handle))
        used, self._last = count - self._last, count
        return used / 1e3

    def gauges(self) -> dict[str, float]:
        nvml = self.nvml
        return {"load/gpu": nvml.nvmlDeviceGetUtilizationRates(self.handle).gpu / 100,
                "memory/gpu_gib": nvml.nvmlDeviceGetMemoryInfo(self.handle).used / GIB,
                "temperature/gpu": float(nvml.nvmlDeviceGetTemperature(self.handle, nvml.NVML_TEMPERATURE_GPU))}


class Meter:
    """Adds up the energy of this process from `spent_kwh` on. `read` gives a row's gauges, `method` says how.

    Of several ranks each has one, and all read at the same steps: `together` adds up what each of them drew.
    """

    def __init__(self, device: str, prices: Prices, spent_kwh: float = 0.0, *, rapl: Rapl | None = None,
                 gpu: Gpu | None = None, local_rank: int = 0, nodes: int = 1,
                 together: Callable[[float], float] = float) -> None:
        self.prices, self.kwh = prices, spent_kwh
        self.local_rank, self.nodes, self.together = local_rank, nodes, together
        self.rapl = Rapl() if rapl is None else rapl
        self.gpu = gpu
        self._no_gpu = ""
        if device.startswith("cuda") and gpu is None:
            try:
                self.gpu = Gpu(local_rank)
            except Exception as problem:  # no library, no driver, no permission: each is its own error there
                self._no_gpu = f"; the GPU is left out ({type(problem).__name__}: install the extra gpu)"
        self.entry = prices.processor(hardware.processor())
        self._process = psutil.Process()
        self._cores = max(1.0, hardware.cores())
        self._time, self._busy = time.monotonic(), self._busy_seconds()
        self.due = self._time

    @property
    def value(self) -> str:
        """"measured" or "estimated"; a run on a GPU that measures only that is both."""
        if self._no_gpu or (not self.rapl.zones and self.gpu is None):
            return "estimated"
        return "measured" if self.rapl.zones else "GPU measured, processor estimated"

    @property
    def method(self) -> str:
        """How it is counted, in words."""
        gpu = "; NVML counts the GPU, other programs' share included" if self.gpu is not None else self._no_gpu
        if self.rapl.zones:
            return (f"RAPL counts the processor's {len(self.rapl.zones)} zones, other programs' share included{gpu}")
        source = self.entry.source if self.entry.source.startswith("none") else f"as in {self.entry.source}"
        return (f"RAPL cannot be read here, so this process's processor time is counted at {self.entry.watts:g} W a "
                f"busy core ({source}), and its memory at {self.prices.memory_watts.value:g} W a GiB{gpu}")

    def go_on(self) -> None:
        """What was drawn since the last reading is none of the training's, as after a pause."""
        self._joules()

    def read(self, step: int, tokens: int, speed: float) -> dict[str, Any]:
        """One row: energy so far, load and memory since the last reading."""
        before, busy_before = self._time, self._busy
        joules = self.together(self._joules())
        busy = self.together(self._busy - busy_before) / self.nodes
        seconds = max(1e-6, self._time - before)
        self.kwh += joules / JOULES
        self.due = self._time + GAUGE_SECONDS
        row = {"step": step, "time": time.time(), "tokens": tokens, "energy/kwh": self.kwh,
               "energy/cost": self.prices.cost(self.kwh), "energy/co2e_kg": self.prices.co2e_kg(self.kwh),
               "energy/watts": joules / seconds, "load/cpu": busy / seconds / self._cores,
               "memory/resident_gib": self._process.memory_info().rss / GIB}
        if speed == speed:
            row["speed/tokens_per_second"] = speed
        if self.gpu is not None:
            row |= self.gpu.gauges()
        elif (heat := _temperature()) is not None:
            row["temperature/cpu"] = heat
        return row

    def _joules(self) -> float:
        before, busy_before = self._time, self._busy
        self._time, self._busy = time.monotonic(), self._busy_seconds()
        used = self.gpu.joules() if self.gpu is not None else 0.0
        if self.rapl.zones:
            return used + (0.0 if self.local_rank else self.rapl.joules())  # which counts the machine, so once
        memory = self._process.memory_info().rss / GIB * self.prices.memory_watts.value
        return used + (self._busy - busy_before) * self.entry.watts + (self._time - before) * memory

    def _busy_seconds(self) -> float:
        times = self._process.cpu_times()
        return float(times.user + times.system)


def _temperature() -> float | None:
    """Degrees Celsius of the hottest processor sensor, where the system has one."""
    sensors: dict[str, Any] = getattr(psutil, "sensors_temperatures", dict)()
    names = ("coretemp", "k10temp", "zenpower", "cpu_thermal")
    return max((each.current for name in names for each in sensors.get(name, ())), default=None)


# What a run came to ---------------------------------------------------------------------------------


def spent(run: Run) -> float:
    """kWh that the run had used up when it last told; steps that a resume makes anew are in it."""
    rows, _ = run.rows("metrics")
    return float(next((row["energy/kwh"] for row in reversed(rows) if "energy/kwh" in row), 0.0))


def account(rows: Iterable[Mapping[str, Any]], events: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The energy of a training from its rows and events, for cards: kwh, cost, currency, co2e_kg, tokens, and how
    it was found. Empty for a run that told nothing of it."""
    last = next((row for row in reversed(list(rows)) if "energy/kwh" in row), None)
    how = next((event for event in reversed(list(events)) if event.get("setting") == "energy"), None)
    if last is None or how is None:
        return {}
    return {"kwh": last["energy/kwh"], "cost": last["energy/cost"], "currency": how.get("currency", ""),
            "co2e_kg": last["energy/co2e_kg"], "tokens": last["tokens"], "value": how["value"], "why": how["why"]}
