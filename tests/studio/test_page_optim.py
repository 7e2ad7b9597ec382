"""The Optimizer page without a browser: what each optimizer keeps, which parameters are alike, and the range test."""

from __future__ import annotations

import re
import time

import pytest

from engine import runs
from engine.model import estimate
from engine.optim import OPTIMIZERS, LrRange
from engine.optim.lr_range import Curve
from studio.pages.optim import Optim


@pytest.fixture
def page(session):
    made = Optim(session)
    made.view().get_root()
    made.shown()
    return made


def test_every_optimizer_stands_there_with_its_memory_and_can_be_chosen(page, session):
    found = dict(re.findall(r"<b>([^<]+)</b>.*?([\d.]+)&nbsp;B", page.kinds.html))
    assert len(found) == len(OPTIMIZERS)
    assert (found["AdamW"], found["Lion"], found["Schedule-Free"]) == ("8.0", "4.0", "8.0")
    assert 4 < float(found["Muon"]) < 8
    assert float(found["Adafactor"]) < 0.1
    page._pressed("kind lion")
    assert session.draft.recipe.optim.kind == "lion"


def test_the_groups_add_up_and_name_rule_decay_rate_and_what_is_frozen(page, session):
    session.draft.put(("optim",), {"kind": "muon", "layers": [{"names": "blocks.0.*", "lr_factor": 0.5},
                                                              {"names": "norm*", "lr_factor": 0}]})
    page.tick()
    rows = list(page.areas.object.Rectangles.I.dimension_values("count", expanded=True))
    total = sum(int(count.replace(",", "")) for count in rows)
    assert total == estimate.parameters(session.draft.recipe.model)
    for words in ("Muon, weight decay", "AdamW, no weight decay, learning rate × 0.5", "frozen"):
        assert words in page.shares.html
    session.draft.put(("optim", "layers"), [{"names": "nothing*", "lr_factor": 0}])
    page.tick()
    assert "which no parameter is called" in session.draft.problem(("optim", "layers", 0, "names"))


def test_schedule_free_asks_for_a_constant_rate(page, session):
    session.draft.put(("optim",), {"kind": "schedule_free"})
    assert "made for a constant learning rate" in page.words.html
    page._pressed("constant")
    assert session.draft.recipe.schedule.kind == "constant"
    assert "made for a constant" not in page.words.html


def test_a_range_test_is_begun_on_the_draft_drawn_and_taken(page, session, monkeypatch):
    monkeypatch.setattr(runs, "launch", lambda run: None)
    assert "No test was made yet" in page.test.words.html
    session.draft.put(("name",), "mine")
    page.test.start()
    [run] = runs.listing(session.workspace)
    assert (run.name, runs.recipe_of(run).jobs) == ("mine-lr-range", ("lr_range",))
    assert session.page == "home", "the page stays where it is"
    test, curve = LrRange(), Curve()
    rates = [test.highest * test.factor(step, 140) for step in range(140)]
    rows = [{"step": step + 1, "time": 1.0, "tokens": step, "train/lr": lr,
             "train/loss": 8 - 4 / (1 + (1e-3 / lr) ** 1.5) + (lr / 0.3) ** 2} for step, lr in enumerate(rates)]
    ended = next(place for place, row in enumerate(rows) if curve.add(row["train/lr"], row["train/loss"]))
    run.append("metrics", *rows[:ended + 1])
    run.event("advice", what="lr_range", step=ended, sentence=curve.sentence(), suggestion=curve.suggestion())
    run.write_status(state="finished")
    until = time.monotonic() + 60
    while "is suggested" not in page.test.words.html:
        assert time.monotonic() < until
        page.tick()
        time.sleep(0.05)
    assert page.test.curve_frame.visible
    assert len(page.test.curve.object.Curve.II) == ended + 1
    assert "another" not in page.test.words.html
    page.test._pressed("use")
    assert session.draft.recipe.optim.lr == curve.suggestion()
    session.draft.put(("model", "num_layers"), 1)
    page.tick()
    assert "tested another model than the one that is set now" in page.test.words.html
    page.test._show(None)       # which a drawn picture must survive
    assert not page.test.curve_frame.visible
