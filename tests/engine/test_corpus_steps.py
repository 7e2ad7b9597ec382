"""What each step edits, keeps and drops, and the reason that it gives."""

from __future__ import annotations

import re
import unicodedata

import pyarrow as pa
import pytest
from toy_passes import verdicts
from toy_prose import prose

from engine.config import read
from engine.corpus import STEPS, Step
from engine.corpus.clean import COMPOSED
from engine.corpus.passages import cut


def through(step: str | dict, *texts: str) -> list[tuple[str, str | None]]:
    """Each document that comes out of a step: its text, and why it is dropped."""
    batch = pa.table({"id": [str(n) for n in range(len(texts))], "text": pa.array(texts, pa.large_string()),
                      "source": ["a.txt"] * len(texts), "row": pa.array(range(len(texts)), pa.int64())})
    out = read(Step, step).begin()(batch)
    return list(zip(out["text"].to_pylist(), out["reason"].to_pylist(), strict=True))


def text_of(step: str | dict, text: str) -> str:
    (edited, reason), = through(step, text)
    assert reason is None
    return edited


def test_every_step_says_where_it_comes_from():
    for step in STEPS.values():
        assert step.__doc__
        assert re.search(r"\d{4}|UAX", step.__doc__), f"{step.kind} names no source"


@pytest.mark.parametrize(("before", "after"), [
    ("cafÃ© and naÃ¯ve", "café and naïve"),
    ("itâ€™s â€œquotedâ€\x9d", "it’s “quoted”"),
    ("first line is right: é\nsecond is nÃ³t", "first line is right: é\nsecond is nót"),
    ("“curled” ‘quotes’ stay…", "“curled” ‘quotes’ stay…"),
    ("Ãngela é portuguesa, à Paris", "Ãngela é portuguesa, à Paris"),
    (unicodedata.normalize("NFD", "Käse, Źródło"), "Käse, Źródło"),
    ("null\x00 bell\x07 soft\u00adhyphen bom\ufeff", "null bell softhyphen bom"),
    ("a\r\nb\rc\u2028d\x0ce", "a\nb\nc\nd\ne"),
    ("one  two\u00a0three\t\tfour  \nfive", "one two three four\nfive"),
    ("\n\npara\n\n\n\n\npara\n\n", "para\n\npara"),
    ("def f():\n    return  1\n\tx", "def f():\n    return 1\n\tx"),
    ("<script>alert('x & y')</script> &amp; <b>bold</b>", "<script>alert('x & y')</script> &amp; <b>bold</b>"),
    ("ﬁne ² Ａ", "ﬁne ² Ａ"),
])
def test_clean_mends_what_is_broken_and_nothing_else(before, after):
    assert text_of("clean", before) == after
    assert text_of("clean", after) == after


def test_clean_does_only_what_it_is_told():
    plain = {"kind": "clean", "mojibake": False, "unicode": "none", "whitespace": False}
    decomposed = unicodedata.normalize("NFD", "é")
    assert text_of(plain, f"cafÃ©  {decomposed}\n\n\n\nx\x00 ") == f"cafÃ©  {decomposed}\n\n\n\nx "
    assert text_of({"kind": "clean", "unicode": "NFKC"}, "ﬁne ²") == "fine 2"


def test_clean_drops_what_has_nothing_left_and_keeps_rows_apart():
    out = through("clean", "fine", "\x00 \u200b\n", "cafÃ©", "e\u0301")
    assert out == [("fine", None), ("", "nothing left"), ("café", None), ("é", None)]


GOOD = prose(12)
NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight")
LINES = [f"this is line number {number}" for number in NUMBERS]


@pytest.mark.parametrize(("text", "reason"), [
    ("Only a few words here.", "fewer than 10 words"),
    ("a b c d e f g h i j k l " * 9, "words shorter than 3 letters on average"),
    ("incomprehensibilities internationalization " * 9, "words longer than 10 letters on average"),
    ("look #here and #there or #everywhere " * 9, "more than 0.1 hash signs a word"),
    ("wait... what was that... nothing " * 9, "more than 0.1 ellipses a word"),
    ("\n".join(f"- {line}" for line in LINES), "bullets before more than 90% of the lines"),
    ("\n".join(f"{line}…" if n < 3 else line for n, line in enumerate(LINES)),
     "ellipses after more than 30% of the lines"),
    ("1234 5678 91011 and 12131415 + 1617 = 18192021 " * 9, "letters in fewer than 80% of the words"),
])
def test_quality_drops_with_its_own_reason(text, reason):
    assert through("quality", GOOD, text, GOOD) == [(GOOD, None), (text, reason), (GOOD, None)]


