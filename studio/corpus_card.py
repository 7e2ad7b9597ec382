"""The card of a dataset or bundle: its Markdown as a page, in which nothing is markup but what Markdown makes."""

from __future__ import annotations

from pathlib import Path

from engine import files
from engine.config import UserError
from studio.views import Markup, banner, txt

MOST_BYTES = 1 << 20


def data_card(folder: Path, again: str = "curate the corpus again") -> Markup:
    """The README.md of a folder; `again` is what makes it anew."""
    path = folder / "README.md"
    try:
        if not path.resolve().is_relative_to(folder.resolve()):
            return banner("error", f"The card of {folder.name} leads out of its folder and is not opened; {again}.")
        text = files.read_text(path, MOST_BYTES)
    except (UserError, OSError, RuntimeError) as error:
        told = error.sentence if isinstance(error, UserError) else str(error)
        return banner("error", f"The card of {folder.name} cannot be read ({told.rstrip('.')}); {again}.")
    front, rest = "", text
    if text.startswith("---\n") and "\n---\n" in text[4:]:
        front, rest = text[4:].split("\n---\n", 1)
    return txt('<div class="cardtext">{}<details class="front"><summary>Front matter for the Hugging Face Hub</summary>'
               "<pre>{}</pre></details></div>", markdown(rest), front)


def markdown(text: str) -> Markup:
    """Markdown as markup. Its HTML is shown as text, and it can hold no picture and no link."""
    from markdown_it import MarkdownIt

    reader = MarkdownIt("commonmark", {"html": False}).enable("table").disable(["image", "link", "autolink"])
    return Markup(reader.render(text))  # the one place where markup is made by somebody else: html is off there
