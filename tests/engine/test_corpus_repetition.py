"""Repetition: each rule on both sides of its threshold, and all against a plain statement of the definitions."""

from __future__ import annotations

import random
import re
from collections import Counter

import pyarrow as pa
import pytest
from toy_prose import prose
from toy_steps import through, why

from engine.corpus.ngrams import Runs
from engine.corpus.repetition import GopherRepetition

OFF = {name: 0 for name in GopherRepetition.model_fields if name.startswith("max")}


def only(**settings: float) -> dict[str, object]:
    """The step with all rules off but one."""
    return {"kind": "gopher_repetition", **OFF, **settings}


@pytest.mark.parametrize(("rule", "ends", "reason"), [
    ("max_lines", "\n", "more than 30% of the lines are repeated"),
    ("max_paragraphs", "\n\n", "more than 30% of the paragraphs are repeated"),
    ("max_line_characters", "\n", "more than 30% of the characters are in repeated lines"),
    ("max_paragraph_characters", "\n\n", "more than 30% of the characters are in repeated paragraphs"),
])
def test_lines_and_paragraphs_that_come_again(rule, ends, reason):
    parts = [f"part {n:02d} is just so long" for n in range(10)]
    least = ends.join([*parts[:7], *parts[:3]])         # 3 of 10 repeated, and a little less than 30% of the characters
    assert why(only(**{rule: 0.3}), least) is None
    assert why(only(**{rule: 0.3}), ends.join([*parts[:6], *parts[:4]])) == reason
    assert why(only(**{rule: 0.3}), ends.join(parts)) is None
    assert why(only(), ends.join(parts[:1] * 10)) is None


@pytest.mark.parametrize("n", [2, 3, 4])
def test_the_most_frequent_words_in_a_row(n):
    filler = [f"filler{number:03d}" for number in range(60)]
    run = " ".join(["winter", "garden", "light", "stone"][:n])

    def text(times: int) -> str:
        pairs = zip(filler[:times], filler[30:], strict=False)
        return " ".join([*(f"{run} {a} {b}" for a, b in pairs), *filler])

    share = 10 * len(run) / len(text(10))
    reason = f"the most frequent {n} words in a row take more than {share - 1e-6:.0%} of the characters"
    assert why(only(**{f"max_frequent_{n}": share + 1e-6}), text(10)) is None
    assert why(only(**{f"max_frequent_{n}": share - 1e-6}), text(10)) == reason


@pytest.mark.parametrize("n", range(5, 11))
def test_runs_of_words_that_stood_before(n):
    words = [f"word{number:03d}" for number in range(300)]
    text = " ".join([*words, *words[50:50 + n], "between", *words[100:100 + n - 1]])
    share = 7 * n / len(text)
    assert why(only(**{f"max_repeated_{n}": share + 1e-6}), text) is None
    assert why(only(**{f"max_repeated_{n}": share - 1e-6}), text) == \
        f"more than {share - 1e-6:.0%} of the characters are in repeated runs of {n} words"


def test_prose_of_any_language_and_short_texts_stay():
    texts = [prose(20), "Yes.", "",
             "春眠不覺曉,處處聞啼鳥。夜來風雨聲,花落知多少。",
             "\n\n\n", "\none line\n", "one two three four five six",
             "Straßenverkehrsordnung gilt für alle, “auch” hier…"]
    assert [reason for _, reason in through("gopher_repetition", *texts)] == [None] * len(texts)


def test_scripts_without_blanks_are_counted_by_letters():
    assert why("gopher_repetition", "我们喜欢学习。" * 40).startswith("the most frequent 3 words")
    reason = "more than 10% of the characters are in repeated runs of 10 words"
    assert why(only(max_repeated_10=0.1), "我们今天一起去看一场新电影" * 9) == reason


def test_texts_do_not_run_into_one_another():
    half = " ".join(f"word{n}" for n in range(30))
    assert [reason for _, reason in through("gopher_repetition", half, half, half)] == [None] * 3
    texts = ["don't", "", "'", "a", "", ".5 it's 'so'", "'t", "...", ".", "--", "-", "é", "’", "3.", "14"]
    together = Runs(pa.array(texts, pa.large_string()))
    assert [together.words(n) for n in range(len(texts))] == [words_of(text) for text in texts]


