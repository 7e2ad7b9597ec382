"""Text: token ids become characters as they come, and a stop string ends them."""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import Tokenizer

from engine.config import UserError

UNFINISHED = "\ufffd"


class Writing:
    """Characters out of a growing row of token ids.

    A character of several bytes may come in several tokens; it is given when it is whole. What
    could be the beginning of a stop string is held back until it is known not to be one. Special tokens are left out
    unless `special`.
    """

    def __init__(self, tokenizer: Tokenizer, before: Sequence[int] = (), stop: Sequence[str] = (),
                 special: bool = False) -> None:
        self._tokenizer, self._stop, self._special = tokenizer, [s for s in stop if s], special
        # A few tokens of the prompt stay in front: some decoders drop the space of a text's first word.
        self._ids = list(before[-4:])
        self._start = 0
        self._given = len(self._decode(0))
        self._held = ""
        self.stopped = False

    def add(self, token: int) -> str:
        """The characters that are certain now that `token` follows."""
        self._ids.append(token)
        text = self._decode(self._start)
        # A character has at most 4 bytes, so no more than 3 can wait for the last one.
        waiting = min(3, len(text) - len(text.rstrip(UNFINISHED)))
        whole = text[:len(text) - waiting]
        piece, self._given = whole[self._given:], max(self._given, len(whole))
        if not waiting and len(self._ids) - self._start > 16:
            # Begin again near the end of what is whole, so that a long text isn't decoded over and over.
            start = len(self._ids) - 4
            shorter = self._decode(start)
            if text.endswith(shorter) and UNFINISHED not in shorter:
                self._start, self._given = start, len(shorter)
        return self._until_stop(piece)

    def end(self) -> str:
        """What is left when no token follows: an unfinished character as U+FFFD, and what was held back."""
        rest = self._until_stop(self._decode(self._start)[self._given:])
        held, self._held = self._held, ""
        return rest if self.stopped else rest + held

    def _decode(self, start: int) -> str:
        return self._tokenizer.decode(self._ids[start:], skip_special_tokens=not self._special)

    def _until_stop(self, piece: str) -> str:
        if self.stopped:
            return ""
        text = self._held + piece
        found = [place for place in (text.find(stop) for stop in self._stop) if place >= 0]
        if found:
            self.stopped, self._held = True, ""
            return text[:min(found)]
        longest = max((length for stop in self._stop for length in range(1, len(stop))
                       if text.endswith(stop[:length])), default=0)
        self._held = text[len(text) - longest:]
        return text[:len(text) - longest]


def spelled(tokenizer: Tokenizer, ids: Sequence[int]) -> list[str]:
    """The characters that become certain with each of the tokens, special ones included; together they are the text."""
    writing = Writing(tokenizer, special=True)
    texts = [writing.add(token) for token in ids]
    return [*texts[:-1], texts[-1] + writing.end()] if texts else []


def encoded(tokenizer: Tokenizer, text: str, add_special_tokens: bool = False) -> list[int]:
    """The token ids of a text. Raises UserError for half a character (a lone surrogate), which JSON can spell."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UserError(f"the text holds half a character at {error.start} (U+{ord(text[error.start]):04X}, a "
                        "surrogate without its other half); take it out.", where="prompt") from None
    return tokenizer.encode(text, add_special_tokens=add_special_tokens).ids
