"""HTML: what is taken for it, and what is left of it."""

from __future__ import annotations

import sys

import pytest
from toy_prose import prose
from toy_steps import through, why

from engine.config import UserError, read
from engine.corpus import Step

PARAGRAPHS = [prose(5, seed) for seed in range(4)]
PAGE = f"""<!DOCTYPE html><html><head><title>A page</title><style>p {{ color: red }}</style></head><body>
<nav><ul><li><a href="/">Home</a></li><li><a href="/about">About us</a></li></ul></nav>
<main><article><h1>The heading</h1>{''.join(f'<p>{text}</p>' for text in PARAGRAPHS)}
<p>Fish &amp; chips &lt;b&gt;</p></article>
<script>var tracked = true;</script></main><footer>Copyright by nobody</footer></body></html>"""


def test_the_main_content_of_a_page_is_left():
    (text, reason), = through("html", PAGE)
    assert reason is None
    assert text.split("\n\n") == ["The heading", *PARAGRAPHS, "Fish & chips <b>"]


def test_what_stands_around_is_kept_if_asked_for():
    text = through({"kind": "html", "main_content": False}, PAGE)[0][0]
    assert "About us" in text
    assert "Copyright by nobody" in text
    assert PARAGRAPHS[0] in text
    assert "tracked" not in text
    assert "color" not in text


def test_a_piece_of_a_page_is_html_too():
    assert through("html", "<p>One &amp; <b>two</b></p><p>three</p>")[0][0] == "One & two\n\nthree"


@pytest.mark.parametrize("text", [
    "a < b and c > d", "He wrote <b>bold</b> words, and <i>slanted</i> ones.", "Tom &amp; Jerry",
    "template<class T> std::vector<T> body(html);", "Use the <html-like> tag and the </p> tag.", "",
])
def test_what_is_no_html_stays(text):
    assert through({"kind": "html"}, text)[0][0] == text


def test_pages_without_text_are_dropped():
    assert why("html", "<html><body><script>run()</script><img src=x></body></html>") == "no text in the HTML"


def test_other_rows_keep_their_place():
    assert [text for text, _ in through("html", "one", "<html><body><p>two</p>", "three")] == ["one", "two", "three"]


def test_damaged_html_gives_what_it_can():
    deep = "<html>" + "<div>" * 3000 + "deep"
    assert through("html", "<html><p>never closed <b>at all", deep)[0] == ("never closed at all", None)
    assert through("html", "<html>\x00<p>null\ud7ff</p><//p><<<>>")[0][0]


def test_thorough_says_what_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "trafilatura", None)
    with pytest.raises(UserError, match="trafilatura, which is not installed"):
        read(Step, {"kind": "html", "thorough": True}).begin()


def test_thorough_finds_the_main_content():
    pytest.importorskip("trafilatura")
    text = through({"kind": "html", "thorough": True}, PAGE)[0][0]
    assert all(paragraph in text for paragraph in PARAGRAPHS)
    assert "About us" not in text
