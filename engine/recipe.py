"""Recipe: all that one run is asked to do, in one YAML file.

The recipe of a run is written once, when it is started; what `auto` became is in the run's events.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import ValidationError, field_validator, model_validator

from engine.config import Config, UserError, problems, read, setting, wrong
from engine.corpus import CorpusConfig
from engine.evaluate import EvaluateConfig
from engine.export import ExportConfig
from engine.model import ModelConfig
from engine.model.hub import PublishedConfig
from engine.model.shapes import shapes
from engine.optim import LrRange, Optimizer, Schedule
from engine.optim.groups import problem
from engine.optim.sweep import SweepConfig
from engine.stages import StageConfig, TrainConfig
from engine.tokens import TokensConfig
from engine.workspace import ASSETS

JOBS = ("curate", "tokenize", "train", "evaluate", "export")
ORDER = ("probe", "import", *JOBS, "lr_range", "sweep")
Job = Literal["probe", "import", "curate", "tokenize", "train", "evaluate", "export", "lr_range", "sweep"]


class Recipe(Config):
    """Everything that one run is asked to do. What a job needs and nobody made yet is made first."""

    version: Literal[1] = setting(1, "Version of this file's layout", advanced=True)
    name: str = setting("novels", "Name of the run; a number is added if it is taken", min_length=1, max_length=80)
    seed: int = setting(1, "Seed of every random choice", ge=0, lt=2**31)
    jobs: tuple[Job, ...] = setting(JOBS, "What the run does, in this order", min_length=1)
    from_run: str = setting("", "Run whose checkpoint is evaluated or exported, when this run trains nothing")
    published: PublishedConfig = setting(PublishedConfig(), "Published model to bring in")
    corpus: CorpusConfig = setting(CorpusConfig(), "Documents and what is done to them")
    tokens: TokensConfig = setting(TokensConfig(), "Tokenizer")
    model: ModelConfig = setting(ModelConfig(), "Shape of the decoder")
    optim: Optimizer = setting("adamw", "Update rule")
    schedule: Schedule = setting("cosine", "Learning rate over the run")
    lr_range: LrRange = setting(LrRange(), "Learning-rate range test, before a run")
    sweep: SweepConfig = setting(SweepConfig(), "Sweep: many trainings, to find good settings")
    stage: StageConfig = setting("pretrain", "Loss")
    train: TrainConfig = setting(TrainConfig(), "Training")
    evaluate: EvaluateConfig = setting(EvaluateConfig(), "Evaluation")
    export: ExportConfig = setting(ExportConfig(), "Export")

    @field_validator("name")
    @classmethod
    def _names_a_folder(cls, name: str) -> str:
        if "/" in name or "\\" in name:
            raise ValueError(f"is {name}, which reads as a path; write a name without / and \\")
        if not name.strip():
            raise ValueError("is empty; write something")
        return name

    @model_validator(mode="before")
    @classmethod
    def _one_vocabulary(cls, values: Any) -> Any:
        """The model's vocabulary is the tokenizer's: stated once, under `tokens`."""
        if not isinstance(values, dict):
            return values
        tokens, model = values.get("tokens") or {}, values.get("model") or {}
        if not isinstance(tokens, dict) or not isinstance(model, dict):
            return values
        size = tokens.get("vocab_size", TokensConfig().vocab_size)
        if model.get("vocab_size", size) != size:
            raise wrong("model.vocab_size", f"is {model['vocab_size']}, but tokens.vocab_size is {size}; "
                                            "set tokens.vocab_size alone")
        return {**values, "model": {**model, "vocab_size": size}}

    @model_validator(mode="after")
    def _jobs_in_order(self) -> Self:
        if list(self.jobs) != sorted(set(self.jobs), key=ORDER.index):
            raise wrong("jobs", f"must each stand once and in the order {', '.join(ORDER)}", self.jobs)
        makes_model = {"train", "import"} & set(self.jobs)
        if not makes_model and not self.from_run and {"evaluate", "export"} & set(self.jobs):
            raise wrong("from_run", "is empty, so there is no model to evaluate or export; name a run, "
                                    "or put train among the jobs")
        return self

    @model_validator(mode="after")
    def _something_to_bring_in(self) -> Self:
        if "import" in self.jobs and not (self.published.folder or self.published.repository):
            raise wrong("published.folder", "is empty, and so is the repository; name one of them")
        return self

    @model_validator(mode="after")
    def _layers_are_there(self) -> Self:
        if self.optim.layers and (found := problem(self.optim, shapes(self.model))):
            raise wrong(f"optim.{found[0]}", found[1])
        return self

    @model_validator(mode="after")
    def _one_average(self) -> Self:
        if self.train.ema_decay and self.optim.kind == "schedule_free":
            raise wrong("train.ema_decay", "is for optimizers that do not average the weights themselves, as "
                                           "schedule_free does; set it to 0", self.train.ema_decay)
        return self

    @property
    def tokens_per_step(self) -> int:
        """Tokens that one optimizer update sees, however many processes share them."""
        return self.train.micro_batch_size * self.train.accumulation * self.model.context_length

    def dump(self) -> dict[str, Any]:
        values = super().dump()
        values["model"].pop("vocab_size")
        return values

    def to_yaml(self) -> str:
        """The recipe as the text of its file."""
        return yaml.safe_dump(self.dump(), sort_keys=False, allow_unicode=True, width=100)

    @classmethod
    def from_yaml(cls, text: str, where: str = "recipe") -> Self:
        """Read a recipe; a UserError names the line of broken YAML or every wrong field."""
        try:
            values = yaml.safe_load(text)
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            line = f" line {mark.line + 1}" if mark else ""
            raise UserError(f"{where}{line} is not YAML: {getattr(error, 'problem', error)}.", where=where) from None
        if not isinstance(values, dict):
            raise UserError(f"{where} holds no settings; it must be a mapping such as 'name: my-run'.", where=where)
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            found = problems(error)
            told = "; ".join(f"line {_line(text, problem.field)}: {problem}" for problem in found)
            raise UserError(f"{where} {told}", where=found[0].field) from None

    @classmethod
    def load(cls, source: str | Path) -> Self:
        """Read a recipe from a file, or a shipped one by its name ("demo")."""
        path = Path(source).expanduser()
        if not path.is_file():
            path = ASSETS / "recipes" / f"{source}.yaml"
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            raise UserError(f"{source} is neither a readable file nor a shipped recipe; shipped are "
                            f"{', '.join(shipped())}.", where=str(source)) from None
        return cls.from_yaml(text, str(source))

    def override(self, *changes: str) -> Self:
        """A copy with dotted settings replaced: `override("optim.lr=3e-4", "model.size=mini")`."""
        values = self.dump()
        for change in changes:
            path, sign, text = change.partition("=")
            if not sign or not path.strip():
                raise UserError(f"{change} is not an override; write it as section.setting=value.", where=change)
            try:
                value = yaml.safe_load(text) if text else ""
            except yaml.YAMLError as error:
                raise UserError(f"{path} cannot be read from {text!r} ({getattr(error, 'problem', error)}); "
                                "check its brackets and quotes.", where=path) from None
            place(values, path.strip().split("."), value)
        return read(type(self), values)


def _line(text: str, field: str) -> int:
    """The line of a YAML text on which a dotted field stands, or else the innermost part of it that is there."""
    node, line = yaml.compose(text, Loader=yaml.SafeLoader), 1
    for key in field.split("."):
        if isinstance(node, yaml.MappingNode):
            inner = next(((k, v) for k, v in node.value if k.value == key), None)
        elif isinstance(node, yaml.SequenceNode) and key.isdigit() and int(key) < len(node.value):
            inner = (node.value[int(key)],) * 2
        else:
            inner = None
        if inner is None:
            break
        line, node = inner[0].start_mark.line + 1, inner[1]
    return line


def place(values: dict[str, Any], path: list[str], value: Any) -> None:
    """Put one value into nested settings. A new `kind` leaves the old kind's settings behind."""
    for key in path[:-1]:
        inner = values.setdefault(key, {})
        if not isinstance(inner, dict):
            raise UserError(f"{'.'.join(path)} reaches into {key}, which holds no settings.", where=".".join(path))
        values = inner
    if path[-1] == "kind":
        values.clear()
    values[path[-1]] = value


def shipped() -> list[str]:
    """The names of the recipes in `assets/recipes`."""
    return sorted(p.stem for p in (ASSETS / "recipes").glob("*.yaml"))


def differences(one: Recipe, other: Recipe) -> Iterable[tuple[str, Any, Any]]:
    """The dotted settings in which two recipes differ, with both values."""
    left, right = flat(one.dump()), flat(other.dump())
    for path in {**left, **right}:
        if left.get(path) != right.get(path):
            yield path, left.get(path), right.get(path)


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as dotted ones."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        found.update(flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value})
    return found
