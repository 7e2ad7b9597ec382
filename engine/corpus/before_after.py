"""Before and after: a curation measured for bias where its documents come to the first step that mitigates it, or as
they were read, and where they are written."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from engine.corpus import CorpusConfig
from engine.corpus.bias import Bias
from engine.corpus.bias_report import report
from engine.corpus.ledger import Ledger
from engine.corpus.passes import Account


class BeforeAfter:
    """Measures what passes by; with `bias: off` nothing."""

    def __init__(self, config: CorpusConfig) -> None:
        self._on = config.bias != "off"
        self._steps = [step.kind if step.mitigates else "" for step in config.steps]
        first = next((place for place, kind in enumerate(self._steps) if kind), None)
        self._place = 0 if first is None and config.bias == "both" else first
        self._before_is = "" if self._place is None else (
            "as they were read" if first is None else f"as they came to {self._steps[first]}")
        self._bias = Bias()

    def entering(self, enter: Account) -> Account:
        """The account to give to the passes: what comes to one step is measured besides."""
        if not self._on or self._place is None:
            return enter

        def entered(place: int, before: pa.Table, after: pa.Table) -> pa.Table:
            if place == self._place:
                self._bias.came(before)
            return enter(place, before, after)

        return entered

    def went(self, documents: pa.Table) -> None:
        if self._on:
            self._bias.went(documents)

    def report(self, ledger: Ledger) -> dict[str, Any] | None:
        """The report; None if nothing was measured."""
        if self._bias.after is None:
            return None
        steps = [tally.summary() for kind, tally in zip(self._steps, ledger.tallies, strict=True) if kind]
        return report(self._bias.before, self._bias.after, self._before_is, steps)
