"""Presets: lists of steps that are valid and keep what they are for."""

from __future__ import annotations

import pytest
from toy_prose import prose
from toy_steps import through

from engine.config import read
from engine.corpus import STEPS, CorpusConfig, Whole
from engine.corpus.presets import PRESETS

DOCUMENTS = {
    "web": "<html><body><nav><a href=/>Home</a></nav>"
           f"<article><p>{prose(8)}</p><p>{prose(8, 1)}</p></article></body>",
    "books": f"CHAPTER I\n\n{prose(12)}\n\n“{prose(2, 3)}”",
    "code": "def add(a: int, b: int) -> int:\n    return a + b\n\n\nif __name__ == '__main__':\n    print(add(1, 2))\n",
    "chat": "user: how are you??\nassistant: I'm fine :) and you?",
}


def test_the_presets_are_those_that_are_promised():
    assert list(PRESETS) == ["web", "books", "code", "chat", "none"]


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_a_valid_list_of_steps(name):
    config = read(CorpusConfig, {"steps": PRESETS[name]})
    assert [step.kind for step in config.steps] == [step["kind"] for step in PRESETS[name]]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_preset_keeps_what_it_is_for(name):
    text: str = DOCUMENTS[name]
    for step in PRESETS[name]:
        if issubclass(STEPS[step["kind"]], Whole):
            continue                                # one document has no other to be like
        (text, reason), = through(step, text)
        assert reason is None, step
    assert text.strip() == (DOCUMENTS[name] if name != "web" else f"{prose(8)}\n\n{prose(8, 1)}").strip()
