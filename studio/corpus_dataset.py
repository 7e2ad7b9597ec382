"""A finished dataset: its account, its ledger, its near duplicates, its documents, its card and its bias."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import panel_material_ui as pmui
from panel.io import hold
from panel.viewable import Viewable, Viewer

from engine import files
from engine.config import UserError
from engine.runs.costs import costs
from studio import texts
from studio.account import Account
from studio.background import Latest
from studio.bias_report import BiasReport
from studio.corpus_card import data_card
from studio.corpus_clusters import Clusters
from studio.corpus_documents import Documents
from studio.corpus_entries import Row, Sheet
from studio.corpus_ledger import LedgerSearch
from studio.corpus_profile import ProfileView
from studio.layout import stack
from studio.session import Session
from studio.tabs import Tabs
from studio.views import banner, empty, txt


class DatasetView(Viewer):
    """One of the workspace's datasets, chosen by name. What it shows is read in the background."""

    def __init__(self, session: Session, on_pardon: Callable[[Row, str], None]) -> None:
        super().__init__()
        self.session = session
        self.chosen = pmui.Select(label="Dataset", options=[], size="small", width=360, margin=0)
        self.looking = Latest()
        self.message = Sheet()
        self.account, self.profile, self.lost, self.card = Account(), ProfileView(), Sheet(), Sheet()
        self.ledger = LedgerSearch(on_pardon, self._open_cluster)
        self.clusters, self.documents = Clusters(), Documents()
        self.bias = BiasReport()
        self._found: tuple[Path, dict[str, Any]] | None = None
        self._drawn: dict[str, Path] = {}
        self.tabs = Tabs({"Account": self.account, "Profile": self.profile, "Ledger": self.ledger,
                          "Duplicates": self.clusters, "Documents": self.documents, "Not read": self.lost,
                          "Bias": self.bias, "Card": self.card}, self._draw, visible=False)
        self._view = stack(self.chosen, self.message, self.tabs, gap="14px")

    def __panel__(self) -> Viewable:
        return self._view

    def look(self) -> None:
        """See which datasets there are now."""
        names = [path.name for path in self.session.workspace.listing("datasets")]
        self.chosen.param.update(options=names, visible=bool(names),
                                 value=self.chosen.value if self.chosen.value in names else next(iter(names), None))
        if not names:
            self.tabs.visible = False
            self.message.html = empty("Nothing is curated yet. Choose documents, try the steps, then press Curate.",
                                      "inventory_2")

    def tick(self) -> None:
        """Read the chosen dataset; let the tab in sight search."""
        name = self.chosen.value
        if name:
            folder = self.session.workspace.place("datasets") / name

            def work() -> Any:
                from engine.corpus.search import look  # imports pyarrow

                summary = look(folder)
                try:
                    bias = files.read_json(folder / "bias.json")
                except UserError:
                    bias = None                      # a dataset that is older, or was told not to measure it
                return folder, {**summary, "bias_report": bias, "models": costs(folder, self.session.workspace)}

            self.looking.ask(name, work)
        if over := self.looking.answer():
            with hold():                             # the browser gets it whole: never one dataset's figures among
                self._show(*over)                    # another's
        if self.tabs.visible:
            match self.tabs.name_in_sight:
                case "Ledger":
                    self.ledger.tick()
                case "Duplicates":
                    self.clusters.tick()
                case "Documents":
                    self.documents.tick()

    def _show(self, found: tuple[Path, dict[str, Any]] | None, problem: str) -> None:
        self.message.html = banner("error", problem) if problem else txt("")
        self.tabs.visible = found is not None
        if found:
            folder, summary = found
            self._found, self._drawn = found, {}
            self._draw(self.tabs.name_in_sight)
            self.lost.html = texts.quarantine(summary["quarantine"], summary["quarantined"])
            self.card.html = data_card(folder)
            self.ledger.show(folder, summary)
            self.clusters.show(folder)
            self.documents.show(folder)

    def _draw(self, name: str) -> None:
        """Draw a dataset's figures when they come into sight."""
        if self._found is None or self._drawn.get(name) == self._found[0]:
            return
        self._drawn[name], summary = self._found
        if name == "Bias":
            self.bias.show(summary["bias_report"], summary["models"])
        elif drawn := {"Account": self.account, "Profile": self.profile}.get(name):
            drawn.show(summary)

    def _open_cluster(self, row: Row) -> None:
        self.clusters.open(row["step"], row["cluster"])
        self.tabs.turn("Duplicates")
