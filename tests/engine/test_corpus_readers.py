"""Every format, compression and encoding is read; what cannot be read is named by file and line, and costs no more."""

from __future__ import annotations

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.config import UserError, read
from engine.corpus import Source, decode, readers, records
from engine.corpus.decode import detect
from engine.corpus.readers import Document, Rejected
from engine.corpus.sources import find

PROSE = "It was a cold morning — très froid — and the “old” house stood empty.\n\nNobody came."


@pytest.fixture
def corpora(workspace):
    return workspace.place("corpora")


@pytest.fixture
def reading(workspace):
    """Read a path of the workspace: the documents, and what was rejected."""

    def read_all(path: str = "corpora", **settings: str) -> tuple[list[Document], list[Rejected]]:
        found = [found for file in find(read(Source, {"path": path, **settings}), workspace)
                 for found in readers.read(file)]
        return ([f for f in found if isinstance(f, Document)], [f for f in found if isinstance(f, Rejected)])

    return read_all


def parquet(records: list[dict], path, **options) -> bytes:
    pq.write_table(pa.Table.from_pylist(records), path, **options)
    return path.read_bytes()


def table(name: str, tmp_path) -> bytes:
    rows = [{"title": "One", "text": PROSE}, {"title": "Two", "text": "A second, \"quoted\" text."}]
    if name == "parquet":
        return parquet(rows, tmp_path / "made.parquet")
    if name == "jsonl":
        return "\n".join(json.dumps(row) for row in rows).encode()
    if name == "json":
        return json.dumps(rows, indent=1, ensure_ascii=False).encode()
    quote = [[value.replace('"', '""') for value in row.values()] for row in rows]
    sign = "\t" if name == "tsv" else ","
    return "\n".join([f"title{sign}text", *(f'"{a}"{sign}"{b}"' for a, b in quote)]).encode()


def compressed(data: bytes, ending: str, tmp_path) -> bytes:
    if ending == ".gz":
        return gzip.compress(data)
    if ending == ".zst":
        with pa.CompressedOutputStream(str(tmp_path / "made.zst"), "zstd") as stream:
            stream.write(data)
        return (tmp_path / "made.zst").read_bytes()
    return data


@pytest.mark.parametrize("ending", ["", ".gz", ".zst"])
@pytest.mark.parametrize("name", ["jsonl", "json", "csv", "tsv", "parquet"])
def test_records_of_every_format_and_compression(corpora, reading, tmp_path, name, ending):
    (corpora / f"a.{name}{ending}").write_bytes(compressed(table(name, tmp_path), ending, tmp_path))
    documents, rejected = reading()
    assert [d.text for d in documents] == [PROSE, 'A second, "quoted" text.']
    assert len({d.id for d in documents}) == 2
    assert {d.source for d in documents} == {f"corpora/a.{name}{ending}"}
    assert rejected == []
    titled, _ = reading(template="{title}: {{{text}}}\\n!")
    assert titled[1].text == 'Two: {A second, "quoted" text.}\n!'


@pytest.mark.parametrize("ending", ["", ".gz", ".zst"])
@pytest.mark.parametrize("name", ["txt", "md", "TXT"])
def test_texts_of_every_compression(corpora, reading, tmp_path, name, ending):
    (corpora / f"a.{name}{ending}").write_bytes(compressed(PROSE.encode() + b"\n", ending, tmp_path))
    documents, rejected = reading()
    assert (documents, rejected) == ([Document(f"corpora/a.{name}{ending}", PROSE, f"corpora/a.{name}{ending}")], [])


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"])
@pytest.mark.parametrize("name", ["txt", "jsonl", "csv"])
def test_encodings_are_found_out(corpora, reading, name, encoding):
    record = json.dumps({"text": PROSE}, ensure_ascii=False)
    content = {"txt": PROSE, "jsonl": record, "csv": f'text\n"{PROSE}"\n'}[name]
    (corpora / f"a.{name}").write_bytes(content.encode(encoding))
    assert [d.text for d in reading()[0]] == [PROSE]


