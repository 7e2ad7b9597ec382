"""Cost: what a smaller form of the model loses, on held-out text, and whether that is too much.

Each form reads the same text as the float32 graph, which was proved before to be the model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from engine.export import Precision
from engine.export.held_out import HeldOut
from engine.export.parity import GREEDY_TOKENS, Client, Refused
from engine.inference.bundle import size_of
from engine.inference.session import Session
from engine.inference.speed import speeds
from engine.progress import Progress, silent
from engine.tokens.shards import bits_per_byte

OWN_ROWS, OWN_TOKENS = 8, 64    # of text that the model writes itself, where none was held out
PIECE = 256                     # places whose probabilities are compared at once: float64 over the whole vocabulary
GREEDY_ROWS = 4
SPEED_TOKENS = 32
SEED = 7


class Reads(Protocol):
    """Something that reads tokens: `parity.Client`, or what is called like it."""

    def read(self, ids: np.ndarray, mask: np.ndarray, past: list[Any]) -> tuple[np.ndarray, list[Any]]: ...


class Form(NamedTuple):
    """A form of the model in a file, and the most that it may cost."""

    name: str
    path: Path
    open: Callable[[], Reads]
    limits: Mapping[str, float]


def measure(onnx: Path, precisions: Sequence[Precision], text: HeldOut | None, progress: Progress = silent,
            others: Sequence[Form] = ()) -> list[dict[str, Any]]:
    """What each graph in the folder `onnx` costs, float32 first, then the `precisions` and the `others` in their order.

        precision, file, bytes, passed, sentence
        loss, perplexity, bits_per_byte                     on the text, in nats per token and bits
        loss_change, perplexity_change, bits_per_byte_change
        divergence      mean KL divergence (nats) of its next-token probabilities from float32's
        agreement       share of places at which both find the same token likeliest
        greedy_agreement    share of the tokens that both write alike, greedily, until they part
        prefill_tokens_per_second, tokens_per_second        of the graphs, measured here, batch 1, in turns
        tokens, text    how many tokens were read, and whether they were "held out" or the "model's own"

    bits_per_byte is None where the text has no bytes to count: that of the model itself. A graph that
    onnxruntime refuses, or that costs more than its limits, has `passed` False and a sentence that says so.
    """
    baseline = Client(onnx / "model.onnx")
    told = "held out" if text else "model's own"
    text = text or _own(baseline)
    forms = [Form("float32", onnx / "model.onnx", lambda: baseline, {})]
    forms += [Form(precision.kind, path, lambda path=path: Client(path), precision.limits)
              for precision in precisions for path in [onnx / precision.file]]
    found: list[dict[str, Any]] = []
    for number, form in enumerate([*forms, *others]):
        progress(number, len(forms) + len(others) + 1, f"measuring the cost of {form.name}")
        row: dict[str, Any] = {"precision": form.name, "file": str(form.path.relative_to(onnx.parent)),
                               "bytes": size_of(form.path), "tokens": text.rows[:, 1:].size, "text": told}
        try:
            row |= _against(baseline, form.open(), text)
        except Refused as error:
            row |= {"passed": False, "sentence": f"{form.name} is broken: onnxruntime could not run it: {error}"}
        else:
            first = found[0] if found else row
            for measure_name in ("loss", "perplexity", "bits_per_byte"):
                both = row[measure_name], first[measure_name]
                row[f"{measure_name}_change"] = None if None in both else both[0] - both[1]
            row |= _judged(form, row)
        found.append(row)
    progress(len(found), len(found) + 1, "measuring the speed")
    whole = [row for row in found[:len(forms)] if row["passed"]]
    longest = text.rows.shape[1]
    prompt, new = max(1, min(128, longest // 2)), max(2, min(SPEED_TOKENS, longest // 2))
    measured = speeds({row["precision"]: Session(onnx.parent / row["file"]) for row in whole}, prompt, new)
    for row in whole:
        row |= measured[row["precision"]]
    return found


def _against(baseline: Client, client: Reads, text: HeldOut) -> dict[str, Any]:
    """Loss, divergence and agreement over the text, and greedy texts that begin as it does."""
    loss = divergence = agreed = 0.0
    for row in text.rows:
        ids = row[None]
        mask = np.ones_like(ids)
        given = client.read(ids, mask, [])[0][0, :-1]
        wanted = given if client is baseline else baseline.read(ids, mask, [])[0][0, :-1]
        for start in range(0, len(given), PIECE):
            part = slice(start, start + PIECE)
            ours, theirs = _log_softmax(given[part]), _log_softmax(wanted[part])
            loss -= float(np.take_along_axis(ours, row[1:][part, None], -1).sum())
            divergence += float((np.exp(theirs) * (theirs - ours)).sum())
            agreed += int((given[part].argmax(-1) == wanted[part].argmax(-1)).sum())
    count = text.rows[:, 1:].size
    mean = loss / count
    return {"loss": mean, "perplexity": math.exp(min(700.0, mean)) if math.isfinite(mean) else math.inf,
            "bits_per_byte": bits_per_byte(mean, count, text.num_bytes) if text.num_bytes else None,
            "divergence": divergence / count, "agreement": agreed / count,
            "greedy_agreement": 1.0 if client is baseline else _greedy_agreement(baseline, client, text)}


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    """(T, V) float64"""
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def _greedy_agreement(baseline: Client, client: Reads, text: HeldOut) -> float:
    rows = text.rows[:GREEDY_ROWS]
    begun = min(8, max(1, rows.shape[1] // 2))
    new = min(GREEDY_TOKENS, rows.shape[1] - begun)
    wanted, given = (write(which, rows[:, :begun], new) for which in (baseline, client))
    return float(np.cumprod(wanted == given, axis=1).mean()) if new else 1.0


def write(client: Reads, ids: np.ndarray, new: int, dice: np.random.Generator | None = None) -> np.ndarray:
    """The `new` tokens (B, new) that follow rows of tokens (B, T): the likeliest ones, or drawn with `dice`."""
    unread, length, past, made = ids, ids.shape[1], list[Any](), []
    for _ in range(new):
        logits, past = client.read(unread, np.ones((len(ids), length), np.int64), past)
        last = logits[:, -1].astype(np.float64)
        if dice is not None:
            last = last + dice.gumbel(size=last.shape)  # its largest is a draw from the softmax (Gumbel 1954)
        unread, length = last.argmax(-1)[:, None], length + 1
        made.append(unread)
    return np.concatenate(made, axis=1)


def _own(client: Client) -> HeldOut:
    """Text that the float32 model writes itself: what it says of the costs holds, of the model nothing."""
    dice = np.random.default_rng(SEED)
    vocabulary = client.session.get_outputs()[0].shape[-1]
    first = dice.integers(0, vocabulary, (OWN_ROWS, 1))
    tokens = int(client.session.get_modelmeta().custom_metadata_map["context_length"])
    return HeldOut(np.concatenate([first, write(client, first, min(OWN_TOKENS, tokens) - 1, dice)], axis=1), 0.0)


def _judged(form: Form, row: dict[str, Any]) -> dict[str, Any]:
    """Whether the costs stay below the limits, and the sentence that says so."""
    if not form.limits:
        return {"passed": True, "sentence": "float32 is the model as it was trained."}
    limits, wrong = dict(form.limits), []
    costs = f"loss {row['loss_change']:+.4f} nats per token, KL {row['divergence']:.1e}, same likeliest token at " \
            f"{row['agreement']:.1%} of the places"
    if not row["loss_change"] <= limits["max_loss"]:    # not so for NaN
        wrong.append(f"the loss may rise by {limits['max_loss']:g}")
    if not row["divergence"] <= limits["max_divergence"]:
        wrong.append(f"the divergence may be {limits['max_divergence']:g}")
    if not row["agreement"] >= limits["min_agreement"]:
        wrong.append(f"{limits['min_agreement']:.1%} of the places must agree")
    if wrong:
        return {"passed": False, "limits": limits,
                "sentence": f"{form.name} is broken: {costs}; but {' and '.join(wrong)}."}
    return {"passed": True, "limits": limits, "sentence": f"{form.name} costs little: {costs}."}
