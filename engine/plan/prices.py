"""Prices: what energy, carbon and machines cost, each figure with its source and date; the workspace may change any."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import yaml

from engine import files
from engine.config import Config, UserError, read, setting
from engine.workspace import ASSETS, Workspace

SHIPPED = ASSETS / "prices.yaml"
EDITABLE = {"electricity": "Electricity", "carbon": "Carbon", "overhead": "Building overhead, PUE"}
"""What is asked on the Train page; the rest of the file is edited as a file."""


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
    tflops: float = setting(..., "Peak of a dense product in bf16, or float16", gt=0)
    memory_gb: float = setting(..., "Memory", gt=0)
    bandwidth_gb: float = setting(..., "Memory read in a second", gt=0)
    link_gb: float = setting(..., "To its neighbours in a second, both directions together", gt=0)
    watts: float = setting(..., "Most power drawn", gt=0)
    source: str
    price: float = setting(..., "One hour of one device", ge=0)
    price_source: str
    date: str


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


def put(workspace: Workspace, name: str, value: float) -> Prices:
    """Set one of the `EDITABLE` figures in the workspace's file; a UserError if the figure cannot be."""
    path = own_file(workspace)
    values = _read(path) if path.exists() else {}
    shipped = _read(SHIPPED)[name]
    values[name] = {"value": value, "source": "set in the studio", "date": shipped["date"]}
    made = read(Prices, _over(_read(SHIPPED), values), str(path))
    files.write(path, yaml.safe_dump(values, sort_keys=False, allow_unicode=True))
    return made


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