@pytest.mark.parametrize(("text", "encoding"), [
    ("Les élèves étaient à l'école; où êtes-vous allés? Ça dépend.", "latin-1"),
    ("Der Größe nach über Straßen laufen, schön wäre es für Jürgen.", "latin-1"),
    ("Привет, как дела? Это обычный русский текст, в котором есть слова.", "cp1251"),
    ("これは日本語のテキストです。文字コードを検出します。", "shift_jis"),
    ("An English text with one price in it, £5, and no more.", "cp1252"),
])
def test_old_encodings_are_guessed(text, encoding):
    data = text.encode(encoding)
    assert data.decode(detect(data)) == text


def test_an_encoding_can_be_named(corpora, reading):
    (corpora / "a.txt").write_bytes("Zażółć gęślą jaźń".encode("iso8859_2"))
    assert reading(encoding="iso8859_2")[0][0].text == "Zażółć gęślą jaźń"


@pytest.mark.parametrize(("settings", "field"), [
    ({"encoding": "utf-99"}, "encoding"), ({"encoding": "hex"}, "encoding"), ({"template": "{title"}, "template"),
    ({"template": "no column"}, "template"), ({"template": "{title!r}"}, "template"), ({"path": ""}, "path"),
])
def test_settings_that_cannot_work_are_refused_at_their_field(settings, field):
    with pytest.raises(UserError) as refused:
        read(Source, settings)
    assert refused.value.where == field


def test_a_broken_line_of_jsonl_is_named_and_the_others_stay(corpora, reading):
    deep = "[" * 100_000
    (corpora / "a.jsonl").write_text('{"text": "first"}\n{"text": "bro\n\n["list"]\n{"body": "x", "note": 1}\n'
                                     f'{{"text": 5}}\n{{"text": "  "}}\n{{"text": "\\ud800"}}\n{deep}\n'
                                     f'{{"text": {"1" * 5000}}}\n{{"text": "last"}}')
    documents, rejected = reading()
    assert [(d.id, d.text) for d in documents] == [("corpora/a.jsonl:1", "first"), ("corpora/a.jsonl:11", "last")]
    assert [r.line for r in rejected] == [2, 4, 5, 6, 7, 8, 9, 10]
    assert "is not JSON" in rejected[0].reason
    assert "column 14" in rejected[0].reason
    assert "a list where a record" in rejected[1].reason
    assert "no column 'text'; there is body, note" in rejected[2].reason
    assert "a number in column 'text'" in rejected[3].reason


def test_bytes_that_are_not_utf8_cost_their_line_only(corpora, reading):
    lines = [json.dumps({"text": f"naïve café number {n}"}, ensure_ascii=False).encode() for n in range(50)]
    (corpora / "a.jsonl").write_bytes(b"\n".join([*lines[:20], b'{"text": "bad \xff\xfe"}', *lines[20:]]))
    documents, rejected = reading()
    assert len(documents) == 50
    assert documents[-1].text == "naïve café number 49"
    assert [str(r).split(" has ")[0] for r in rejected] == ["corpora/a.jsonl line 21"]
    (corpora / "a.jsonl").rename(corpora / "a.txt")
    documents, rejected = reading()
    assert "number 49" in documents[0].text
    assert "bad" not in documents[0].text
    assert [r.line for r in rejected] == [21]


def test_json_of_every_shape(corpora, reading):
    (corpora / "one.json").write_text('{"text": "alone", "tags": ["a"]}')
    (corpora / "nested.json").write_text('{"version": 1, "data": [{"text": "in"}, {"text": "side"}]}')
    (corpora / "lines.json").write_text('{"text": "one"}\n{"text": "two"}\n')
    (corpora / "strings.json").write_text('["x", "y"]')
    (corpora / "cut.json").write_text('[{"text": "kept"},\n {"text": "al')
    documents, rejected = reading()
    assert [d.text for d in documents] == ["kept", "one", "two", "in", "side", "alone", "x", "y"]
    assert len({d.id for d in documents}) == 8
    assert [(r.file, r.line) for r in rejected] == [("corpora/cut.json", 2)]


