"""The limits that a form of a model is held to stand beside what it costs."""

from __future__ import annotations

import math

import pytest

from engine.export import PRECISIONS
from engine.export.cost import _judged
from studio import costs, score_costs
from studio.cost_limits import of_writing

INT8 = {"precision": "int8", "file": "onnx/model_int8.onnx", "bytes": 1000, "passed": True, "sentence": "", "tokens": 9,
        "text": "held out", "loss": 3.0, "loss_change": 0.001, "perplexity": math.exp(3.0), "bits_per_byte": 1.2,
        "perplexity_change": math.exp(3.0) - math.exp(2.999), "bits_per_byte_change": 0.0004, "divergence": 1e-4,
        "agreement": 0.99, "greedy_agreement": 1.0, "tokens_per_second": 10.0, "prefill_tokens_per_second": 20.0,
        "limits": {"max_loss": 0.005, "max_divergence": 0.004, "min_agreement": 0.97}}


def test_each_limit_stands_under_its_figure_and_float32_has_none():
    told = costs.table([{**INT8, "precision": "float32", "limits": None}, INT8])
    before, after = told.split("<b>int8</b>")
    assert "limit" not in before
    for words in ("≤ 4.0e-03", "≥ 97.0%", "The loss may rise by 0.005 nats per token", "≤ +0.0020", "≤ +0.1"):
        assert words in after
    assert after.count('class="limit"') == 4


@pytest.mark.parametrize(("rise", "passed"), [(0.99, True), (1.01, False)])
def test_the_limits_shown_are_those_at_which_the_gate_closes(rise, passed):
    """A form whose loss rises by so much of the limit has perplexity and bits a byte on the same side of theirs."""
    precision = PRECISIONS["int8"]()
    base = 3.0
    loss = base + rise * precision.max_loss
    row = {**INT8, "loss": loss, "loss_change": loss - base, "perplexity": math.exp(loss),
           "perplexity_change": math.exp(loss) - math.exp(base), "bits_per_byte": loss * 0.4,
           "bits_per_byte_change": (loss - base) * 0.4}
    limits = of_writing({**row, "limits": precision.limits})
    exact = {"perplexity_change": math.exp(base) * math.expm1(precision.max_loss),
             "bits_per_byte_change": precision.max_loss * 0.4}
    for name, limit in exact.items():
        assert float(limits[name][0].removeprefix("≤ ")) == pytest.approx(limit, rel=0.06)
        assert (row[name] <= limit) == passed
    try:
        judged = _judged(precision, row)
    except AttributeError:      # where the gate takes forms and no precisions
        from engine.export.cost import Form

        judged = _judged(Form("int8", None, None, precision.limits), row)
    assert judged["passed"] == passed


def test_those_of_scores_too():
    row = {"precision": "int8", "bytes": 1, "passed": True, "sentence": "", "pairs": 3, "text": "given",
           "score_change": 0.01, "largest_change": 0.1, "agreement": 1.0, "accuracy": 0.5,
           "limits": {"max_score": 0.05, "min_agreement": 0.9}}
    told = score_costs.table([row])
    assert "≤ 5.00%" in told
    assert "≥ 90.0%" in told
