"""datatrove's verdicts on the pages of `tests/engine/toy_pages.py`, kept in a file that the tests compare with.

    PEER/bin/python benchmarks/verdicts.py      # datatrove 0.10.1, spaCy 3.8; writes tests/engine/peer_verdicts.json
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from pathlib import Path

from datatrove.data import Document
from datatrove.pipeline.filters import (
    C4QualityFilter,
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
)

HERE = Path(__file__).resolve().parent
TESTS = HERE.parent / "tests" / "engine"
sys.path[:0] = [str(TESTS), str(HERE)]

import peer  # noqa: E402
from toy_pages import CASES, NOVELS, pages  # noqa: E402

NUMBER = 400
WINDOWS = [[0, 20, 50], [600, 620], [1200, 1210, 1220, 1240, 1260], [2000, 2010, 2020, 2040], [3000], [4000]]
"""Where pieces of 400 characters begin in the first novel: near duplicates of one another in each group."""


def main() -> None:
    kinds = {"gopher_repetition": GopherRepetitionFilter, "quality": GopherQualityFilter, "c4": C4QualityFilter,
             "fineweb": FineWebQualityFilter}
    always = {"quality": {"min_stop_words": 0}}

    def verdict(name: str, settings: dict, text: str) -> str:
        told = kinds[name](**always.get(name, {}), **settings).filter(Document(text=text, id=""))
        return told[1] if isinstance(told, tuple) else ""

    texts = pages(NUMBER)
    verdicts = {name: [verdict(name, {}, text) for text in texts] for name in kinds}
    cases = [verdict(name, settings, text) for name, settings, _, text in CASES]
    novel = sorted(NOVELS.glob("*.txt"))[0].read_text(encoding="utf-8")[10_000:]
    pieces = [novel[start:start + 400] for group in WINDOWS for start in group]
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "pieces.jsonl"
        source.write_text("\n".join(json.dumps({"text": piece}) for piece in pieces))
        peer.minhash(source, Path(folder), {})
        clusters = [json.loads(line)["cluster"] for line in (Path(folder) / "verdicts.jsonl").read_text().splitlines()]
    digest = hashlib.sha256("\0".join([*texts, *pieces]).encode()).hexdigest()
    (TESTS / "peer_verdicts.json").write_text(json.dumps(
        {"datatrove": "0.10.1", "pages": NUMBER, "windows": WINDOWS, "sha256": digest, "cases": cases,
         "verdicts": verdicts, "clusters": clusters}, indent=None, separators=(",", ":")) + "\n")
    for name, told in verdicts.items():
        print(name, sum(map(bool, told)), "of", NUMBER, "dropped")
    print(clusters, cases)


if __name__ == "__main__":
    main()
