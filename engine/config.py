"""Config: one frozen model per concern, from which form, flag, YAML and model card derive.

A setting carries its words, limits, unit and whether it is advanced, so that nothing about it
is written a second time. `settings(cls)` reads them back; `problems(error)` turns a validation
error into sentences that name the field.
"""

from __future__ import annotations

import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_serializer, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import InitErrorDetails, PydanticCustomError

from engine.table import Table


class UserError(Exception):
    """One clear sentence for a person: what was wrong, where, and what to do; in one line, whatever names are in it.

    `where` names the file and line or the dotted field, for a form to show it beside the field.
    """

    def __init__(self, sentence: str, where: str = "") -> None:
        self.sentence = " ".join(sentence.splitlines())
        super().__init__(self.sentence)
        self.where = where


def setting(default: Any, words: str, *, unit: str = "", advanced: bool = False, **limits: Any) -> Any:
    """A field of a Config: its default, its help in one sentence, its unit and its limits."""
    return Field(default, description=words, json_schema_extra={"unit": unit, "advanced": advanced}, **limits)


class Config(BaseModel):
    """A frozen group of settings. Unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    def dump(self) -> dict[str, Any]:
        """The settings as plain JSON values; `type(self).model_validate` reads them back."""
        return self.model_dump(mode="json", serialize_as_any=True)

    def replace(self, **changes: Any) -> Self:
        """A validated copy with some settings changed."""
        return type(self).model_validate({**self.dump(), **changes})


class Part(Config):
    """A Config that is one choice from a Table, named in YAML by `kind`.

    The base class of a table (`Optimizer`, `Schedule`, `Step`) validates `{"kind": "adamw", ...}`
    or the bare name `"adamw"` into the class that stands under that name.
    """

    kind: ClassVar[str] = ""
    table: ClassVar[Table[Any]]

    @model_validator(mode="wrap")
    @classmethod
    def _choose(cls, value: Any, handler: Any) -> Any:
        if isinstance(value, str):
            value = {"kind": value}
        if not isinstance(value, dict):
            return handler(value)
        kind, rest = str(value.get("kind", "")), {k: v for k, v in value.items() if k != "kind"}
        if cls.kind:
            if kind not in ("", cls.kind):
                raise PydanticCustomError("kind", "is {kind}, not {own}", {"kind": kind, "own": cls.kind})
            return handler(rest)
        if kind not in cls.table:
            raise PydanticCustomError(
                "kind", "kind '{kind}' is not one of: {names}", {"kind": kind, "names": ", ".join(cls.table)}
            )
        return cls.table[kind].model_validate(rest)

    @model_serializer(mode="wrap")
    def _with_kind(self, handler: Any) -> dict[str, Any]:
        return {"kind": self.kind, **handler(self)} if self.kind else handler(self)


def wrong(field: str, sentence: str, value: Any = None) -> ValidationError:
    """The error to raise in a validator that looks at several fields, laid at the door of one of them."""
    words = sentence.replace("{", "{{").replace("}", "}}")
    details = InitErrorDetails(type=PydanticCustomError("wrong", words), loc=tuple(field.split(".")), input=value)  # type: ignore[arg-type]
    return ValidationError.from_exception_data("settings", [details])


@dataclass(frozen=True)
class Setting:
    """What a form or a flag needs to know of one field of a Config."""

    name: str
    type: Any                                   # int, float, str, bool, or the annotation when it is richer
    default: Any
    words: str
    unit: str
    advanced: bool
    optional: bool                              # None is allowed
    minimum: float | None
    maximum: float | None
    exclusive_minimum: bool
    exclusive_maximum: bool
    choices: tuple[Any, ...] = ()               # of a Literal
    config: type[Config] | None = None          # a nested Config, or the base class of a Part
    many: bool = False                          # a tuple of `type` or of `config`


def settings(cls: type[Config]) -> Iterator[Setting]:
    """Every setting of a Config class, in the order in which it is written."""
    for name, field in cls.model_fields.items():
        yield _setting(name, field)


def _setting(name: str, field: FieldInfo) -> Setting:
    kind, optional, many = field.annotation, False, False
    if get_origin(kind) in (Union, types.UnionType):
        members = [m for m in get_args(kind) if m is not type(None)]
        optional = len(members) < len(get_args(kind))
        kind = members[0] if len(members) == 1 else kind
    if get_origin(kind) is tuple:
        many, kind = True, get_args(kind)[0]
    limits = {key: getattr(m, key) for m in field.metadata for key in ("ge", "gt", "le", "lt") if hasattr(m, key)}
    extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    return Setting(
        name=name,
        type=kind,
        default=field.get_default(call_default_factory=True, validated_data={}),
        words=field.description or "",
        unit=str(extra.get("unit", "")),
        advanced=bool(extra.get("advanced", False)),
        optional=optional,
        minimum=limits.get("ge", limits.get("gt")),
        maximum=limits.get("le", limits.get("lt")),
        exclusive_minimum="gt" in limits,
        exclusive_maximum="lt" in limits,
        choices=get_args(kind) if get_origin(kind) is Literal else (),
        config=kind if isinstance(kind, type) and issubclass(kind, Config) else None,
        many=many,
    )


@dataclass(frozen=True)
class Problem:
    """One thing wrong with one field: `field` is dotted ("optim.lr"), `sentence` says what."""

    field: str
    sentence: str

    def __str__(self) -> str:
        return f"{self.field}: {self.sentence}" if self.field else self.sentence


def problems(error: ValidationError) -> list[Problem]:
    """The field-by-field reading of a validation error, in plain words."""
    return [_problem(line) for line in error.errors(include_url=False)]


def _problem(line: Any) -> Problem:
    field = ".".join(str(part) for part in line["loc"])
    limit, given = line.get("ctx", {}), line["input"]
    sentence = {
        "extra_forbidden": "is not a setting here; check the spelling or remove the line",
        "missing": "is missing",
        "greater_than_equal": f"is {given!r}, must be at least {limit.get('ge')}",
        "greater_than": f"is {given!r}, must be more than {limit.get('gt')}",
        "less_than_equal": f"is {given!r}, must be at most {limit.get('le')}",
        "less_than": f"is {given!r}, must be less than {limit.get('lt')}",
        "int_parsing": f"is {given!r}, must be a whole number",
        "int_from_float": f"is {given!r}, must be a whole number",
        "int_type": f"is {given!r}, must be a whole number",
        "float_parsing": f"is {given!r}, must be a number",
        "float_type": f"is {given!r}, must be a number",
        "finite_number": f"is {given}, must be a number that is neither infinite nor nan",
        "string_too_short": "is empty; write something" if given == "" else
                            f"is {given!r}, must have at least {limit.get('min_length')} characters",
        "string_too_long": f"is {len(given) if isinstance(given, str) else 0} characters long, must be at most "
                           f"{limit.get('max_length')}",
        "tuple_type": f"is {given!r}, must be a list such as [{given}]",
        "bool_parsing": f"is {given!r}, must be true or false",
        "literal_error": f"is {given!r}, must be one of {limit.get('expected')}",
    }.get(line["type"], line["msg"].removeprefix("Value error, "))
    return Problem(field, sentence)


def read(cls: type[Config], values: Any, where: str = "") -> Any:
    """Validate `values` as `cls`; a UserError that names every wrong field if they are not right."""
    try:
        return cls.model_validate(values)
    except ValidationError as error:
        found = problems(error)
        source = f"{where}: " if where else ""
        raise UserError(source + "; ".join(map(str, found)), where=found[0].field) from None