def test_json_longer_than_what_is_read_at_once(corpora, reading, monkeypatch):
    monkeypatch.setattr(records, "PIECE", 7)
    rows = [{"text": f"number {n}, with [brackets], {{braces}} and \"quotes\""} for n in range(30)]
    (corpora / "a.json").write_text(json.dumps(rows, indent=2))
    documents, rejected = reading()
    assert [d.text for d in documents] == [row["text"] for row in rows]
    assert documents[2].id == "corpora/a.json:8"
    assert rejected == []


def test_csv_with_breaks_in_it(corpora, reading):
    (corpora / "a.csv").write_text('id;text\n1;"two\nlines; one"\n2;short\n3\n4;"never closed\n5;good\n'
                                   '6;"also ""good"""\n')
    documents, rejected = reading()
    assert [d.text for d in documents] == ["two\nlines; one", "short", "good", 'also "good"']
    assert [d.id.split(":")[1] for d in documents] == ["2", "4", "7", "8"]
    assert [r.line for r in rejected] == [5, 6]
    assert "has 1 columns where the first line names 2" in rejected[0].reason
    assert "is not CSV" in rejected[1].reason


def test_a_line_that_is_far_too_long_is_left_out(corpora, reading, monkeypatch):
    for module in (decode, records):
        monkeypatch.setattr(module, "LONGEST", 1000)
    (corpora / "a.jsonl").write_text('{"text": "a"}\n{"text": "' + "b" * 9000 + '"}\n{"text": "c"}\n')
    (corpora / "b.csv").write_text("text\na\n" + "b" * 9000 + "\nc\n")
    documents, rejected = reading()
    assert [d.text for d in documents] == ["a", "c", "a", "c"]
    assert [(r.file, r.line) for r in rejected] == [("corpora/a.jsonl", 2), ("corpora/b.csv", 3)]


def test_a_long_text_comes_in_pieces_that_are_the_text(corpora, reading, monkeypatch):
    monkeypatch.setattr(records, "PIECE", 1000)
    text = "\n\n".join(f"Paragraph {n} says what it has to say, and ends." for n in range(100))
    (corpora / "a.txt").write_text(text)
    documents, _ = reading()
    assert len(documents) > 4
    assert "\n\n".join(d.text for d in documents) == text
    for document in documents:
        line = int(document.id.split(":")[1])
        assert text.split("\n")[line - 1] == document.text.split("\n")[0]


