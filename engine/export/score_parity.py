"""Score parity: the gate of a model that scores. The same texts get the same scores, and stand in the same order."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from engine.export.held_out import LONGEST
from engine.export.parity import Client, Refused, json_number, padding
from engine.inference.bundle import SCORES
from engine.inference.pairs import Pairs
from engine.inference.scorer import padded
from engine.model.scorer import Scorer
from engine.progress import Progress, silent

AT_ONCE = 8     # texts of one batch
SEED = 7


class ScoringClient(Client):
    """The graph, called as any client of it would."""

    def scores(self, ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """Scores (B, L) of texts (B, T)."""
        try:
            return self.session.run(["logits"], {"input_ids": ids, "attention_mask": mask})[0]
        except Exception as error:  # onnxruntime's errors share no base class of their own
            raise Refused(" ".join(str(error).split())[:300]) from None

    def scores_of(self, texts: Sequence[np.ndarray], pad: int = 0) -> np.ndarray:
        """Scores (N, L) of texts of any lengths, read in batches."""
        parts = [texts[start:start + AT_ONCE] for start in range(0, len(texts), AT_ONCE)]
        return np.concatenate([self.scores(*padded(part, pad)) for part in parts])


def compare(model: Scorer, path: Path, tolerance: float, pairs: Pairs, progress: Progress = silent) -> dict[str, Any]:
    """The verdict on the graph at `path` as an export of `model` (float32, on the CPU).

    Passes if no score in any case differs by more than `tolerance` and every decision is the same: which text of a
    pair scores more, if there is one label, or else which label a text has. A pair that PyTorch has apart by no more
    than twice the tolerance may fall either way. Returns

        passed, sentence, tolerance, max_difference, task "text-classification"
        cases       [{"name", "max_difference", "passed"}]
        decisions, decisions_equal
        pairs       {"pytorch", "onnxruntime", "pairs", "text", "left_out"}: the share of pairs in which each
                    scores the chosen text more; None for texts that nobody has judged, and with several labels
    """
    model = model.eval()
    try:
        client = ScoringClient(path)
        with torch.no_grad():
            return _compare(model, client, tolerance, pairs, progress)
    except Refused as error:
        return {"passed": False, "sentence": f"onnxruntime could not run the exported graph: {error}",
                "task": SCORES, "tolerance": tolerance, "max_difference": None, "cases": [],
                "decisions": 0, "decisions_equal": 0}


def _compare(model: Scorer, client: ScoringClient, tolerance: float, pairs: Pairs,
             progress: Progress) -> dict[str, Any]:
    context = model.config.context_length
    length, longest = max(4, min(64, context // 2)), min(context, LONGEST)
    cases: dict[str, Callable[[], float]] = {
        "one text": lambda: _case(model, client, _rows(model, 1, length)),
        "padding on the left": lambda: _case(model, client, _rows(model, 3, length), "left"),
        "padding on the right": lambda: _case(model, client, _rows(model, 3, length), "right"),
        f"{longest:,} tokens" + (", the full context" if longest == context else ""):
            lambda: _case(model, client, _rows(model, 1, longest)),
    }
    found: list[dict[str, Any]] = []
    for number, (name, differ) in enumerate(cases.items()):
        progress(number, len(cases) + 1, f"parity: {name}")
        found.append({"name": name, "max_difference": differ()})
    progress(len(cases), len(cases) + 1, "parity: pairs")
    expected, given = _scores_of(model, pairs.texts), client.scores_of(pairs.texts, model.pad or 0)
    found.append({"name": f"{len(pairs.chosen)} pairs of texts",
                  "max_difference": float(np.abs(expected - given).max())})
    progress(len(cases) + 1, len(cases) + 1, "parity")
    for case in found:
        case["passed"] = case["max_difference"] <= tolerance    # not so for NaN
    largest = max((case["max_difference"] for case in found), key=lambda d: math.inf if math.isnan(d) else d)
    equal = alike(expected, given, 2 * tolerance)
    passed = all(case["passed"] for case in found) and bool(equal.all())
    return {"passed": passed, "sentence": _sentence(found, largest, tolerance, equal, len(model.labels), pairs, passed),
            "task": SCORES, "tolerance": tolerance, "max_difference": json_number(largest),
            "cases": [{**case, "max_difference": json_number(case["max_difference"])} for case in found],
            "decisions": len(equal), "decisions_equal": int(equal.sum()),
            "pairs": {"pytorch": accuracy(expected, pairs), "onnxruntime": accuracy(given, pairs),
                      "pairs": len(pairs.chosen), "text": pairs.text, "left_out": pairs.left_out}}


def alike(expected: np.ndarray, given: np.ndarray, nothing: float = 0.0) -> np.ndarray:
    """Whether each decision is the same in two arrays of scores (2 N, L), chosen texts first: (N,) or (2 N,) bool.

    With one label, which text of a pair scores more, unless `expected` has the two no farther apart than `nothing`;
    with several, which label a text has.
    """
    if expected.shape[1] > 1:
        return expected.argmax(1) == given.argmax(1)
    ours, theirs = _margins(expected), _margins(given)
    return (np.sign(ours) == np.sign(theirs)) | ((np.abs(ours) <= nothing) & np.isfinite(theirs))


def accuracy(scores: np.ndarray, pairs: Pairs) -> float | None:
    """The share of pairs whose chosen text scores more, if somebody has chosen."""
    return float((_margins(scores) > 0).mean()) if pairs.text == "given" and scores.shape[1] == 1 else None


def _margins(scores: np.ndarray) -> np.ndarray:
    half = len(scores) // 2
    return scores[:half, 0] - scores[half:, 0]


def _rows(model: Scorer, number: int, length: int) -> np.ndarray:
    return np.random.default_rng(SEED).integers(0, model.config.vocab_size, (number, length))


def _case(model: Scorer, client: ScoringClient, ids: np.ndarray, side: str = "") -> float:
    mask = padding(ids, side)
    expected = model(torch.from_numpy(ids), torch.from_numpy(mask)).numpy()
    return float(np.abs(expected - client.scores(ids, mask)).max())


def _scores_of(model: Scorer, texts: Sequence[np.ndarray]) -> np.ndarray:
    """PyTorch's scores (N, L), one text at a time: no padding can be wrong there."""
    return np.concatenate([model(torch.from_numpy(text)[None]).numpy() for text in texts])


def _sentence(cases: list[dict[str, Any]], largest: float, tolerance: float, equal: np.ndarray, labels: int,
              pairs: Pairs, passed: bool) -> str:
    what = "pairs in the same order" if labels == 1 else "texts with the same label"
    told = {"given": "given", "held out": "held-out", "random": "random"}[pairs.text]
    decided = f"{int(equal.sum())} of {len(equal)} {told} {what}"
    if passed:
        return (f"The ONNX model gives the same scores as PyTorch: largest difference {largest:.1e} over {len(cases)} "
                f"cases, {decided}.")
    wrong = [case["name"] for case in cases if not case["passed"]]
    where = f" ({', '.join(wrong)})" if wrong else ""
    return (f"The ONNX model differs from PyTorch: largest difference of a score {largest:.1e}, allowed "
            f"{tolerance:.1e}{where}; {decided}.")
