"""The speed of a bundle on this machine: a button that measures it in a run, the table, and the picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from shlex import quote
from typing import Any

import holoviews as hv

from engine import files, runs
from engine.config import UserError
from engine.export.benchmark import result
from engine.inference.bundle import scores
from engine.inference.speed_table import BASE, HEADS, cells, heads, notes
from engine.runs import Run
from engine.runs.timing import ENDING, asking
from studio.figures import FONT, KEPT, QUIET, SERIES, _hover, _still, drawn
from studio.forms import Form
from studio.layout import actions, button, later, picture
from studio.run_parts import progress
from studio.session import Session
from studio.texts import Text, shell_line
from studio.views import Markup, age, banner, card, join, press, txt
from studio.watch import WATCH

COLOURS = {"ours": KEPT, "genai": SERIES[1], "llama_cpp": SERIES[2]}
NOTHING = "Nothing was measured on this bundle yet. It takes a minute or two, in which the machine had better be idle."


class Speed:
    """The benchmark of the bundle that is looked at: `show` says which, `tick` follows its run."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.run: Run | None = None
        self.bundle: Path | None = None
        self.go = button("Measure the speed", "speed", self.start)
        self.words, self.figures, self.bars = Text(on_press=self._pressed), Text(), picture()
        self.bars_frame = later(self.bars)
        self.card = card(Form("benchmark", session, skip=("bundle",)), actions(self.go), self.words, self.figures,
                         self.bars_frame, title="Speed",
                         line="How fast this bundle is on this machine, beside every other way of running the same "
                              "model that is installed here.")
        self._seen: Any = None
        session.draft.param.watch(lambda *_: self._tell(), "version")

    def start(self) -> None:
        """Begin a run that measures."""
        if self.bundle is None:
            return
        recipe = self.session.attempt(lambda: asking(self.bundle.name, self.session.draft.settled.benchmark))
        run = recipe and self.session.start(recipe, show=False)
        if run:
            self.run, self._seen = run, None
            self.tick()

    def show(self, bundle: Path) -> None:
        """Look at another bundle, or at one that may have changed."""
        self.bundle, self._seen = bundle, None
        try:
            self.card.visible = not scores(bundle)
        except UserError:
            self.card.visible = True    # a measurement says what is wrong
        self.run = next((run for run in runs.listing(self.session.workspace) if _times(run, bundle.name)), None)
        self._draw()
        self.tick()

    def tick(self) -> None:
        if self.run is None:
            if self._seen is None:
                self._seen = "nothing"
                self._tell()
            return
        feed = WATCH.follow(self.run)
        if feed.version == self._seen or not feed.ready:
            return
        if self._seen is not None and not feed.status.active:
            self._draw()
        self._seen = feed.version
        self._tell()

    def _tell(self) -> None:
        """What the newest measurement does, and the command that does the same."""
        if self.bundle is None:
            return
        wrong = self.session.draft.wrong("benchmark")
        status = WATCH.follow(self.run).status if self.run else None
        active = bool(status and status.active)
        self.go.param.update(disabled=active or bool(wrong), description=wrong[0] if wrong else "Start the measurement")
        told: list[Any] = []
        if status is not None and active:
            told = [progress(status), txt('<p class="more">{}</p>', press("Stop", "stop", sign="stop"))]
        elif status is not None and status.error:
            told = [banner("error", status.error)]
        self.words.html = join([*told, shell_line(self._command(), self.session.workspace)])

    def _command(self) -> str:
        assert self.bundle is not None
        changes = {name: value for name, value in self.session.draft.settled.benchmark.dump().items()
                   if name != "bundle" and value != asking("x").benchmark.dump()[name]}
        return " ".join(["studio benchmark", quote(self.bundle.name),
                         *(f"benchmark.{name}={value}" for name, value in changes.items())])

    def _draw(self) -> None:
        """The result that is kept with the bundle."""
        assert self.bundle is not None
        try:
            found = result(self.bundle)
            self.figures.html = table(found) if found else txt('<p class="nothing">{}</p>', NOTHING)
            self.bars.object = chart(found["rows"]) if found else None
        except (UserError, *files.MISSHAPEN) as error:
            self.figures.html = banner("error", error.sentence if isinstance(error, UserError) else
                                       "benchmark.json is damaged; measure the speed again.")
            self.bars.object = None
        self.bars_frame.visible = self.bars.object is not None

    def _pressed(self, what: str) -> None:
        if what == "stop" and self.run is not None:
            self.session.attempt(runs.stop, self.run)


def _times(run: Run, bundle: str) -> bool:
    """Whether a run measures this bundle's speed."""
    if ENDING not in run.name:
        return False
    try:
        recipe = runs.recipe_of(run)
    except UserError:
        return False
    return recipe.jobs == ("benchmark",) and recipe.benchmark.bundle == bundle


def table(found: Mapping[str, Any]) -> Markup:
    """What was measured, with what to know of it."""
    rows = found["rows"]
    head = join(txt('<th class="{}" title="{}">{}</th>', "num" if place else "", words, name)
                for place, (name, (_, words)) in enumerate(zip(heads(BASE), HEADS, strict=True)))
    body = join(txt("<tr>{}</tr>", join(txt('<td class="{}">{}</td>', "num" if place else "", text)
                                        for place, text in enumerate(cells(row, rows, BASE)))) for row in rows)
    below = join(txt('<p class="more">{}</p>', sentence) for sentence in (
        *notes(found), f"Measured {age(found['measured'])}."))
    return join([txt('<div class="scroll"><table><tr>{}</tr>{}</table></div>', head, body), below])


def chart(rows: Sequence[Mapping[str, Any]]) -> Any:
    """Decode speeds as bars, with the limit that memory sets to each; None if nothing could be measured."""
    fast = [row for row in rows if not row["failed"]]
    if not fast:
        return None
    widest = max(drawn(row["tokens_per_second"]) for row in fast)
    bars, words, limits = [], [], []
    for place, row in enumerate(fast):
        speed, limit = row["tokens_per_second"], row.get("limit_tokens_per_second")
        bars.append((0, -place - 0.36, speed, -place + 0.36, row["name"], f"{speed:,.0f}",
                     f"{row['prefill_tokens_per_second']:,.0f}", f"{limit:,.0f}" if limit else "–",
                     COLOURS.get(row["kind"], SERIES[7])))
        words.append((speed + widest * 0.012, -place, f"{speed:,.0f}"))
        if limit and drawn(limit) < 1.4 * widest:
            limits.append((limit, -place - 0.46, limit, -place + 0.46))
    picture_of = hv.Rectangles(bars, ["x0", "y0", "x1", "y1"], ["way", "speed", "prefill", "limit", "colour"]).opts(
        color="colour", line_alpha=0, tools=_hover(("", "@way"), ("new tokens a second", "@speed"),
                                                   ("of the prompt", "@prefill"), ("memory's limit", "@limit")))
    labels = hv.Labels(words, ["x", "y"], "text").opts(text_color=QUIET, text_align="left", text_font=FONT,
                                                       text_font_size="9.5pt")
    ticks = hv.Segments(limits, ["x0", "y0", "x1", "y1"]).opts(color=QUIET, line_dash="dashed", line_width=1.6)
    return _still(picture_of * labels * ticks, 30 * len(fast) + 60, ylabel="", show_grid=False,
                  xlabel="new tokens a second" + ("; dashed: what the memory's bandwidth allows" if limits else ""),
                  xlim=(0, 1.45 * widest), ylim=(-len(fast) + 0.45, 0.55),
                  yticks=[(-place, row["name"]) for place, row in enumerate(fast)])
