"""The sources of the corpus: which files are read, what else is here, and what a person brings in."""

from __future__ import annotations

from typing import Any

import panel_material_ui as pmui
from panel.viewable import Viewable, Viewer

from engine.config import UserError
from engine.corpus.sources import COMPRESSED, ENDINGS, bundled, find
from studio.allowing import allow, allow_button
from studio.corpus_entries import Sheet
from studio.figures import byte_size
from studio.forms import Form
from studio.layout import stack
from studio.session import Session
from studio.views import banner, join, number, press, txt

LARGEST = 1 << 30
DROP_SX = {"width": "100%", "minHeight": "84px", "borderStyle": "dashed", "borderWidth": "1.5px"}
COLUMNS_SX = {"display": "grid", "gridTemplateColumns": {"xs": "minmax(0, 1fr)", "lg": "minmax(0, 6fr) minmax(0, 5fr)"},
              "gap": "24px 32px", "alignItems": "start", "& > *": {"width": "100%", "minWidth": 0}}


class Sources(Viewer):
    """The form of the sources, and beside it the files that could be one."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self.found, self.choices = Sheet(on_press=self.press), Sheet(on_press=self.press)
        self.upload = pmui.FileInput(label="Drop text files here, or click to choose", multiple=True, margin=0,
                                     accept=",".join([*ENDINGS, *COMPRESSED]), max_file_size=LARGEST,
                                     icon="upload_file", variant="outlined", sizing_mode="stretch_width", sx=DROP_SX,
                                     size="large")
        self.upload.param.watch(lambda *_: self._receive(), "value")
        self._looked_at: Any = None
        self._view = pmui.FlexBox(
            stack(Form("corpus", session, only=("sources",)), self.found, gap="14px"),
            stack(self.upload, self.choices, gap="14px"), sizing_mode="stretch_width", margin=0, sx=COLUMNS_SX)
        session.draft.param.watch(lambda *_: self._tell(), "version")
        self._tell()

    def __panel__(self) -> Viewable:
        return self._view

    def look(self) -> None:
        """See anew what lies on the disk."""
        self._looked_at = None
        self._tell()

    def _tell(self) -> None:
        """What the sources hold, what is wrong with them, and what else could be read."""
        sources = self.session.draft.settled.corpus.sources
        if sources == self._looked_at:               # a folder of many files is not walked at every letter typed
            return
        self._looked_at, workspace = sources, self.session.workspace
        lines = []
        for source in sources:
            try:
                found = find(source, workspace)
                lines.append(txt('<p class="more">{}: {} {}, {}</p>', source.path, number(len(found)),
                                 "file" if len(found) == 1 else "files", byte_size(sum(file.size for file in found))))
            except (UserError, OSError) as error:
                offer = allow_button(source.path, self.session.workspace)
                lines.append(banner("warning" if offer else "error", str(error), offer or ""))
        self.found.html = join(lines)
        used = {source.path for source in sources}
        own = sorted(path for path in workspace.place("corpora").iterdir() if not path.name.startswith("."))
        rows = [(f"corpora/{path.name}", byte_size(path.stat().st_size) if path.is_file() else "folder")
                for path in own]
        rows += [(name, "comes with the studio") for name in bundled() if name not in {row[0] for row in rows}]
        self.choices.html = txt('<h4>Here already</h4><table>{}</table>', join(
            txt('<tr><td><code>{}</code></td><td>{}</td><td class="num">{}</td></tr>', name, words,
                txt('<i class="tag kept">in use</i>') if name in used else
                join([press("Use alone", f"only {name}"), txt(" "), press("Add", f"add {name}")])) for name,
                words in rows))

    def press(self, what: str) -> None:
        verb, _, name = what.partition(" ")
        if allow(self.session, what):
            self.look()
        elif verb in ("add", "only"):
            self._use(name, alone=verb == "only")

    def _use(self, name: str, *, alone: bool) -> None:
        present = [] if alone else [source.dump() for source in self.session.draft.settled.corpus.sources]
        self.session.draft.put(("corpus", "sources"), [*present, {"path": name}])

    def _receive(self) -> None:
        names, contents = self.upload.filename or [], self.upload.value or []
        if not contents:
            return
        kept = [self.session.attempt(self.session.workspace.bring_in, name, data)
                for name, data in zip(names, contents, strict=True)]
        self.upload.clear()
        if good := [path for path in kept if path]:
            self.session.notify(f"{', '.join(path.name for path in good)} "
                                f"({byte_size(sum(path.stat().st_size for path in good))}) kept in the workspace.",
                                "success")
            only_bundled = all(source.path in bundled() for source in self.session.draft.settled.corpus.sources)
            for place, path in enumerate(good):
                self._use(f"corpora/{path.name}", alone=only_bundled and place == 0)
        self.look()
