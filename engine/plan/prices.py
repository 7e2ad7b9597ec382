"""Prices: what energy, carbon and machines cost, each figure with its source and date; the workspace may change any."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any, Literal

import yaml

from engine import files
from engine.config import Config, UserError, read, setting
from engine.workspace import ASSETS, Workspace

SHIPPED = ASSETS / "prices.yaml"
EDITABLE = {"electricity": "Electricity", "carbon": "Carbon", "overhead": "Building overhead, PUE",
            "memory_watts": "Memory in use", "core_watts": "A busy core", "device_watts": "A GPU, at most",
            "price": "Rent"}
"""What is asked on the Train page: figures, watts of a processor's core, and watts and rent of a device. The rest is
edited as a file."""
UNITS = {"electricity": "{} a kWh", "carbon": "kg CO2e a kWh", "overhead": "a factor", "memory_watts": "W a GiB",
         "core_watts": "W", "device_watts": "W", "price": "{} an hour of one device"}
"""Of each of them; the currency takes the place of {}."""
OTHER_CHIPS = {"ti", "super", "laptop", "mobile", "max", "d"}
"""Words behind a GPU's name that make it another chip: an RTX 4090 Laptop GPU has half an RTX 4090's speed."""


class Figure(Config):
    """A number with where it is from."""

    value: float = setting(..., "The figure", ge=0)
    source: str = setting(..., "Who published it, and where", min_length=1)
    date: str = setting(..., "When, as YYYY-MM", pattern=r"^\d{4}-\d{2}(-\d{2})?$")


class Processor(Config):
    """What one busy core draws, for every processor with `name` in its name."""

    name: str
    watts: float = setting(..., "Watts of one busy core", gt=0)
    source: str
    date: str


class Machine(Config):
    """A device that can be rented. GB and TFLOP/s of 10^9 bytes and 10^12 operations, as makers count."""

    name: str
    tflops: float = setting(..., "Peak of a dense product in `precision`", gt=0)
    precision: Literal["bf16", "float32"] = setting("bf16", "Fastest number format that training has there")
    memory_gb: float = setting(..., "Memory", gt=0)
    bandwidth_gb: float = setting(..., "Memory read in a second", gt=0)
    link_gb: float = setting(..., "To its neighbours in a second, both directions together", gt=0)
    watts: float = setting(..., "Most power drawn", gt=0)
    source: str
    price: float = setting(..., "One hour of one device", ge=0)
    price_source: str
    date: str

    @property
    def chip(self) -> list[str]:
        """The words of the name that do not tell its memory."""
        return _words(re.sub(r"\d+ ?GB", "", self.name))


class Prices(Config):
    """The whole file."""

    version: int = 1
    currency: str = setting("USD", "Of every price here", min_length=1, max_length=8)
    electricity: Figure
    carbon: Figure
    overhead: Figure
    memory_watts: Figure
    processors: tuple[Processor, ...] = setting(..., "The last one's name is empty", min_length=1)
    machines: tuple[Machine, ...] = setting(..., "Devices that are not here", min_length=1)

    def processor(self, name: str) -> Processor:
        """The entry for a processor of that name."""
        return next((each for each in self.processors if each.name.lower() in name.lower()), self.processors[-1])

    def machine(self, name: str) -> Machine:
        """The machine of that name; a UserError lists those there are."""
        for each in self.machines:
            if each.name == name:
                return each
        raise UserError(f"There is no machine {name} in prices.yaml; there are "
                        f"{', '.join(each.name for each in self.machines)}.", where="machines")

    def machine_of(self, name: str, memory_bytes: float = 0.0) -> Machine | None:
        """The machine that a driver calls `name`, such as "NVIDIA A100-SXM4-80GB"; None if it is not in the file.

        The entry with most words in that name is taken; among those of one chip the one of nearest memory, which the
        name may tell too, and the smallest where nothing tells it.
        """
        words = _words(name)
        told = re.search(r"(\d+) ?GB", name, re.IGNORECASE)
        memory_gb = memory_bytes / 1e9 or (float(told[1]) if told else 0.0)
        found = [each for each in self.machines if _stands_in(each.chip, words)]
        most = max((len(each.chip) for each in found), default=0)
        return min((each for each in found if len(each.chip) == most),
                   key=lambda each: abs(each.memory_gb - memory_gb), default=None)

    def value(self, name: str, of: str = "") -> float:
        """One of the `EDITABLE` figures; `of` names the processor or the machine that it belongs to."""
        if name == "core_watts":
            return self.processor(of).watts
        if name in ("device_watts", "price"):
            machine = self.machine(of)
            return machine.price if name == "price" else machine.watts
        return float(getattr(self, name).value)

    def cost(self, kwh: float) -> float:
        """What that much energy at the machine's plug costs, the building's overhead included."""
        return kwh * self.overhead.value * self.electricity.value

    def co2e_kg(self, kwh: float) -> float:
        """Kilograms of CO2e, likewise."""
        return kwh * self.overhead.value * self.carbon.value


def load(workspace: Workspace | None = None) -> Prices:
    """The shipped figures, with those of the workspace's own prices.yaml in their place.

    Lists (`processors`, `machines`) are joined by name, the workspace's first. A UserError names file and figure.
    """
    found = _read(SHIPPED)
    own = own_file(workspace) if workspace is not None else None
    if own is not None and own.exists():
        found = _over(found, _read(own))
        return read(Prices, found, str(own))
    return read(Prices, found, str(SHIPPED))


def own_file(workspace: Workspace) -> Path:
    """Where a person's own figures are kept."""
    return workspace.path / "prices.yaml"


