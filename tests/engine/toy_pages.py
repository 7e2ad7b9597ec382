"""Made-up pages of the web, good and bad, the same for the same seed; standard library only, so that a peer's
environment can make them too."""

from __future__ import annotations

import random
from pathlib import Path

NOVELS = Path(__file__).resolve().parents[2] / "assets" / "corpora" / "novels"
NAMES = ["java.lang.Object", "std::vector<T>", "foo(bar)", "self.items[0]", "/usr/share/doc", "x += 1", "--verbose",
         "http://example.org/a?b=c", "key=value", "$PATH", "#include", "a->b", "100%", "v1.2.3", "e-mail", "it's"]
MENU = ["Home", "About us", "Contact", "Products", "Log in", "Next page", "Read more...", "- Privacy policy",
        "• Sitemap"]
ODD = ["Please enable JavaScript to view this page.", "This site uses cookies to serve you better.",
       "The river rose that winter.[12] It fell again.[citation needed]", "Lorem ipsum dolor sit amet for ever.",
       "function main() { return 0; }", "See our terms of use before you go on.", "Share on # # # # #",
       "... and so on ..."]


def pages(number: int) -> list[str]:
    """So many pages: passages of novels, lists, code and menus, some of them repeated."""
    novels = [path.read_text(encoding="utf-8") for path in sorted(NOVELS.glob("*.txt"))]
    return [page(random.Random(seed), novels) for seed in range(number)]


def page(dice: random.Random, novels: list[str]) -> str:
    kinds = dice.choices([passage, code, menu, heading, bullets, odd], [6, 2, 2, 2, 2, 1], k=dice.randint(1, 8))
    parts = [kind(dice, novels) for kind in kinds]
    if dice.random() < 0.4:
        parts += dice.choices(parts, k=dice.randint(1, 4))
        dice.shuffle(parts)
    return dice.choice(["\n\n", "\n", "\n"]).join(parts)


def passage(dice: random.Random, novels: list[str]) -> str:
    text = dice.choice(novels)
    at = dice.randrange(2000, len(text) - 2000)
    found = " ".join(text[at:at + dice.choice([80, 200, 500, 1200])].split())
    return found + dice.choice([".", ".", "", "...", '"'])


def code(dice: random.Random, novels: list[str]) -> str:
    lines = [" ".join(dice.choices(NAMES, k=dice.randint(1, 6))) for _ in range(dice.randint(1, 6))]
    return "\n".join(lines)


def menu(dice: random.Random, novels: list[str]) -> str:
    return "\n".join(dice.choices(MENU, k=dice.randint(1, 8)))


def heading(dice: random.Random, novels: list[str]) -> str:
    return " ".join(dice.choice(novels)[5000:9000].split()[dice.randrange(400):][:dice.randint(2, 7)]).capitalize()


def bullets(dice: random.Random, novels: list[str]) -> str:
    sign = dice.choice(["- ", "• ", "* ", "1. "])
    return "\n".join(sign + heading(dice, novels) for _ in range(dice.randint(2, 10)))


def odd(dice: random.Random, novels: list[str]) -> str:
    return dice.choice(ODD)


GOOD = """This paragraph was written with care and has a few sentences.
The next line goes on to say something that is worth reading.
A third point is made here, and it is made at some length.
We may well say by now that the page is worth keeping.
In the end all of it is brought together quite nicely.
One more sentence makes sure that there are enough of them."""

SOUP = "the ./!*?<><> pear <?////> lemon  ++ misunderstanding !<>??? have" * 20
LONG = {part: f"One is here.{part}Two stands there.{part}Three comes last.{part}" for part in ("\n", "\n\n")}

CASES: list[tuple[str, dict, dict, str]] = [
    ("gopher_repetition", {}, {}, "The cat sat down.\n" * 4),
    ("gopher_repetition", {}, {}, "The cat sat down.\n\n" * 4),
    ("gopher_repetition", {}, {}, LONG["\n\n"] + f"{'y' * 30}.\n\n" * 2),
    ("gopher_repetition", {}, {}, LONG["\n"] + f"{'y' * 40}.\n" * 2),
    ("gopher_repetition", {}, {}, "It is Anna, it is Anna, it is Anna"),
    ("gopher_repetition", {}, {}, "I am Bruno, you are Ines. I am Bruno. I am Bruno you are Ines"),
    ("gopher_repetition", {}, {}, "I am a lonely wanderer " * 4 + GOOD[:250]),
    ("gopher_repetition", {}, {}, GOOD),
    *(("quality", {"min_doc_words": 10, "max_doc_words": 1000}, {"min_words": 10, "max_words": 1000}, text)
      for text in ("It is too short...", "It is " * 20, "misunderstanding " * 20, "# remark " * 20,
                   "... remark " * 20, SOUP, GOOD)),
    *(("c4", {}, {}, text)
      for text in (GOOD, GOOD.replace("with care", "as lorem ipsum dolor"), GOOD.replace("care", "a { bracket"),
                   "Just one of them.")),
    ("c4", {"min_num_sentences": -1, "min_words_per_line": -1}, {"min_sentences": 0, "min_line_words": 0},
     "This page uses cookies to follow you.\nAnother line that is good stands here."),
    ("fineweb", {"line_punct_thr": 0.5}, {"min_punctuated_lines": 0.5},
     "No sign here\nAnother line that has none\nAnd still there is nothing"),
    ("fineweb", {"short_line_thr": 0.5, "line_punct_thr": 0.0}, {"max_short_lines": 0.5, "min_punctuated_lines": 0},
     "so.\nthen.\nfine.\nnot.\nwell."),
    ("fineweb", {}, {}, GOOD),
    ("fineweb", {"new_line_ratio": 0.1}, {"max_lines_a_word": 0.1}, "\n".join(["b"] * 50)),
]
"""What datatrove tests its own filters with, in other words: filter, its settings, ours that say the same, text."""
