"""Chat: messages become the prompt that a model was taught to answer, by the template that came with its tokenizer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from engine import files
from engine.config import UserError
from engine.inference.bundle import beside


def template_of(bundle: Path) -> str:
    """The chat template in chat_template.jinja or tokenizer_config.json; "" if the model has none.

    Raises UserError for a file that was changed since the export, that leads out of the folder, or that is too large.
    """
    own = beside(bundle, "chat_template.jinja")
    if own is not None:
        return files.read_text(own)
    found = _settings(bundle).get("chat_template")
    if isinstance(found, list):  # several by name, as some published tokenizers have them
        found = {entry.get("name"): entry.get("template") for entry in found if isinstance(entry, dict)
                 and isinstance(entry.get("name"), str)}.get("default")
    return found if isinstance(found, str) else ""


def tokens_of(bundle: Path) -> dict[str, str]:
    """The special tokens that templates put in, by their names in tokenizer_config.json. Raises as `template_of`."""
    settings = _settings(bundle)
    return {name: settings[name] for name in ("bos_token", "eos_token", "pad_token", "unk_token")
            if isinstance(settings.get(name), str)}


def _settings(bundle: Path) -> dict[str, Any]:
    path = beside(bundle, "tokenizer_config.json")
    settings = files.read_json(path) if path is not None else {}
    return settings if isinstance(settings, dict) else {}


def render(template: str, messages: Sequence[Mapping[str, Any]], tokens: Mapping[str, str],
           answer: bool = True) -> str:
    """The prompt for an answer to `messages` ({"role", "content"}), or the conversation alone.

    `tokens`: bos_token, eos_token and the like, which templates put in. Raises UserError for messages
    that are none, for a model without a template, and for a template that fails or does too much.
    """
    if not template:
        raise UserError("this model has no chat template: it continues texts and was not taught to answer; "
                        "use completions.", where="messages")
    from engine.tokens.chat import render as write  # imports Jinja, which continuing texts does without

    return write(template, [_plain(number, message) for number, message in enumerate(messages)],
                 add_generation_prompt=answer, **tokens)[0]


def _plain(number: int, message: Mapping[str, Any]) -> dict[str, Any]:
    """A message whose content is one text, under the roles that templates know."""
    content = message.get("content") if isinstance(message, Mapping) else None
    if isinstance(content, list) and all(isinstance(part, dict) and isinstance(part.get("text"), str)
                                         for part in content):
        content = "".join(part["text"] for part in content)
    elif content is None and isinstance(message, Mapping) and message.get("role") == "assistant":
        content = ""    # as of an answer that was nothing but calls of tools
    if not isinstance(content, str):
        raise UserError(f"messages.{number} has no text as its content; give role and content.",
                        where=f"messages.{number}")
    return {**message, "content": content,
            "role": {"developer": "system"}.get(str(message.get("role")), message.get("role"))}
