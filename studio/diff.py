"""Diff: what changed between two texts, word by word, as markup in which everything is escaped."""

from __future__ import annotations

import re
from difflib import SequenceMatcher
from itertools import pairwise

from studio.views import Markup, join, txt

PIECES = re.compile(r"\w+|[^\w\S]+|[^\w\s]")
"""Words, runs of blanks, and single signs; together they are the whole text."""

LONGEST = 20_000
"""Characters of a side that are compared; difflib's time grows with the square of the words."""

Change = tuple[str, str, str]


def changes(before: str, after: str, *, cut: int = 0) -> list[Change]:
    """(what, before, after), `what` being "equal", "delete", "insert" or "replace", in the order of the texts.

    Texts may be excerpts, cut off after `cut` characters. Then what follows their last common words is no
    change of anybody's but where they were cut: `what` is "cut", unless nothing else tells them apart.
    """
    old, new = PIECES.findall(before[:LONGEST]), PIECES.findall(after[:LONGEST])
    matcher = SequenceMatcher(None, old, new, autojunk=False)
    found: list[Change] = [(what, "".join(old[a:b]), "".join(new[c:d])) for what, a, b, c, d in matcher.get_opcodes()]
    found = _joined(found)
    ends_open = cut and max(len(before), len(after)) >= cut
    if ends_open and found and found[-1][0] != "equal" and any(what != "equal" for what, _, _ in found[:-1]):
        found[-1] = ("cut", *found[-1][1:])
    return found


def _joined(found: list[Change]) -> list[Change]:
    """Changes with nothing but one blank or sign between them are one: a rewritten sentence reads as a whole."""
    joined: list[Change] = []
    for change in found:
        small = len(joined) > 1 and joined[-1][0] == "equal" and len(joined[-1][1]) < 2 and change[0] != "equal"
        if small and joined[-2][0] == change[0] == "replace":
            (_, a, b), (_, between, _), (_, c, d) = joined[-2], joined[-1], change
            joined[-2:] = [("replace", a + between + c, b + between + d)]
        else:
            joined.append(change)
    return joined


def diff(before: str, after: str, *, cut: int = 0) -> Markup:
    """Both texts in one, what went struck out and what came underlined; blanks that changed are made visible."""
    parts = []
    for what, old, new in changes(before, after, cut=cut):
        if what == "equal":
            parts.append(txt("{}", old))
        elif what == "cut":
            parts.append(txt('<span class="beyond" title="cut off here">{} …</span>', old or new))
        else:
            gone = txt("<del>{}</del>", shown(old)) if old else Markup("")
            come = txt("<ins>{}</ins>", shown(new)) if new else Markup("")
            parts.append(join([gone, come]))
    return txt('<p class="prose diff">{}</p>', join(parts))


def shown(piece: str) -> str:
    """A changed piece whose blanks and controls can be seen: a line end that goes would leave no trace."""
    if piece.strip() and not any(ord(sign) < 32 and sign != "\n" for sign in piece):
        return piece
    return "".join({"\n": "↵\n", "\r": "␍", "\t": "⇥", " ": "·", "\xa0": "⍽"}.get(
        sign, chr(0x2400 + ord(sign)) if ord(sign) < 32 else sign) for sign in piece)


def marked(text: str, wanted: str) -> Markup:
    """A text with the places marked where a search would find it, whatever its case."""
    if not wanted:
        return txt("{}", text)
    found = [match.span() for match in re.finditer(re.escape(wanted), text, re.IGNORECASE)]
    ends = [0, *(end for span in found for end in span), len(text)]
    return join(txt("<mark>{}</mark>" if place % 2 else "{}", text[a:b])
                for place, (a, b) in enumerate(pairwise(ends)))
