"""Corpus: which documents, which steps, and what these do to them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import panel_material_ui as pmui
from panel.viewable import Viewable

from engine.config import UserError
from engine.corpus.sources import COMPRESSED, ENDINGS, MAGIC, bundled, find
from studio.account import Account
from studio.background import Background
from studio.figures import byte_size
from studio.forms import Form
from studio.layout import actions, button, split, stack
from studio.page import Page
from studio.texts import Text
from studio.views import banner, card, empty, join, number, press, txt

SAMPLE = 1000
LARGEST = 1 << 30
DROP_SX = {"width": "100%", "minHeight": "84px", "borderStyle": "dashed", "borderWidth": "1.5px"}


class Corpus(Page):
    title, icon, noun = "Corpus", "library_books", "corpus"
    line = "Which documents the model learns from, and what is done to them before."
    sections, command = ("corpus",), "curate"

    def view(self) -> Viewable:
        self.trial, self.looking = Background(), Background()
        self.sources, self.choices = Text(on_press=self._press), Text(on_press=self._press)
        self.upload = pmui.FileInput(label="Drop text files here, or click to choose", multiple=True, margin=0,
                                     accept=",".join([*ENDINGS, *COMPRESSED]), max_file_size=LARGEST,
                                     icon="upload_file",
                                     variant="outlined", sizing_mode="stretch_width", sx=DROP_SX, size="large")
        self.upload.param.watch(lambda *_: self._receive(), "value")
        self.try_it = button("Try on a sample", "science", self.begin_trial)
        self.go = button("Curate", "play_arrow", self.start, main=True)
        self.message, self.tried = Text(), Account()
        self.result = card(self.tried, title="On a sample", line="What the steps would do; nothing was written.",
                           visible=False)
        self._opened = ""
        self.dataset = pmui.Select(label="Dataset", options=[], size="small", width=360, margin=0)
        self.made, self.account = Text(), Account(visible=False)
        self.ledger = card(self.dataset, self.made, self.account, title="What curation made",
                           line="The ledger: what every step let through, and each document that it dropped or edited.")
        self.session.draft.param.watch(lambda *_: self._tell(), "version")
        self._tell()
        return stack(
            split([card(Form("corpus", self.session, only=("sources",)), self.sources, self.upload, self.choices,
                        title="Documents")],
                  [card(Form("corpus", self.session, skip=("sources",)), title="Steps")],
                  left="minmax(0, 1fr)", right="minmax(0, 1fr)"),
            stack(actions(self.go, self.try_it), self.message, gap="10px"), self.result, self.ledger)

    def shown(self) -> None:
        names = [path.name for path in self.session.workspace.listing("datasets")]
        self.dataset.param.update(options=names, visible=bool(names),
                                  value=self.dataset.value if self.dataset.value in names else next(iter(names), None))
        if not names:
            self.made.html = empty("Nothing is curated yet. Choose documents, try the steps, then press Curate.",
                                   "inventory_2")
        self._tell()

    def tick(self) -> None:
        if over := self.trial.take():
            self._show_trial(*over)
        if over := self.looking.take():
            self._show_dataset(*over)
        self._open()  # another one may have been chosen meanwhile

    # Documents ----------------------------------------------------------------------------------------

    def _tell(self) -> None:
        """What is wrong with the sources, and what else could be read."""
        workspace, recipe = self.session.workspace, self.session.draft.settled
        lines = []
        for source in recipe.corpus.sources:
            try:
                found = find(source, workspace)
                lines.append(txt('<p class="more">{}: {} {}, {}</p>', source.path, number(len(found)),
                                 "file" if len(found) == 1 else "files", byte_size(sum(file.size for file in found))))
            except (UserError, OSError) as error:
                folder = self._outside(source.path)
                allow = press("Allow this folder", f"allow {folder}") if folder else ""
                lines.append(banner("error" if not folder else "warning", str(error), allow))
        self.sources.html = join(lines)
        used = {source.path for source in recipe.corpus.sources}
        own = sorted(path for path in workspace.place("corpora").iterdir() if not path.name.startswith("."))
        rows = [(f"corpora/{path.name}", byte_size(path.stat().st_size) if path.is_file() else "folder")
                for path in own]
        rows += [(name, "comes with the studio") for name in bundled() if name not in {row[0] for row in rows}]
        self.choices.html = txt('<h4>Here already</h4><table>{}</table>', join(
            txt('<tr><td><code>{}</code></td><td>{}</td><td class="num">{}</td></tr>', name, words,
                txt('<i class="tag kept">in use</i>') if name in used else
                join([press("Use alone", f"only {name}"), txt(" "), press("Add", f"add {name}")])) for name,
                words in rows))
        wrong = [problem.sentence for problem in self.session.draft.problems if problem.field.startswith("corpus")]
        self.go.param.update(disabled=bool(wrong), description=wrong[0] if wrong
                             else "Start a run that makes the dataset")
        self.try_it.disabled = bool(wrong) or self.trial.busy

    def _outside(self, typed: str) -> Path | None:
        """The folder to allow so that a typed path may be read, if that is all that is wrong."""
        parts = Path(typed).expanduser().parts
        fixed = Path(*parts[:next((i for i, part in enumerate(parts) if any(s in part for s in MAGIC)), len(parts))])
        folder = fixed if fixed.is_dir() else fixed.parent
        return folder if fixed.is_absolute() and fixed.exists() and not self.session.workspace.permits(fixed) else None

    def _press(self, what: str) -> None:
        verb, _, name = what.partition(" ")
        if verb == "allow":
            self.session.attempt(self.session.workspace.allow, name)
            self._tell()
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
        self._tell()

    # Trying and curating -------------------------------------------------------------------------------

    def begin_trial(self) -> None:
        config, workspace = self.session.draft.settled.corpus, self.session.workspace

        def work() -> Any:
            from engine.corpus.pipeline import preview  # imports daft

            return preview(config, workspace, SAMPLE)

        if self.trial.begin(work):
            self.try_it.param.update(disabled=True, loading=True)
            self.message.html = txt("")

    def _show_trial(self, found: Any, problem: str) -> None:
        self.try_it.param.update(disabled=False, loading=False)
        self.message.html = banner("error", problem) if problem else banner("warning", found["problem"]) if (
            found["problem"]) else txt("")
        self.result.visible = found is not None
        if found:
            self.tried.show(found)

    def start(self) -> None:
        self.session.start(self.session.draft.settled.replace(jobs=["curate"]))

    # The dataset ---------------------------------------------------------------------------------------

    def _open(self) -> None:
        name = self.dataset.value
        if not name or name == self._opened or self.looking.busy:
            return
        self._opened, folder = name, self.session.workspace.place("datasets") / name

        def work() -> Any:
            from engine.corpus.ledger import look  # imports pyarrow

            return look(folder)

        self.looking.begin(work)

    def _show_dataset(self, found: Any, problem: str) -> None:
        self.made.html = banner("error", problem) if problem else txt("")
        self.account.visible = found is not None
        if found:
            self.account.show(found)
