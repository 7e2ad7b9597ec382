"""Evaluate: how good a run's model is on text that it never saw, and several of them side by side."""

from __future__ import annotations

from typing import Any

import panel_material_ui as pmui
from panel.viewable import Viewable

from engine import files, runs
from engine.config import UserError
from engine.evaluate.cost import cost
from studio import figures
from studio.forms import Form
from studio.layout import button, picture, split, stack
from studio.page import Page
from studio.recipe_code import same_command
from studio.texts import Text, percent
from studio.views import banner, card, empty, join, number, press, txt

MEASURES = (("val/loss", "Loss", "nats a token", min), ("val/perplexity", "Perplexity", "choices", min),
            ("val/bits_per_byte", "Bits per byte", "bits", min), ("val/accuracy", "Accuracy", "guessed right", max))
SHOWN_AT_FIRST = 3


class Evaluate(Page):
    title, icon, noun = "Evaluate", "insights", "evaluate"
    line = "How good a model is on text that it never trained on; several of them side by side."
    sections = ("evaluate",)

    def view(self) -> Viewable:
        self.run = pmui.Select(label="Run", options=[], size="small", sizing_mode="stretch_width", margin=0)
        self.run.param.watch(lambda *_: self._tell(), "value")
        self.go = button("Evaluate", "play_arrow", self.start, main=True)
        self.words = Text(on_press=self.session.goto)
        self.chosen = pmui.MultiChoice(label="Reports", options=[], sizing_mode="stretch_width", margin=0)
        self.chosen.param.watch(lambda *_: self._show(), "value")
        self.vacant = card(Text(empty("There is no report yet. Evaluate a run that has a checkpoint. A run that was "
                                      "asked to evaluate has its report as soon as it is over.", "insights")))
        self.table, self.places, self.samples, self.passages = Text(), picture(height=280), Text(), Text()
        self.results = stack(
            card(self.chosen, self.table, title="Reports",
                 line="The best figure of each row is marked, where all measured the same tokens."),
            card(self.places, title="Loss by position", line="With more text before it, a good model guesses better."),
            card(self.samples, title="Samples", line="The same beginnings, continued by each model."),
            card(self.passages, title="Easiest and hardest", line="Validation passages, by the model's loss on them."),
            visible=False)
        self._runs: list[str] | None = None     # not looked for yet
        self.session.draft.param.watch(lambda *_: self._tell(), "version")
        self._tell()
        return split([card(self.run, Form("evaluate", self.session), self.words, self.go, title="Measure a run")],
                     [self.vacant, self.results], left="minmax(0, 4fr)", right="minmax(0, 8fr)")

    def shown(self) -> None:
        self._look()

    def tick(self) -> None:
        self._look()

    def _look(self) -> None:
        """Which runs can be measured, and which are."""
        found = runs.listing(self.session.workspace)
        able = [run.name for run in found if run.checkpoints]
        reports = [run.name for run in found if (run.path / "evaluation.json").exists()]
        if able != self.run.options:
            wanted = self.session.run if self.session.run in able else self.run.value
            self.run.param.update(options=able, value=wanted if wanted in able else next(iter(able), None))
            self._tell()
        if reports != self._runs:
            fresh = [name for name in reports if name not in (self._runs or ())]
            self._runs = reports
            self.vacant.visible, self.results.visible = not reports, bool(reports)
            kept = [name for name in self.chosen.value or [] if name in reports]
            self.chosen.param.update(options=reports, value=[*fresh[:max(0, SHOWN_AT_FIRST - len(kept))], *kept])
            self._show()

    def _tell(self) -> None:
        wrong = self.session.draft.wrong("evaluate")
        self.go.param.update(disabled=bool(wrong) or not self.run.value,
                             description=wrong[0] if wrong else "Start the evaluation")
        self.words.html = same_command(self.session, "evaluate", self.run.value) if self.run.value else banner(
            "info", "No run has a checkpoint yet.", press("Go to Train", "stages"))

    def start(self) -> None:
        source = self.session.attempt(runs.find, self.run.value, self.session.workspace)
        recipe = source and self.session.attempt(runs.recipe_of, source)
        if recipe:
            self.session.start(recipe.replace(jobs=["evaluate"], from_run=source.name,
                                              name=f"{source.name}-evaluate"[:80],
                                              evaluate=self.session.draft.settled.evaluate.dump()))

    # Reports -----------------------------------------------------------------------------------------------

    def _show(self) -> None:
        reports: dict[str, dict[str, Any]] = {}
        for name in self.chosen.value or []:
            try:
                run = runs.find(name, self.session.workspace)
                reports[name] = files.read_json(run.path / "evaluation.json")
            except UserError as error:
                self.session.notify(error.sentence, "error")
        self.table.html = self._table(reports)
        self.places.object = figures.loss_by_position(
            {name: (report["by_position"]["places"], report["by_position"]["losses"]) for name,
             report in reports.items()
             if report.get("by_position")})
        self.samples.html = _samples(reports)
        self.passages.html = _passages(next(iter(reports.values()), {}))

    def _table(self, reports: dict[str, dict[str, Any]]) -> Any:
        if not reports:
            return txt('<p class="nothing">Choose a report above.</p>')
        rows = []
        # The figures of two texts, or of two lengths of one, can't be ranked.
        same = len({(report.get("text"), report.get("tokens"), report.get("tokenizer")) for report in reports.values()
                    }) == 1
        for key, label, unit, better in MEASURES:
            values = {name: report.get(key) for name, report in reports.items()}
            known = [value for value in values.values() if value is not None]
            best = better(known) if same and len(known) > 1 else None
            rows.append(txt("<tr><td>{} <small class='estimated'>{}</small></td>{}</tr>", label, unit, join(
                txt('<td class="num {}">{}</td>', "best" if value is not None and value == best else "",
                    "–" if value is None else percent(value) if key == "val/accuracy" else f"{value:.3f}")
                for value in values.values())))
        for key, label in (("checkpoint", "Checkpoint"), ("text_of", "Text of"), ("tokens", "Tokens measured")):
            rows.append(txt("<tr><td>{}</td>{}</tr>", label, join(
                txt('<td class="num">{}</td>', number(report[key]) if key == "tokens" else report.get(key, "–"))
                for report in reports.values())))
        why = "" if same else txt('<p class="more">No figure is marked as best, since the reports are not of the same '
                                  "tokens of the same text.</p>")
        if len(reports) == 2:
            one, other = reports.items()
            why = txt('<p class="more">From {} to {}: {}</p>', one[0], other[0], cost(one[1], other[1])["sentence"])
        return txt('<div class="scroll"><table><tr><th></th>{}</tr>{}</table></div>{}',
                   join(txt('<th class="num">{}</th>', name) for name in reports), join(rows), why)


def _samples(reports: dict[str, dict[str, Any]]) -> Any:
    prompts = list(dict.fromkeys(sample["prompt"] for report in reports.values() for sample in report["samples"]))
    return txt('<div class="excerpts">{}</div>', join(
        txt('<article class="excerpt"><header><b>{}…</b></header><div class="pair">{}</div></article>', prompt, join(
            txt('<div class="side"><small>{}</small><p class="prose"><b>{}</b>{}</p></div>', name, prompt,
                sample["text"])
            for name, report in reports.items() for sample in report["samples"] if sample["prompt"] == prompt))
        for prompt in prompts))


def _passages(report: dict[str, Any]) -> Any:
    found = report.get("passages") or {}
    return txt('<div class="excerpts">{}</div>', join(
        txt('<article class="excerpt"><header><i class="tag {}">{}</i><span>loss {}</span></header>'
            '<p class="prose">{}</p></article>',
            "passed" if kind == "easiest" else "failed", kind, number(float(row["loss"]), 2), row["text"])
        for kind in ("easiest", "hardest") for row in found.get(kind, ())))
