"""Draft: what a person has set so far. It may be wrong, says where, and is kept on disk.

Only what was set is held, as nested values in a recipe's own shape; everything else is read from
the recipe that these values make. So a default that changes, or a size that refills the numbers,
needs no code here.
"""

from __future__ import annotations

import copy
import shlex
from pathlib import Path
from typing import Any

import param
import yaml
from pydantic import ValidationError

from engine import files
from engine.config import Part, Problem, UserError, problems, settings
from engine.recipe import Recipe, flat
from studio.labels import said

Where = tuple[str | int, ...]
"""A place in a recipe: ("optim", "lr") or ("corpus", "steps", 1, "kind")."""


class Draft(param.Parameterized):
    """The values of one recipe in the making. `version` counts the changes; watch it."""

    version = param.Integer(0)

    def __init__(self, values: dict[str, Any] | None = None) -> None:
        super().__init__()
        self.values: dict[str, Any] = {}
        self._left: dict[tuple[Where, str], Any] = {}  # what was set of kinds that are not chosen now
        self.replace(values or {})

    # Reading ---------------------------------------------------------------------------------------

    @property
    def recipe(self) -> Recipe | None:
        """The recipe that the draft is, or None while something in it is wrong."""
        return None if self.problems else self.settled

    def effective(self, path: Where) -> Any:
        """The value that stands at a path: what was set if it is right, else what would be there without it."""
        lists = [path[:place] for place, key in enumerate(path) if isinstance(key, int)]
        try:
            # An item that can't be used as it is was left out of the recipe, and those behind it moved up.
            if all(self.given(each) is ... or len(_at(self.settled, each)) == len(self.given(each)) for each in lists):
                return _at(self.settled, path)
        except (AttributeError, IndexError, TypeError):
            pass
        return self._standard(path)

    def _standard(self, path: Where) -> Any:
        """The default of the setting at a path, whatever else is wrong there."""
        cls: Any = Recipe
        for place, key in enumerate(path[:-1]):
            if isinstance(key, int):
                item = self.given(path[:place + 1])
                kind = item.get("kind", "") if isinstance(item, dict) else item
                cls = cls.table.get(kind, cls) if issubclass(cls, Part) else cls
            else:
                cls = next(s.config for s in settings(cls) if s.name == key)
        return next((s.default for s in settings(cls) if s.name == path[-1]), ...)

    def given(self, path: Where) -> Any:
        """The value that was set at a path, right or wrong; `...` if nothing was."""
        here: Any = self.values
        for key in path:
            try:
                here = here[key]
            except (KeyError, IndexError, TypeError):
                return ...
        return here

    def default(self, path: Where) -> Any:
        """What would stand at a path if it were not set."""
        values = copy.deepcopy(self.values)
        _remove(values, path, exactly=True)
        try:
            return _at(settle(values)[0], path)
        except (AttributeError, IndexError):
            return ...

    def problem(self, path: Where) -> str:
        """What is wrong with the setting at exactly this path, or nothing."""
        dotted = ".".join(map(str, path))
        return next((p.sentence for p in self.problems if p.field == dotted), "")

    def wrong(self, *sections: str) -> list[str]:
        """What is wrong in some sections, each in a sentence that names its field as the form does."""
        return [said(problem) for problem in self.problems if problem.field.partition(".")[0] in sections]

    # Writing ---------------------------------------------------------------------------------------

    def put(self, path: Where, value: Any) -> None:
        """Set one value."""
        if self.given(path) == value and type(self.given(path)) is type(value):
            return
        here: Any = self.values
        for place, key in enumerate(path[:-1]):
            if self.given(path[: place + 1]) is ... or not isinstance(here[key], (dict, list)):
                inner = isinstance(path[place + 1], int)
                here[key] = self._listed(path[: place + 1]) if inner else self._begun(path[: place + 1])
            here = here[key]
        here[path[-1]] = value
        self._changed()

    def choose(self, path: Where, kind: str) -> None:
        """Another kind of part, with what was set of it when it was last chosen; what was set of the one before is
        kept for then."""
        self._left[path, getattr(self.effective(path), "kind", "")] = copy.deepcopy(self.given(path))
        before = self._left.pop((path, kind), None)
        self.put(path, before if isinstance(before, dict) else {"kind": kind})

    def drop(self, path: Where) -> None:
        """Forget what was set at a path, and so go back to the default."""
        if self.given(path) is not ...:
            _remove(self.values, path, exactly=True)
            self._changed()

    def replace(self, values: dict[str, Any]) -> None:
        """Start anew from other values, such as a recipe's."""
        self.values = copy.deepcopy(values)
        self._left = {}
        self._changed()

    def _listed(self, path: Where) -> list[Any]:
        """A list that stands by default, as values that can be changed one by one."""
        return copy.deepcopy(_at(self.settled.dump(), path))

    def _begun(self, path: Where) -> dict[str, Any]:
        """The settings at a path before any is set: a part keeps the kind that stands there by default."""
        kind = getattr(_at(self.settled, path), "kind", "")
        return {"kind": kind} if kind else {}

    def _changed(self) -> None:
        self.settled, self.problems = settle(self.values)
        self.version += 1

    # Elsewhere -------------------------------------------------------------------------------------

    def to_yaml(self, *sections: str) -> str:
        """The draft, or some of its sections, as a recipe's YAML."""
        values = self.recipe.dump() if self.recipe else self.values
        chosen = {k: v for k, v in values.items() if k in sections} if sections else values
        return yaml.safe_dump(chosen, sort_keys=False, allow_unicode=True, width=88) if chosen else ""

    def changes(self, base: Recipe) -> list[str]:
        """The overrides that turn `base` into this draft, as a shell would be given them."""
        old, new = flat(base.dump()), flat(self.settled.dump())
        # What the base overrides and the draft leaves to its size has to be said, since nothing can be unsaid.
        new |= {path: getattr(self.settled.model, path.removeprefix("model.")) for path in old.keys() - new.keys()
                if path.startswith("model.")}
        kinds = {path.removesuffix("kind") for path, value in new.items()
                 if path.endswith(".kind") and old.get(path) != value}
        return [shlex.quote(f"{path}={_flow(value)}") for path, value in new.items()
                if old.get(path, ...) != value or any(path.startswith(prefix) for prefix in kinds)]

    def save(self, path: Path) -> None:
        files.write(path, yaml.safe_dump(self.values, sort_keys=False, allow_unicode=True, width=100))

    @classmethod
    def load(cls, path: Path) -> Draft:
        """The draft that was kept there; an empty one if there is none or it cannot be read."""
        try:
            values = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError):
            values = {}
        return cls(values if isinstance(values, dict) else {})


