"""Corpus: documents in, clean documents out, with a ledger of what was removed and why.

The menu of this noun: its settings and its steps. Reading and running them is in `pipeline`.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from engine.config import Config, Part, setting
from engine.table import Table

BUNDLED = "corpora/novels"
FORMATS = ("auto", "text", "markdown", "jsonl", "json", "csv", "parquet")


class Source(Config):
    """Files to read documents from: a file, a folder or a glob."""

    path: str = setting(BUNDLED, "File, folder or glob, in the workspace or among the bundled corpora")
    format: Literal["auto", "text", "markdown", "jsonl", "json", "csv", "parquet"] = setting(
        "auto", "How to read the files; auto goes by the name's ending", advanced=True)
    column: str = setting("text", "Column or key that holds the text of a record")
    template: str = setting("", "Text made of several columns, such as '{title}\\n\\n{body}'; replaces the column",
                            advanced=True)


STEPS: Table[type[Step]] = Table("step")


class Step(Part):
    """One step of the pipeline. What a step class must offer stands in `corpus.pipeline`."""

    table: ClassVar[Table] = STEPS


class CorpusConfig(Config):
    """What is read, what is done to it in which order, and how much is held out."""

    sources: tuple[Source, ...] = setting(({"path": BUNDLED},), "Where the documents come from", min_length=1)
    steps: tuple[Step, ...] = setting(("clean", "passages", "quality", "exact_duplicates"),
                                      "What is done to the documents, in this order")
    validation_fraction: float = setting(
        0.05, "Share of the documents held out for validation, chosen by a hash of their content", gt=0, le=0.5)


from engine.corpus import clean, dedupe, filter, passages  # noqa: E402, F401  the menu, in order
