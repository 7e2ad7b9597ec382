"""Corpus: documents in, clean documents out, with a ledger of what was removed and why.

The menu of this noun: its settings and its steps. Reading and running them is in `pipeline`.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from pydantic import model_serializer, model_validator

from engine.config import Config, Part, setting, wrong
from engine.table import Table

if TYPE_CHECKING:
    import pyarrow as pa
    from daft import Expression

BUNDLED = "corpora/novels"


class Source(Config):
    """Files to read documents from: a file, a folder or a glob."""

    path: str = setting(BUNDLED, "File, folder or glob, in the workspace or among the bundled corpora", min_length=1)
    format: Literal["auto", "text", "markdown", "jsonl", "json", "csv", "parquet"] = setting(
        "auto", "How to read the files; auto goes by the name's ending", advanced=True)
    column: str = setting("text", "Column or key that holds the text of a record", min_length=1)
    template: str = setting("", "Text made of several columns, such as '{title}\\n\\n{body}'; replaces the column",
                            advanced=True)
    encoding: str = setting("auto", "Encoding of text files, such as utf-8 or cp1252; auto finds it out", advanced=True)
    weight: float = setting(1.0, "Share of the text that the step mixture gives to this source, against the others",
                            gt=0, le=1e6, advanced=True)

    @model_validator(mode="after")
    def _can_be_read(self) -> Source:
        if self.encoding != "auto":
            try:
                "a".encode(self.encoding)
            except LookupError:
                raise wrong("encoding", f"is {self.encoding!r}, which is no known encoding; write utf-8, cp1252, "
                                        "shift_jis, or auto", self.encoding) from None
        try:
            fields = list(string.Formatter().parse(self.template))
        except ValueError as error:
            raise wrong("template", f"is not a template ({error}); write columns as {{name}}, and a brace itself "
                                    "twice", self.template) from None
        if self.template and not any(name for _, name, _, _ in fields):
            raise wrong("template", "names no column; write at least one as {name}", self.template)
        if any(form or conversion for _, _, form, conversion in fields):
            raise wrong("template", "holds more than names in braces; write just {name}", self.template)
        return self

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of a record that its text is made of."""
        named = [name for _, name, _, _ in string.Formatter().parse(self.template) if name]
        return tuple(dict.fromkeys(named)) or (self.column,)


STEPS: Table[type[Step]] = Table("step")


class Step(Part):
    """One step of the pipeline: of each document it says kept, edited, or dropped and why.

    A step of column expressions overrides `edited` and `reasons`, which Daft runs over all rows of
    a batch at once. A step that needs more (Python on some rows, several documents made of one)
    overrides `begin`. A step that needs the other documents is a `Whole`. What came in, went out
    and changed is counted by the ledger, never by the step.
    """

    table: ClassVar[Table] = STEPS
    mitigates: ClassVar[bool] = False
    """Whether the step is there to mitigate bias: what comes to the first such step is measured, as is what is left."""

    enabled: bool = setting(True, "Whether the step is done; one that is off keeps its settings", advanced=True)

    @model_serializer(mode="wrap")
    def _with_kind(self, handler: Any) -> dict[str, Any]:
        # Said only of a step that is off: a recipe stays short, and its datasets keep their fingerprints.
        values = super()._with_kind(handler)
        return {name: value for name, value in values.items() if name != "enabled" or not value}

    def edited(self, text: Expression) -> Expression:
        """The text as it goes on."""
        return text

    def reasons(self, text: Expression) -> dict[str, Expression]:
        """Why a document is dropped: reasons with their true-or-false expressions; the first that holds counts."""
        return {}

    def begin(self) -> Callable[[pa.Table], pa.Table]:
        """The function that is called with batch after batch, each of which it judges by itself.

        It gets the columns id, text, source and row (the place in the batch) and gives them back with
        `reason` besides: null for a document that goes on, else why it is dropped. A row that comes
        back more than once was cut into several documents. A column `kinds` (list of string) names each
        single change made to a document, such as "e-mail" twice and "phone" once; the ledger counts them.
        """
        from engine.corpus.columns import judge

        return lambda batch: judge(batch, self.edited, self.reasons)

    def references(self) -> tuple[Source, ...]:
        """Texts besides the corpus that the step compares with, such as evaluation sets."""
        return ()

    def begin_with(self, references: Mapping[str, Iterable[str]]) -> Callable[[pa.Table], pa.Table]:
        """As `begin`, given the texts of each of `references` by its path."""
        return self.begin()


