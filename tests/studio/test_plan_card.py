"""The plan on the Train page: it follows the draft, offers what makes it fit, and one dial fills the recipe in."""

from __future__ import annotations

import re

import pytest
from planted import plant

from engine import files, runs
from engine.plan import measured, memory, prices
from engine.plan.here import Here
from engine.plan.measured import Measured
from studio import run_account
from studio.pages.stages import Train
from studio.plan_card import PlanCard
from studio.watch import Feed

MACHINE = Here("Test processor", "cpu", 2.0, 8 * 2.0**30, "float32")


@pytest.fixture
def plan(session, monkeypatch) -> PlanCard:
    monkeypatch.setattr("studio.plan_card.here", lambda workspace: MACHINE)
    made = PlanCard(session)
    made.tick()
    return made


def test_what_cannot_come_to_anything_stands_in_the_way_of_a_start(session, monkeypatch):
    monkeypatch.setattr("engine.runs.possible.no_gpu", lambda: "this machine shows no GPU")
    page = Train(session)
    page.view()
    assert not page.start.disabled
    session.draft.put(("name",), "My Novel")
    assert "Ready to start “My Novel” in the folder “my-novel”" in page.ready.html
    session.draft.put(("train", "device"), "cuda")
    session.draft.put(("evaluate", "text_of"), "nobody")
    assert page.start.disabled
    assert page.wait.disabled
    assert "Train device is cuda, but this machine shows no GPU; choose auto or cpu" in page.ready.html
    assert "Evaluate text of is nobody, and there is no such run" in page.ready.html
    assert 'data-press="evaluate"' in page.ready.html


def test_the_figures_move_with_the_draft(plan, session):
    before = plan.figures.html
    session.draft.put(("train", "max_steps"), 2000)
    plan.tick()
    assert plan.figures.html != before
    assert plan.plan.tokens == 2000 * session.draft.settled.tokens_per_step
    assert "Estimated:" in plan.words.html
    assert "an assumption for 2 cores" in plan.words.html
    digits, exponent = re.search(r"([0-9.]+) × 10<sup>(\d+)</sup>", plan.figures.html).groups()
    assert float(digits) * 10**int(exponent) == pytest.approx(plan.plan.flops, rel=0.05)
    for figure in ("Peak memory", "Time", "Energy", "Cost", "Emissions", "Validation loss", "Tokens a parameter"):
        assert figure in plan.figures.html
    session.draft.put(("train", "max_steps"), -1)  # wrong: the plan of the rest stands
    plan.tick()
    assert plan.plan is not None


def test_what_does_not_fit_comes_with_buttons_that_make_it_fit(plan, session):
    session.draft.put(("model", "size"), "small")
    session.draft.put(("train", "micro_batch_size"), 96)
    plan.tick()
    assert "It won" in plan.room.html
    places = [remedy.words for remedy in plan.plan.remedies]
    assert any("rows at once" in words for words in places)
    plan.room.press(f"remedy:{next(i for i, words in enumerate(places) if 'rows at once' in words)}")
    assert plan.plan.fits
    assert not plan.room.html
    train = session.draft.recipe.train
    assert train.micro_batch_size * train.accumulation == 96


def test_prices_can_be_typed_and_a_wrong_one_is_refused_beside_its_field(plan, session):
    cost = plan.plan.cost
    plan.money["electricity"].value = "0.5"
    plan.tick()
    assert plan.plan.cost == pytest.approx(cost * 0.5 / prices.load().electricity.value)
    assert "set in the studio" in plan.assumed.html
    plan.money["electricity"].value = "cheap"
    assert plan.money["electricity"].error_state
    plan.money["electricity"].value = "-1"
    assert "electricity.value" in plan.money["electricity"].helper_text
    assert prices.load(session.workspace).electricity.value == 0.5


def test_watts_and_rent_can_be_typed_too(plan, session):
    watts, cost = plan.plan.watts, plan.table.html
    plan.money["core_watts"].value = "40"
    plan.tick()
    assert plan.plan.watts > watts
    assert prices.load(session.workspace).processor(MACHINE.name).watts == 40
    plan.kind.value = "T4"
    assert plan.money["price"].value == f"{prices.load().machine('T4').price:g}"
    plan.money["price"].value = "12"
    plan.tick()
    assert "12 USD an hour (set in the studio" in plan.table.html
    assert plan.table.html != cost
    plan.kind.value = "H100"
    assert plan.money["price"].value == f"{prices.load().machine('H100').price:g}"
    assert prices.load(session.workspace).machine("H100") == prices.load().machine("H100")


