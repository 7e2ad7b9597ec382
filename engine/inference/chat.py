"""Chat: messages become the prompt that a model was taught to answer, by the template that came with its tokenizer.

A template is a program in Jinja, from whoever made the model. It runs in Jinja's sandbox, without a
way to files, modules or private attributes, and with a budget for its loops.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from engine import files
from engine.config import UserError

MOST_TEMPLATE = 200_000     # characters; the longest published ones, with tools, have 15,000
MOST_TEXT = 4_000_000
MOST_LOOPS = 100_000        # rounds of `range` in one rendering
ROLES = ("system", "developer", "user", "assistant", "tool")


def template_of(bundle: Path) -> str:
    """The chat template in chat_template.jinja or tokenizer_config.json; "" if the model has none."""
    own = bundle / "chat_template.jinja"
    if own.is_file():
        if own.stat().st_size > 4 * MOST_TEMPLATE:
            raise _too_long(own)
        return own.read_text(encoding="utf-8", errors="replace")
    path = bundle / "tokenizer_config.json"
    settings = files.read_json(path) if path.is_file() and path.stat().st_size <= 16 << 20 else {}
    found = settings.get("chat_template") if isinstance(settings, dict) else None
    if isinstance(found, list):  # several by name, as some published tokenizers have them
        named = {entry.get("name"): entry.get("template") for entry in found if isinstance(entry, dict)}
        found = named.get("default")
    return found if isinstance(found, str) else ""


def render(template: str, messages: Sequence[Mapping[str, Any]], tokens: Mapping[str, str], where: str = "") -> str:
    """The prompt for an answer to `messages` ({"role", "content"}).

    `tokens`: bos_token, eos_token and the like, which templates put in. Raises UserError for messages
    that are none, for a model without a template, and for a template that fails or does too much.
    """
    if not template:
        raise UserError("this model has no chat template: it continues texts and was not taught to answer; "
                        "use completions.", where="messages")
    if len(template) > MOST_TEMPLATE:
        raise _too_long(where)
    _check(messages)
    # Jinja comes with the studio; the plain continuation of texts does without it.
    from jinja2.exceptions import TemplateError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Sandbox(ImmutableSandboxedEnvironment):
        intercepted_binops = frozenset(("*", "**", "%"))

        def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
            if operator == "**" or (operator == "*" and not all(isinstance(n, int | float) for n in (left, right))):
                raise TemplateError(f"uses {operator}, which can make texts of any size")
            return super().call_binop(context, operator, left, right)

    left = [MOST_LOOPS]

    def counted(*bounds: int) -> range:
        rounds = range(*bounds)
        left[0] -= len(rounds) if len(rounds) < MOST_LOOPS else MOST_LOOPS
        if left[0] < 0:
            raise TemplateError(f"loops more than {MOST_LOOPS:,} times")
        return rounds

    def complain(sentence: str) -> None:
        raise TemplateError(str(sentence))

    environment = Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"])
    environment.globals.update(range=counted, raise_exception=complain)
    for name in ("lipsum", "cycler", "joiner"):
        environment.globals.pop(name, None)
    pieces, size = [], 0
    try:
        for piece in environment.from_string(template).generate(messages=list(messages), add_generation_prompt=True,
                                                                 **tokens):
            pieces.append(piece)
            size += len(piece)
            if size > MOST_TEXT:
                raise TemplateError(f"writes more than {MOST_TEXT:,} characters")
    except Exception as error:  # a stranger's program can fail in every way
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"the model's chat template could not be used ({reason}); change the messages, or the "
                        "template.", where=where or "chat_template") from None
    return "".join(pieces)


def _check(messages: Sequence[Mapping[str, Any]]) -> None:
    if not messages:
        raise UserError("messages is empty; give at least one.", where="messages")
    for number, message in enumerate(messages):
        if not isinstance(message, Mapping) or not isinstance(message.get("content"), str):
            raise UserError(f"messages.{number} has no text as its content; give role and content.",
                            where=f"messages.{number}")
        if message.get("role") not in ROLES:
            raise UserError(f"messages.{number} has the role {message.get('role')!r}; it must be one of "
                            f"{', '.join(ROLES)}.", where=f"messages.{number}")


def _too_long(where: Any) -> UserError:
    return UserError(f"the chat template {where} has more than {MOST_TEMPLATE:,} characters; no honest one is so "
                     "long.", where=str(where))
