"""Blocklists: documents that hold words, or point to hosts, that somebody listed. None is bundled."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from pydantic import model_validator

from engine.config import UserError, setting, wrong
from engine.corpus import STEPS, Source, Step

if TYPE_CHECKING:
    import pyarrow as pa
    from daft import Expression

AT_ONCE = 2500
"""Words in one regular expression: Daft refuses those whose program is larger than 10 MB."""

ANYWHERE = re.compile("[\u3040-\u30ff\u3400-\u9fff\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]")
"""Letters of scripts that set no blanks between words."""

ADDRESS = r"(?i)(?:https?://|(?-u:\b)www\.)[^\s<>\"'`|\\^{}]+"
BESIDE = r"[^\p{L}\p{M}\p{N}_]"
"""What may stand beside a word. A Unicode `\b` would cost the regular expressions their speed."""

SINKS = ("0.0.0.0", "127.0.0.1", "::1", "::")
"""What a hosts file sends the hosts to that it blocks."""


class Blocklist(Step):
    """Entries that were typed, and those of a file, one on a line; what follows a # on a line is left out."""

    file: str = setting("", "File with one entry on each line, in the workspace")

    def references(self) -> tuple[Source, ...]:
        return (Source(path=self.file, format="text"),) if self.file else ()

    def begin(self) -> Callable[[pa.Table], pa.Table]:
        return self.begin_with({})

    def _entries(self, typed: tuple[str, ...], references: Mapping[str, Iterable[str]]) -> list[str]:
        """Every entry once, in small letters."""
        lines = [line for text in references.get(self.file, ()) for line in text.splitlines()]
        found = (re.sub(r"(^|\s)#.*", "", line).strip().lower() for line in (*typed, *lines))
        entries = list(dict.fromkeys(filter(None, found)))
        if not entries:
            raise UserError(f"{self.file or 'The list'} holds no entry; write one on each line.", where=self.file)
        return entries


@STEPS.add("word_list")
class WordList(Blocklist):
    """Drops documents with words of a list, as C4 does (Raffel et al. 2020, section 2.2).

    Words and phrases count whole, in small or capital letters; in scripts without blanks they count
    wherever they stand.
    """

    words: tuple[str, ...] = setting((), "Blocked words and phrases")
    most: int = setting(0, "Most blocked words that a document may hold", ge=0, unit="words")

    @model_validator(mode="after")
    def _has_some(self) -> WordList:
        if not self.file and not any(word.strip() for word in self.words):
            raise wrong("words", "is empty, and so is file: type words, or name a file of them", self.words)
        return self

    def begin_with(self, references: Mapping[str, Iterable[str]]) -> Callable[[pa.Table], pa.Table]:
        from engine.corpus.columns import judge

        entries = self._entries(self.words, references)
        patterns = [_any_of(entries[at:at + AT_ONCE]) for at in range(0, len(entries), AT_ONCE)]
        reason = f"more than {self.most} blocked words" if self.most else "holds a blocked word"

        def reasons(text: Expression) -> dict[str, Expression]:
            text = text.lower()
            if not self.most:
                found = text.regexp(patterns[0])
                for pattern in patterns[1:]:
                    found |= text.regexp(pattern)
                return {reason: found}
            text = text.regexp_replace(r"(\s)", "$1$1")     # so that a match leaves the next one its blank
            counts = [text.regexp_count(pattern) for pattern in patterns]
            return {reason: sum(counts[1:], counts[0]) > self.most}

        return lambda batch: judge(batch, self.edited, reasons)


@STEPS.add("url_list")
class UrlList(Blocklist):
    """Drops documents that point to blocked hosts, as RefinedWeb and FineWeb block pages (Penedo et al. 2023, 2024).

    An entry is a host, which blocks what lies below it too (example.com blocks www.example.com), or an
    address, which blocks all that begins with it (example.com/ads). Hosts files are understood. Addresses
    in the text count; those that carry neither http nor www are not recognised.
    """

    urls: tuple[str, ...] = setting((), "Blocked hosts and addresses")
    most: int = setting(0, "Most blocked addresses that a document may hold", ge=0, unit="addresses")

    @model_validator(mode="after")
    def _has_some(self) -> UrlList:
        if not self.file and not any(url.strip() for url in self.urls):
            raise wrong("urls", "is empty, and so is file: type hosts, or name a file of them", self.urls)
        return self

    def begin_with(self, references: Mapping[str, Iterable[str]]) -> Callable[[pa.Table], pa.Table]:
        from engine.corpus.columns import column, compute, judge, with_reasons

        entries = (entry.split() for entry in self._entries(self.urls, references))
        blocked = {_plain(words[1] if words[0] in SINKS and len(words) > 1 else words[0]) for words in entries}
        reason = f"more than {self.most} blocked addresses" if self.most else "points to a blocked host"

        def url_list(batch: pa.Table) -> pa.Table:
            batch = judge(batch, self.edited, self.reasons)
            found = compute(batch, {"urls": column("text").regexp_extract_all(ADDRESS)})["urls"].to_pylist()
            over = [row for row, urls in enumerate(found) if sum(_among(url, blocked) for url in urls) > self.most]
            return with_reasons(batch, dict.fromkeys(over, reason))

        return url_list


def _any_of(words: list[str]) -> str:
    """Finds any of the words in a text of small letters, each as a whole."""
    whole: list[str] = []
    anywhere: list[str] = []
    for word in words:
        literal = re.sub(r"\s+", r"\\s+", re.sub(r"[^\w\s]", lambda sign: f"\\x{{{ord(sign[0]):X}}}", word))
        (anywhere if ANYWHERE.search(word) else whole).append(literal)
    return "|".join([*([rf"(?:^|{BESIDE})(?:{'|'.join(whole)})(?:$|{BESIDE})"] if whole else []), *anywhere])


def _plain(url: str) -> str:
    """An address without what is the same for all: https://www.Example.com/ads/ is example.com/ads."""
    host, slash, path = re.sub(r"^[a-z]+://", "", url.lower()).partition("/")
    host = host.rpartition("@")[2].partition(":")[0].strip(".").removeprefix("www.")
    return f"{host}{slash}{path}".rstrip("/.,;:!?)]*")


def _among(url: str, blocked: set[str]) -> bool:
    """Whether an address, a host above it or a beginning of its path is blocked."""
    host, *path = _plain(url).split("/")
    labels = host.split(".")
    hosts = (".".join(labels[at:]) for at in range(len(labels)))
    return any(above in blocked for above in hosts) or any(
        "/".join([host, *path[:depth]]) in blocked for depth in range(1, len(path) + 1))