def test_one_dial_proposes_and_one_button_takes_it(plan, session):
    dial = plan.dial
    dial.hours.value = "1"
    dial.propose()
    dial.working.wait()
    plan.tick()
    assert "With 1 h" in dial.answer.html
    assert dial.proposal.plan.wall_seconds == pytest.approx(3600, rel=0.05)
    dial.answer.press("take")
    recipe = session.draft.recipe
    assert recipe == dial.proposal.recipe
    dial.hours.value, dial.budget.value = "0", "0"
    dial.propose()
    dial.working.wait()
    plan.tick()
    assert "Say how many hours" in dial.answer.html


def test_the_dial_says_what_money_is_for_and_spends_it_on_a_rented_machine(plan):
    dial = plan.dial
    assert dial.budget.label == "Money for electricity (USD)"
    assert not dial.devices.visible
    dial.place.value = "A100 80 GB"
    assert dial.budget.label == "Money for rent (USD)"
    dial.hours.value, dial.budget.value, dial.devices.value = "", "5", "many"
    dial.propose()
    assert dial.devices.error_state
    dial.devices.value = "2"
    dial.propose()
    dial.working.wait()
    plan.tick()
    assert "With 5 USD for rent on 2 × A100 80 GB" in dial.answer.html
    assert "Rent" in dial.answer.html
    assert dial.proposal.plan.cost == pytest.approx(5, rel=0.05)


def test_measuring_starts_a_run_of_its_own_and_its_figures_replace_the_guess(plan, session, monkeypatch):
    monkeypatch.setattr(runs, "launch", lambda run: None)
    session.draft.put(("name",), "mine")
    plan._measure()
    run = runs.listing(session.workspace)[0]
    assert runs.recipe_of(run).jobs == ("probe",)
    plan.tick()
    assert plan.measure.loading
    measured.keep(session.workspace, session.draft.recipe, Measured(0.1, 0.03, 0.001, 0.1, 5.0, 0.7, 20.0, 1e10, 17,
                                                                    run.name), MACHINE)
    run.write_status(state="finished")
    plan.tick()
    assert not plan.measure.loading
    assert f"Measured:</b> 17 steps, in run {run.name}." in plan.words.html
    assert plan.plan.memory_bytes == round(0.7 * 2**30) + memory.copy_bytes(session.draft.recipe)


def test_other_machines_are_labelled_estimated(plan):
    assert "Estimated: arithmetic from public figures" in plan.table.html
    assert "1,024" in plan.table.html
    plan.kind.value = "T4"
    assert "T4: 8.1 TFLOP/s in float32" in plan.table.html


def test_the_train_page_shows_the_plan(session):
    page = Train(session)
    page.view().get_root()
    page.tick()
    assert "Validation loss" in page.plan.figures.html


def test_a_run_holds_its_plan_against_what_happened(session):
    run = plant(session.workspace, "planned", steps=400)
    kept = {"seconds": 100.0, "memory_gib": 1.0, "kwh": 0.004, "cost": 1e-3, "currency": "USD", "co2e_kg": 0.002,
            "flops": 1e12, "tokens": 400 * 4096, "parameters": 10**6, "based_on": "<b>a guess</b>", "measured": False,
            "loss": {"loss": 3.5, "low": 3.2, "high": 3.9, "origin": "a fit"}}
    files.write_json(run.path / "plan.json", kept)
    feed = Feed(run)
    feed.poll()
    shown = run_account.check(feed)
    assert "within the interval" in shown
    assert "20% more" in shown      # 120 s of training, 100 foretold
    assert "as foretold" in shown   # energy
    assert "<b>a guess" not in shown
    files.write_json(run.path / "plan.json", {**kept, "loss": {**kept["loss"], "low": 3.4, "high": 3.9, "loss": 3.6}})
    assert "better than foretold" in run_account.check(feed)
    files.write_json(run.path / "plan.json", {**kept, "tokens": 10**9})  # stopped early: nothing to judge
    assert "interval" not in run_account.check(feed).split("Foretold from")[0]


def test_money_below_a_cent_is_not_shown_as_a_figure():
    assert "under 0.01 <small>USD" in run_account.money_words(0.00034, "USD")
    assert 'title="0.00034 USD"' in run_account.money_words(0.00034, "USD")
    assert run_account.money_words(0.01, "USD") == "0.010 <small>USD</small>"
    assert run_account.money_words(0.0, "USD") == "0 <small>USD</small>"


def test_energy_and_advice_are_on_the_run_s_page(session):
    run = plant(session.workspace, "accounted", steps=400)
    run.event("advice", step=9, what="loss spike", sentence="The loss <jumped>.")
    feed = Feed(run)
    feed.poll()
    shown = run_account.account(feed)
    assert "4 <small>Wh</small>" in shown
    assert "estimated" in shown
    assert "93%" in shown
    from studio import run_parts
    assert "<b>Loss spike.</b> The loss &lt;jumped&gt;." in run_parts.timeline(feed)
    assert "The loss &lt;jumped&gt;." in run_parts.trouble(feed)
