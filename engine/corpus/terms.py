"""Terms: the tables of `assets/bias`, whose SOURCES says where they come from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from engine.workspace import ASSETS

BIAS = ASSETS / "bias"
MILD = 0.25
"""What a mild word of abuse counts, where a strong one counts 1."""

Sets = dict[str, tuple[str, ...]]


@dataclass(frozen=True)
class Terms:
    """Words in small letters, by what they are measured for; a term has one word or two."""

    axes: dict[str, Sets]                        # axis -> group -> terms
    attributes: Sets
    topics: Sets
    toxic: dict[str, float]                      # term -> weight

    @property
    def groups(self) -> list[tuple[str, str]]:
        """Every group with its axis, in a fixed order."""
        return [(axis, group) for axis, sets in self.axes.items() for group in sets]


@cache
def terms(folder: Path = BIAS) -> Terms:
    """The bundled tables, or those of a folder of the same shape."""
    toxic = _sets(folder / "toxicity.yaml")
    return Terms(
        axes={path.stem: _sets(path) for path in sorted((folder / "terms").glob("*.yaml"), key=_order)},
        attributes=_sets(folder / "attributes.yaml"), topics=_sets(folder / "topics.yaml"),
        toxic={**dict.fromkeys(toxic["mild"], MILD), **dict.fromkeys(toxic["strong"], 1.0)})


@cache
def pairs(folder: Path = BIAS) -> tuple[dict[str, str], dict[str, str]]:
    """Words and first names with what each is swapped for, both ways; of several partners the first comes back."""
    words: dict[str, str] = {}
    for she, he in _yaml(folder / "pairs.yaml")["pairs"]:
        words.setdefault(she, he)
        words.setdefault(he, she)
    names = _yaml(folder / "names.yaml")
    both = list(zip(names["women"], names["men"], strict=True))
    return words, {**dict(both), **{he: she for she, he in both}}


def _sets(path: Path) -> Sets:
    return {name: tuple(words) for name, words in _yaml(path).items()}


def _yaml(path: Path) -> Any:
    fast = getattr(yaml, "CSafeLoader", yaml.SafeLoader)     # ten times as fast, where PyYAML was built with it
    return yaml.load(path.read_text(encoding="utf-8"), fast)


def _order(path: Path) -> tuple[bool, str]:
    return path.stem != "gender", path.stem
