"""Score cost: what a smaller form of a model that scores loses, and whether that is too much."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from engine.export import Precision
from engine.export.parity import Refused
from engine.export.score_parity import ScoringClient, accuracy, alike
from engine.inference.bundle import size_of
from engine.inference.pairs import Pairs
from engine.progress import Progress, silent

ROUNDS = 3
SMALLEST = 1e-6     # spread: scores that are all one differ by nothing that a share could tell


def measure(onnx: Path, precisions: Sequence[Precision], pairs: Pairs, pad: int = 0,
            progress: Progress = silent) -> list[dict[str, Any]]:
    """What each graph in the folder `onnx` costs, float32 first, then the `precisions` in their order.

        precision, file, bytes, passed, sentence, pairs
        score_change    mean change of a score, as a share of the standard deviation of float32's scores
        largest_change  the largest change of a score, in its own unit
        agreement       share of the decisions (`score_parity.alike`) that are float32's
        accuracy        share of pairs whose chosen text scores more; None where nobody has chosen
        prefill_tokens_per_second    measured here, one text at a time, in turns

    A graph that onnxruntime refuses, or that costs more than its limits, has `passed` False and a sentence that says
    so. One decision more than its limit may always fall otherwise: few pairs make coarse shares.
    """
    clients: dict[str, ScoringClient] = {}
    found: list[dict[str, Any]] = []
    expected = np.zeros((0, 1))
    for number, precision in enumerate((None, *precisions)):
        name = precision.kind if precision else "float32"
        progress(number, len(precisions) + 2, f"measuring the cost of {name}")
        path = onnx / (precision.file if precision else "model.onnx")
        row: dict[str, Any] = {"precision": name, "file": f"onnx/{path.name}", "bytes": size_of(path),
                               "pairs": len(pairs.chosen), "text": pairs.text}
        try:
            clients[name] = ScoringClient(path)
            given = clients[name].scores_of(pairs.texts, pad)
        except Refused as error:
            row |= {"passed": False, "sentence": f"{name} is broken: onnxruntime could not run it: {error}"}
        else:
            expected = given if precision is None else expected
            row |= _against(expected, given, pairs)
            row |= _judged(precision, row)
        found.append(row)
    progress(len(precisions) + 1, len(precisions) + 2, "measuring the speed")
    text = max(pairs.texts, key=len)[None]
    whole = [row for row in found if row["passed"]]
    taken = _seconds({row["precision"]: clients[row["precision"]] for row in whole}, text)
    for row in whole:
        row["prefill_tokens_per_second"] = text.size / taken[row["precision"]]
    return found


def _against(expected: np.ndarray, given: np.ndarray, pairs: Pairs) -> dict[str, Any]:
    change, equal = np.abs(expected - given).astype(np.float64), alike(expected, given)
    spread = max(float(expected.std(0).mean()), SMALLEST)
    return {"score_change": float(change.mean()) / spread, "largest_change": float(change.max()),
            "agreement": float(equal.mean()), "decisions": len(equal), "accuracy": accuracy(given, pairs)}


def _judged(precision: Precision | None, row: dict[str, Any]) -> dict[str, Any]:
    if precision is None:
        return {"passed": True, "sentence": "float32 is the model as it was trained."}
    limits, wrong = precision.score_limits, []
    costs = (f"scores move by {row['score_change']:.2%} of their spread, {row['agreement']:.1%} of the decisions are "
             "the same")
    if not row["score_change"] <= limits["max_score"]:  # not so for NaN
        wrong.append(f"they may move by {limits['max_score']:.1%}")
    if row["agreement"] * row["decisions"] < math.floor(limits["min_agreement"] * row["decisions"]):
        wrong.append(f"{limits['min_agreement']:.1%} of the decisions must be the same")
    if wrong:
        return {"passed": False, "limits": limits,
                "sentence": f"{precision.kind} is broken: {costs}; but {' and '.join(wrong)}."}
    return {"passed": True, "limits": limits, "sentence": f"{precision.kind} costs little: {costs}."}


def _seconds(clients: dict[str, ScoringClient], text: np.ndarray) -> dict[str, float]:
    """The shortest time of each for one text; they take turns, so that a busy moment falls on all of them."""
    best, mask = dict.fromkeys(clients, math.inf), np.ones_like(text)
    for _ in range(ROUNDS):
        for name, client in clients.items():
            begun = time.perf_counter()
            client.scores(text, mask)
            best[name] = min(best[name], time.perf_counter() - begun)
    return best
