"""Generator: a prompt in, text out, whole, piece by piece, or token by token with probabilities."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from collections.abc import Generator as Iterating
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from engine.config import UserError
from engine.inference import batch
from engine.inference import bundle as folder_of
from engine.inference.chat import render, template_of, tokens_of
from engine.inference.conversation import ends_of
from engine.inference.defaults import defaults, weigh
from engine.inference.sampling import cut, draw, probability, softmax
from engine.inference.session import Cache, Session
from engine.inference.text import Writing, encoded, spelled
from engine.tokens.tokenizer import load as load_tokenizer
from engine.tokens.tokenizer import pieces


@dataclass(frozen=True)
class Token:
    """One token that was generated, or one of the prompt that was asked for too."""

    id: int
    text: str                   # the characters that became certain with it; "" inside an unfinished character
    probability: float          # that the model gave it, before temperature and cuts; NaN for the first of all
    alternatives: tuple[tuple[int, str, float], ...] = ()   # (id, text, probability), likeliest first, itself included
    finish: str = ""            # of the last one: "stop" at the end of a text or a stop string, else "length"
    given: bool = False         # it stands in the prompt


Prompt = str | Sequence[int]
"""A text, or the token ids that it is to be read as."""


class Rendered(str):
    """A prompt that has its special tokens already, as chat templates write it."""


class Generator:
    """An exported model, ready to write. One text at a time: calls from several threads need one each.

    It ends at each of `ends`, and makes what it wrote already less likely by `repetition_penalty`, of which 1 is none:
    both are what the bundle's generation_config.json states.
    """

    def __init__(self, bundle: Path, threads: int = 0, precision: str = folder_of.FULL,
                 adapter: bool = False) -> None:
        if folder_of.scores(bundle):
            raise UserError(f"{bundle.name} scores texts and writes none; choose another bundle, or score with it: "
                            f"studio score {bundle.name} TEXT", where=str(bundle))
        self.config, graph = folder_of.check(bundle, precision)
        self.bundle, self.precision = bundle, precision
        self.context_length = folder_of.context_length(bundle, self.config)
        self.tokenizer = load_tokenizer(bundle / "tokenizer.json")
        # Now, since a checkpoint's bundle is gone once it is open.
        self.template, self._named = template_of(bundle), tokens_of(bundle)
        beside = folder_of.adapter(bundle) if adapter else None
        if adapter and beside is None:
            raise UserError(f"{bundle.name} keeps no adapter apart from its weights; leave the adapter out.",
                            where="adapter")
        self._session = Session(graph, threads, beside)
        self.vocab_size = self._session.vocab_size
        self.begin, self.ends, self.repetition_penalty = defaults(bundle, self.config)

    def generate(self, prompt: str, max_new_tokens: int = 128, temperature: float = 0.8, top_k: int = 0,
                 top_p: float = 1.0, seed: int | None = None, stop: Sequence[str] = ()) -> str:
        """The text that continues the prompt.

        It ends after `max_new_tokens`, at the end of a text, before the first of the `stop` strings, or
        when the context is full. `temperature` 0 always takes the likeliest token; `top_k` and `top_p`
        as in `sampling.cut`. The same `seed` gives the same text. Raises UserError for settings out of
        range and for a prompt that fills the context.
        """
        return "".join(self.stream(prompt, max_new_tokens, temperature, top_k, top_p, seed, stop))

    def stream(self, prompt: str, max_new_tokens: int = 128, temperature: float = 0.8, top_k: int = 0,
               top_p: float = 1.0, seed: int | None = None, stop: Sequence[str] = ()) -> Iterator[str]:
        """`generate` in pieces, each as soon as it is certain; never half a character."""
        tokens = self.tokens(prompt, max_new_tokens, temperature, top_k, top_p, seed, stop)
        return (token.text for token in tokens if token.text)

    def tokens(self, prompt: Prompt, max_new_tokens: int = 128, temperature: float = 0.8, top_k: int = 0,
               top_p: float = 1.0, seed: int | None = None, stop: Sequence[str] = (),
               alternatives: int = 0, echo: bool = False, ends: Collection[int] = ()) -> Iterator[Token]:
        """`generate` token by token, with the `alternatives` likeliest tokens at each place.

        `ends` are tokens that end the text besides the model's own, such as `turn_ends` for an answer. The texts of
        the tokens together are what `generate` returns. The token that ends a text is among them, with what was still
        held back as its text. With `echo` the prompt's tokens come first, with the probabilities that the model gave
        them; `max_new_tokens` may be 0 then.
        """
        _check(max_new_tokens, temperature, top_k, top_p, least=0 if echo else 1)
        stop = [stop] if isinstance(stop, str) else list(stop)
        ids = self.encode(prompt, room=min(1, max_new_tokens))
        return self._tokens(ids, max_new_tokens, temperature, top_k, top_p, np.random.default_rng(seed), stop,
                            alternatives, self.ends.union(ends), self._spelled(prompt, ids) if echo else None)

    def _tokens(self, prompt: np.ndarray, most: int, temperature: float, top_k: int, top_p: float,
                dice: np.random.Generator, stop: Sequence[str], alternatives: int,
                ends: frozenset[int], echo: list[str] | None = None) -> Iterator[Token]:
        most = min(most, self.context_length - len(prompt))
        cache = self._session.cache(len(prompt) + most)
        writing = Writing(self.tokenizer, prompt.tolist(), stop)
        unread, known = prompt, prompt.tolist()
        if echo is not None:
            logits = yield from self._read_aloud(cache, prompt, echo, alternatives, "" if most else "length")
        for count in range(1, most + 1):
            if echo is None or count > 1:
                logits = cache.read(unread)
            weighed = weigh(logits, known, self.repetition_penalty)
            token = draw(cut(weighed, temperature, top_k, top_p), dice) if temperature else int(weighed.argmax())
            others = self._likeliest(softmax(logits), alternatives) if alternatives else ()
            share = probability(logits, token)
            over = token in ends
            text = "" if over else writing.add(token)
            finish = "stop" if over or writing.stopped else "length" if count == most else ""
            over = bool(finish)
            rest = writing.end() if over else ""
            # What was held back may hold the stop string.
            finish = "stop" if writing.stopped else finish
            yield Token(token, text + rest, share, others, finish)
            if over:
                return
            unread = np.array([token])
            known.append(token)

    def _read_aloud(self, cache: Cache, prompt: np.ndarray, texts: list[str], alternatives: int,
                    finish: str) -> Iterating[Token, None, np.ndarray]:
        """The prompt's own tokens; returns the logits (V,) after the last, which has `finish`."""
        ids, place = prompt.tolist(), 0
        yield Token(ids[0], texts[0], math.nan, (), finish if len(ids) == 1 else "", given=True)
        for part in cache.parts(prompt):
            for logits in part:
                place += 1
                if place < len(ids):
                    shares = softmax(logits)
                    yield Token(ids[place], texts[place], float(shares[ids[place]]),
                                self._likeliest(shares, alternatives), finish if place == len(ids) - 1 else "",
                                given=True)
        return logits

    def _spelled(self, prompt: Prompt, ids: np.ndarray) -> list[str]:
        """The characters that each token of a prompt stands for; together they are the prompt."""
        if not isinstance(prompt, str):
            return spelled(self.tokenizer, ids.tolist())
        own = pieces(self.tokenizer, prompt)
        added, alone = len(ids) - len(own), [number for number, _ in own]
        before = next((place for place in range(added, -1, -1)
                       if ids[place:place + len(own)].tolist() == alone), added)
        # What the tokenizer puts around a text goes unsaid.
        return [""] * before + [text for _, text in own] + [""] * (added - before)

    def batch(self, prompts: Sequence[str], max_new_tokens: int = 128, temperature: float = 0.8, top_k: int = 0,
              top_p: float = 1.0, seed: int | None = None, stop: Sequence[str] = ()) -> list[str]:
        """`generate` for several prompts in one batch, padded on the left: the weights are read once for all of them.

        Prompt number n has the seed `seed` + n, so that its text is the one that `generate` gives for it.
        All stop when the context of the longest is full.
        """
        _check(max_new_tokens, temperature, top_k, top_p)
        rows = [self.encode(prompt) for prompt in prompts]
        texts, stops = [""] * len(rows), [stop] if isinstance(stop, str) else list(stop)
        seeds = [None if seed is None else seed + number for number in range(len(rows))]
        if rows:
            for token in batch.write(self, rows, seeds, max_new_tokens, temperature, top_k, top_p, stops):
                texts[token.row] += token.text
        return texts

    @staticmethod
    def check(max_new_tokens: int = 128, temperature: float = 0.8, top_k: int = 0, top_p: float = 1.0) -> None:
        """UserError for settings out of range, before anything is written."""
        _check(max_new_tokens, temperature, top_k, top_p)

    def step(self, ids: np.ndarray, mask: np.ndarray,
             past: list[np.ndarray] | None = None) -> tuple[np.ndarray, list[np.ndarray]]:
        """As `Session.step`: logits (B, V) after the last of the tokens (B, T) of several rows, and the new past."""
        return self._session.step(ids, mask, past)

    @property
    def token_bytes(self) -> int:
        """Of keys and values, for each token of a text."""
        return self._session.token_bytes

    def chat(self, messages: Sequence[Mapping[str, Any]]) -> Rendered:
        """The prompt for an answer to messages ({"role", "content"}), by the model's own chat template."""
        return Rendered(render(self.template, messages, self._named))

    @cached_property
    def turn_ends(self) -> frozenset[int]:
        """The tokens that end an answer: those that end a text, and what the chat template puts behind a turn."""
        return self.ends | ends_of(self.template, self._named, self.tokenizer)

    def encode(self, prompt: Prompt, room: int = 1) -> np.ndarray:
        """The token ids (T,) of a prompt, with what the tokenizer puts around texts unless the prompt is `Rendered`.

        An empty prompt begins a new text. Raises UserError if it leaves no room for `room` more tokens in the context,
        and for half a character in it.
        """
        ids = (encoded(self.tokenizer, prompt, not isinstance(prompt, Rendered)) if isinstance(prompt, str)
               else [int(number) for number in prompt])
        if not ids:
            # In training, the end of a text is what stands before the next.
            begin = min(self.ends, default=None) if self.begin is None else self.begin
            if begin is None:
                raise UserError("the prompt is empty, and this model knows no token that begins a text; "
                                "write at least one word.", where="prompt")
            ids = [begin]
        if len(ids) + room > self.context_length:
            raise UserError(f"the prompt has {len(ids)} tokens, but the model sees {self.context_length} at once"
                            f"{' and needs room for an answer' if room else ''}; shorten it.", where="prompt")
        if min(ids) < 0 or (not isinstance(prompt, str) and max(ids) >= self.vocab_size):
            raise UserError(f"the prompt holds a token that is none of the model's {self.vocab_size}.", where="prompt")
        if max(ids) >= self.vocab_size:
            raise UserError(f"the prompt has the token {max(ids)}, but the model knows {self.vocab_size} tokens; "
                            "tokenizer.json is of another model.", where="prompt")
        return np.array(ids, np.int64)

    def logits(self, ids: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
        """Logits (B, T, V) of the token after each of `ids` (B, T); `mask` (B, T) is 0 at padding, on either side."""
        ids = np.ascontiguousarray(ids, np.int64)
        mask = np.ones_like(ids) if mask is None else np.ascontiguousarray(mask, np.int64)
        if ids.ndim != 2 or mask.shape != ids.shape:
            raise UserError(f"ids are {ids.shape} and their mask is {mask.shape}; both must be (rows, tokens).")
        if ids.shape[1] > self.context_length:
            raise UserError(f"{ids.shape[1]} tokens are more than the model's context of {self.context_length}; "
                            "cut them.")
        if ids.size and not 0 <= ids.min() <= ids.max() < self.vocab_size:
            raise UserError(f"token ids must be from 0 to {self.vocab_size - 1}; found {ids.min()} to {ids.max()}.")
        return self._session.logits(ids, mask)

    def _likeliest(self, shares: np.ndarray, number: int) -> tuple[tuple[int, str, float], ...]:
        number = min(number, len(shares))
        if number <= 0:
            return ()
        best = np.argpartition(-shares, number - 1)[:number]
        best = best[np.argsort(-shares[best], kind="stable")]
        return tuple((int(i), self.tokenizer.decode([int(i)], skip_special_tokens=False), float(shares[i]))
                     for i in best)


def _check(max_new_tokens: int, temperature: float, top_k: int, top_p: float, least: int = 1) -> None:
    for wrong, name, value, right in (
        (max_new_tokens < least, "max_new_tokens", max_new_tokens, f"at least {least}"),
        (not 0 <= temperature < float("inf"), "temperature", temperature, "0 or more"),
        (top_k < 0, "top_k", top_k, "0 (all) or more"),
        (not 0 < top_p <= 1, "top_p", top_p, "more than 0 and at most 1"),
    ):
        if wrong:
            raise UserError(f"{name} is {value}; it must be {right}.", where=name)
