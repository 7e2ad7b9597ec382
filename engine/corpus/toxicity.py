"""Toxicity: documents with too many words of abuse."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, ClassVar

from engine.config import setting
from engine.corpus import STEPS
from engine.corpus.blocklists import Blocklist

if TYPE_CHECKING:
    import pyarrow as pa
    from daft import Expression


@STEPS.add("toxicity")
class Toxicity(Blocklist):
    """Drops documents by their words of abuse in a hundred words; strong words count 1, mild ones a quarter.

    The list is short, English and our own (`assets/bias/SOURCES`); a file adds strong words. Words know no meaning:
    quotations and harmless uses count too, and filtering by words also removes text by and about minorities (Dodge et
    al. 2021, Documenting Large Webtext Corpora; Xu et al. 2021, Detoxifying Language Models Risks Marginalizing
    Minority Voices). Look at what is dropped, and at the groups' shares before and after.
    """

    mitigates: ClassVar[bool] = True
    max_score: float = setting(1.0, "Most words of abuse in a hundred words", ge=0, le=100)

    def begin_with(self, references: Mapping[str, Iterable[str]]) -> Callable[[pa.Table], pa.Table]:
        from engine.corpus.columns import judge
        from engine.corpus.filter import WORD
        from engine.corpus.terms import MILD, terms

        own = self._entries((), references) if self.file else []
        weights = {**terms().toxic, **dict.fromkeys(own, 1.0)}
        patterns = {weight: _words([term for term, its in weights.items() if its == weight]) for weight in (1.0, MILD)}
        reason = f"more than {self.max_score:g} words of abuse in a hundred"

        def reasons(text: Expression) -> dict[str, Expression]:
            low = text.lower()
            score = low.regexp_count(patterns[1.0]) + low.regexp_count(patterns[MILD]) * MILD
            return {reason: score * 100 > text.regexp_count(WORD) * self.max_score}

        return lambda batch: judge(batch, self.edited, reasons)


def _words(terms: list[str]) -> str:
    """Finds any of the terms, each as a whole: ASCII word boundaries, which leave the regular expression its speed."""
    literals = "|".join(r"\s+".join(re.sub(r"[^\w]", lambda sign: f"\\x{{{ord(sign[0]):X}}}", word)
                                    for word in term.split()) for term in sorted(terms, key=len, reverse=True))
    return rf"(?-u:\b)(?:{literals})(?-u:\b)"
