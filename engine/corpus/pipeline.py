"""Pipeline: sources -> steps -> a dataset of Parquet files with its ledger, in one streaming pass.

    documents-00000.parquet ...   id, text, source, split ("train" or "val")
    ledger.parquet  quarantine.jsonl  manifest.json

Documents flow in batches of a few MB through one step after the other, so memory does not grow with the corpus.
The order is that of the sources, so the same inputs and settings give the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
from xxhash import xxh3_128

from engine import files
from engine.config import UserError
from engine.corpus import CorpusConfig, Source
from engine.corpus.ledger import Ledger
from engine.corpus.readers import Document, Rejected, read
from engine.corpus.records import PIECE
from engine.corpus.sources import File, compression_of, find
from engine.corpus.splits import Dataset, Split
from engine.progress import Progress
from engine.workspace import Workspace

VERSION = 1
"""Raised when the same inputs and settings give other documents than before."""

BATCH = 8 << 20
"""Characters that go through the steps at once."""

BATCH_DOCUMENTS = 8192
DOCUMENTS = pa.schema([("id", pa.string()), ("text", pa.large_string()), ("source", pa.string())])
Read = Callable[[File], Iterator[Document | Rejected]]


def curate(config: CorpusConfig, workspace: Workspace, name: str, progress: Progress) -> Path:
    """The dataset folder made from the sources by the steps; found again if contents and settings are the same.

    Raises UserError when a source cannot be read at all, when fewer than two documents are left, or
    when the disk has no room; Stopped comes out of `progress`. Neither leaves a folder behind.
    """
    inputs = [(source, find(source, workspace)) for source in config.sources]
    total = sum(file.size for _, found in inputs for file in found)
    made_from = {"version": VERSION, "settings": config.dump(),
                 "sources": [_contents(source, found, total, progress) for source, found in inputs]}

    def build(folder: Path) -> dict[str, Any]:
        files.require_space(folder, sum(_size(file) for _, found in inputs for file in found) + (16 << 20))
        steps = [step.kind for step in config.steps]
        done = 0

        def reading(file: File) -> Iterator[Document | Rejected]:
            def moved(count: int) -> None:
                nonlocal done
                done = min(done + count, total)
                progress(done, total, f"reading {file.name}")
            return read(file, moved)

        with Ledger(steps, folder) as ledger, Dataset(folder, config.validation_fraction) as dataset:
            for batch in flow(config, inputs, ledger, reading):
                dataset.write(batch)
                progress(done, total, f"{dataset.documents} documents")
        if problem := shortage(config, ledger, dataset.split):
            raise UserError(problem, where="corpus.steps" if ledger.worst else "corpus.sources")
        dataset.finish()
        progress(total, total, f"{dataset.documents} documents")
        return summary(ledger, dataset.split)

    return workspace.make("datasets", name, made_from, build)


def preview(config: CorpusConfig, workspace: Workspace, limit: int = 1000) -> dict[str, Any]:
    """What `curate` would do, tried on about `limit` documents, at most 8 MB, from all over the sources.

    Writes nothing. Returns the same summary, and besides: "examples" (id, text, source), rows of "ledger" and
    "quarantine", "problem" (a sentence if what is left cannot be trained on, else empty), "files" (how many
    there are) and "sampled" (whether something was left unread). Raises UserError when a source cannot be read.
    """
    inputs = [(source, find(source, workspace)) for source in config.sources]
    num_files = sum(len(found) for _, found in inputs)
    sampled = [(source, _spread(found, limit // len(inputs), 8 * BATCH // len(inputs))) for source, found in inputs]
    looked_at = sum(len(found) for _, found in sampled)
    cut_short = num_files > looked_at

    def reading(file: File) -> Iterator[Document | Rejected]:
        nonlocal cut_short
        room = BATCH // looked_at
        for count, found in enumerate(read(file)):
            if count >= -(-limit // looked_at) or not room:
                cut_short = True
                return
            if isinstance(found, Document):
                if len(found.text) > room:
                    cut_short, found = True, replace(found, text=found.text[:room])
                room -= len(found.text)
            yield found

    ledger = Ledger([step.kind for step in config.steps], examples=20)
    split = Split(config.validation_fraction)
    kept = pa.concat_tables([DOCUMENTS.empty_table(), *flow(config, sampled, ledger, reading)])
    split.add(kept["text"])
    if split.different > 1 and not split.fits():
        split = split.again()
        split.add(kept["text"])
    return {**summary(ledger, split), "examples": kept.slice(0, 20).to_pylist(), "ledger": ledger.rows,
            "quarantine": ledger.quarantine, "problem": shortage(config, ledger, split), "files": num_files,
            "sampled": cut_short}


def flow(config: CorpusConfig, inputs: list[tuple[Source, list[File]]], ledger: Ledger,
         reading: Read) -> Iterator[pa.Table]:
    """The documents that come out of the steps, batch by batch (id, text, source); `ledger` keeps account."""
    judges = [step.begin() for step in config.steps]
    for batch in _batches(_documents(inputs, ledger, reading)):
        for number, judge in enumerate(judges):
            rows = batch.append_column("row", pa.array(range(len(batch)), pa.int64()))
            batch = ledger.enter(number, rows, judge(rows))
            if not len(batch):
                break
        else:
            yield batch


def _documents(inputs: list[tuple[Source, list[File]]], ledger: Ledger, reading: Read) -> Iterator[Document]:
    for source, found in inputs:
        usable, first = False, None
        for file in found:
            for document in reading(file):
                if isinstance(document, Rejected):
                    first = first or document
                    ledger.reject(document)
                else:
                    usable = True
                    yield document
        if not usable:
            why = str(first or f"{source.path} holds no text; put some into it or leave it out")
            if len(found) > 1:
                why = f"Nothing in {source.path} can be read: {why}"
            raise UserError(f"{why}.", where=source.path)


def _batches(documents: Iterator[Document]) -> Iterator[pa.Table]:
    held: list[Document] = []
    characters = 0
    for document in documents:
        held.append(document)
        characters += len(document.text)
        if characters >= BATCH or len(held) >= BATCH_DOCUMENTS:
            yield _table(held)
            held, characters = [], 0
    if held:
        yield _table(held)


def _table(documents: list[Document]) -> pa.Table:
    return pa.table([[d.id for d in documents], [d.text for d in documents], [d.source for d in documents]],
                    schema=DOCUMENTS)


def summary(ledger: Ledger, split: Split) -> dict[str, Any]:
    """The dataset in figures: what is left, and how each step came to it."""
    return {"documents": split.documents, "bytes": split.bytes, "train_documents": split.documents - split.validation,
            "val_documents": split.validation, "quarantined": ledger.quarantined,
            "steps": [tally.summary() for tally in ledger.tallies], "lengths": split.lengths()}


def shortage(config: CorpusConfig, ledger: Ledger, split: Split) -> str:
    """Why what is left cannot be trained on, in one sentence; empty if it can."""
    if split.different > 1:
        return ""
    left = {0: "No document is", 1: "Only one document is"}.get(split.documents, "Nothing but copies of one text is")
    if worst := ledger.worst:
        reason, count = worst.reasons.most_common(1)[0]
        return (f"{left} left after the steps: {worst.step} dropped {worst.dropped} of {worst.documents_in}, most of "
                f"them for '{reason}' ({count}). Change that step's settings, take it out, or add text.")
    cut = "lower passages.characters" if any(s.kind == "passages" for s in config.steps) else "add the step passages"
    return (f"{left} there, and training needs two different ones, one of them held out for validation. Add text, or "
            f"{cut} so that a long document is cut into several.")


def _contents(source: Source, found: list[File], total: int, progress: Progress) -> dict[str, Any]:
    """What a source held, as a fingerprint over the names and bytes of its files."""
    digest = xxh3_128()
    for file in found:
        progress(0, total, f"looking at {file.name}")
        digest.update(f"{file.name}\0{file.size}\0".encode())
        try:
            with open(file.path, "rb") as handle:
                for number, block in enumerate(iter(lambda: handle.read(8 << 20), b"")):
                    digest.update(block)
                    if number % 16 == 15:
                        progress(0, total, f"looking at {file.name}")
        except OSError as error:                 # the reader will say so, and go on with the others
            digest.update(str(error.errno).encode())
    return {"path": source.path, "files": len(found), "bytes": sum(file.size for file in found),
            "contents": digest.hexdigest()}


def _size(file: File) -> int:
    """Bytes that the dataset may take on the disk for a file, from above."""
    return file.size * (4 if compression_of(file.path) or file.format == "parquet" else 1)


def _spread(found: list[File], most: int, size: int) -> list[File]:
    """At most so many of the files, from the whole list, whose beginnings come to about `size` bytes."""
    begun = sum(min(file.size, PIECE) for file in found)
    wanted = max(1, min(most, len(found), len(found) * size // max(1, begun)))
    return [found[number * len(found) // wanted] for number in range(wanted)]
