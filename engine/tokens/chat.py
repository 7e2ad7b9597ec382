"""Chat: messages as one text by a template, and which of its tokens the model learns to write.

Templates are Jinja, as in tokenizer_config.json of published models. They are strangers' programs: they run in the
same immutable sandbox as in transformers. What stands between `{% generation %}` and `{% endgeneration %}` is what the
assistant wrote; the loss counts those tokens alone.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

from engine.config import UserError
from engine.tokens.presets import CHAT_TEMPLATES
from engine.workspace import Workspace

Messages = Sequence[Mapping[str, Any]]
"""[{"role": "user", "content": "Hello"}, ...], the record shape of TRL and of published chat templates."""

ROLES = ("system", "user", "assistant", "tool")


class Turns(NamedTuple):
    """A conversation as the model reads it."""

    text: str
    ids: list[int]
    learned: list[bool]            # of each token, whether the loss counts it
    pieces: list[tuple[int, str]]  # (id, the characters it stands for): they make up the text


class _Generation(Extension):
    """Marks where what is between {% generation %} and {% endgeneration %} begins and ends.

    Marks in the text itself survive whatever a template does with a block's output; a new random one each
    time cannot be spelt by a message.
    """

    tags = {"generation"}

    def parse(self, parser: Any) -> Any:
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return nodes.CallBlock(self.call_method("_marked"), [], [], body).set_lineno(line)

    def _marked(self, caller: Callable[[], str]) -> str:
        mark = self.environment.globals["generation_mark"]
        return f"{mark[0]}{caller()}{mark[1]}"  # type: ignore[index]


def source(chosen: str, workspace: Workspace | None = None) -> str:
    """The text of a template: a preset's by its name, or that of a .jinja file in the workspace; "" for none."""
    if not chosen or chosen in CHAT_TEMPLATES:
        return CHAT_TEMPLATES[chosen].template if chosen else ""
    path = (workspace or Workspace()).resolve(chosen)
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise UserError(f"tokens.chat_template is {chosen}, which is neither a template's name "
                        f"({', '.join(CHAT_TEMPLATES)}) nor a readable file.", where="tokens.chat_template") from None


def special_tokens(chosen: str) -> tuple[str, ...]:
    """The tokens that a preset needs whole; a template of one's own names none, so set tokens.special_tokens."""
    return CHAT_TEMPLATES[chosen].special_tokens if chosen in CHAT_TEMPLATES else ()


def render(template: str, messages: Messages, *, add_generation_prompt: bool = False,
           **values: Any) -> tuple[str, list[tuple[int, int]]]:
    """The conversation as text, and (start, end) in characters of what the assistant wrote.

    `values` are what a template may ask for besides, such as bos_token and tools. Raises UserError when the messages
    are no messages, and when the template is broken or refuses them.
    """
    _check(messages)
    nonce = secrets.token_hex(8)
    marks = f"\x02{nonce}\x02", f"\x03{nonce}\x03"
    try:
        made = _environment(marks).from_string(template).render(
            messages=[dict(message) for message in messages], add_generation_prompt=add_generation_prompt,
            **{"tools": None, "documents": None, "bos_token": "", "eos_token": "", **values})
    except jinja2.TemplateSyntaxError as error:
        raise UserError(f"The chat template is broken in line {error.lineno}: {error.message}.",
                        where="tokens.chat_template") from None
    except (jinja2.TemplateError, TypeError, ValueError, ArithmeticError, LookupError, RecursionError,
            OverflowError, AttributeError) as error:
        raise UserError(f"The chat template refuses these messages: {str(error) or type(error).__name__}",
                        where="tokens.chat_template") from None
    return _spans(made, marks)


def encode(tokenizer: Tokenizer, template: str, messages: Messages, **values: Any) -> Turns:
    """The conversation as tokens with the loss mask, assistant tokens only. Errors as in `render`.

    A token counts where its first character lies in what the assistant wrote, as with
    `apply_chat_template(return_assistant_tokens_mask=True)` of transformers.
    """
    from engine.tokens.tokenizer import cut_text, end_of_text

    end = str(tokenizer.id_to_token(end_of_text(tokenizer)))
    text, spans = render(template, messages, **{"bos_token": end, "eos_token": end, **values})
    encoding = tokenizer.encode(text, add_special_tokens=False)
    learned = [False] * len(encoding.ids)
    for start, stop in spans:
        first = encoding.char_to_token(start) if stop > start else None
        last = encoding.char_to_token(stop - 1)
        if first is None:
            continue
        for place in range(first, len(learned) if last is None else last + 1):
            learned[place] = True
    return Turns(text, encoding.ids, learned, cut_text(encoding, text))


def tokenizer_config(tokenizer: Tokenizer, template: str) -> dict[str, Any]:
    """What tokenizer_config.json says beside a tokenizer.json, for transformers to load the two."""
    from engine.tokens.tokenizer import end_of_text

    end = str(tokenizer.id_to_token(end_of_text(tokenizer)))
    found = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": end, "eos_token": end,
             "clean_up_tokenization_spaces": False}
    return {**found, "chat_template": template} if template else found


# Inside -------------------------------------------------------------------------------------------------


def _environment(marks: tuple[str, str]) -> ImmutableSandboxedEnvironment:
    """As transformers sets it up: published templates count on these blanks, filters and functions."""
    made = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols])
    made.filters["tojson"] = lambda value, indent=None, **_: json.dumps(value, ensure_ascii=False, indent=indent)
    made.globals |= {"raise_exception": _refuse, "strftime_now": _now, "generation_mark": marks}
    return made


def _refuse(sentence: str) -> None:
    raise jinja2.TemplateError(sentence)


def _now(form: str) -> str:
    from datetime import datetime

    return datetime.now().strftime(form)


def _check(messages: Messages) -> None:
    if not messages:
        raise UserError("There are no messages; a conversation needs one at least.", where="messages")
    for place, message in enumerate(messages, 1):
        if not isinstance(message, Mapping) or message.get("role") not in ROLES:
            raise UserError(f"Message {place} has no role; write {{\"role\": \"user\", \"content\": ...}} with one of "
                            f"{', '.join(ROLES)}.", where="messages")


def _spans(marked: str, marks: tuple[str, str]) -> tuple[str, list[tuple[int, int]]]:
    """The text without the marks, and what was between them."""
    text, spans, begun = "", [], 0
    for part in re.split(f"({re.escape(marks[0])}|{re.escape(marks[1])})", marked):
        if part == marks[0]:
            begun = len(text)
        elif part == marks[1]:
            spans.append((begun, len(text)))
        else:
            text += part
    return text, spans
