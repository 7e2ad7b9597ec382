"""The still figures: what they draw is what they were given."""

from __future__ import annotations

import math

import holoviews as hv
import pytest

from engine.model import ModelConfig, estimate
from engine.optim.schedules import WSD
from studio import figures

STEPS = [{"step": "clean", "documents_in": 10, "documents_out": 10, "bytes_in": 1000, "bytes_out": 900},
         {"step": "exact_duplicates", "documents_in": 10, "documents_out": 6, "bytes_in": 900, "bytes_out": 500}]


def layer(overlay: hv.Overlay, kind: type, place: int = 0) -> hv.Element:
    return [element for element in overlay if isinstance(element, kind)][place]


def test_a_waterfall_keeps_and_drops_what_the_ledger_says():
    figure = figures.waterfall(STEPS)
    kept, dropped = layer(figure, hv.Rectangles), layer(figure, hv.Rectangles, 1)
    assert list(kept["x1"]) == [10, 10, 6]
    assert (list(dropped["x0"]), list(dropped["x1"])) == ([6], [10])
    assert list(layer(figure, hv.Labels)["text"]) == ["10", "10", "6  −4"]
    assert layer(figures.waterfall(STEPS, "bytes"), hv.Labels)["text"][1] == "900 B  −100 B"


@pytest.mark.parametrize("config", [ModelConfig(), ModelConfig(family="gpt2", size="micro", tied_embeddings=False)])
def test_areas_are_shares_of_the_parameters(config):
    boxes = layer(figures.parameters(estimate.tree(config)), hv.Rectangles)
    areas = (boxes["x1"] - boxes["x0"]) * (boxes["y1"] - boxes["y0"])
    assert areas.sum() == pytest.approx(1)
    total = estimate.parameters(config)
    for area, count in zip(areas, boxes["count"], strict=True):
        assert area == pytest.approx(int(count.replace(",", "")) / total, rel=1e-6)


def test_the_learning_rate_is_the_schedule_s():
    schedule = WSD(warmup_steps=10)
    curve = layer(figures.learning_rate(schedule.factor, 0.02, 100), hv.Curve)
    assert len(curve) == 100
    expected = [0.02 * schedule.factor(step, 100) for step in range(100)]
    assert [float(rate) for rate in curve["learning rate"]] == pytest.approx(expected)


def test_a_run_of_one_step_has_a_learning_rate():
    hv.render(figures.learning_rate(WSD(warmup_steps=0).factor, 0.02, 1))


def test_lengths_are_cropped_to_where_documents_are_and_marks_stay_in_sight():
    figure = figures.histogram([1, 2, 4, 8, 16], [0, 5, 3, 0], of="tokens", marks={64: "64: 100 %"})
    bars = layer(figure, hv.Rectangles)
    assert (list(bars["x0"]), list(bars["x1"]), list(bars["y1"])) == ([2, 4], [4, 8], [5, 3])
    assert hv.render(figure).x_range.end > 64
    hv.render(figures.histogram([], []))
    hv.render(figures.histogram([1030, 1400, 1900], [1, 2]))


def test_parity_shows_what_failed_and_what_was_no_number():
    cases = [{"name": "one text", "max_difference": 2e-5, "passed": True},
             {"name": "exact", "max_difference": 0.0, "passed": True},
             {"name": "padding", "max_difference": 0.3, "passed": False},
             {"name": "broken", "max_difference": None, "passed": False}]
    figure = figures.parity(cases, 1e-3)
    points = layer(figure, hv.Points)
    assert list(points["colour"]) == [figures.GOOD, figures.GOOD, figures.BAD, figures.BAD]
    assert list(points["figure"]) == ["2e-05", "0", "0.3", "no number"]
    assert all(math.isfinite(x) and x > 0 for x in points["difference"])
    hv.render(figure)
    hv.render(figures.parity([], 1e-3))


@pytest.mark.parametrize(("value", "words"), [(0, "0"), (9999, "9,999"), (12_345, "12.3k"), (4.5e6, "4.5M")])
def test_counts_are_written_as_people_write_them(value, words):
    assert figures.number(value) == words


@pytest.mark.parametrize(("value", "words"), [(0, "0 B"), (1023, "1,023 B"), (1536, "1.5 KiB"), (3 << 30, "3 GiB")])
def test_bytes_are_written_in_the_unit_that_fits(value, words):
    assert figures.byte_size(value) == words
