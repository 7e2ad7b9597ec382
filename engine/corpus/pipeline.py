"""Pipeline: sources -> steps -> a dataset of Parquet files with its ledger.

    documents-00000.parquet ...   id, text, source, split ("train" or "val"), group (of near duplicates, mostly none)
    ledger.parquet  quarantine.jsonl  bias.json (what was measured)  README.md (the data card)  manifest.json

Documents flow in shards of 32 MB through one step after the other, so memory does not grow with the corpus.
The order is that of the sources, so the same inputs and settings give the same bytes. What was done to each
shard is kept in the workspace's stages/ (`spill`), so that a curation that was killed goes on where it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from engine import files
from engine.config import UserError
from engine.corpus import CorpusConfig, Source
from engine.corpus.before_after import BeforeAfter
from engine.corpus.bias_report import FILE
from engine.corpus.bias_table import digest
from engine.corpus.card import card
from engine.corpus.contents import Changed, Contents
from engine.corpus.crew import Plan, gather
from engine.corpus.intake import DOCUMENTS, Intake
from engine.corpus.leak import leak, stored
from engine.corpus.ledger import Ledger, in_tokens
from engine.corpus.passes import Passes
from engine.corpus.profile import compared
from engine.corpus.readers import Document, Rejected, read
from engine.corpus.records import PIECE
from engine.corpus.references import Inputs, texts_of
from engine.corpus.sources import File, compression_of, find, skipped
from engine.corpus.spill import IN_MEMORY, Spill
from engine.corpus.splits import Dataset, Split
from engine.progress import Progress
from engine.workspace import Workspace

VERSION = 3
"""Raised when the same inputs and settings give other documents, or another ledger, than before."""

SAMPLE = 8 << 20
"""Characters that a preview looks at."""


def curate(config: CorpusConfig, workspace: Workspace, name: str, progress: Progress) -> Path:
    """The dataset folder made from the sources by the steps; found again if contents and settings are the same.

    Raises UserError when a source cannot be read at all, when fewer than two documents are left, or
    when the disk has no room; Stopped comes out of `progress`. Neither leaves a folder behind; what was
    done by then is found again in the workspace's stages. When a file changes while it is read, all begins anew;
    one that changes then too is left out, and is in the quarantine.
    """
    workers, config = config.workers, config.active()
    restless: dict[Path, int] = {}
    while True:
        try:
            twice = {path for path, often in restless.items() if often > 1}
            return _curate(config, workspace, name, progress, twice, workers)
        except Changed as changed:
            restless[changed.file.path] = restless.get(changed.file.path, 0) + 1


def _curate(config: CorpusConfig, workspace: Workspace, name: str, progress: Progress, left_out: set[Path],
            workers: str) -> Path:
    """As `curate`, without the files to be `left_out`; raises Changed when another is not what it was."""
    inputs, compared = _inputs(config, workspace)
    restless = [file for _, found in inputs for file in found if file.path in left_out]
    inputs = [(source, [file for file in found if file.path not in left_out]) for source, found in inputs]
    total = sum(file.size for _, found in inputs for file in found)
    contents = Contents(total, progress)
    sources = [contents.of(source, found) for source, found in inputs]
    references = [[contents.of(source, found) for source, found in others] for others in compared]
    made_from = {"version": VERSION, "settings": config.dump(), "sources": sources}
    if any(references):
        made_from["references"] = references
    if restless:
        made_from["left_out"] = [file.name for file in restless]

    def build(folder: Path) -> dict[str, Any]:
        size = sum(_size(file) for _, found in inputs for file in found)
        files.require_space(folder, size * (3 if size > IN_MEMORY else 1) + (16 << 20))
        spill = Spill(workspace.path / "stages", shared=bool(workers))
        mark = files.fingerprint("documents", VERSION, sources, [_as_read(source) for source in config.sources])
        told = _Told(total, progress)

        def reading(file: File) -> Iterator[Document | Rejected]:
            yield from read(file, told.reading(file))
            contents.hold(file)

        intake = Intake(inputs, reading, spill, mark)
        plan = Plan(config.dump(), workspace.path / "stages", mark, compared, references)
        crew = gather(workers, plan)
        passes = Passes(config, intake, spill, mark, lambda step: texts_of(compared[step]), references, told.shard,
                        crew)
        told.num_passes = passes.num_passes
        measured = BeforeAfter(config)
        with Ledger([step.kind for step in config.steps], folder, source_of=_source_of(inputs)) as ledger, \
                Dataset(folder, config.validation_fraction) as dataset:
            try:
                for shard in flow(passes, ledger, measured):
                    dataset.write(shard)
            except Changed:
                spill.drop(mark)
                raise
            finally:
                if crew:
                    crew.close()
            for file in restless:
                ledger.reject(Rejected(file.name, 0, "changed again and again while it was read, and was left out; "
                                                     "copy it and name the copy"))
        if problem := shortage(config, ledger, dataset.split):
            raise UserError(problem, where="corpus.steps" if ledger.worst else "corpus.sources")
        dataset.finish()
        shares = passes.shares()
        spill.tidy()
        progress(total, total, f"{dataset.documents} documents")
        if found := measured.report(ledger):
            files.write_json(folder / FILE, found)
        told_of = {**summary(ledger, dataset.split), "shares": shares, "bias": digest(found),
                   "skipped": _skipped(config, workspace),
                   "leak": leak(lambda: stored(folder), dataset.split.validation_bytes)}
        files.write(folder / "README.md", card(name, made_from, told_of))
        return told_of

    return workspace.make("datasets", name, made_from, build)


def preview(config: CorpusConfig, workspace: Workspace, limit: int = 1000) -> dict[str, Any]:
    """What `curate` would do, tried on about `limit` documents, at most 8 MB, from all over the sources.

    Writes nothing. Returns the same summary, and besides: "examples" (id, text, source), rows of "ledger" and
    "quarantine", "problem" (a sentence if what is left cannot be trained on, else empty), "files" (how many
    there are) and "sampled" (whether something was left unread). Raises UserError when a source cannot be read.
    """
    config = config.active()
    inputs, compared = _inputs(config, workspace)
    num_files = sum(len(found) for _, found in inputs)
    sampled = [(source, _spread(found, limit // len(inputs), 8 * SAMPLE // len(inputs))) for source, found in inputs]
    looked_at = sum(len(found) for _, found in sampled)
    cut_short = num_files > looked_at

    def reading(file: File) -> Iterator[Document | Rejected]:
        nonlocal cut_short
        room = SAMPLE // looked_at
        for count, found in enumerate(read(file)):
            if count >= -(-limit // looked_at) or not room:
                cut_short = True
                return
            if isinstance(found, Document):
                if len(found.text) > room:
                    cut_short, found = True, replace(found, text=found.text[:room])
                room -= len(found.text)
            yield found

    spill = Spill()
    passes = Passes(config, Intake(sampled, reading, spill, ""), spill, "", lambda step: texts_of(compared[step]),
                    [None] * len(config.steps))
    ledger = Ledger([step.kind for step in config.steps], examples=20, source_of=_source_of(inputs))
    split = Split(config.validation_fraction)
    measured = BeforeAfter(config)
    kept = pa.concat_tables([DOCUMENTS.empty_table(), *flow(passes, ledger, measured)])
    sides = split.add(kept)
    if split.different > 1 and not split.fits():
        split = split.again()
        sides = split.add(kept)
    sample = pa.table({"text": kept["text"], "split": pa.array(sides, pa.string())})
    found = measured.report(ledger)
    return {**summary(ledger, split), "skipped": _skipped(config, workspace),
            "leak": leak(lambda: [sample], split.validation_bytes), "shares": passes.shares(),
            "bias": digest(found), "bias_report": found,
            "examples": kept.slice(0, 20).drop_columns("group").to_pylist(),
            "ledger": ledger.rows, "quarantine": ledger.quarantine, "problem": shortage(config, ledger, split),
            "files": num_files, "sampled": cut_short}


def flow(passes: Passes, ledger: Ledger, measured: BeforeAfter) -> Iterator[pa.Table]:
    """The documents that come out of the steps, shard by shard (id, text, source, group); `ledger` keeps account."""
    passes.settle()
    for _, shard in passes.documents(len(passes.steps), measured.entering(ledger.enter)):
        measured.went(shard)
        ledger.after.add(shard)
        yield shard
    for rejected in passes.intake.rejected():
        ledger.reject(rejected)


class _Told:
    """Progress in bytes of the sources, the passes over them taken as equally long."""

    def __init__(self, total: int, progress: Progress) -> None:
        self._total, self._progress = total, progress
        self.num_passes = 1
        self._read = self._done = 0

    def reading(self, file: File) -> Callable[[int], None]:
        def moved(count: int) -> None:
            self._read = min(self._read + count, self._total)
            self._tell(self._read / max(1, self._total), f"reading {file.name}")
        return moved

    def shard(self, finished: int, shard: int, of: int) -> None:
        if of:
            self._tell(finished + shard / of, f"part {shard} of {of}, pass {finished + 1} of {self.num_passes}")
        else:
            self._tell(0, f"part {shard}")

    def _tell(self, passes: float, message: str) -> None:
        self._done = max(self._done, min(self._total, int(self._total * passes / self.num_passes)))
        self._progress(self._done, self._total, message)


def _inputs(config: CorpusConfig, workspace: Workspace) -> tuple[Inputs, list[Inputs]]:
    """The files of the sources, and those that each step compares with."""
    return ([(source, find(source, workspace)) for source in config.sources],
            [[(source, find(source, workspace)) for source in step.references()] for step in config.steps])


def _skipped(config: CorpusConfig, workspace: Workspace) -> list[dict[str, Any]]:
    """What the sources hold besides the files that are read."""
    return [asdict(left) for source in config.sources if (left := skipped(source, workspace))]


def _as_read(source: Source) -> dict[str, Any]:
    """The settings that reading depends on."""
    return {name: value for name, value in source.dump().items() if name != "weight"}


def _source_of(inputs: Inputs) -> dict[str, str]:
    """The path of the source, as it was typed, that each file belongs to; the first one if several do."""
    return {file.name: source.path for source, found in reversed(inputs) for file in found}


def summary(ledger: Ledger, split: Split) -> dict[str, Any]:
    """The dataset in figures, as the manifest holds them under "summary": what is left, and how it came to it.

    documents, bytes, train_documents, val_documents, quarantined
    steps      a `Tally.summary` for each step that is on, in their order, and tokens (see `in_tokens`)
    lengths_read, lengths      histograms of characters, of all documents read and kept (see `Lengths.histogram`)
    sources, signals, looked_at    before and after, see `profile.compared`; `languages` of a step that tells them
                               is in its tally: {code: {documents_in, documents_out, bytes_in, bytes_out}}
    lost       of a step that drops copies, in its tally: [{source, to, documents}], which source lost to which
    skipped    what the sources hold besides: a `sources.Skipped` each, as a dict;  leak     see `leak.leak`
    """
    return in_tokens({
            "documents": split.documents, "bytes": split.bytes, "train_documents": split.documents - split.validation,
            "val_documents": split.validation, "quarantined": ledger.quarantined,
            "steps": [tally.summary() for tally in ledger.tallies], "lengths": split.lengths.histogram(),
            "lengths_read": ledger.read.histogram() if ledger.tallies else split.lengths.histogram(),
            **compared(ledger.before if ledger.tallies else ledger.after, ledger.after)})


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


def _size(file: File) -> int:
    """Bytes that the dataset may take on the disk for a file, from above."""
    return file.size * (4 if compression_of(file.path) or file.format == "parquet" else 1)


def _spread(found: list[File], most: int, size: int) -> list[File]:
    """At most so many of the files, from the whole list, whose beginnings come to about `size` bytes."""
    begun = sum(min(file.size, PIECE) for file in found)
    wanted = max(1, min(most, len(found), len(found) * size // max(1, begun)))
    return [found[number * len(found) // wanted] for number in range(wanted)]