@pytest.mark.parametrize("text", [
    GOOD,
    "“No!” said he… “I never—” and, with that, she shut the door;\n\nand nobody had asked whether she would stay…",
    "\n".join(f"- {line}" for line in LINES[:3]) + "\n\n" + GOOD,
    "这是一个简单的中文文本,用来测试编码检测的功能。我们希望它能够正确工作。",
    "これは日本語のテキストです。文字コードを検出します。",
    "Привет, как дела? Это обычный русский текст, в котором есть слова и предложения.",
    "Straßenverkehrsordnung gilt hier für alle und jeden, der mit dem Rad oder zu Fuß unterwegs ist.",
])
def test_quality_keeps_prose_of_any_language(text):
    assert through("quality", text) == [(text, None)]


def test_quality_rules_have_their_limits_in_the_settings():
    assert through({"kind": "quality", "min_words": 3}, "Only three words.") == [("Only three words.", None)]
    assert through({"kind": "quality", "max_words": 50}, GOOD)[0][1] == "more than 50 words"

def test_the_gate_before_composing_lets_nothing_by():
    pairs = [parts for c in map(chr, range(0x110000)) if len(parts := unicodedata.decomposition(c).split()) == 2]
    seconds = {second for first, second in pairs if not first.startswith("<")}
    gate = re.compile("[^" + re.sub(r"\\x{(.+?)}", lambda found: chr(int(found[1], 16)), COMPOSED) + "]")
    plain = [c for c in map(chr, range(0xD800)) if not gate.search(c)]
    assert len(plain) > 33_000
    for c in plain:
        assert unicodedata.normalize("NFC", c) == c
        assert not unicodedata.combining(c)
        assert f"{ord(c):04X}" not in seconds


def test_exact_duplicates_keeps_the_first_across_batches():
    again = "same text as an earlier document"
    assert verdicts("exact_duplicates", ["a", "b", "a"], ["b", "c", "A"], ["d"]) == [
        [None, None, again], [again, None, None], [None]]


@pytest.mark.parametrize("text", [
    "\n\n".join(prose(3, seed=n) for n in range(60)),                          # paragraphs
    "\n\n".join(["CHAPTER I", prose(300), "CHAPTER II", prose(5), "x"]),       # a heading before a long paragraph
    prose(400),                                                                # one paragraph of sentences
    "word " * 4000,                                                            # no sentence ends
    "x" * 20_000,                                                              # no blank at all
    "\n".join(prose(1, seed=n) for n in range(300)),                           # lines
    "これは長い文章です。" * 2000,
])
def test_passages_are_about_as_long_as_asked_and_lose_nothing(text):
    pieces = list(cut(text, 1000))
    assert "".join("".join(pieces).split()) == "".join(text.split())
    assert all(500 <= len(piece) <= 1500 for piece in pieces), [len(piece) for piece in pieces]


def test_passages_end_where_a_reader_would_pause():
    paragraphs = [prose(4, seed=n) for n in range(40)]
    for piece in cut("\n\n".join(paragraphs), 1000):
        assert all(paragraph in paragraphs for paragraph in piece.split("\n\n"))
    for piece in cut(prose(200), 1000):
        assert piece.endswith(".")


def test_passages_leave_short_documents_alone_and_keep_the_order():
    batch = pa.table({"id": ["a", "b", "c"], "text": pa.array(["short  \n\n\n", prose(90), "end"], pa.large_string()),
                      "source": ["s", "t", "u"], "row": pa.array([0, 1, 2], pa.int64())})
    out = read(Step, {"kind": "passages", "characters": 1000}).begin()(batch).to_pylist()
    assert [row["id"] for row in out] == ["a", *(f"b#{n}" for n in range(1, len(out) - 1)), "c"]
    assert (out[0]["text"], out[-1]["text"]) == ("short  \n\n\n", "end")
    assert {row["source"] for row in out[1:-1]} == {"t"}
    assert len(out) > 5
