"""C4 and FineWeb: what each rule takes out or drops, on both sides of its threshold."""

from __future__ import annotations

import random

import pytest
from toy_prose import prose
from toy_steps import through, why

from engine.corpus.web import C4, FineWeb

GOOD = prose(6)
OFF = {"kind": "fineweb", "min_punctuated_lines": 0, "max_short_lines": 0, "max_line_characters": 0,
       "max_lines_a_word": 0}


def lines_left(*lines: str, **settings: object) -> list[str]:
    """Those of the lines that C4 leaves between two good ones."""
    (text, reason), = through({"kind": "c4", "min_sentences": 0, **settings}, "\n".join([GOOD, *lines, GOOD]))
    assert reason is None
    first, *left, last = text.split("\n")
    assert first == last == GOOD
    return left


@pytest.mark.parametrize(("line", "rule", "off"), [
    ("Home About us Products Contact us", "terminal_punctuation", False),
    ("And then it was never finished...", "terminal_punctuation", False),
    ("Four words are few.", "min_line_words", 0),
    ("Please turn on JavaScript in your browser.", "javascript", False),
    ("By reading on you accept our Cookie Policy here.", "policies", False),
])
def test_c4_takes_out_lines_by_rules_that_can_be_turned_off(line, rule, off):
    assert lines_left(line) == []
    assert lines_left(line, **{rule: off}) == [line]


@pytest.mark.parametrize("line", [
    "Five words are just enough.", "She asked him for the time?", "Now that is quite enough!",
    '"I have never seen it," he said "so"',
    "“He had gone there at last.”", "  A line that is indented stays, blanks and all.",
])
def test_c4_keeps_sentences(line):
    assert lines_left(line) == [line]


def test_c4_keeps_the_blank_lines_between_what_stays():
    text = f"Menu\n\n{GOOD}\n\nShare this\nLike it\n\n{GOOD}\n\nFooter\n"
    assert through("c4", text) == [(f"{GOOD}\n\n{GOOD}", None)]


def test_c4_takes_marks_of_citation_out():
    text = "The river rose in the winter of that year.[12] It fell again.[citation needed][edit] Nobody knew why.[]"
    plain = "The river rose in the winter of that year. It fell again. Nobody knew why."
    assert through("c4", text)[0][0] == plain
    assert through({"kind": "c4", "citations": False, "terminal_punctuation": False}, text)[0][0] == text


@pytest.mark.parametrize(("text", "reason", "off"), [
    (f"{GOOD}\nThen lorem Ipsum dolor sit amet.", "holds lorem ipsum", {"lorem_ipsum": False}),
    (f"{GOOD}\nIt says function() {{ return }} and ends.", "holds a curly bracket", {"curly_brackets": False}),
    ("One sentence stands all alone here. A second one comes with it.", "fewer than 3 sentences", {"min_sentences": 2}),
    ("Menu\nHome", "no line is left", {"terminal_punctuation": False, "min_line_words": 0, "min_sentences": 0}),
])
def test_c4_drops_pages_by_rules_that_can_be_turned_off(text, reason, off):
    assert why("c4", text) == reason
    assert why({"kind": "c4", **off}, text) is None


@pytest.mark.parametrize(("text", "number"), [
    ("It was late. She left! Why? “Nobody knew.” He said so (twice). It ended…", 6), ("At 3.14 it is v1.2 so far.", 1),
    ('He said "that is enough"', 1), ("春眠不覺曉。處處聞啼鳥。夜來風雨聲！", 3),
])
def test_c4_counts_sentences(text, number):
    settings = {"kind": "c4", "min_line_words": 0, "terminal_punctuation": False}
    assert why({**settings, "min_sentences": number}, text) is None
    assert why({**settings, "min_sentences": number + 1}, text) == f"fewer than {number + 1} sentences"


def test_c4_leaves_the_lines_that_a_plain_statement_leaves():
    dice = random.Random(0)
    ends = [".", "!", "?", '"', "...", "", ",", " .", ":", "?”", "}"]
    words = ["river", "Javascript", "house", "the", "privacy policy", "it", "we", "said", "of", "x"]
    lines = [" ".join(dice.choices(words, [9, 1, 9, 9, 1, 9, 9, 9, 9, 9], k=dice.randint(1, 9))) + dice.choice(ends)
             for _ in range(2000)]
    left = [line for line in lines if line.endswith((".", "!", "?", '"', "”")) and not line.endswith("...")
            and len(line.split()) >= 5 and "javascript" not in line.lower() and "privacy policy" not in line]
    assert through("c4", "\n".join(lines))[0][0].split("\n") == left
    assert 200 < len(left) < 1000


def test_the_defaults_are_those_of_the_papers():
    assert (C4().min_line_words, C4().min_sentences) == (5, 3)
    assert (FineWeb().min_punctuated_lines, FineWeb().max_short_lines, FineWeb().short_line) == (0.12, 0.67, 30)


def test_fineweb_drops_pages_whose_lines_end_nowhere():
    lines = ["this line goes on and on and on, and ends in nothing at all"] * 100
    rule = {**OFF, "min_punctuated_lines": 0.12}
    reason = "fewer than 12% of the lines end with punctuation"
    assert why(rule, "\n\n".join([*(f"{line}." for line in lines[:12]), *lines[12:]])) is None
    assert why(rule, "\n\n".join([*(f"{line}?”  " for line in lines[:12]), *lines[12:]])) is None
    assert why(rule, "\n\n".join([*(f"{line}。" for line in lines[:11]), *lines[11:]])) == reason
    assert why(OFF, "\n".join(lines)) is None


def test_fineweb_drops_pages_of_short_lines():
    rule = {**OFF, "max_short_lines": 0.67}
    reason = "more than 67% of the lines have at most 30 characters"
    assert why(rule, "\n\n".join(["x" * 30] * 67 + ["x" * 31] * 33)) is None
    assert why(rule, "\n\n".join(["é" * 30] * 68 + ["é" * 31] * 32)) == reason


def test_fineweb_drops_pages_that_repeat_their_lines():
    rule = {**OFF, "max_line_characters": 0.1}
    lines = [f"line number {number:03d} is as long as the others" for number in range(100)]
    reason = "more than 10% of the characters are in repeated lines"
    assert why(rule, "\n\n\n".join([*lines[:90], *lines[:10]])) is None
    assert why(rule, "\n".join([*lines[:89], *lines[:11]])) == reason
    assert why(rule, "\n\n" * 50 + "one line") is None


def test_fineweb_drops_lists():
    rule = {**OFF, "max_lines_a_word": 0.3}
    assert why(rule, "one two\n" * 3 + "three four five six") is None          # 3 line ends, 10 words
    assert why(rule, "one two\n" * 3 + "three four five") == "more than 0.3 line ends a word"


def test_fineweb_keeps_prose_and_an_empty_text():
    assert [reason for _, reason in through("fineweb", GOOD, "", f"{GOOD}\n\n{prose(5, 1)}")] == [None] * 3
