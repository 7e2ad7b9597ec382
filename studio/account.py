"""Account: what the steps did to a corpus, in figures; of a dataset, or of a trial on a sample."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from panel.viewable import Viewable, Viewer

from studio import figures, texts
from studio.corpus_entries import Sheet
from studio.corpus_figures import flow
from studio.layout import pair, picture, stack
from studio.views import number, tiles, txt


class Account(Viewer):
    """The ledger's sums. `show` puts those of another curation in their place."""

    def __init__(self) -> None:
        super().__init__()
        self.facts, self.reasons = Sheet(), Sheet()
        self.flow, self.documents, self.bytes = picture(), picture(), picture()
        self.lengths_read, self.lengths = picture(height=240), picture(height=240)
        self._steps = stack(
            _titled("Where the documents went", "From what was read to what was kept; in red what a step dropped, and "
                                                "why.", self.flow),
            pair(_titled("Documents", "", self.documents), _titled("Bytes", "", self.bytes)), self.reasons)
        lengths = pair(_titled("Lengths as read", "", self.lengths_read), _titled("Lengths as kept", "", self.lengths))
        self._view = stack(self.facts, self._steps, lengths, gap="22px")

    def __panel__(self) -> Viewable:
        return self._view

    def show(self, summary: Mapping[str, Any]) -> None:
        """Of `corpus.pipeline.preview`, or of `corpus.search.look` at a dataset."""
        steps = summary["steps"]
        read = steps[0]["documents_in"] if steps else summary["documents"]
        self.facts.html = tiles([
            ("Documents read", number(read)), ("kept", number(summary["documents"])),
            ("Text kept", figures.byte_size(summary["bytes"])),
            ("Training", number(summary["train_documents"])), ("Validation", number(summary["val_documents"])),
            ("Not readable", number(summary["quarantined"]))])
        self._steps.visible = bool(steps)
        self.flow.object = flow(steps) if steps else None
        self.documents.object = figures.waterfall(steps) if steps else None
        self.bytes.object = figures.waterfall(steps, "bytes") if steps else None
        self.reasons.html = texts.all_reasons(steps)
        before, after = summary["lengths_read"], summary["lengths"]
        self.lengths_read.object = figures.histogram(before["edges"], before["counts"], colour=figures.QUIET)
        self.lengths.object = figures.histogram(after["edges"], after["counts"])


def _titled(title: str, line: str, view: Any) -> Viewable:
    words = txt("<h4>{}</h4>{}", title, txt('<p class="line">{}</p>', line) if line else "")
    return stack(Sheet(words), view, gap="4px")