def put(workspace: Workspace, name: str, value: float, of: str = "") -> Prices:
    """Set one of the `EDITABLE` figures in the workspace, `of` the processor or machine that is named.

    Raises UserError if the figure cannot be.
    """
    path, shipped, words = own_file(workspace), _read(SHIPPED), "set in the studio"
    values = _read(path) if path.exists() else {}
    if name == "core_watts":
        _put_first(values, "processors", {"name": of, "watts": value, "source": words,
                                          "date": shipped["electricity"]["date"]})
    elif name in ("device_watts", "price"):
        before = next(each for each in _over(shipped, values)["machines"] if each["name"] == of)
        changed = {"price": value, "price_source": words} if name == "price" else {"watts": value}
        _put_first(values, "machines", {**before, **changed})
    else:
        values[name] = {"value": value, "source": words, "date": shipped[name]["date"]}
    made = read(Prices, _over(shipped, values), str(path))
    files.write(path, yaml.safe_dump(values, sort_keys=False, allow_unicode=True))
    return made


def _put_first(values: dict[str, Any], kind: str, entry: dict[str, Any]) -> None:
    """One entry of a list, in the place of that of the same name."""
    values[kind] = [entry, *(each for each in values.get(kind, ()) if each.get("name") != entry["name"])]


def _words(name: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", name.lower())


def _stands_in(chip: list[str], words: list[str]) -> bool:
    """Whether the chip's words stand in a name one behind the other, and nothing behind them makes it another chip."""
    places = (place for place in range(len(words) - len(chip) + 1) if words[place:place + len(chip)] == chip)
    return any(not set(words[place + len(chip):place + len(chip) + 1]) & OTHER_CHIPS for place in places)


def _read(path: Path) -> dict[str, Any]:
    try:
        fast = getattr(yaml, "CBaseLoader", yaml.BaseLoader)  # base: a date stays text
        found = yaml.load(path.read_text(encoding="utf-8"), Loader=fast)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read: {error}.", where=str(path)) from None
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not YAML: {getattr(error, 'problem', error)}.", where=str(path)) from None
    if not isinstance(found, dict):
        raise UserError(f"{path} holds no figures; it must be a mapping such as 'electricity: …'.", where=str(path))
    return found


def _over(shipped: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    made = copy.deepcopy(shipped)
    for key, value in own.items():
        if isinstance(value, dict) and isinstance(made.get(key), dict):
            made[key] = {**made[key], **value}
        elif isinstance(value, list) and isinstance(made.get(key), list):
            names = {str(each.get("name")) for each in value if isinstance(each, dict)}
            made[key] = [*value, *(each for each in made[key] if each["name"] not in names)]
        else:
            made[key] = value
    return made
