"""Blocklists: which words and addresses count as listed ones."""

from __future__ import annotations

import pyarrow as pa
import pytest
from toy_prose import prose
from toy_steps import through

from engine.config import UserError, read
from engine.corpus import CorpusConfig, Step, blocklists
from engine.corpus.pipeline import curate
from engine.files import read_json
from engine.progress import silent


def held(*words: str, most: int = 0, text: str) -> bool:
    """Whether a text is dropped for its words."""
    (_, reason), = through({"kind": "word_list", "words": words, "most": most}, text)
    assert reason in (None, "holds a blocked word", f"more than {most} blocked words")
    return reason is not None


@pytest.mark.parametrize(("word", "text", "blocked"), [
    ("ass", "The ass brayed.", True), ("ass", "A class of glass.", False), ("ass", "ASS", True),
    ("Ass", "an ass!", True), ("ass", "(ass)", True), ("ass", "ass_1", False), ("ass", "assé", False),
    ("élan", "with ÉLAN", True),
    ("bad word", "a bad\nword", True), ("bad word", "a bad, word", False), ("c++", "I write c++.", True),
    ("c++", "I write c.", False), ("a.b", "a.b", True), ("a.b", "axb", False), ("電影", "我看電影了", True),
    ("ма́ма", "МА́МА", True), ("|", "a | b", True), ("x", "", False),
])
def test_words_count_whole_in_any_letters(word, text, blocked):
    assert held(word, text=text) is blocked


def test_so_many_words_may_be_held():
    assert not held("bad", "worse", most=2, text="bad worse")
    assert held("bad", "worse", most=2, text="bad worse bad")
    assert held("bad", most=2, text="bad bad\nbad")
    assert not held("bad", most=3, text="bad bad bad")


def test_a_long_list_is_sought_in_parts(monkeypatch):
    monkeypatch.setattr(blocklists, "AT_ONCE", 3)
    words = [f"word{n}" for n in range(10)]
    for word in words:
        assert held(*words, text=f"it says {word}")
    assert held(*words, most=9, text=" ".join(["word3", *words]))
    assert not held(*words, most=10, text=" ".join(words))


def with_file(step: dict[str, object], listed: str, text: str) -> str | None:
    """Why a text is dropped by a step that is given the content of its file."""
    part = read(Step, {**step, "file": "corpora/list.txt"})
    (source,) = part.references()
    assert (source.path, source.format) == ("corpora/list.txt", "text")
    batch = pa.table({"text": pa.array([text], pa.large_string())})
    return part.begin_with({"corpora/list.txt": [listed]})(batch)["reason"].to_pylist()[0]


def test_words_of_a_file_come_to_those_typed():
    for text in ("one", "two", "three"):
        assert with_file({"kind": "word_list", "words": ["three"]}, "# words\none\n\nTwo # a note\n", text)
    assert with_file({"kind": "word_list", "words": ["three"]}, "# words\none\n", "words") is None
    with pytest.raises(UserError, match="holds no entry; write one on each line"):
        with_file({"kind": "word_list"}, "# nothing\n", "text")


@pytest.mark.parametrize(("url", "address", "blocked"), [
    ("example.com", "https://example.com", True), ("example.com", "see http://www.Example.COM/page?x=1.", True),
    ("example.com", "(https://a.b.example.com:8080/)", True), ("example.com", "https://notexample.com/", False),
    ("example.com", "https://example.com.org/", False), ("example.com", "example.com by itself", False),
    ("example.com", "www.example.com", True), ("https://www.example.com/", "http://example.com/a", True),
    ("a.example.com", "https://example.com/", False), ("example.com/ads", "https://example.com/ads/1", True),
    ("example.com/ads", "https://example.com/", False), ("example.com/ads", "https://example.com/adsense", False),
    ("example.com", "https://user@example.com/", True), ("com", "https://example.com/", True),
])
def test_hosts_and_addresses_that_are_blocked(url, address, blocked):
    (_, reason), = through({"kind": "url_list", "urls": [url]}, address)
    assert reason == ("points to a blocked host" if blocked else None)


def test_so_many_addresses_may_be_held():
    step = {"kind": "url_list", "urls": ["a.org"], "most": 1}
    reasons = through(step, "https://a.org https://b.org", "https://a.org https://x.a.org/y", "nothing")
    assert [reason for _, reason in reasons] == [None, "more than 1 blocked addresses", None]


def test_hosts_files_are_understood():
    listed = "# blocked\n0.0.0.0 ads.example.com\n127.0.0.1 tracker.org # it tracks\nplain.net\n"
    for address, blocked in (("http://ads.example.com", True), ("http://tracker.org", True), ("http://plain.net", True),
                             ("http://example.com", False), ("http://0.0.0.0/", False)):
        assert bool(with_file({"kind": "url_list"}, listed, address)) is blocked, address


@pytest.mark.parametrize("kind", ["word_list", "url_list"])
def test_a_list_of_nothing_is_refused(kind):
    with pytest.raises(UserError, match="is empty, and so is file"):
        read(Step, kind)


def test_a_list_in_the_workspace_is_read_and_a_changed_one_read_again(workspace):
    corpora = workspace.place("corpora")
    for number in range(4):
        (corpora / f"{number}.txt").write_text(f"{prose(5, number)} Word{number}.")
    config = read(CorpusConfig, {"sources": [{"path": "corpora/?.txt"}],
                                 "steps": [{"kind": "word_list", "file": "corpora/list.txt"}]})
    made = []
    for listed in ("word1\n", "word1\nword3\n"):
        (corpora / "list.txt").write_text(listed)
        folder = curate(config, workspace, "mine", silent)
        made.append(read_json(folder / "manifest.json")["summary"]["steps"][0]["reasons"])
    assert made == [{"holds a blocked word": 1}, {"holds a blocked word": 2}]
