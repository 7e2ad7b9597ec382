"""Export: a checkpoint becomes a bundle, and the proof that the bundle is the same model."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import panel_material_ui as pmui
from panel.viewable import Viewable

from engine import files, runs
from engine.config import UserError
from engine.inference import bundle as bundle_of
from studio import costs, figures
from studio.corpus_card import data_card
from studio.corpus_entries import Sheet
from studio.forms import Form
from studio.layout import actions, button, later, picture, split, stack
from studio.page import Page
from studio.recipe_code import same_command
from studio.speed_view import Speed
from studio.texts import Text, path, verdict
from studio.views import age, banner, card, empty, join, number, press, tiles, txt

MOST_FILES = 200    # of a bundle that are listed
FILES = {"model.onnx": "the model, in ONNX", "model_fp16.onnx": "in float16", "model_int8.onnx": "in int8",
         "model_quantized.onnx": "in int8_dynamic", "model_q4.onnx": "in int4", "cost.json": "what they cost",
         "tokenizer.json": "its tokenizer", "config.json": "its shape",
         "parity.json": "the proof", "README.md": "its card", "genai_config.json": "for onnxruntime-genai",
         "generation_config.json": "how it writes by default", "model.onnx_adapter": "its adapter, for onnxruntime",
         "adapter_model.safetensors": "its adapter, for PEFT", "adapter_config.json": "its adapter's settings",
         "model.safetensors": "the weights, for transformers", "tokenizer_config.json": "its tokenizer's settings",
         "special_tokens_map.json": "its special tokens", "benchmark.json": "its speed on this machine",
         ".gguf": "the model, for llama.cpp"}


class Export(Page):
    title, icon, noun = "Export", "inventory_2", "export"
    line = "A checkpoint becomes an ONNX bundle that runs without PyTorch, with the proof that it is the same model."
    sections = ("export",)

    def view(self) -> Viewable:
        self.run = pmui.Select(label="Run", options=[], size="small", sizing_mode="stretch_width", margin=0)
        self.run.param.watch(lambda *_: self._tell(), "value")
        self.go = button("Export", "play_arrow", self.start, main=True)
        self.words = Text(on_press=self.session.goto)
        self.chosen = pmui.Select(label="Bundle", options=[], size="small", width=360, margin=0)
        self.chosen.param.watch(lambda *_: self._show(), "value")
        self.nothing = card(Text(empty("There is no bundle yet. Export a run that has a checkpoint; a run that was "
                                       "asked to export has its bundle as soon as it is over.", "inventory_2")))
        self.failed = Text(on_press=lambda name: self.session.goto("runs", run=name))
        self.verdict, self.cases, self.where, self.contents, self.about = Text(), picture(), Text(), Text(), Sheet()
        self.smaller, self.quality = Text(), picture()
        self.quality_frame = later(self.quality)
        self.costs = card(self.smaller, self.quality_frame, title="Smaller forms", visible=False,
                          line="What each precision costs, and what it gains. In the picture, the lower right is best; "
                               "the larger the mark, the larger the file.")
        self.speed = Speed(self.session)
        self.results = stack(
            card(actions(self.chosen, button("Talk to it", "forum", self._talk)), self.verdict, self.cases,
                 title="Bundle"),
            self.costs, self.speed.card,
            card(self.where, self.contents, title="Files"),
            card(self.about, title="Card", line="What goes with the model, so that others know what it is."),
            visible=False)
        self._seen: Any = None
        self.session.draft.param.watch(lambda *_: self._tell(), "version")
        return split([card(self.run, Form("export", self.session), self.words, self.go, title="Export a run")],
                     [self.failed, self.nothing, self.results], left="minmax(0, 4fr)", right="minmax(0, 8fr)")

    def shown(self) -> None:
        self._look()

    def tick(self) -> None:
        self._look()
        self.speed.tick()

    def _look(self) -> None:
        """Which runs can be exported, which bundles there are, and which exports failed."""
        found = runs.listing(self.session.workspace)
        able = [run.name for run in found if run.checkpoints]
        if able != self.run.options:
            wanted = self.session.run if self.session.run in able else self.run.value
            self.run.param.update(options=able, value=wanted if wanted in able else next(iter(able), None))
        bundles = self.session.workspace.listing("bundles")
        seen = ([(b.name, b.stat().st_mtime) for b in bundles], able, [(run.name, run.status().state) for run in found])
        if seen == self._seen:
            return
        self._seen, names = seen, [bundle.name for bundle in bundles]
        wanted = self.chosen.value or self.session.bundle
        self.chosen.param.update(options=names, value=wanted if wanted in names else next(iter(names), None))
        self.nothing.visible, self.results.visible = not names, bool(names)
        self.failed.html = join(_refusal(run) for run in found[:20])
        self.failed.visible = bool(self.failed.html)
        self._tell()
        self._show()

    def _tell(self) -> None:
        wrong = self.session.draft.wrong("export")
        self.go.param.update(disabled=bool(wrong) or not self.run.value,
                             description=wrong[0] if wrong else "Start the export")
        self.words.html = same_command(self.session, "export", self.run.value) if self.run.value else banner(
            "info", "No run has a checkpoint yet.", press("Go to Train", "stages"))

    def start(self) -> None:
        source = self.session.attempt(runs.find, self.run.value, self.session.workspace)
        recipe = source and self.session.attempt(runs.recipe_of, source)
        if recipe:
            self.session.start(recipe.replace(jobs=["export"], from_run=source.name, name=f"{source.name}-export"[:80],
                                              export=self.session.draft.settled.export.dump()))

    # The bundle -----------------------------------------------------------------------------------------

    def _talk(self) -> None:
        self.session.goto("inference", bundle=self.chosen.value or "")

    def _show(self) -> None:
        if not self.chosen.value:
            return
        bundle = self.session.workspace.place("bundles") / self.chosen.value
        self.speed.show(bundle)
        self._show_proof(bundle)
        self._show_costs(bundle)
        self.where.html = path(bundle)
        self.contents.html = _told(lambda: _contents(bundle_of.told(bundle, files.MANIFEST)), files.MANIFEST)
        self.about.html = data_card(bundle, "export it again")

    def _show_proof(self, bundle: Path) -> None:
        try:
            parity = bundle_of.told(bundle, "parity.json")
            shown = join([_verdict(parity), tiles(_figures(parity))])
            cases = figures.parity(parity["cases"], parity["tolerance"])
        except (UserError, *files.MISSHAPEN) as error:
            told = error.sentence if isinstance(error, UserError) else "parity.json is damaged; export it again."
            self.verdict.html, self.cases.object = verdict(False, "This bundle has no proof", told), None
            return
        self.verdict.html = join([shown, _told(lambda: _refused_gguf(bundle_of.told(bundle, files.MANIFEST)))])
        self.cases.object = cases

    def _show_costs(self, bundle: Path) -> None:
        try:
            rows = bundle_of.told(bundle, "cost.json") if (bundle / "cost.json").exists() else []
            self.smaller.html = costs.table(rows) if rows else txt("")
            self.quality.object = costs.picture(rows) if rows else None
        except (UserError, *files.MISSHAPEN):
            rows = ["damaged"]
            self.smaller.html, self.quality.object = banner("error", "cost.json is damaged; export it again."), None
        self.costs.visible, self.quality_frame.visible = bool(rows), self.quality.object is not None


def _told(make: Callable[[], Any], name: str = "") -> Any:
    """Markup made of what a bundle says about itself, or, where that is damaged, a sentence if it has a `name`."""
    try:
        return make()
    except (UserError, *files.MISSHAPEN) as error:
        told = error.sentence if isinstance(error, UserError) else f"{name} is damaged; export the bundle again."
        return banner("error", told) if name else txt("")


def _verdict(parity: dict[str, Any]) -> Any:
    passed = parity["passed"] is True
    return verdict(passed, "Parity passed: it is the same model" if passed else
                   "Parity FAILED: it is not the same model", str(parity["sentence"]))


def _figures(parity: dict[str, Any]) -> list[tuple[str, str]]:
    """What the proof came to: of a model that writes texts, or of one that scores them."""
    found = [("Largest difference", number(parity["max_difference"])), ("Tolerance", f"{parity['tolerance']:g}")]
    if "decisions" in parity:
        pairs = parity.get("pairs", {})
        found.append(("Decisions equal", f"{parity['decisions_equal']} of {parity['decisions']}"))
        return found if pairs.get("pytorch") is None else [
            *found, ("Chosen scores more in PyTorch", f"{pairs['pytorch']:.1%}"),
            ("Chosen scores more in onnxruntime", f"{pairs['onnxruntime']:.1%}")]
    same = parity.get("perplexity", {})
    return [*found, ("Greedy tokens equal", f"{parity['greedy_tokens_equal']} of {parity['greedy_tokens']}"),
            (f"Perplexity in PyTorch, {same['text']} tokens" if "text" in same else "Perplexity in PyTorch",
             number(same.get("pytorch"))), ("Perplexity in onnxruntime", number(same.get("onnxruntime")))]


def _refused_gguf(manifest: Any) -> Any:
    """Why a bundle has no files for llama.cpp although they were asked for."""
    summary = manifest.get("summary") if isinstance(manifest, dict) else None
    told = summary.get("gguf") if isinstance(summary, dict) else None
    sentence = told.get("refused") if isinstance(told, dict) else ""
    return banner("warning", str(sentence)) if sentence else txt("")


def _refusal(run: runs.Run) -> Any:
    """The verdict on an export that was refused."""
    if run.status().state != "failed":
        return txt("")
    verdicts = [event for event in run.rows("events")[0] if event.get("kind") == "parity"]
    failed = next((event for event in verdicts if not event.get("passed")), None)
    if failed is None:
        return txt("")
    return join([verdict(False, f"Run {run.name}: parity FAILED", f"{failed.get('sentence', '')} No bundle was made."),
                 txt('<p class="more">{}, {}</p>', age(failed.get("time", 0.0)), press("Look at the run", run.name))])


def _contents(manifest: dict[str, Any]) -> Any:
    sizes = manifest["files"]
    rows = join(txt('<tr><td><code>{}</code></td><td>{}</td><td class="num">{}</td></tr>', name,
                    FILES.get(Path(name).name) or FILES.get(Path(name).suffix, ""), figures.byte_size(amount))
                for name, amount in islice(sizes.items(), MOST_FILES))
    more = txt('<tr><td colspan="3">and {} more</td></tr>', f"{len(sizes) - MOST_FILES:,}") \
        if len(sizes) > MOST_FILES else txt("")
    total = txt('<tr><td><b>together</b></td><td></td><td class="num"><b>{}</b></td></tr>',
                figures.byte_size(sum(sizes.values())))
    return txt('<div class="scroll"><table>{}{}{}</table></div>', rows, more, total)