@pytest.mark.parametrize(("text", "words"), [       # as spaCy 3.8 splits them, with one blank between two words
    ("It's late, and we don't know; they've gone, haven't they?",
     "It 's late , and we do n't know ; they 've gone , have n't they ?"),
    ("(see foo(bar); std::move(x), a.b.c and java.lang.Object)",
     "( see foo(bar ) ; std::move(x ) , a.b.c and java.lang . Object )"),
    ("3.14% of 10,000$ at 5-3=2, e.g. v1.2.3, 10 p.m., U.S.A. and NATO.",
     "3.14 % of 10,000 $ at 5 - 3=2 , e.g. v1.2.3 , 10 p.m. , U.S.A. and NATO ."),
    ("well-known--or not -- self-3, he/she, key=value, http://www.debian.org/a/b",
     "well - known -- or not -- self-3 , he / she , key = value , http://www.debian.org/a/b"),
    ("wait... what ...! #tag _x_ `code` -flag --option '80s \"so.\" end.) [1]",
     "wait ... what ... ! # tag _ x _ ` code ` -flag --option ' 80s \" so . \" end . ) [ 1 ]"),
    ("Mr. Darcy met Dr. Grant of Acme Inc. and left.", "Mr. Darcy met Dr. Grant of Acme Inc. and left ."),
])
def test_words_are_those_of_spacy(text, words):
    assert Runs(pa.array([text], pa.large_string())).words(0) == words.split(" ")
    assert words_of(text) == words.split(" ")


# A plain statement of table A1, on random texts ------------------------------------------------------------------

OPENING = re.compile(r"""\.\.+|[,:;!?()\[\]{}<>_#*&'"`%=$]|\+(?!\d)""")
CLOSING = re.compile(r"""\.\.+$|[,:;!?()\[\]{}<>_#*&'"`]$|(?<=\d)[%$+]$|(?<=[a-z\d,:;!?()\[\]{}<>_#*&'"`%+-])\.$"""
                     r"""|(?<=[A-Z][A-Z])\.$""")
ABBREVIATION = re.compile(r"(?:.*\.)?[a-z]\.|(?:Mr|Dr|Inc)\.")
WITHIN = re.compile(r"""(\.\.+|(?<=[A-Za-z])(?:--|[,~])(?=[A-Za-z])|(?<=[A-Za-z\d])[:<>=/-](?=[A-Za-z])"""
                    r"""|(?<=\d)[+*^-](?=\d)|(?<=[a-z'"])\.(?=[A-Z'"]))""")
CONTRACTED = re.compile(r"(?<=\w)('s|'m|'ll|'re|'ve|n't)$", re.I)


def words_of(text: str) -> list[str]:
    """The words of an ASCII text, blank by blank and sign by sign."""
    found = []
    for word in text.split():
        behind: list[str] = []
        while sign := OPENING.match(word):
            found.append(sign[0])
            word = word[sign.end():]
        while not ABBREVIATION.fullmatch(word) and (sign := CLOSING.search(word)):
            behind.insert(0, sign[0])
            word = word[:sign.start()]
        for part in filter(None, WITHIN.split(word) if "://" not in word else [word]):
            found += filter(None, CONTRACTED.split(part)) if word.endswith(part) else [part]
        found += behind
    return found


def expected(text: str, rules: GopherRepetition) -> bool:
    """Whether a document is dropped."""
    def again(parts):
        return [part for place, part in enumerate(parts) if part in parts[:place]]

    for what, ends in (("paragraph", r"\n{2,}"), ("line", r"\n+")):
        parts = re.split(ends, text.strip())
        most, characters = getattr(rules, f"max_{what}s"), getattr(rules, f"max_{what}_characters")
        if len(again(parts)) / len(parts) > most or sum(map(len, again(parts))) / len(text) > characters:
            return True
    words = words_of(text)
    for n in (2, 3, 4):
        run, times = Counter(tuple(words[at:at + n]) for at in range(len(words) - n + 1)).most_common(1)[0]
        if times > 1 and times * len(" ".join(run)) / len(text) > getattr(rules, f"max_frequent_{n}"):
            return True
    for n in range(5, 11):
        taken, place, seen = 0, 0, []
        while place + n <= len(words):
            run = words[place:place + n]
            if run in seen:
                taken, place = taken + len("".join(run)), place + n
            else:
                seen.append(run)
                place += 1
        if taken / len(text) > getattr(rules, f"max_repeated_{n}"):
            return True
    return False


def test_decisions_are_those_of_a_plain_statement_of_the_rules():
    dice = random.Random(0)
    texts = []
    for seed in range(300):
        parts = [prose(1, seed=1000 * seed + n) for n in range(dice.randint(5, 15))]
        parts += dice.choices(parts, k=dice.randint(0, len(parts) // 2))
        dice.shuffle(parts)
        between = [" ", " ", " ", "\n", "\n\n", " -- it's 3.14 ... "]
        texts.append("".join(part + dice.choice(between) for part in parts) + "end")
    rules = GopherRepetition()
    dropped = [reason is not None for _, reason in through("gopher_repetition", *texts)]
    assert dropped == [expected(text, rules) for text in texts]
    assert 60 < sum(dropped) < 240
