"""Notes: what people say of a run, in a file of its own beside its recipe, which is never rewritten."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from engine import files
from engine.config import UserError
from engine.runs.folder import Run

NOTES = "notes.json"
LONGEST = 40  # characters of a tag


@dataclass(frozen=True)
class Notes:
    """Markdown text, and tags."""

    text: str = ""
    tags: tuple[str, ...] = ()


def read(run: Run) -> Notes:
    """What was noted; nothing where there is no file or it can't be read."""
    try:
        found: Any = files.read_json(run.path / NOTES)
        return Notes(str(found.get("text", "")), tuple(map(str, found.get("tags", ()))))
    except (UserError, AttributeError, TypeError, OSError):
        return Notes()


def write(run: Run, *, text: str | None = None, tags: Iterable[str] | None = None) -> Notes:
    """Replace the text, the tags or both. Raises UserError for a tag that is too long."""
    before = read(run)
    kept = Notes(before.text if text is None else text, before.tags if tags is None else tidy(tags))
    files.write_json(run.path / NOTES, {"text": kept.text, "tags": list(kept.tags)})
    return kept


def tidy(tags: Iterable[str]) -> tuple[str, ...]:
    """Tags without blanks around them, each once, in the order given."""
    found = [re.sub(r"\s+", " ", tag).strip().lstrip("#") for tag in tags]
    if long := next((tag for tag in found if len(tag) > LONGEST), ""):
        raise UserError(f"the tag {long[:20]}… is longer than {LONGEST} characters; put it into the notes.",
                        where="tags")
    return tuple(dict.fromkeys(filter(None, found)))


def matches(name: str, noted: Notes, wanted: str) -> bool:
    """Whether a run answers to what was typed: every word stands in its name, tags or text; `#word` is a tag."""
    text = f"{name} {noted.text} {' '.join(noted.tags)}".lower()
    tags = [tag.lower() for tag in noted.tags]
    return all((word[1:] in tags if word.startswith("#") and len(word) > 1 else word in text)
               for word in wanted.lower().split())
