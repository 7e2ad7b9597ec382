"""The sample after the steps: what is kept, what became of the rest, and what could not be read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from panel.viewable import Viewable, Viewer

from studio import texts
from studio.account import Account
from studio.corpus_entries import Sheet
from studio.corpus_profile import ProfileView
from studio.tabs import Tabs
from studio.views import join, txt

EXCERPT = 700


class Sample(Viewer):
    """What came out of the last trial."""

    def __init__(self) -> None:
        super().__init__()
        self.kept, self.lost, self.account = Sheet(), Sheet(), Account()
        self.profile = ProfileView()
        self._found: Mapping[str, Any] | None = None
        self._drawn: dict[str, Mapping[str, Any]] = {}
        self.tabs = Tabs({"Kept": self.kept, "Account": self.account, "Profile": self.profile, "Not read": self.lost},
                         self._draw)

    def __panel__(self) -> Viewable:
        return self.tabs

    def show(self, found: Mapping[str, Any]) -> None:
        """The result of `corpus.pipeline.preview`."""
        self._found = found
        self.kept.html = txt('<div class="pairs">{}</div>', join(
            txt('<article class="excerpt"><header><i class="tag kept">kept</i><code>{}</code></header>'
                '<p class="prose">{}</p></article>', row["id"], row["text"][:EXCERPT]) for row in found["examples"][:6])
        ) if found["examples"] else txt('<p class="nothing">No document is left.</p>')
        self.lost.html = texts.quarantine(found["quarantine"], found["quarantined"])
        self._draw(self.tabs.name_in_sight)

    def _draw(self, name: str) -> None:
        """Draw the figures only where they can be seen: the sample is tried again and again."""
        drawn = {"Account": self.account, "Profile": self.profile}.get(name)
        if drawn is not None and self._found is not None and self._drawn.get(name) is not self._found:
            self._drawn[name] = self._found
            drawn.show(self._found)
