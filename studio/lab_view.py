"""The tokenizer lab, seen: sizes and tokenizers in, one table and any text side by side out."""

from __future__ import annotations

import re
from typing import Any

import panel_material_ui as pmui
from panel.viewable import Viewable

from engine import files
from engine.model import ModelConfig, estimate
from engine.progress import Stopped
from studio import figures
from studio.background import Background
from studio.layout import actions, button, picture, stack
from studio.session import Session
from studio.texts import Text, coloured, percent
from studio.views import banner, bar, card, empty, join, number, press, txt

SIZES = "512, 1024, 2048, 4096, 8192"
EXAMPLE = "It was a truth universally acknowledged: 1,234 tokens, naïve or not."


class LabView:
    """Trains several sizes in one go, compares them with any tokenizer.json, and puts one into the draft."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.work, self.cutting = Background(), Background()
        self._told, self._stop = (0, 0, ""), False
        self._summary: dict[str, Any] = {}
        self._folder = ""
        self._cut: tuple[str, str] = ("", "")
        self.dataset = pmui.Select(label="Dataset", options=[], size="small", margin=0, sizing_mode="stretch_width")
        self.sizes = pmui.TextInput(label="Vocabulary sizes", value=SIZES, size="small", margin=0,
                                    sizing_mode="stretch_width", max_length=200,
                                    description="Numbers with commas between; one training makes all of them.")
        self.others = pmui.TextInput(label="Compare with", value="", size="small", margin=0, max_length=2000,
                                     sizing_mode="stretch_width", placeholder="path/to/tokenizer.json",
                                     description="Paths of tokenizer.json files, with commas between.")
        self.go = button("Compare", "science", self.start, main=True)
        self.halt = button("Stop", "stop", self.stop, visible=False)
        self.kept = pmui.Select(label="Shown", options=[], size="small", margin=0, width=300, visible=False)
        self.message, self.table = Text(), Text(on_press=self.use)
        self.figure = picture(height=240)
        self.typed = pmui.TextAreaInput(label="Text", value=EXAMPLE, rows=2, auto_grow=True, max_rows=10, margin=0,
                                        max_length=20_000, sizing_mode="stretch_width")
        self.side = Text()
        self.result = stack(self.figure, self.table, self.typed, self.side, gap="14px", visible=False)
        session.draft.param.watch(lambda *_: self._show_table(), "version")

    def view(self) -> Viewable:
        fields = pmui.FlexBox(self.dataset, self.sizes, self.others, sizing_mode="stretch_width", margin=0, sx={
            "display": "grid", "gridTemplateColumns": "repeat(auto-fit, minmax(220px, 1fr))", "gap": "16px"})
        return card(fields, actions(self.go, self.halt, self.kept), self.message, self.result, title="Tokenizer lab",
                    line="Several vocabulary sizes from one training, measured on the same documents, beside any other "
                         "tokenizer.")

    def shown(self) -> None:
        _offer(self.dataset, [path.name for path in self.session.workspace.listing("datasets")])
        labs = [path.name for path in self.session.workspace.listing("labs")]
        _offer(self.kept, labs)
        self.kept.visible = bool(labs)
        self.go.disabled = not self.dataset.options
        if not self.dataset.options:
            self.message.html = empty("There is no dataset yet; Tokenize or Curate makes one.", "science")
        self._open()

    def tick(self) -> None:
        if self.work.busy:
            done, of, words = self._told
            self.message.html = txt('{}<p class="more">{}</p>', bar(done, of, label="lab"), words)
        if over := self.work.take():
            self.go.disabled, self.halt.visible = False, False
            folder, problem = over
            self.message.html = banner("error", problem) if problem else txt("")
            if folder:
                self.shown()
                self.kept.value = folder
        self._open()
        if cut := self.cutting.take():
            self._show_side(*cut)
        self._begin_cut()

    # Comparing ------------------------------------------------------------------------------------------

    def start(self) -> None:
        sizes = [int(found) for found in re.findall(r"\d+", self.sizes.value.replace("_", ""))]
        others = [path.strip() for path in self.others.value.split(",") if path.strip()]
        special = list(self.session.draft.settled.tokens.special_tokens)
        workspace, name = self.session.workspace, self.dataset.value
        if not name:
            return
        self._told, self._stop = (0, 0, "beginning"), False

        def progress(done: int, of: int, message: str = "") -> None:
            self._told = (done, of, message)
            if self._stop:
                raise Stopped

        def work() -> str:
            from engine.tokens.lab import lab

            try:
                return lab(workspace.place("datasets") / name, workspace, name.rpartition("-")[0] or name, sizes,
                           special, others, progress).name
            except Stopped:
                return ""

        if self.work.begin(work):
            self.go.disabled, self.halt.visible = True, True

    def stop(self) -> None:
        """Asked for between two tokenizers; a training that has begun ends first."""
        self._stop = True

    def use(self, what: str) -> None:
        """Put a row's vocabulary size, or its tokenizer.json, into the draft."""
        row = self._summary["rows"][int(what.removeprefix("use "))]
        draft = self.session.draft
        if row["trained"]:
            draft.drop(("tokens", "tokenizer"))
            draft.put(("tokens", "vocab_size"), row["size"])
        else:
            draft.put(("tokens", "tokenizer"), row["path"])
            draft.put(("tokens", "vocab_size"), row["size"])
        self.session.notify(f"The draft has a vocabulary of {row['size']:,} now.", "success")

    # What came out --------------------------------------------------------------------------------------

    def _open(self) -> None:
        name = self.kept.value or ""
        if name == self._folder:
            return
        self._folder = name
        found = self.session.attempt(files.read_json, self.session.workspace.place("labs") / name / files.MANIFEST)
        self._summary = found["summary"] if found else {}
        self.result.visible = bool(self._summary)
        self._cut = ("", "")
        if self._summary:
            self.figure.object = figures.vocabularies(
                [(row["name"], row["size"], _held_out(row), row["trained"]) for row in self._summary["rows"]])
        self._show_table()

    def _shares(self, vocab_size: int) -> tuple[float, float]:
        """The share of the draft's model that embedding and head take, tied and untied."""
        return embedding_share(self.session.draft.settled.model, vocab_size)

    def _show_table(self) -> None:
        if not self._summary:
            return
        own, rows = self.session.draft.settled.tokens, self._summary["rows"]
        lines = []
        for place, row in enumerate(rows):
            tied, untied = self._shares(row["size"])
            mine = row["size"] == own.vocab_size if row["trained"] and not own.tokenizer else (
                not row["trained"] and own.tokenizer == row["path"])
            lines.append(txt(
                '<tr><td>{}</td><td class="num">{}</td><td class="num">{}</td><td class="num">{}</td>'
                '<td class="num">{}</td><td class="num">{}</td><td class="num">{}</td><td class="num">{}</td></tr>',
                row["name"], number(row["size"]), _two(_held_out(row)),
                _two(row["fertility"]), number(row["unused"]), percent(tied), percent(untied),
                txt('<i class="tag kept">in the draft</i>') if mine else press("Use this size" if row["trained"]
                                                                              else "Use", f"use {place}")))
        looked = txt('<p class="more">{} of {} documents, {}; words are what white space parts. Bytes per token on '
                     "the validation documents. Tied, untied: the share of the draft's model that its embeddings would "
                     "take.</p>", number(self._summary["documents"]),
                     number(self._summary["of"]), figures.byte_size(self._summary["bytes"]))
        notes = [banner("info", note) for note in self._summary["notes"]]
        notes += [banner("warning", f"{row['name']} does not give every text back as it was.")
                  for row in rows if not row["lossless"]]
        self.table.html = join([
            txt('<div class="scroll"><table><tr><th>tokenizer</th><th class="num">vocabulary</th><th class="num">bytes '
                'per token</th><th class="num">tokens per word</th><th class="num">unused</th><th class="num">tied</th>'
                '<th class="num">untied</th><th></th></tr>{}</table></div>', join(lines)),
            looked, *notes, *(self._groups(kind) for kind in ("languages", "sources"))])

    def _groups(self, kind: str) -> Any:
        """Tokens per word of every tokenizer, by language or by source."""
        rows = self._summary["rows"]
        names = [(group["name"], group["bytes"]) for group in rows[0][kind]]
        found = [{group["name"]: group["fertility"] for group in row[kind]} for row in rows]
        head = join(txt('<th class="num">{}</th>', row["name"]) for row in rows)
        lines = join(txt('<tr><td>{}</td><td class="num">{}</td>{}</tr>', name, figures.byte_size(amount),
                         join(txt('<td class="num">{}</td>', _two(one.get(name))) for one in found))
                     for name, amount in names)
        return txt('<details><summary>Tokens per word by {}</summary><div class="scroll"><table><tr><th>{}</th><th '
                   'class="num">text</th>{}</tr>{}</table></div></details>', kind.removesuffix("s"),
                   kind.removesuffix("s"), head, lines)

    # Side by side ---------------------------------------------------------------------------------------

    def _begin_cut(self) -> None:
        wanted = (self._folder, self.typed.value_input or self.typed.value or "")
        if not self._summary or wanted == self._cut or self.cutting.busy:
            return
        self._cut, workspace, rows = wanted, self.session.workspace, self._summary["rows"]

        def work() -> list[tuple[str, list[tuple[int, str]]]]:
            from engine.tokens.tokenizer import load, pieces

            folder = workspace.place("labs") / wanted[0]
            return [(row["name"], pieces(load(folder / row["path"] if row["trained"] else
                                              workspace.resolve(row["path"])), wanted[1])) for row in rows]

        self.cutting.begin(work)

    def _show_side(self, found: Any, problem: str) -> None:
        if problem:
            self.side.html = banner("error", problem)
            return
        self.side.html = txt('<div class="side-by-side">{}</div>', join(
            txt('<section><h4>{} <small>{} tokens</small></h4>{}</section>', name, number(len(pieces)),
                coloured(pieces)) for name, pieces in found))


def embedding_share(model: ModelConfig, vocab_size: int) -> tuple[float, float]:
    """The share of a model's parameters that embedding and head take, with tied and with untied embeddings."""
    shares = []
    for tied in (True, False):
        parts = estimate.parts(model.model_copy(update={"vocab_size": vocab_size, "tied_embeddings": tied}))
        shares.append((parts["embedding"] + parts["head"]) / sum(parts.values()))
    return shares[0], shares[1]


def _offer(select: Any, names: list[str]) -> None:
    select.param.update(options=names, value=select.value if select.value in names else next(iter(names), None))


def _held_out(row: dict[str, Any]) -> float:
    """Bytes per token on text that trained no tokenizer, or on all of it where none was held out."""
    return row["held_out"] or row["bytes_per_token"]


def _two(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
