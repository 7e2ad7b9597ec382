"""Show as code: the YAML and the command that do the same as a page."""

from __future__ import annotations

import shlex
from typing import Any

import panel as pn
import panel_material_ui as pmui

from engine import runs
from engine.config import UserError
from engine.recipe import JOBS, Recipe
from studio.session import Session
from studio.texts import shell_line
from studio.views import Fragment, Markup, banner, join, txt

BASE = "demo"
READ = {"curate": ("name", "seed", "corpus"), "tokenize": ("name", "seed", "corpus", "tokens")}
"""The sections that a command's jobs read; the others read all."""


def recipe_code(session: Session, sections: tuple[str, ...], command: str) -> Any:
    """A button that shows the sections of the draft as YAML, and the command line that does the same job."""
    shown = Fragment()
    dialog = pmui.Dialog(shown, title="The same, without the studio", close_on_click=True, show_close_button=True,
                         width_option="md", title_variant="h6")

    def refresh(*_: Any) -> None:
        if dialog.open:
            shown.html = code(session, sections, command)

    def toggle(*_: Any) -> None:
        dialog.open = True
        refresh()

    session.draft.param.watch(refresh, "version")
    button = pmui.Button(label="Show as code", icon="code", variant="outlined", size="small", margin=0, on_click=toggle)
    return pn.Row(button, dialog, margin=0, styles={"flex": "none", "width": "max-content"})


def code(session: Session, sections: tuple[str, ...], command: str) -> Markup:
    """The YAML of the sections, and the command, each with a button that copies it."""
    draft = session.draft
    text = draft.to_yaml(*sections) or "# every setting is at its default"
    parts: list[tuple[str, str, str]] = [("yaml", "In a recipe", text)]
    if draft.problems:
        wrong = join(txt("<br>{}", str(problem)) for problem in draft.problems)
        return banner("warning", txt("The settings are not right yet, so there is no command for them:{}", wrong))
    if command:
        place = "" if _default_place(session) else f" --workspace {shlex.quote(str(session.workspace.path))}"
        parts.append(("command", "From the command line",
                      f"studio {command} {' '.join([BASE, *_changes(session, command)])}{place}"))
        parts.append(("python", "In Python", python(session, command)))
    return txt('<div class="codes">{}</div>', join(
        txt('<h3>{1}</h3><div class="code {0}"><pre id="{0}">{2}</pre>'
            '<button type="button" class="press" data-copy="#{0}">Copy</button></div>', *each) for each in parts))


def python(session: Session, command: str) -> str:
    """The same run, started from a notebook or a program."""
    changes = [shlex.split(change)[0] for change in _changes(session, command)]
    if command in JOBS:
        changes.append(f"jobs=[{', '.join(JOBS[:JOBS.index(command) + 1])}]")
    words = "".join(f"\n    {change!r}," for change in changes)
    place = "" if _default_place(session) else f", Workspace({str(session.workspace.path)!r})"
    return ("from engine import runs\nfrom engine.recipe import Recipe\n"
            + ("from engine.workspace import Workspace\n" if place else "")
            + f"\nrecipe = Recipe.load({BASE!r}).override({words}\n)\nrun = runs.start(recipe{place})")


def _changes(session: Session, command: str) -> list[str]:
    """The overrides of the shipped recipe that the command starts from: of what its jobs read, but not the jobs."""
    try:
        changes = session.draft.changes(Recipe.load(BASE))
    except UserError:
        return []
    read = READ.get(command)
    return [change for change in changes if command == "run" or (
        (path := change.strip("'").partition("=")[0].partition(".")[0]) != "jobs" and (read is None or path in read))]


def same_command(session: Session, job: str, source: str) -> Markup:
    """The command that does one job on a run's checkpoint with the form's settings: those that its recipe lacks."""
    try:
        changes = session.draft.changes(runs.recipe_of(runs.find(source, session.workspace)))
    except UserError:
        changes = []    # a start says what is wrong with the run
    words = [change for change in changes if change.strip("'").startswith(f"{job}.")]
    return shell_line(" ".join(["studio", job, shlex.quote(source), *words]), session.workspace)


def _default_place(session: Session) -> bool:
    from engine.workspace import Workspace

    return Workspace().path == session.workspace.path
