"""Model: the shape of the decoder, and what it will cost, while one types."""

from __future__ import annotations

from typing import Any

from panel.viewable import Viewable

from engine import files, hardware
from engine.model import estimate
from engine.plan.here import here, precision_of
from engine.plan.measured import measured
from engine.plan.memory import copied, peak
from studio import figures
from studio.forms import Form
from studio.layout import picture, split, stack
from studio.page import Page
from studio.published_card import PublishedCard
from studio.texts import Text, legend, percent
from studio.views import banner, card, join, number, size, tiles, txt

GIB = 2**30
TOKENS_PER_PARAMETER = 20  # Hoffmann et al. 2022


class Model(Page):
    title, icon, noun = "Model", "hub", "model"
    line = "The shape of the decoder. The figures beside the form are estimated from it, while you type."
    sections, command = ("model",), "train"

    def view(self) -> Viewable:
        self.facts, self.parts, self.fit, self.words = Text(), Text(), Text(), Text()
        self.areas, self.bytes = picture(height=210), picture(height=64)
        self._drawn: Any = None
        self.machine = here(self.session.workspace)
        self.session.draft.param.watch(lambda *_: self._tell(), "version")
        self._tell()
        self._draw()
        form = card(Form("model", self.session, skip=("vocab_size",)), title="Decoder",
                    line="Family and size fill in every number; each can be changed by itself.")
        where = card(self.facts, self.areas, self.parts, title="Where the parameters sit")
        memory = card(self.fit, self.bytes, self.words, title="Memory to train")
        return split([form, PublishedCard(self.session)], [stack(where, memory)])

    def shown(self) -> None:
        self._tell()

    def tick(self) -> None:
        self._draw()

    # The words move with every key, the pictures with the next tick ------------------------------------

    def _tell(self) -> None:
        recipe = self.session.draft.settled
        config, parts = recipe.model, estimate.parts(recipe.model)
        total = sum(parts.values())
        self.facts.html = tiles([
            ("Parameters", size(total)),
            ("Without embedding", size(estimate.non_embedding_parameters(config))),
            ("FLOPs a token, training", size(estimate.flops_per_token(config))),
            ("KV cache, full context", figures.byte_size(estimate.kv_cache_bytes(config))),
        ])
        self.parts.html = join([
            legend((figures.PARTS[name], name, percent(count / total)) for name, count in parts.items() if count),
            self._data(estimate.parameters(config))])
        need, (all_of_it, free) = self._memory(), hardware.memory()
        held = measured(self.session.workspace, recipe, self.machine)
        asked = held.peak_gib * GIB if held and held.peak_gib else sum(need.values())
        said = (f"Training needs {asked / GIB:.2f} GiB, measured in run {held.source}" if held and held.peak_gib else
                f"Training is estimated to need {asked / GIB:.2f} GiB, with its process")
        sentence = (f"{said}. This machine has {figures.byte_size(all_of_it)}, of which {figures.byte_size(free)} are "
                    "free.")
        if asked > free:
            sentence += (" That does not fit: take a smaller micro-batch (Train), a shorter context or a smaller size."
                         if asked > all_of_it else " Close other programs, or take a smaller micro-batch (Train).")
        self.fit.html = banner("success" if asked <= free else "error" if asked > all_of_it else "warning", sentence)
        self.words.html = join([
            legend((figures.SERIES[place % len(figures.SERIES)], name, figures.byte_size(amount))
                   for place, (name, amount) in enumerate(need.items())),
            txt('<p class="more">Estimated for micro-batches of {} × {} tokens and {} in {}.{}</p>',
                recipe.train.micro_batch_size, number(config.context_length), type(recipe.optim).__name__,
                precision_of(recipe, self.machine),
                " The dashed line is what is free here." if free < 4 * asked else "")])

    def _memory(self) -> dict[str, int]:
        """The parts of the peak, as the plan of the Train page reckons it."""
        recipe = self.session.draft.settled
        parts = peak(recipe, precision_of(recipe, self.machine), self.machine.device)
        return {**parts, **copied(recipe, sum(parts.values()), self.machine.device, self.machine.memory_bytes)}

    def _data(self, parameters: int) -> Any:
        """How much text the model would like, against the newest text that there is."""
        newest = next(iter(self.session.workspace.listing("tokens")), None)
        wish = f"It can use about {size(TOKENS_PER_PARAMETER * parameters)} tokens of text"
        if newest is None:
            return txt('<p class="more">{}.</p>', wish)
        have = files.read_json(newest / files.MANIFEST)["summary"]["train"]["tokens"]
        return txt('<p class="more">{}; the newest tokens ({}) have {}.</p>', wish, newest.name, size(have))

    def _draw(self) -> None:
        need, free = self._memory(), hardware.memory()[1]
        tree = estimate.tree(self.session.draft.settled.model)
        seen = (tree, need)
        if seen != self._drawn:
            self._drawn = seen
            self.areas.object = figures.parameters(tree)
            self.bytes.object = figures.memory(need, free)
