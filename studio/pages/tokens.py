"""Tokens: the tokenizer, what it made of the dataset, and how it cuts any text."""

from __future__ import annotations

from typing import Any

import numpy as np
import panel_material_ui as pmui
from panel.viewable import Viewable

from engine import files
from engine.model import SIZES
from studio import figures
from studio.background import Background
from studio.chat_view import ChatView
from studio.forms import Form
from studio.lab_view import LabView
from studio.layout import button, picture, split, stack
from studio.page import Page
from studio.texts import Text, coloured, percent
from studio.views import banner, card, empty, join, number, press, size, tiles, txt

CONTEXTS = sorted({shape[4] for shape in SIZES.values()})
EXAMPLE = "It was a truth universally acknowledged: 1,234 tokens, naïve or not."


class Tokens(Page):
    title, icon, noun = "Tokens", "segment", "tokens"
    line = "How text is cut into the pieces that the model reads, and how long documents are in them."
    sections, command = ("tokens",), "tokenize"

    def view(self) -> Viewable:
        self.looking, self.cutting = Background(), Background()
        self._opened, self._cut = "", ("", "")
        self._lengths: Any = None
        self.weighing, self._wastes = Background(), {}
        self.lab, self.chat = LabView(self.session), ChatView(self.session)
        self.go = button("Tokenize", "play_arrow", self.start, main=True)
        self.chosen = pmui.Select(label="Tokens", options=[], size="small", width=360, margin=0)
        self.facts, self.shares, self.lengths = Text(), Text(on_press=self._choose), picture(height=240)
        self.typed = pmui.TextAreaInput(label="Text", value=EXAMPLE, rows=3, auto_grow=True, max_rows=10, margin=0,
                                        max_length=20_000, sizing_mode="stretch_width")
        self.coloured = Text()
        self.result = stack(self.facts, visible=False)
        self.result.append(stack(Text(txt('<h4>How long are documents?</h4><p class="line">Dashed: context lengths, '
                                          "with the share of documents that fits. The rest is cut.</p>")),
                                 self.lengths, self.shares, gap="10px"))
        self.nothing = Text(empty("There are no tokens yet. Press Tokenize: it curates first if that is not done.",
                                  "segment"))
        self.cut = card(self.typed, self.coloured, title="See it cut", visible=False,
                        line="Type anything; the made tokenizer cuts it here.")
        self.session.draft.param.watch(lambda *_: self._tell(), "version")
        self._tell()
        return stack(split([card(Form("tokens", self.session), self.go, title="Tokenizer"), self.cut],
                           [card(self.chosen, self.nothing, self.result, title="What was made")],
                           left="minmax(0, 5fr)", right="minmax(0, 7fr)"), self.lab.view(), self.chat.view())

    def shown(self) -> None:
        names = [path.name for path in self.session.workspace.listing("tokens")]
        self.chosen.param.update(options=names, visible=bool(names),
                                 value=self.chosen.value if self.chosen.value in names else next(iter(names), None))
        self.nothing.visible, self.result.visible, self.cut.visible = not names, bool(names), bool(names)
        self.lab.shown()
        self._open()

    def tick(self) -> None:
        self.lab.tick()
        self.chat.tick()
        if over := self.looking.take():
            self._show(*over)
        self._open()
        if over := self.cutting.take():
            self._show_cut(*over)
        self._begin_cut()
        if weighed := self.weighing.take():
            self._wastes |= weighed[0] or {}
            self._show_shares()
        self._weigh()

    def _tell(self) -> None:
        wrong = self.session.draft.wrong("tokens", "corpus")
        self.go.param.update(disabled=bool(wrong), description=wrong[0] if wrong
                             else "Start a run that makes the tokens")
        self._show_shares()

    def start(self) -> None:
        self.session.start(self.session.draft.settled.replace(jobs=["curate", "tokenize"]))

    # What was made --------------------------------------------------------------------------------------

    def _open(self) -> None:
        name = self.chosen.value
        if not name or name == self._opened or self.looking.busy:
            return
        self._opened, folder = name, self.session.workspace.place("tokens") / name
        self.chat.look(folder / "tokenizer.json")

        def work() -> Any:
            from engine.tokens.shards import document_lengths

            return files.read_json(folder / files.MANIFEST)["summary"], document_lengths(folder)

        self.looking.begin(work)

    def _show(self, found: Any, problem: str) -> None:
        if problem:
            self.facts.html, self._lengths = banner("error", problem), None
            self.lengths.object = None
            self._show_shares()
            return
        summary, self._lengths = found
        self._wastes = {}
        self.facts.html = join([
            tiles([("Vocabulary", number(summary["vocab_size"])), ("Training tokens", size(summary["train"]["tokens"])),
                   ("Validation tokens", size(summary["val"]["tokens"])),
                   ("Bytes per token", f"{summary['bytes_per_token']:.2f}"),
                   ("Unused tokens", number(summary["unused_tokens"]))]),
            *(banner("info", note) for note in summary.get("notes", ()))])
        histogram = summary["lengths"]
        marks = {length: f"{figures.number(length)}: {percent(self._share(length))}" for length in self._contexts()}
        self.lengths.object = figures.histogram(histogram["edges"], histogram["counts"], of="tokens", marks=marks)
        self._show_shares()

    def _share(self, context_length: int) -> float:
        return float(np.mean(self._lengths <= context_length))

    def _contexts(self) -> list[int]:
        """The lengths to choose from, up to the first that all documents fit in, and the one in the draft."""
        own = self.session.draft.settled.model.context_length
        enough = next((length for length in CONTEXTS if self._share(length) == 1), CONTEXTS[-1])
        return sorted({own, *(length for length in CONTEXTS if length <= enough)})

    def _weigh(self) -> None:
        """Work out what each way of packing wastes, for the lengths in sight of which it is not known yet."""
        if self._lengths is None or self.weighing.busy:
            return
        lengths, missing = self._lengths, [c for c in self._contexts() if (self._opened, c) not in self._wastes]
        opened = self._opened

        def work() -> dict[tuple[str, int], Any]:
            from engine.tokens.pack import waste

            return {(opened, c): {way: waste(lengths, c, way) for way in ("concatenate", "best_fit")} for c in missing}

        if missing:
            self.weighing.begin(work)

    def _show_shares(self) -> None:
        """Which share of the documents fits, and what packing wastes, for each context length one could choose."""
        if self._lengths is None:
            self.shares.html = txt("")
            return
        settled = self.session.draft.settled
        way = settled.tokens.packing
        rows = []
        for length in self._contexts():
            found = self._wastes.get((self._opened, length))
            shares = [found["concatenate"].cut, found["best_fit"].cut, found["best_fit"].padding] if found else []
            rows.append(txt('<tr><td>{} tokens</td><td class="num">{}</td>{}<td class="num">{}</td></tr>',
                            number(length), percent(self._share(length)),
                            join(txt('<td class="num">{}</td>', percent(share)) for share in shares)
                            if found else txt('<td class="num">…</td>' * 3),
                            txt('<i class="tag kept">in the draft</i>') if length == settled.model.context_length
                            else press("Use", f"context {length}")))
        use = (press("Pack best-fit", "packing best_fit") if way == "concatenate"
               else press("Concatenate", "packing concatenate"))
        self.shares.html = txt(
            '<div class="scroll"><table><tr><th>context length</th><th class="num">documents that fit</th><th '
            'class="num">cut, end to end</th><th class="num">cut, best-fit</th><th class="num">padding, best-fit</th>'
            '<th></th></tr>{}</table></div><p class="more">The draft packs {}. {}</p>', join(rows),
            "documents end to end" if way == "concatenate" else "best-fit", use)

    def _choose(self, what: str) -> None:
        if what.startswith("packing "):
            self.session.draft.put(("tokens", "packing"), what.removeprefix("packing "))
        else:
            self.session.draft.put(("model", "context_length"), int(what.removeprefix("context ")))

    # See it cut -----------------------------------------------------------------------------------------

    def _begin_cut(self) -> None:
        wanted = (self._opened, self.typed.value_input or "")
        if not self._opened or wanted == self._cut or self.cutting.busy:
            return
        self._cut, path = wanted, self.session.workspace.place("tokens") / self._opened / "tokenizer.json"

        def work() -> Any:
            from engine.tokens.tokenizer import load, pieces

            return pieces(load(path), wanted[1])

        self.cutting.begin(work)

    def _show_cut(self, found: Any, problem: str) -> None:
        if problem:
            self.coloured.html = banner("error", problem)
            return
        characters = sum(len(piece) for _, piece in found)
        per = f"{characters / len(found):.2f} characters a token" if found else ""
        self.coloured.html = join([coloured(found), txt('<p class="more">{} tokens, {} characters; {}</p>',
                                                        number(len(found)),
                                                        number(characters), per)])
