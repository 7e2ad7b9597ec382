"""Damaged files of every format: nothing but documents and rejected records comes out, and what is whole comes through.

A long campaign: FUZZ_EXAMPLES=20000 pytest tests/engine/test_corpus_fuzz.py --timeout 0
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import os

import hypothesis.strategies as st
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings

from engine.config import read
from engine.corpus import Source, readers
from engine.corpus.readers import Document, Rejected
from engine.corpus.sources import ENDINGS, File

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "40"))
fuzz = settings(max_examples=EXAMPLES, deadline=None, database=None, derandomize="FUZZ_EXAMPLES" not in os.environ,
                suppress_health_check=list(HealthCheck))

SIGNS = st.characters(codec="utf-8", categories=("L", "M", "N", "P", "S", "Zs"))
TEXTS = st.lists(st.text(SIGNS, min_size=1, max_size=30).filter(str.strip), min_size=1, max_size=8)
JUNK = st.one_of(
    st.binary(max_size=12),
    st.sampled_from([b"\0" * 40, b'"', b"\n", b"\r", b"{", b"[" * 2000, b"\xff\xfe", b"\xef\xbb\xbf", b"\\ud800",
                     b"---\n", b"1" * 5000, b'{"text": 1}\n', b"\x1f\x8b", b"(\xb5/\xfd", b"PAR1", b"\xed\xa0\x80",
                     b"," * 50, b""]))


def packed(texts: list[str], ending: str) -> bytes:
    """A whole file of these texts."""
    kind = ENDINGS["." + ending.split(".")[0]]
    rows = [{"text": text, "more": {"n": [number]}} for number, text in enumerate(texts)]
    if kind == "parquet":
        sink = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(rows), sink, row_group_size=3, compression="zstd", write_page_index=True)
        data = sink.getvalue()
    elif kind == "csv":
        lines = io.StringIO()
        csv.writer(lines, lineterminator="\n").writerows([["text", "n"], *([text, "1"] for text in texts)])
        data = lines.getvalue().encode()
    elif kind == "jsonl":
        data = b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)
    elif kind == "json":
        data = json.dumps(rows, ensure_ascii=False, indent=2).encode()
    else:
        data = "\n".join(texts).encode()
    if ending.endswith(".gz"):
        return gzip.compress(data, mtime=0)
    if ending.endswith(".zst"):
        sink = pa.BufferOutputStream()
        with pa.CompressedOutputStream(sink, "zstd") as stream:
            stream.write(data)
        return sink.getvalue().to_pybytes()
    return data


@pytest.fixture(scope="module")
def reading(tmp_path_factory):
    """What is read of a file of these bytes."""
    folder = tmp_path_factory.mktemp("fuzz")

    def read_all(data: bytes, ending: str, **wanted: str) -> tuple[list[Document], list[Rejected]]:
        path = folder / f"a.{ending}"
        path.write_bytes(data)
        source = read(Source, {"path": "a", **wanted})
        found = list(readers.read(File(path, "a", ENDINGS["." + ending.split(".")[0]], source, len(data))))
        assert all(isinstance(item, Document | Rejected) for item in found)
        for item in found:                       # what is read can be kept: in Arrow, and in a line of JSON
            (item.text if isinstance(item, Document) else json.dumps(item.reason, ensure_ascii=False)).encode()
        return [f for f in found if isinstance(f, Document)], [f for f in found if isinstance(f, Rejected)]

    return read_all


@st.composite
def damaged(draw, ending: str):
    """Texts, the bytes of their file, the same with a stretch lost, written over or put in, and where that is."""
    texts = draw(TEXTS)
    data = packed(texts, ending)
    start = draw(st.integers(0, len(data)))
    end = min(len(data), start + draw(st.sampled_from([0, 1, 2, 8, 64, 1 << 20])))
    return texts, data, data[:start] + draw(JUNK) + data[end:], start, end


@pytest.mark.parametrize("ending", ["txt", "md", "jsonl", "json", "csv", "parquet", "jsonl.gz", "txt.zst", "json.gz",
                                    "csv.zst", "parquet.gz"])
def test_whatever_the_bytes_nothing_but_documents_and_rejected_records_comes_out(reading, ending):
    @fuzz
    @given(st.one_of(st.binary(max_size=300), damaged(ending).map(lambda made: made[2])))
    def never_raises(data: bytes) -> None:
        documents, rejected = reading(data, ending)
        assert documents or rejected

    never_raises()


@pytest.mark.parametrize("encoding", ["utf-16", "utf-7", "cp932", "gb18030", "idna", "punycode", "unicode_escape",
                                      "iso2022_jp", "utf-32-le"])
def test_no_encoding_that_may_be_named_raises(reading, encoding):
    @settings(fuzz, max_examples=max(10, EXAMPLES // 4))
    @given(st.binary(min_size=1, max_size=60))
    def never_raises(data: bytes) -> None:
        for ending in ("jsonl", "csv"):
            reading(data, ending, encoding=encoding)

    never_raises()


@pytest.mark.parametrize("ending", ["jsonl", "csv", "json"])
def test_records_before_the_damage_come_through_and_of_lines_those_after_it_too(reading, ending):
    @fuzz
    @given(damaged(ending))
    def whole_ones_stay(made) -> None:
        texts, data, broken, start, end = made
        documents, rejected = reading(broken, ending, encoding="utf-8")
        left = [document.text for document in documents]
        tail = 2 if ending == "json" else 0      # the line with the closing bracket
        ends = [len(packed(texts[:number + 1], ending)) - tail for number in range(len(texts))]
        before = [text for text, stop in zip(texts, ends, strict=True) if stop <= start]
        assert left[:len(before)] == before
        if ending == "jsonl":
            after = [text for text, stop in zip(texts[1:], ends, strict=False) if stop > end]
            assert left[len(left) - len(after):] == after
        if broken != data and left[:len(texts)] != texts:
            assert rejected or len(left) >= len(before)

    whole_ones_stay()


@pytest.mark.parametrize("ending", ["jsonl.gz", "jsonl.zst", "csv.gz", "txt.gz", "parquet", "parquet.gz"])
def test_a_file_that_was_cut_off_says_so_and_invents_nothing(reading, ending):
    @fuzz
    @given(st.data())
    def told(data) -> None:
        texts = data.draw(TEXTS)
        whole = packed(texts, ending)
        documents, rejected = reading(whole[:data.draw(st.integers(0, len(whole) - 1))], ending, encoding="utf-8")
        assert rejected
        if "txt" not in ending:
            assert [document.text for document in documents] == texts[:len(documents)]

    told()