def settle(values: dict[str, Any]) -> tuple[Recipe, list[Problem]]:
    """The recipe closest to `values`, and what is wrong with them: a wrong setting is left out."""
    kept, found = copy.deepcopy(values), []
    for attempt in range(100):
        try:
            return Recipe.model_validate(kept), found
        except ValidationError as error:
            if not attempt:
                found = problems(error)
            if not sum(_remove(kept, line["loc"]) for line in error.errors(include_url=False)):
                break
        except UserError as error:
            found = found or [Problem(error.where, error.sentence)]
            break
    return Recipe(), found


def _remove(values: Any, path: Where, *, exactly: bool = False) -> bool:
    """Take away the value at a path, or else the innermost one that leads there."""
    trail = []
    for key in path:
        if not (isinstance(values, dict) and key in values) and not (
                isinstance(values, list) and isinstance(key, int) and key < len(values)):
            if exactly:
                return False
            break
        trail.append((values, key))
        values = values[key]
    if trail:
        holder, key = trail[-1]
        del holder[key]
    return bool(trail)


def _at(values: Any, path: Where) -> Any:
    for key in path:
        values = values[key] if isinstance(key, int) or isinstance(values, dict) else getattr(values, key)
    return values


def _flow(value: Any) -> str:
    """A value as one line of YAML."""
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10_000).strip()
    return text.removesuffix("...").strip()
