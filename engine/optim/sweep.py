"""Sweep: the settings of a search for settings, and the ranges that a person types; no optimizer needs it to run."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal, Self

import yaml
from pydantic import model_validator

from engine.config import Config, UserError, setting, wrong

KINDS = ("float", "log", "int", "intlog")
FORMS = "write values with commas (8,16,32), or a range such as log:1e-4:1e-2, int:2:8 or float:0:0.3"
POINTS = 5  # of a range in a grid that names no number


@dataclass(frozen=True)
class Range:
    """What one setting of a recipe may be: one of `values`, or between `low` and `high`."""

    name: str
    kind: str = "choice"  # or one of KINDS
    values: tuple[Any, ...] = ()
    low: float = 0.0
    high: float = 0.0
    points: int = 0       # of the range in a grid

    @classmethod
    def read(cls, text: str) -> Self:
        """`optim.lr=log:1e-4:1e-2`, `model.num_layers=int:2:8:4` (four points in a grid), `optim.kind=adamw,muon`."""
        name, sign, typed = (part.strip() for part in text.partition("="))
        if not sign or not name or not typed:
            raise UserError(f"{text} is no range; {FORMS}, after the setting's name and =.", where="sweep.vary")
        kind, *rest = typed.split(":")
        if kind not in KINDS:
            if rest and _number(kind) is not None:
                kind, rest = "float", [kind, *rest]
            else:
                return cls(name, values=tuple(_value(each.strip()) for each in typed.split(",")))
        numbers = [_number(each) for each in rest]
        if len(numbers) not in (2, 3) or None in numbers:
            raise UserError(f"{name}: {typed} is no range; {FORMS}.", where="sweep.vary")
        low, high, points = (*numbers, POINTS)[:3]
        assert low is not None
        assert high is not None
        assert points is not None
        if not low < high or (kind in ("log", "intlog") and low <= 0) or points < 2 or (
                kind.startswith("int") and not (low.is_integer() and high.is_integer())):
            raise UserError(f"{name}: {typed} must go from a smaller number to a larger one, above 0 where it is "
                            "logarithmic, whole where it is int, in 2 points or more.", where="sweep.vary")
        return cls(name, kind, low=low, high=high, points=int(points))

    def grid(self) -> list[Any]:
        """The values that a grid takes of it, smallest first, ends included."""
        if self.kind == "choice":
            return list(self.values)
        log = "log" in self.kind
        ends = (math.log(self.low), math.log(self.high)) if log else (self.low, self.high)
        places = [ends[0] + (ends[1] - ends[0]) * i / (self.points - 1) for i in range(self.points)]
        found = [self.low, *(float(f"{math.exp(p) if log else p:.4g}") for p in places[1:-1]), self.high]
        return list(dict.fromkeys(round(value) for value in found)) if self.kind.startswith("int") else found


class SweepConfig(Config):
    """Many trainings with other settings, to find good ones. Each trial is a run of its own."""

    vary: tuple[str, ...] = setting((), "Settings to vary, one a line: optim.lr=log:1e-4:1e-2, model.num_layers="
                                        "int:2:8, train.micro_batch_size=8,16; a third number counts a grid's points")
    sampler: Literal["tpe", "qmc", "random", "grid"] = setting(
        "tpe", "Who chooses: tpe learns from the trials before (Bergstra et al. 2011), qmc spreads evenly by Sobol's "
               "sequence, random draws, grid tries all")
    num_trials: int = setting(20, "Trials to make; a grid makes all of its own", ge=1, le=10_000)
    at_once: int = setting(1, "Trials that run at the same time: each on a GPU of its own, or, on a processor, with "
                              "its share of the cores", ge=1, le=64, advanced=True)
    metric: Literal["val/loss", "val/bits_per_byte"] = setting(
        "val/loss", "What should be low; bits per byte where the tokenizer varies", advanced=True)
    prune: bool = setting(True, "Stop a trial whose best so far is worse than the median of the others at its step")
    prune_after: int = setting(4, "Trials that are left to end before any is stopped early", ge=1, advanced=True)
    prune_from_step: int = setting(0, "Steps in which no trial is stopped early", ge=0, unit="steps", advanced=True)

    @model_validator(mode="after")
    def _ranges_can_be_read(self) -> Self:
        names = []
        for text in self.vary:
            try:
                names.append(Range.read(text).name)
            except UserError as error:
                raise wrong("vary", f"cannot be read: {error.sentence.rstrip('.')}", text) from None
        if twice := next((name for name in names if names.count(name) > 1), ""):
            raise wrong("vary", f"names {twice} twice")
        return self

    @property
    def ranges(self) -> list[Range]:
        """The ranges, kinds of parts first: another kind leaves the old kind's settings behind."""
        return sorted((Range.read(text) for text in self.vary), key=lambda each: not each.name.endswith("kind"))

    @property
    def combinations(self) -> list[dict[str, Any]]:
        """Every trial of the grid, as {setting: value}."""
        ranges = self.ranges
        return [dict(zip((each.name for each in ranges), values, strict=True))
                for values in product(*(each.grid() for each in ranges))]

    @property
    def trials(self) -> int:
        """How many trials the sweep makes."""
        return math.prod(len(each.grid()) for each in self.ranges) if self.sampler == "grid" else self.num_trials


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _value(text: str) -> Any:
    """A typed value: 16, 3e-4, true, muon."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return text
    return value if isinstance(value, (bool, str)) or value is None else text
