"""Parity: the gate that proves an exported graph to be the same model, or refuses it.

PyTorch in float32 and onnxruntime get the same tokens, in every way in which clients will call
the graph. A wrong rotation, a mask that is ignored or a cache that slips shows in one of the
cases at once; a case that passes says by how much the logits differ.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch

from engine.export.held_out import LONGEST, HeldOut
from engine.model.decoder import Decoder
from engine.model.generate import generate
from engine.progress import Progress, silent

GREEDY_TOKENS = 64
PERPLEXITY_TOKENS = 2048
PERPLEXITY_DIGITS = 4
SEED = 7


class Refused(Exception):
    """onnxruntime could not load or run the graph; why, in its words."""


class Client:
    """The graph, called as any client of it would: plain inputs, plain outputs, the past handed back.

    `adapter` is an .onnx_adapter file to switch on.
    """

    def __init__(self, path: Path, adapter: Path | None = None) -> None:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        # Threads that spin while they wait take the cores from PyTorch's, whose turn it is: 2-3 times slower in all.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
            self.options = onnxruntime.RunOptions()
            if adapter is not None:
                self.adapter = onnxruntime.LoraAdapter()    # kept: the options only point at it
                self.adapter.Load(str(adapter))
                self.options.add_active_adapter(self.adapter)
        except Exception as error:  # onnxruntime's errors share no base class of their own
            raise Refused(" ".join(str(error).split())[:300]) from None
        self.past = {value.name: value.shape for value in self.session.get_inputs()
                     if value.name.startswith("past_key_values.")}

    def read(self, ids: np.ndarray, mask: np.ndarray, past: list[np.ndarray]) -> tuple[np.ndarray, list[np.ndarray]]:
        """Logits (B, T, V) of the tokens (B, T) after the past, none if it is empty, and the new past."""
        positions = np.maximum(mask.cumsum(-1) - 1, 0)[:, -ids.shape[1]:]
        past = past or [np.zeros((len(ids), heads, 0, size), np.float32) for _, heads, _, size in self.past.values()]
        inputs = {"input_ids": ids, "attention_mask": mask, "position_ids": positions}
        try:
            logits, *present = self.session.run(
                None, {**inputs, **dict(zip(self.past, past, strict=True))}, self.options)
        except Exception as error:
            raise Refused(" ".join(str(error).split())[:300]) from None
        return logits, present


def compare(model: Decoder, path: Path, tolerance: float, held_out: HeldOut | None = None,
            progress: Progress = silent, adapter: Path | None = None) -> dict[str, Any]:
    """The verdict on the graph at `path`, with an .onnx_adapter file, as an export of `model` (float32, on the CPU).

    `held_out`: text that the model was not trained on; random tokens are used in its place, or after
    it, where there is too little. Passes if no logit of a real token in any case differs by more than
    `tolerance`, greedy texts are equal and perplexities are equal to 4 digits. Returns

        passed, sentence, tolerance, max_difference
        cases       [{"name", "max_difference", "passed"}]
        greedy_tokens_equal, greedy_tokens
        perplexity  {"pytorch", "onnxruntime", "tokens", "text"}: on so many tokens of "held out" text, or of
                    "random" tokens, on which it says nothing about the model but that both are one
    """
    model = model.eval()
    try:
        client = Client(path, adapter)
        with torch.no_grad():
            return _compare(model, client, tolerance, _Text(model, held_out), progress)
    except Refused as error:
        return {"passed": False, "sentence": f"onnxruntime could not run the exported graph: {error}",
                "tolerance": tolerance, "max_difference": None, "cases": [], "greedy_tokens_equal": 0,
                "greedy_tokens": GREEDY_TOKENS}


def _compare(model: Decoder, client: Client, tolerance: float, text: _Text, progress: Progress) -> dict[str, Any]:
    context = model.config.context_length
    length, longest = max(4, min(64, context // 2)), min(context, LONGEST)
    cases: dict[str, Callable[[], float]] = {
        "one text": lambda: _whole(model, client, text.rows(1, length)),
        "padding on the left": lambda: _whole(model, client, text.rows(3, length), "left"),
        "padding on the right": lambda: _whole(model, client, text.rows(3, length), "right"),
        "token by token through the cache": lambda: _stepwise(model, client, text.rows(1, length), ""),
        "token by token, padding on the left": lambda: _stepwise(model, client, text.rows(3, length), "left"),
    }
    found: list[dict[str, Any]] = []
    of = len(cases) + 3
    for number, (name, differ) in enumerate(cases.items()):
        progress(number, of, f"parity: {name}")
        found.append({"name": name, "max_difference": differ()})
    progress(len(cases), of, "parity: the longest text")
    ids = text.rows(1, longest)
    expected, given = _both(model, client, ids, np.ones_like(ids))
    found.append({"name": f"{longest:,} tokens" + (", the full context" if longest == context else ""),
                  "max_difference": _difference(expected, given)})
    progress(len(cases) + 1, of, "parity: perplexity")
    perplexity = _perplexities(model, client, text)
    progress(len(cases) + 2, of, "parity: greedy text")
    wanted, equal = _greedy(model, client, text)
    progress(of, of, "parity")
    for case in found:
        case["passed"] = case["max_difference"] <= tolerance    # not so for NaN
    largest = max((case["max_difference"] for case in found), key=lambda d: math.inf if math.isnan(d) else d)
    close = math.isclose(perplexity["pytorch"], perplexity["onnxruntime"], rel_tol=0.5 * 10**(1 - PERPLEXITY_DIGITS))
    passed = all(case["passed"] for case in found) and equal == wanted and close
    return {"passed": passed, "sentence": _sentence(found, largest, tolerance, equal, wanted, perplexity, passed),
            "tolerance": tolerance, "max_difference": json_number(largest),
            "cases": [{**case, "max_difference": json_number(case["max_difference"])} for case in found],
            "greedy_tokens_equal": equal, "greedy_tokens": wanted,
            "perplexity": {**perplexity, **{name: json_number(perplexity[name])
                                            for name in ("pytorch", "onnxruntime")}}}


class _Text:
    """Rows of tokens to compare on: held-out text first, then random ids."""

    def __init__(self, model: Decoder, held_out: HeldOut | None) -> None:
        self.vocab_size, self.held_out = model.config.vocab_size, held_out

    def rows(self, number: int, length: int) -> np.ndarray:
        """(number, length) int64"""
        ids = np.random.default_rng(SEED).integers(0, self.vocab_size, (number, length))
        if self.held_out is not None:
            known = self.held_out.rows[:number, :length]
            ids[:known.shape[0], :known.shape[1]] = known
        return ids


# The cases ---------------------------------------------------------------------------------------------


def _whole(model: Decoder, client: Client, ids: np.ndarray, side: str = "") -> float:
    """All tokens at once."""
    mask = padding(ids, side)
    return _difference(*_both(model, client, ids, mask), mask)


def _both(model: Decoder, client: Client, ids: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Logits (B, T, V) of PyTorch and of onnxruntime."""
    expected = model(torch.from_numpy(ids), attention_mask=torch.from_numpy(mask)).numpy()
    return expected, client.read(ids, mask, [])[0]