def test_what_stands_before_damage_is_kept(corpora, reading, tmp_path):
    text = "".join(f'{{"text": "line {n} {n * 2654435761 % 2**32}"}}\n' for n in range(20_000)).encode()
    for ending in (".gz", ".zst"):
        whole = compressed(text, ending, tmp_path)
        (corpora / f"a.jsonl{ending}").write_bytes(whole[:len(whole) * 2 // 3])
    documents, rejected = reading()
    for ending in (".gz", ".zst"):
        assert sum(d.source.endswith(ending) for d in documents) > 8_000
        assert any(r.file.endswith(ending) and "what stands before was kept" in r.reason for r in rejected)


def test_damaged_rows_of_parquet_leave_the_other_row_groups(corpora, reading, tmp_path):
    rows = [{"text": f"row {n} " + str(n * 2654435761 % 2**32) * 9} for n in range(3000)]
    data = bytearray(parquet(rows, tmp_path / "p", row_group_size=1000, compression="gzip"))
    middle = len(data) // 2
    data[middle:middle + 64] = bytes(64)
    (corpora / "a.parquet").write_bytes(data)
    documents, rejected = reading()
    assert {"row 0", "row 999", "row 2000", "row 2999"} <= {" ".join(d.text.split()[:2]) for d in documents}
    assert [r.line for r in rejected] == [1001]


def test_settings_at_the_top_of_markdown_are_left_out(corpora, reading):
    (corpora / "a.md").write_text("---\ntitle: x\n---\n# A heading\n\n---\n\nText.\n")
    assert reading()[0][0].text == "# A heading\n\n---\n\nText."


@pytest.mark.parametrize(("name", "content", "said"), [
    ("empty.txt", b"", "empty.txt is empty"),
    ("blank.txt", b" \n\n", "blank.txt holds no text"),
    ("program.txt", bytes(range(256)) * 20, "program.txt is a binary file, not text; convert it"),
    ("paper.txt", b"%PDF-1.7 text", "paper.txt is a PDF file, not text"),
    ("table.csv", b"title,body\na,b\n", "table.csv line 1 has no column 'text'; there is title, body: name one of"),
    ("table.jsonl", b'{"title": 1}\n', "table.jsonl line 1 has no column 'text'; there is title: name one of"),
    ("broken.json", b"nothing", "broken.json line 1 is not JSON (Expecting value at column 1)"),
    ("cut.txt.gz", b"\x1f\x8b\x08", "cut.txt.gz is damaged or cannot be read"),
    ("no.parquet", b"PAR1", "no.parquet is damaged or cannot be read"),
])
def test_a_file_of_which_nothing_can_be_read_says_so_in_one_sentence(corpora, reading, name, content, said):
    (corpora / name).write_bytes(content)
    documents, rejected = reading()
    assert documents == []
    assert str(rejected[0]).startswith(f"corpora/{said}")


def test_a_parquet_file_names_its_columns(corpora, reading, tmp_path):
    (corpora / "a.parquet").write_bytes(parquet([{"title": "a", "body": "b"}], tmp_path / "p"))
    assert "no column 'text'; there is title, body" in reading()[1][0].reason
    assert reading(column="body")[0][0].text == "b"


# Which files ---------------------------------------------------------------------------------------------------


def names(workspace, path: str, **settings: str) -> list[str]:
    return [file.name for file in find(read(Source, {"path": path, **settings}), workspace)]


def test_folders_are_read_through_in_order_and_hidden_files_left_out(workspace, corpora):
    for name in ("b/2.txt", "b/10.jsonl", "a.md", ".hidden.txt", ".git/x.txt", "b/picture.png"):
        (corpora / name).parent.mkdir(exist_ok=True)
        (corpora / name).write_text("text")
    (corpora / "b" / "circle").symlink_to(corpora)
    assert names(workspace, "corpora") == ["corpora/a.md", "corpora/b/10.jsonl", "corpora/b/2.txt"]
    assert names(workspace, "corpora/**/*.txt") == ["corpora/b/2.txt"]
    assert names(workspace, str(corpora / "*" / "1*")) == ["corpora/b/10.jsonl"]
    assert names(workspace, "corpora/b/picture.png", format="text") == ["corpora/b/picture.png"]
    (corpora / "[1] a*.txt").write_text("text")
    assert names(workspace, "corpora/[1] a*.txt") == ["corpora/[1] a*.txt"]


def test_the_bundled_corpus_is_found_from_any_workspace(workspace):
    found = names(workspace, "corpora/novels")
    assert "corpora/novels/emma.txt" in found
    assert all(name.endswith(".txt") for name in found)
    assert names(workspace, "corpora/nov*/e*.txt") == ["corpora/novels/emma.txt"]


@pytest.mark.parametrize(("path", "said"), [
    ("corpora/nowhere", "There is no file or folder corpora/nowhere in the workspace"),
    ("corpora/*.txt", "corpora/*.txt matches no file"),
    ("corpora/bare", "corpora/bare holds no file"),
    ("corpora/a.docx", "corpora/a.docx has an ending that is not read"),
    ("corpora/docs", "holds no file whose ending is read (there is .docx)"),
    ("/etc/hostname", "/etc/hostname is outside the workspace"),
    ("/etc/*", "/etc is outside the workspace"),
    ("../..", "is outside the workspace"),
    ("corpora/linked", "is outside the workspace"),
])
def test_a_path_that_leads_nowhere_says_so(workspace, corpora, tmp_path, path, said):
    for folder in ("bare", "docs", "linked"):
        (corpora / folder).mkdir()
    (tmp_path / "secret.txt").write_text("secret")
    (corpora / "linked" / "a.txt").symlink_to(tmp_path / "secret.txt")
    for name in ("a.docx", "docs/a.docx"):
        (corpora / name).write_text("text")
    with pytest.raises(UserError) as refused:
        names(workspace, path)
    assert said in refused.value.sentence
    assert refused.value.where
