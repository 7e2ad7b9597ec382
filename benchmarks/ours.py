"""Our side of the comparison, in a process of its own so that its CPU seconds and memory can be told.

    python ours.py filters|minhash DOCUMENTS.jsonl OUT SETTINGS
    python ours.py memory WORKSPACE OUT PRESET          # a whole curation of the workspace's corpora/text
    python ours.py near - OUT NUMBER                    # deciding on so many documents' notes, made up as they are read

The same files as `peer.py`: `verdicts.jsonl` (a row for each document, in order) and `cost.json`.
"""

from __future__ import annotations

import hashlib
import json
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from engine.config import read as config_of
from engine.corpus import Source, Step
from engine.corpus.passes import BATCH
from engine.corpus.readers import Document, read
from engine.corpus.sources import File

WARM = pa.table({"id": ["a"], "text": pa.array(["One warm line."], pa.large_string()), "source": ["a"], "row": [0]})
"""A document that loads what a step imports when it is first used; not in the figures, as in `peer`."""


class Cost:
    """CPU seconds of this process from here on, all its threads, and the most memory it ever took."""

    def __init__(self, path: Path) -> None:
        self._path, self._begun = path, time.process_time()

    def tell(self, **more: object) -> None:
        peak = peak_mb()
        self._path.write_text(json.dumps({"cpu": time.process_time() - self._begun, "peak_mb": peak, **more}))


def peak_mb() -> int:
    """The most memory that this process ever had; `ru_maxrss` begins with what its parent had."""
    if (status := Path("/proc/self/status")).exists():
        return int(status.read_text().split("VmHWM:")[1].split()[0]) // 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


class Notes:
    """What a step noted, as a curation holds it while it is little."""

    def __init__(self, tables: list[pa.Table]) -> None:
        self._tables = tables

    def tables(self, columns: list[str] | None = None) -> Iterator[pa.Table]:
        return iter([table.select(columns) if columns else table for table in self._tables])


def batches(path: Path) -> Iterator[pa.Table]:
    """The documents in batches of the size that a curation's steps get."""
    held: list[Document] = []
    size = 0
    for found in read(File(path, path.name, "jsonl", Source(path=path.name), path.stat().st_size)):
        assert isinstance(found, Document), found
        held.append(found)
        size += len(found.text)
        if size >= BATCH:
            yield _table(held)
            held, size = [], 0
    if held:
        yield _table(held)


def _table(held: list[Document]) -> pa.Table:
    return pa.table({"id": [found.id for found in held],
                     "text": pa.array([found.text for found in held], pa.large_string()),
                     "source": [found.source for found in held], "row": pa.array(range(len(held)), pa.int64())})


def filters(source: Path, out: Path, settings: dict) -> None:
    judges = {name: config_of(Step, {"kind": name, **chosen}).begin() for name, chosen in settings.items()}
    for judge in judges.values():
        judge(WARM)
    cost = Cost(out / "cost.json")
    spent = dict.fromkeys(judges, 0.0)
    documents = size = 0
    with open(out / "verdicts.jsonl", "w") as file:
        for batch in batches(source):
            told: dict[str, list] = {}
            for name, judge in judges.items():
                begun = time.process_time()
                after = judge(batch)
                told[name] = after["reason"].to_pylist()
                if name == "c4":
                    told["c4_text"] = [fingerprint(text) for text in after["text"].to_pylist()]
                spent[name] += time.process_time() - begun
            for row in range(len(batch)):
                file.write(json.dumps({name: reasons[row] for name, reasons in told.items()}) + "\n")
            documents, size = documents + len(batch), size + batch["text"].nbytes
    cost.tell(documents=documents, bytes=size, by_filter=spent, finished=True)


def fingerprint(text: str) -> str:
    """The lines that C4 left, blank ones and the blanks around each aside, which datatrove takes out."""
    left = "\n".join(line.strip() for line in text.split("\n") if line.strip())
    return hashlib.blake2b(left.encode("utf-8", "replace"), digest_size=8).hexdigest()


def minhash(source: Path, out: Path, settings: dict) -> None:
    step = config_of(Step, {"kind": "near_duplicates", **settings})
    step.look(WARM)
    cost = Cost(out / "cost.json")
    looked = Notes([step.look(batch) for batch in batches(source)])
    with open(out / "verdicts.jsonl", "w") as file:
        documents = 0
        for verdict in step.decide(looked):
            for reason, cluster, group in zip(*(verdict[name].to_pylist() for name in ("reason", "cluster", "group")),
                                              strict=True):
                file.write(json.dumps({"cluster": group, "number": cluster, "dropped": reason is not None}) + "\n")
            documents += len(verdict)
    cost.tell(documents=documents, finished=True)


def memory(workspace: Path, out: Path, preset: str) -> None:
    from engine.corpus import CorpusConfig
    from engine.corpus.pipeline import curate
    from engine.corpus.presets import PRESETS
    from engine.progress import silent
    from engine.workspace import Workspace

    config = config_of(CorpusConfig, {"sources": [{"path": "corpora/text"}], "steps": list(PRESETS[preset])})
    cost = Cost(out / "cost.json")
    folder = curate(config, Workspace(workspace), f"text-{preset}", silent)
    summary = json.loads((folder / "manifest.json").read_text())["summary"]
    cost.tell(documents=summary["documents"], bytes=summary["bytes"],
              documents_in=summary["steps"][0]["documents_in"], finished=True)


class MadeUp:
    """Notes of so many documents that no text was read for; a tenth of them are candidates in every band."""

    SHARD = 8192

    def __init__(self, number: int, num_hashes: int) -> None:
        self.number, self.num_hashes = number, num_hashes

    def tables(self, columns: list[str]) -> Iterator[pa.Table]:
        for start in range(0, self.number, self.SHARD):
            size = min(self.SHARD, self.number - start)
            yield pa.table({name: self._column(name, start, size) for name in columns})

    def _column(self, name: str, start: int, size: int) -> pa.Array:
        dice = np.random.default_rng([start, *name.encode()])
        if name == "id":
            return pa.array([f"corpora/text/part.jsonl:{row}" for row in range(start, start + size)])
        if name == "short":
            return pa.FixedSizeBinaryArray.from_buffers(pa.binary(self.num_hashes), size, [
                None, pa.py_buffer(dice.bytes(size * self.num_hashes))])
        values = dice.integers(0, 1 << 62, size, dtype=np.uint64)
        values[:size // 10] = np.arange(size // 10)
        return pa.array(values.astype(np.int64) % 10_000 if name == "length" else values)


def near(out: Path, number: int) -> None:
    from engine.corpus.near import NearDuplicates

    step = NearDuplicates()
    step.look(WARM)
    cost = Cost(out / "cost.json")
    before = peak_mb()
    documents = sum(len(verdict) for verdict in step.decide(MadeUp(number, step.num_hashes)))
    cost.tell(documents=documents, before_mb=before, finished=True)


if __name__ == "__main__":
    what, source, out, settings = sys.argv[1:]
    Path(out).mkdir(parents=True, exist_ok=True)
    if what == "memory":
        memory(Path(source), Path(out), settings)
    elif what == "near":
        near(Path(out), int(settings))
    else:
        {"filters": filters, "minhash": minhash}[what](Path(source), Path(out), json.loads(settings))