def _stepwise(model: Decoder, client: Client, ids: np.ndarray, side: str) -> float:
    """Half of the tokens at once, the others one by one, against PyTorch reading all of them without a cache."""
    mask, half = padding(ids, side), ids.shape[1] // 2
    logits, past = client.read(ids[:, :half], mask[:, :half], [])
    given = [logits]
    for place in range(half, ids.shape[1]):
        logits, past = client.read(ids[:, place:place + 1], mask[:, :place + 1], past)
        given.append(logits)
    expected = model(torch.from_numpy(ids), attention_mask=torch.from_numpy(mask)).numpy()
    return _difference(expected, np.concatenate(given, axis=1), mask)


def padding(ids: np.ndarray, side: str) -> np.ndarray:
    """1 for tokens; a batch's first rows are padded by a third and by one token, on the side that is named."""
    mask = np.ones_like(ids)
    for row, pads in enumerate((ids.shape[1] // 3, 1) if side else ()):
        mask[row, slice(0, pads) if side == "left" else slice(ids.shape[1] - pads, None)] = 0
    return mask


def _difference(expected: np.ndarray, given: np.ndarray, mask: np.ndarray | None = None) -> float:
    """The largest difference of a logit at a real token; NaN if there is one, since nothing is as far off."""
    apart = np.abs(expected - given)
    return float((apart if mask is None else apart[mask == 1]).max())


def _greedy(model: Decoder, client: Client, text: _Text) -> tuple[int, int]:
    """How many tokens were compared, and how many the two take alike from a beginning of 8 on."""
    context = model.config.context_length
    ids = text.rows(1, min(8, context // 2))
    wanted = min(GREEDY_TOKENS, context - ids.shape[1])
    expected = generate(model, torch.from_numpy(ids), wanted, temperature=0)
    given: list[int] = []
    past: list[np.ndarray] = []
    unread, length = ids, ids.shape[1]
    for _ in range(wanted):
        logits, past = client.read(unread, np.ones((1, length), np.int64), past)
        given.append(int(logits[0, -1].argmax()))
        unread, length = np.array([given[-1:]]), length + 1
    return wanted, sum(one == other for one, other in zip(expected, given, strict=True))


def _perplexities(model: Decoder, client: Client, text: _Text) -> dict[str, Any]:
    """exp of the mean loss of each next token, of both, row by row and on nothing but held-out text if there is any."""
    random = text.held_out is None
    rows = text.rows(1, min(model.config.context_length, LONGEST)) if text.held_out is None else text.held_out.rows
    rows = rows[:max(1, PERPLEXITY_TOKENS // rows.shape[1])]
    sums = {"pytorch": 0.0, "onnxruntime": 0.0}
    for row in rows:
        ids = row[None]
        for name, logits in zip(sums, _both(model, client, ids, np.ones_like(ids)), strict=True):
            sums[name] += float(torch.nn.functional.cross_entropy(
                torch.from_numpy(logits[0, :-1]), torch.from_numpy(row[1:]), reduction="sum"))
    count = rows.shape[0] * (rows.shape[1] - 1)
    found = {name: math.exp(min(700.0, total / count)) for name, total in sums.items()}
    return {**found, "tokens": count, "text": "random" if random else "held out"}


# Words -------------------------------------------------------------------------------------------------


def _sentence(cases: list[dict[str, Any]], largest: float, tolerance: float, equal: int, wanted: int,
              perplexity: dict[str, Any], passed: bool) -> str:
    greedy = f"{equal} of {wanted} greedy tokens equal"
    if passed:
        text = f"{perplexity['tokens']:,} {'held-out' if perplexity['text'] == 'held out' else 'random'} tokens"
        return (f"The ONNX model gives the same logits as PyTorch: largest difference {largest:.1e} over "
                f"{len(cases)} cases, {greedy}, perplexity {perplexity['onnxruntime']:.4g} in both on {text}.")
    wrong = [case["name"] for case in cases if not case["passed"]]
    where = f" ({', '.join(wrong)})" if wrong else ""
    return (f"The ONNX model differs from PyTorch: largest difference of a logit {largest:.1e}, allowed {tolerance:.1e}"
            f"{where}; {greedy}; perplexity {perplexity['pytorch']:.4g} in PyTorch, {perplexity['onnxruntime']:.4g} "
            "in onnxruntime.")


def json_number(number: float) -> float | None:
    """JSON knows no NaN."""
    return number if math.isfinite(number) else None