class Looked(Protocol):
    """What a step noted of every batch, in the corpus' order; and which source each file belongs to, by its name."""

    sources: Mapping[str, Source]

    def tables(self, columns: list[str] | None = None) -> Iterator[pa.Table]:
        """Batch after batch, as `look` gave it, or the named columns alone; can be asked for again."""


class Whole(Step):
    """A step that sees the whole corpus before it judges a document of it, in two passes.

    The text is never held: of each batch `look` notes what is needed, `decide` compares the notes, and
    `judge` uses what was decided on a batch. The notes are kept beside the text, so that work that was
    broken off goes on where it was.
    """

    def look(self, batch: pa.Table) -> pa.Table:
        """Notes on a batch (id, text, source, row): small, and of these documents alone."""
        raise NotImplementedError

    def decide(self, looked: Looked) -> Iterator[pa.Table]:
        """The verdict on each batch, in the order of the notes."""
        raise NotImplementedError

    sees_sources: ClassVar[bool] = False
    """Whether what is decided depends on the sources' settings."""

    def judge(self, batch: pa.Table, verdict: pa.Table) -> pa.Table:
        """The batch with its verdict, as `begin` gives it; here the verdict is one row for each document.

        Besides `reason` these columns go into the ledger: cluster (int64), kept (id of the document that stays
        for it), kept_source (that one's source), similarity (float). A column `group` (uint64)
        puts documents on one side of the split.
        """
        for name in verdict.column_names:
            batch = batch.append_column(name, verdict[name])
        return batch


class Pardon(Config):
    """Documents that are kept although a step would drop them: those of which all that is stated holds."""

    step: str = setting("", "Step that is overruled; empty for every step")
    reason: str = setting("", "Part of the reason that the step gives")
    id: str = setting("", "Id of the document; * stands for anything, as in corpora/mine/*")
    text: str = setting("", "Regular expression that occurs in the text")

    @model_validator(mode="after")
    def _says_whom(self) -> Pardon:
        if self.step and self.step not in STEPS:
            raise wrong("step", f"is {self.step!r}, which is not one of: {', '.join(STEPS)}", self.step)
        try:
            re.compile(self.text)
        except re.error as error:
            raise wrong("text", f"is not a regular expression ({error}); mend it", self.text) from None
        if not (self.step or self.reason or self.id or self.text):
            raise wrong("reason", "is empty, and so are step, id and text: that would pardon every document; "
                                  "fill one of them", self.reason)
        return self


class CorpusConfig(Config):
    """What is read, what is done to it in which order, and how much is held out."""

    sources: tuple[Source, ...] = setting(({"path": BUNDLED},), "Where the documents come from", min_length=1)
    steps: tuple[Step, ...] = setting(("clean", "passages", "quality", "exact_duplicates"),
                                      "What is done to the documents, in this order")
    pardons: tuple[Pardon, ...] = setting((), "Documents that are kept although a step would drop them", advanced=True)
    validation_fraction: float = setting(
        0.05, "Share of the documents held out for validation, chosen by a hash of their content", gt=0, le=0.5)
    bias: Literal["off", "auto", "both"] = setting(
        "auto", "Measure bias: auto, of the dataset, and before the first step that mitigates it; both, without such "
                "a step of the documents as they were read", advanced=True)

    workers: str = setting("", "Who does the steps: a number of processes on this machine, local for a Ray that is "
                               "started here, or a Ray cluster such as ray://head:10001; empty for one process",
                           advanced=True)

    @model_validator(mode="after")
    def _knows_its_workers(self) -> CorpusConfig:
        if not re.fullmatch(r"([1-9]\d?|local(:[1-9]\d?)?|ray://\S+)?", self.workers):
            raise wrong("workers", f"is {self.workers!r}; write a number of processes such as 2, local, local:2 or "
                                   "ray://HOST:PORT, or leave it empty", self.workers)
        return self

    def active(self) -> CorpusConfig:
        """The same without the steps that are switched off and without who does them: what a dataset is made from."""
        return self.model_copy(update={"steps": tuple(step for step in self.steps if step.enabled), "workers": ""})


from engine.corpus import clean, markup, passages  # noqa: E402, F401, I001  the menu, in order
from engine.corpus import filter, repetition, web, malformed, language, blocklists, privacy  # noqa: E402, F401
from engine.corpus import dedupe, near, lines, decontaminate  # noqa: E402, F401
from engine.corpus import toxicity, counterfactual, rebalance, mixture  # noqa: E402, F401
