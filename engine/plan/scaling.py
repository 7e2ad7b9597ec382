"""Scaling: the loss to expect of a size and an amount of text, by published laws and by one fitted to small runs.

L(N, D) = E + A / N^alpha + B / D^beta (Hoffmann et al. 2022), here in nats a byte, so that tokenizers don't matter.
The published laws were fitted from 44M parameters and 10^18 FLOPs up; below, they say more than guessing would. So
small models have a law of their own, fitted to runs of this engine (`benchmarks/scaling.py`), and from there the
prediction goes over into the published one. Text differs from text: runs on the same tokens shift the law.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

PUBLISHED_BYTES = 4.2  # a token of the 32,000 that the published losses are counted in: an assumption
REPEATS = 15.39        # R*: repeated text is worth exponentially less (Muennighoff et al. 2023)
Z90 = 1.645


class Law(NamedTuple):
    """One fit. Losses in nats a byte; `spread` is the standard deviation of its logarithm around the law."""

    name: str
    base: float     # E
    size: float     # A
    data: float     # B
    alpha: float
    beta: float
    spread: float
    source: str

    def loss(self, parameters: float, tokens: float) -> float:
        return self.base + self.size / parameters ** self.alpha + self.data / tokens ** self.beta


def _published(name: str, base: float, size: float, data: float, alpha: float, beta: float, source: str) -> Law:
    bits = PUBLISHED_BYTES
    return Law(name, base / bits, size / bits, data / bits, alpha, beta, 0.04, source)


HOFFMANN = _published("hoffmann", 1.69, 406.4, 410.7, 0.34, 0.28, "Hoffmann et al. 2022, third approach")
BESIROGLU = _published("besiroglu", 1.8172, 482.01, 2085.43, 0.3478, 0.3658, "Besiroglu et al. 2024")
SMALL = Law("small", BESIROGLU.base, 16.99, 7.754, BESIROGLU.alpha, 0.18, 0.05,
            "a fit to six small runs of this engine")
"""E and alpha are those of Besiroglu et al., which six runs cannot find; A, B and beta are fitted to the runs of
`benchmarks/scaling.json` (0.15 to 3M parameters without embedding, 0.1 to 2M tokens). They lie within 5 % of it."""

SMALL_FLOPS = 2e13              # where the small runs end
PUBLISHED_PARAMETERS, PUBLISHED_TOKENS = 44e6, 1e9  # where the published ones begin
SHARPNESS = 12                  # of the maximum of the two laws
GAP_SPREAD = 0.10               # of the logarithm of the loss between them, where nothing was tried: an assumption

TEXT_SPREAD = 0.10  # of the logarithm of the loss, from one English text to another, with no run on the text itself
RUN_SPREAD = 0.02   # from one run to the next on the same text: seed, validation text


class Seen(NamedTuple):
    """What one finished run came to; loss in nats a byte, `unique` tokens of text."""

    parameters: float
    tokens: float
    unique: float
    loss: float
    non_embedding: float


class Prediction(NamedTuple):
    """A validation loss in nats a token, with its 90 % interval, and where both are from."""

    loss: float
    low: float
    high: float
    origin: str


def worth(tokens: float, unique: float) -> float:
    """Tokens of new text that `tokens` of a text of `unique` tokens are worth (Muennighoff et al. 2023)."""
    if tokens <= unique:
        return tokens
    return unique * (1 + REPEATS * (1 - math.exp(-(tokens / unique - 1) / REPEATS)))


def per_byte(parameters: float, non_embedding: float, tokens: float, unique: float) -> tuple[float, float, str]:
    """(nats a byte, standard deviation of its logarithm, law) before any run on this text is looked at.

    The small law, but hardly below what the published one says of the nearest size and text that it was fitted to:
    both fall with size and text, so their smooth maximum does, and goes over into the published law.
    """
    data = worth(tokens, unique)
    near = max(parameters, PUBLISHED_PARAMETERS), max(data, PUBLISHED_TOKENS)
    small, one, other = SMALL.loss(non_embedding, data), BESIROGLU.loss(*near), HOFFMANN.loss(*near)
    loss = (small ** SHARPNESS + one ** SHARPNESS) ** (1 / SHARPNESS)
    if near == (parameters, data):
        between = abs(math.log(one / other)) / 2  # how far two fits to the same models disagree
        return loss, math.hypot(BESIROGLU.spread, between), BESIROGLU.source
    away = min(1.0, max(0.0, math.log10(6 * parameters * data / SMALL_FLOPS)))
    if away == 0:
        return loss, SMALL.spread, SMALL.source
    return loss, math.hypot(SMALL.spread, GAP_SPREAD * away), f"between {SMALL.source} and {BESIROGLU.source}"


def predict(parameters: float, non_embedding: float, tokens: float, unique: float, bytes_per_token: float,
            seen: Sequence[Seen] = ()) -> Prediction:
    """The validation loss in nats a token at the end of a run. `seen`: finished runs on the same text."""
    loss, spread, origin = per_byte(parameters, non_embedding, tokens, unique)
    if not seen:
        spread = math.hypot(spread, TEXT_SPREAD)
        origin += ("; the interval (90 %) is the scatter around that law and what one English text differs from "
                   "another, which a first run on this text takes away")
    else:
        ratios = [math.log(run.loss / per_byte(run.parameters, run.non_embedding, run.tokens, run.unique)[0])
                  for run in seen]
        mean = math.fsum(ratios) / len(ratios)
        own = math.sqrt(math.fsum((each - mean) ** 2 for each in ratios) / (len(ratios) - 1)) if len(ratios) > 1 else 0
        loss *= math.exp(mean)
        spread = math.hypot(RUN_SPREAD, max(own, spread / len(ratios) if len(ratios) < 3 else 0))
        runs = f"{len(ratios)} finished {'run' if len(ratios) == 1 else 'runs'} on this text"
        origin += f", shifted to {runs}; the interval (90 %) is the scatter of such runs around the law"
    nats = loss * bytes_per_token
    return Prediction(nats, nats * math.exp(-Z90 * spread), nats * math.exp(Z90 * spread), origin)


def bytes_per_token(vocab_size: int) -> float:
    """A guess for English before anything is tokenized: 3.6 at 2,048 tokens, 4.6 at 32,768."""
    return 5.0 * (1 - math.exp(-math.log2(max(vocab_size, 300) / 128) / 3.2))


# Sizes and steps --------------------------------------------------------------------------------------


def optimal(flops: float, law: Law = BESIROGLU) -> tuple[float, float]:
    """(parameters, tokens) of the lowest loss for 6ND = `flops`, in closed form (Hoffmann et al. 2022, eq. 4)."""
    both = law.alpha + law.beta
    ratio = (law.alpha * law.size / (law.beta * law.data)) ** (1 / both)
    parameters = ratio * (flops / 6) ** (law.beta / both)
    return parameters, flops / 6 / parameters


def optimal_tokens(parameters: float) -> tuple[float, float]:
    """Compute-optimal tokens for a size: (20 a parameter by Hoffmann et al. 2022, by Besiroglu et al. 2024's fit)."""
    law = BESIROGLU
    # At the optimum alpha A / N^alpha = beta B / D^beta.
    tokens = (law.beta * law.data * parameters ** law.alpha / (law.alpha * law.size)) ** (1 / law.beta)
    return 20 * parameters, tokens


def batch_tokens(tokens: float) -> float:
    """Tokens in one step (the step law of Li et al. 2025)."""
    return 0.58 * tokens ** 0.571


def learning_rate(non_embedding: float, tokens: float) -> float:
    """AdamW's peak (the step law of Li et al. 2025), at most 0.01, above which small runs here got worse."""
    return min(0.01, 1.79 * non_embedding ** -0.713 * tokens ** 0.307)


