"""Made-up prose, the same for the same seed, that every step of the corpus keeps."""

from __future__ import annotations

import random

WORDS = """the a small old grey river house light winter door garden stone bird hill road she they was had came went
           saw found left kept under over beyond near quietly again never always morning evening"""


def prose(sentences: int, seed: int = 0) -> str:
    """Sentences of six to fourteen words on one line."""
    dice = random.Random(seed)
    made = [" ".join(dice.choices(WORDS.split(), k=dice.randint(6, 14))).capitalize() + "." for _ in range(sentences)]
    return " ".join(made)
