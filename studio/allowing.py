"""Allowing: the button that lets the studio read a folder outside its workspace."""

from __future__ import annotations

from pathlib import Path

from engine.corpus.sources import MAGIC
from engine.workspace import Workspace
from studio.session import Session
from studio.views import Markup, press

VERB = "allow"


def allow_button(typed: str, workspace: Workspace) -> Markup | None:
    """The button for a typed path, folder, file or glob, if nothing but where it lies is wrong with it."""
    parts = Path(typed).expanduser().parts
    fixed = Path(*parts[:next((i for i, part in enumerate(parts) if any(s in part for s in MAGIC)), len(parts))])
    if not fixed.is_absolute() or not fixed.exists() or workspace.permits(fixed):
        return None
    return press("Allow this folder", f"{VERB} {fixed if fixed.is_dir() else fixed.parent}")


def allow(session: Session, pressed: str) -> bool:
    """Do what the button says; whether it was that button."""
    verb, _, folder = pressed.partition(" ")
    if verb == VERB:
        session.attempt(session.workspace.allow, folder)
    return verb == VERB
