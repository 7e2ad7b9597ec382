"""Account: what the steps did to a corpus, in figures; of a dataset, or of a trial on a sample."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from panel.viewable import Viewable, Viewer

from studio import figures, texts
from studio.corpus_entries import Sheet
from studio.corpus_figures import flow
from studio.corpus_profile import titled
from studio.layout import pair, picture, stack
from studio.views import number, tiles


class Account(Viewer):
    """The ledger's sums. `show` puts those of another curation in their place."""

    def __init__(self) -> None:
        super().__init__()
        self.facts, self.reasons = Sheet(), Sheet()
        self.flow, self.documents, self.bytes = picture(), picture(), picture()
        self._steps = stack(
            titled("Where the documents went", self.flow, "Steps that change their number; in red what they drop."),
            pair(titled("Documents", self.documents), titled("Bytes", self.bytes)), self.reasons)
        self._view = stack(self.facts, self._steps, gap="22px")

    def __panel__(self) -> Viewable:
        return self._view

    def show(self, summary: Mapping[str, Any]) -> None:
        """Of `corpus.pipeline.preview`, or of `corpus.search.look` at a dataset."""
        steps = summary["steps"]
        read = steps[0]["documents_in"] if steps else summary["documents"]
        self.facts.html = tiles([
            ("Documents read", number(read)), ("Documents kept", number(summary["documents"])),
            ("Text kept", figures.byte_size(summary["bytes"])),
            ("Training", number(summary["train_documents"])), ("Validation", number(summary["val_documents"])),
            ("Not readable", number(summary["quarantined"]))])
        self._steps.visible = bool(steps)
        changing = any(step["reasons"] or step["added"] for step in steps)
        self.flow.object = flow(steps) if changing else None
        self.documents.object = figures.waterfall(steps) if steps else None
        self.bytes.object = figures.waterfall(steps, "bytes") if steps else None
        self.reasons.html = texts.all_reasons(steps)
