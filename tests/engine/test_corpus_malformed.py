"""Malformed: each rule on both sides of its threshold, and off."""

from __future__ import annotations

import pytest
from toy_prose import prose
from toy_steps import through, why

from engine.corpus.malformed import Malformed

GOOD = prose(8)
OFF = dict.fromkeys(Malformed.model_fields, 0)


@pytest.mark.parametrize(("rule", "limit", "kept", "dropped", "reason"), [
    ("max_garbage", 0.01, "a" * 99 + "\ufffd", "a" * 98 + "\ufffd\ufffd",
     "garbage of decoding in more than 1.0% of the characters"),
    ("max_garbage", 0.01, "a" * 99 + "\ue000", "a" * 98 + "\x00\x9f",
     "garbage of decoding in more than 1.0% of the characters"),
    ("max_mojibake", 0.01, "a" * 98 + "Ã©", "a" * 96 + "Ã©â€™", "mojibake in more than 1.0% of the characters"),
    ("max_symbols", 0.25, "abc- " * 20, "abc- " * 20 + "+", "more than 25% of the characters are symbols"),
    ("max_run", 50, "a" * 50 + " b", "a" * 51 + " b", "more than 50 characters without a blank"),
    ("max_line", 50, "é" * 50 + "\nb", "b\n" + "é" * 51, "a line of more than 50 characters"),
    ("max_mean_line", 50, "a" * 51 + "\n" + "a" * 49, "a" * 52 + "\n" + "a" * 49,
     "lines of more than 50 characters on average"),
    ("cut_off", True, "He read more of it than he had meant to.", "He had meant to go on [...]",
     "ends with a mark of being cut off"),
    ("unfinished", True, "It ends. “Really?”\n", "It ends. But then it", "does not end with a sentence"),
])
def test_rules_drop_above_their_limit_and_can_be_turned_off(rule, limit, kept, dropped, reason):
    assert through({"kind": "malformed", **OFF, rule: limit}, kept, dropped) == [(kept, None), (dropped, reason)]
    assert why({"kind": "malformed", **OFF}, dropped) is None


@pytest.mark.parametrize("end", ["[…]", "Read more", "read more »", "Continue reading → ", "[+1234 chars]", "(more)",
                                 "View full article..."])
def test_teasers_are_dropped(end):
    assert why("malformed", f"{GOOD} {end}") == "ends with a mark of being cut off"


@pytest.mark.parametrize("text", [
    GOOD, "", "“No!” said he… “I never—” and, with that, she shut the door…", "NÃO É ASSIM, IRMÃ MARIA! ÂNIMO, VOCÊ.",
    "春眠不覺曉,處處聞啼鳥。夜來風雨聲,花落知多少。" * 60,
    "नमस्ते, आप कैसे हैं? मैं ठीक हूँ।", "I ❤️ it, really and truly 👩‍👩‍👧!",
    "See https://example.com/a/b/c?d=e for more than that.",
])
def test_good_text_of_any_language_stays(text):
    assert why("malformed", text) is None
