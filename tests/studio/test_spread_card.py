"""The Train page's card of several processes: the rows that each takes, and the code that starts them elsewhere."""

from __future__ import annotations

import html
import shlex

import pytest

from engine import runs
from studio import run_parts
from studio.spread_card import SpreadCard


@pytest.fixture
def put(session):
    return lambda **train: [session.draft.put(("train", name), value) for name, value in train.items()]


def shown(card):
    return html.unescape(card.words.html)


def test_the_card_appears_with_the_line_that_starts_several_processes(session, put):
    card = SpreadCard(session)
    assert not card.__panel__().visible
    put(micro_batch_size=16, devices="4")
    assert card.__panel__().visible
    assert "4 processes share the 16 rows of a step: each has 4 at once." in shown(card)
    assert "--nproc-per-node=4" in shown(card)
    put(nodes=2, launcher="torchrun")
    assert "8 processes share the 16 rows" in shown(card)
    assert "--rdzv-endpoint=FIRST_MACHINE:29500" in shown(card)
    assert "must see the workspace" in shown(card)
    put(devices="1", nodes=1, launcher="local")
    assert not card.__panel__().visible


def test_the_card_shows_the_batch_script_and_escapes_what_is_typed(session, put):
    card = SpreadCard(session)
    put(launcher="slurm", devices="2", sbatch=["--comment=<b>"])
    assert "#SBATCH --ntasks-per-node=2\n" in shown(card)
    assert "#SBATCH --comment=<b>\n" in shown(card)
    assert "<b>" not in card.words.html


def test_a_run_that_waits_shows_the_line_to_copy(session):
    run = runs.start(session.draft.recipe.override("train.launcher=torchrun", "train.devices=2"), session.workspace)
    text = html.unescape(run_parts.progress(run.status()))
    line = text.split('class="where">')[1].split("</code>")[0]
    assert shlex.split(line)[-1] == str(run.path)
