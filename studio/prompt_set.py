"""Prompt set: many prompts written by one model in a thread, the report on them, and its files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import panel_material_ui as pmui
from panel.viewable import Viewable, Viewer

from engine import files
from engine.inference import prompt_report
from engine.inference.prompts import Prompt, write
from engine.runs.sources import Source, open_writer
from engine.workspace import Workspace, slug
from studio.background import Background
from studio.layout import actions
from studio.texts import Text, path, percent
from studio.views import banner, bar, card, join, number, tiles, txt

MOST_PROMPTS = 200


class PromptSet(Viewer):
    """`begin` with the prompts, then `pull` at each tick until it says that all are written."""

    def __init__(self, workspace: Workspace, **params: Any) -> None:
        super().__init__(**params)
        self.writer, self.workspace = Background(), workspace
        self.rows: list[dict[str, Any]] = []
        self.files: list[Path] = []     # the report, once it is written
        self._of, self._halt, self._shown, self._cut = 0, False, -1, ""
        self.report, self.where = Text(), Text()
        self.downloads = [pmui.FileDownload(label=label, icon="download", size="small", margin=0, visible=False)
                          for label in ("JSONL", "Markdown")]
        self.card = card(self.report, actions(*self.downloads), self.where, title="Prompt set", visible=False)

    def __panel__(self) -> Viewable:
        return self.card

    def begin(self, source: Source, prompts: Sequence[Prompt], seed: int, settings: dict[str, Any]) -> None:
        """Write the first `MOST_PROMPTS` of them, and say how many are left out."""
        rows: list[dict[str, Any]] = []
        taken = prompts[:MOST_PROMPTS]

        def work() -> list[Path]:
            for row in write(open_writer(source), taken, seed, lambda: self._halt, **settings):
                rows.append(row)
            rows.sort(key=lambda row: row["number"])
            return self._keep(source, rows, {**settings, "seed": seed})

        self.rows, self._of, self._halt, self._shown = rows, len(taken), False, -1
        self.files, self.where.html, self.card.visible = [], txt(""), True
        left = len(prompts) - len(taken)
        self._cut = f"The first {len(taken)} of {len(prompts):,} prompts are written; {left:,} were left out. The " \
                    "command line writes them all: studio generate NAME --prompts FILE" if left else ""
        for each in self.downloads:
            each.visible = False
        self.writer.begin(work)

    def _keep(self, source: Source, rows: list[dict[str, Any]], settings: dict[str, Any]) -> list[Path]:
        """The report in the workspace, under a name that the same prompts and settings get again."""
        folder = self.workspace.path / "reports"
        folder.mkdir(exist_ok=True)
        mark = files.fingerprint(source.label, settings, [row["prompt"] for row in rows])
        made = [folder / f"{slug(source.label)}-{mark[:8]}{ending}" for ending in (".jsonl", ".md")]
        for each in made:
            prompt_report.save(each, rows, source.label, settings, self._cut)
        return made

    def stop(self) -> None:
        self._halt = True

    def pull(self) -> bool:
        """Show the rows that are done; True once, when all are."""
        over = self.writer.take()
        if over is None and len(self.rows) == self._shown:
            return False
        self._shown = len(self.rows)
        if over and over[0]:
            self._offer(over[0])
        parts = [banner("warning", self._cut) if self._cut else "",
                 banner("error", over[1]) if over and over[1] else "",
                 "" if over else bar(len(self.rows), self._of, label="prompts"), told(self.rows)]
        self.report.html = join(parts)
        return over is not None

    def _offer(self, made: list[Path]) -> None:
        self.files = made
        for each, file in zip(self.downloads, made, strict=True):
            each.param.update(file=str(file), filename=file.name, visible=True)
        self.where.html = path(made[-1])


def told(rows: Sequence[dict[str, Any]]) -> Any:
    """The figures, and each prompt with its text or with why there is none."""
    if not rows:
        return txt('<p class="nothing">Reading the model …</p>')
    sums = prompt_report.figures(rows)
    head = tiles([("Prompts", number(sums["prompts"])), ("Tokens", number(sums["tokens"])),
                  ("Tokens per second, prompts included", number(sums["tokens_per_second"], 1)),
                  ("Mean surprise (nats)", number(sums["surprise"])), ("Ended by themselves", percent(sums["ended"])),
                  *([("Not written", number(sums["failed"]))] if sums["failed"] else [])])
    lines = join(_line(row) for row in sorted(rows, key=lambda row: row["number"]))
    return join([head, txt(
        '<div class="scroll"><table><tr><th style="width:24%">prompt</th><th>text</th><th class="num">tokens</th>'
        '<th class="num">surprise</th><th class="num">repeated</th></tr>{}</table></div>', lines)])


def _line(row: dict[str, Any]) -> Any:
    if row["error"]:
        return txt('<tr><td><b>{}</b></td><td colspan="4"><span class="tag failed">not written</span> {}</td></tr>',
                   row["prompt"][:120] + ("…" if len(row["prompt"]) > 120 else ""), row["error"])
    return txt('<tr><td><b>{}</b></td><td class="prose">{}</td><td class="num">{}</td><td class="num">{}</td>'
               '<td class="num">{}</td></tr>', row["prompt"], row["text"], row["tokens"], number(row["surprise"]),
               percent(row["repeated"]))
