"""Conversation: messages in turns, answered one after the other, and where an answer ends."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tokenizers import Tokenizer

from engine.config import UserError
from engine.inference.chat import render

if TYPE_CHECKING:
    from engine.inference.generator import Generator, Token

Messages = list[dict[str, str]]
NO_TEMPLATE = "This model has no chat template: it continues texts and was not taught to answer."
MARK = "answer"


def ends_of(template: str, named: Mapping[str, str], tokenizer: Tokenizer) -> frozenset[int]:
    """The special token that a template puts behind what the assistant wrote; none if it puts text there."""
    if not template:
        return frozenset()
    try:
        whole = render(template, [{"role": "user", "content": "question"}, {"role": "assistant", "content": MARK}],
                       named, answer=False)
    except UserError:
        return frozenset()      # a template that refuses this conversation tells so when it gets a real one
    ids = tokenizer.encode(whole.rpartition(MARK)[2].lstrip(), add_special_tokens=False).ids
    special = {number for number, token in tokenizer.get_added_tokens_decoder().items() if token.special}
    return frozenset(ids[:1]) & special


class Conversation:
    """What was said to one model and what it said. The last answer can be taken back, or asked for again."""

    def __init__(self, system: str = "") -> None:
        self.system, self.turns = system, Messages()
        self.attempt = 0        # how often the last answer was asked for again

    @property
    def messages(self) -> Messages:
        """What the template gets: the system message, if there is one, and the turns."""
        before = [{"role": "system", "content": self.system}] if self.system.strip() else []
        return [*before, *self.turns]

    def say(self, text: str) -> None:
        """The person's turn."""
        self.turns.append({"role": "user", "content": text})
        self.attempt = 0

    def heard(self, text: str) -> None:
        """The model's turn, whole or as far as it came."""
        self.turns.append({"role": "assistant", "content": text})

    def again(self) -> bool:
        """Forget the last answer, so that the same question is asked with other dice; False if there is none."""
        if not self.turns or self.turns[-1]["role"] != "assistant":
            return False
        self.turns.pop()
        self.attempt += 1
        return True

    def take_back(self) -> str:
        """Forget the last turn of both; the text that was said. Empty if nothing was."""
        while self.turns:
            turn = self.turns.pop()
            if turn["role"] == "user":
                return turn["content"]
        return ""


def answer(model: Generator, messages: Sequence[Mapping[str, Any]], **settings: Any) -> Iterator[Token]:
    """The tokens of the answer to messages ({"role", "content"}); `settings` as of `Generator.tokens`.

    Raises UserError for a model without a chat template, and where the conversation fills the context.
    """
    if not model.template:
        raise UserError(f"{NO_TEMPLATE} Let it continue a text.", where="messages")
    return model.tokens(model.chat(messages), **{**settings, "ends": model.turn_ends})
