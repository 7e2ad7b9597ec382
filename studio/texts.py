"""Texts: what documents, tokenizers and models wrote, shown as it is. Everything that comes in is escaped."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from engine.workspace import ASSETS, Workspace
from studio.theme import STYLESHEET
from studio.views import Fragment, Markup, icon, join, number, txt

if TYPE_CHECKING:
    from engine.inference.generator import Token

STYLE = (ASSETS / "theme" / "texts.css").read_text(encoding="utf-8")
SURPRISED = math.log(1000)
"""The surprise, in nats, from which on a token has the full colour: chances of one in a thousand."""

STRONGEST = 48
"""Percent of the full colour; text must stay readable on it."""


class Text(Fragment):
    """A fragment that shows texts."""

    def __init__(self, *html: Markup, **params: Any) -> None:
        super().__init__(join(html), **{"stylesheets": [STYLESHEET, STYLE], **params})


# The ledger ---------------------------------------------------------------------------------------------


STEP_NAMES = {"html": "HTML", "url_list": "URL list", "fineweb": "FineWeb", "c4": "C4"}


def step_name(name: str) -> str:
    """A step's name inside a sentence."""
    return STEP_NAMES.get(name, name.replace("_", " "))


def step_title(name: str) -> str:
    """A step's name at the head of a row."""
    words = step_name(name)
    return words[:1].upper() + words[1:]


def reason_words(reason: str) -> str:
    """A reason for reading: its limit with a comma for each thousand."""
    return re.sub(r"(?<=than )\d{4,}\b", lambda found: f"{int(found[0]):,}", reason)


def reasons(step: Mapping[str, Any], *, drops: bool = True) -> Markup:
    """Why a step dropped what it dropped, with a bar for each reason; or, in a colour that warns of nothing, counts."""
    found = step["reasons"]
    if not found:
        return Markup("")
    most = max(found.values())
    rows = join(txt('<li>{}<i style="width:{:.1f}%"></i><span>{}</span></li>', reason_words(reason),
                    100 * count / most, number(count))
                for reason, count in found.items())
    return txt('<h4>{}</h4><ul class="reasons {}">{}</ul>', step_name(step["step"]),
               "drops" if drops else "counts", rows)


def all_reasons(steps: Iterable[Mapping[str, Any]]) -> Markup:
    found = join(reasons(step) for step in steps)
    return found or txt('<p class="nothing">No step dropped a document.</p>')


def quarantine(rows: Sequence[Mapping[str, Any]], of: int) -> Markup:
    """Records that could not be read."""
    if not of:
        return txt('<p class="nothing">Everything could be read.</p>')
    lines = join(txt('<tr><td><code>{}</code></td><td class="num">{}</td><td>{}</td></tr>', row["file"],
                     row["line"] or "", row["reason"]) for row in rows)
    more = txt('<p class="more">and {} more in quarantine.jsonl</p>', number(of - len(rows))) if of > len(rows) else ""
    return txt('<div class="scroll"><table><tr><th>file</th><th class="num">line</th><th>reason</th></tr>{}'
               "</table></div>{}", lines, more)


# Tokens -------------------------------------------------------------------------------------------------


def visible(piece: str) -> str:
    """A piece of text with its line ends made visible."""
    return piece.replace("\r", "␍").replace("\n", "↵\n").replace("\t", "⇥")


def coloured(pieces: Sequence[tuple[int, str]]) -> Markup:
    """Tokens as (id, text), neighbours told apart by colour, the id at the pointer."""
    spans = join(txt('<span class="c{}" title="token {}">{}</span>', place % 5, token, visible(piece) or "·")
                 for place, (token, piece) in enumerate(pieces))
    return txt('<div class="tokens">{}</div>', spans)


def masked(pieces: Sequence[tuple[int, str]], learned: Sequence[bool]) -> Markup:
    """Tokens as (id, text), those that the loss counts set apart from those that it leaves out."""
    spans = join(txt('<span class="{}" title="token {}, {}">{}</span>', "on" if on else "off", token,
                     "learned" if on else "not in the loss", visible(piece) or "·")
                 for (token, piece), on in zip(pieces, learned, strict=True))
    return txt('<div class="tokens">{}</div>', spans)


def surprise(prompt: str, tokens: Sequence[Token], alternatives: bool = True) -> Markup:
    """What a model wrote after a prompt, coloured by how surprised it was."""
    return txt('<div class="tokens written"><span class="prompt">{}</span>{}</div>', prompt,
               join(_surprising(token, alternatives) for token in tokens))


def _surprising(token: Token, alternatives: bool) -> Markup:
    strength = min(1.0, -math.log(max(1e-9, token.probability)) / SURPRISED) * STRONGEST
    # A blank before the word is left uncoloured: where the line breaks it would stay at its end, a patch of colour.
    word = token.text.lstrip(" ") or token.text
    blank = token.text[:len(token.text) - len(word)]
    if not alternatives:
        return txt('{}<span class="s" style="--p:{:.0f}">{}</span>', blank, strength, word)
    others = list(token.alternatives)
    if token.id not in [other[0] for other in others]:
        others.append((token.id, token.text, token.probability))
    rows = join(txt('<tr class="{}"><td>{}</td><td>{}</td></tr>', "taken" if other == token.id else "",
                    visible(text) or "·",
                    percent(share)) for other, text, share in others)
    return txt('{}<span class="s" style="--p:{:.0f}" tabindex="0">{}<span class="pop"><b>{}</b> likely'
               "<table>{}</table></span></span>",
               blank, strength, word, percent(token.probability), rows)


def percent(share: float) -> str:
    """A share as people write it: 42 %, 0.3 %, under 0.01 %."""
    value = 100 * share
    if not value:
        return "0 %"
    if value >= 99.95 and share < 1:
        return "over 99.9 %"
    return f"{value:.0f} %" if value >= 10 else f"{value:.1f} %" if value >= 0.1 else (
        f"{value:.2g} %" if value >= 0.01 else "under 0.01 %")


# Facts --------------------------------------------------------------------------------------------------


def verdict(passed: bool, title: str, sentence: str) -> Markup:
    """A judgement that nobody overlooks."""
    return txt('<div class="verdict {}" role="status">{}<div><h3>{}</h3><p>{}</p></div></div>',
               "passed" if passed else "failed",
               icon("verified" if passed else "dangerous"), title, sentence)


def path(where: Any) -> Markup:
    """A path with a button that copies it."""
    return txt('<div class="copyable"><code class="where">{}</code><button type="button" class="press" '
               'data-copy=".where">Copy</button></div>', where)


def shell_line(command: str, workspace: Workspace) -> Markup:
    """The command that does what a button does."""
    elsewhere = "" if Workspace().path == workspace.path else f" --workspace {shlex.quote(str(workspace.path))}"
    return path(command + elsewhere)


def legend(rows: Iterable[tuple[str, str, str]]) -> Markup:
    """Colours with their names and values."""
    return txt('<ul class="legend">{}</ul>', join(
        txt('<li><i style="background:{}"></i>{} <b>{}</b></li>', colour, name, value) for colour, name, value in rows))
