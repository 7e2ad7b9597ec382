"""datatrove's side of the comparison; runs in an environment of its own and imports nothing of ours.

    python peer.py filters|minhash DOCUMENTS.jsonl OUT SETTINGS [PART OF]

Its filters and its steps are called as its executor would call them, without the executor's own cost. Files out:
`verdicts.jsonl` (a row for each document, in order) and `cost.json` (CPU seconds without the imports), whose figures
are written again and again, so that a run that was broken off can be compared as far as it came.
"""

from __future__ import annotations

import hashlib
import json
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from datatrove.data import Document


def documents(path: Path, part: int = 0, of: int = 1) -> Iterator[Document]:
    """The documents of one part of `of`: the filters can be run in several processes, whose seconds are added up."""
    with open(path, "rb") as lines:
        for number, line in enumerate(lines):
            if number % of == part:
                yield Document(text=json.loads(line)["text"], id=str(number))


class Cost:
    """CPU seconds of this process from here on, as far as it has come."""

    def __init__(self, path: Path) -> None:
        self._path, self._begun = path, time.process_time()
        self.documents = self.bytes = 0

    def add(self, text: str) -> None:
        self.documents += 1
        self.bytes += len(text.encode("utf-8", "replace"))
        if self.documents % 500 == 0:
            self.tell()

    def tell(self, **more: object) -> None:
        self._path.write_text(json.dumps({"cpu": time.process_time() - self._begun, "documents": self.documents,
                                          "bytes": self.bytes, **more}))


def filters(source: Path, out: Path, settings: dict, part: int = 0, of: int = 1) -> None:
    from datatrove.pipeline.filters import (
        C4QualityFilter,
        FineWebQualityFilter,
        GopherQualityFilter,
        GopherRepetitionFilter,
    )

    kinds = {"gopher_repetition": GopherRepetitionFilter, "quality": GopherQualityFilter, "c4": C4QualityFilter,
             "fineweb": FineWebQualityFilter}
    made = {name: kinds[name](**chosen) for name, chosen in settings.items()}
    for name in made:                                   # the word splitter loads with the first document
        made[name].filter(Document(text="One warm line. " * 20, id=""))
    cost = Cost(out / "cost.json")
    spent = dict.fromkeys(made, 0.0)
    with open(out / "verdicts.jsonl", "w") as file:
        for document in documents(source, part, of):
            row: dict[str, object] = {"row": int(document.id)}
            for name, judge in made.items():
                begun = time.process_time()
                own = Document(text=document.text, id=document.id)
                told = judge.filter(own)
                row[name] = told[1] if isinstance(told, tuple) else None if told else "dropped"
                if name == "c4":
                    left = "\n".join(line for line in own.text.split("\n") if line.strip())
                    row["c4_text"] = hashlib.blake2b(left.encode("utf-8", "replace"), digest_size=8).hexdigest()
                spent[name] += time.process_time() - begun
            file.write(json.dumps(row) + "\n")
            cost.add(document.text)
            if cost.documents % 500 == 0:
                file.flush()
    cost.tell(by_filter=spent, finished=True)


def minhash(source: Path, out: Path, settings: dict) -> None:
    from datatrove.pipeline.dedup import MinhashDedupBuckets, MinhashDedupCluster, MinhashDedupSignature
    from datatrove.pipeline.dedup.minhash import MinhashConfig

    config = MinhashConfig(**settings)
    signatures = MinhashDedupSignature(str(out / "signatures"), config)
    signatures.get_shingles("some words to load the splitter of words with")
    cost = Cost(out / "cost.json")

    def counted() -> Iterator[Document]:
        for document in documents(source):
            cost.add(document.text)
            yield document

    signatures.run(counted(), 0, 1)
    for bucket in range(config.num_buckets):
        MinhashDedupBuckets(str(out / "signatures"), str(out / "pairs"), config=config).run(
            None, bucket, config.num_buckets)
    MinhashDedupCluster(str(out / "pairs"), str(out / "clusters"), config, save_cluster_id=True).run(None, 0, 1)
    cost.tell(finished=True)
    cluster: list[int | None] = [None] * cost.documents
    removed = [False] * cost.documents
    told = (out / "clusters" / "000000.clusters").read_bytes()
    for document, number in struct.iter_unpack("<2I", told):
        cluster[document] = number
    for (document,) in struct.iter_unpack("<I", (out / "clusters" / "000000.remove").read_bytes()):
        removed[document] = True
    with open(out / "verdicts.jsonl", "w") as file:
        for number, gone in zip(cluster, removed, strict=True):
            file.write(json.dumps({"cluster": number, "dropped": gone}) + "\n")


if __name__ == "__main__":
    what, source, out, settings, *part = sys.argv[1:]
    Path(out).mkdir(parents=True, exist_ok=True)
    {"filters": filters, "minhash": minhash}[what](Path(source), Path(out), json.loads(settings), *map(int, part))
