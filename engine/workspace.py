"""Workspace: where corpora, datasets, tokens, runs and bundles live, and which paths may be read.

    WORKSPACE/
      corpora/    files that the user brought in
      datasets/   curated Parquet with its ledger     NAME-FINGERPRINT
      tokens/     tokenizer and packed shards         NAME-FINGERPRINT
      labs/       tokenizers compared             NAME-FINGERPRINT
      runs/       run folders                         NAME
      bundles/    exported models                     NAME
      reports/    what prompt sets came to            NAME-FINGERPRINT.jsonl and .md
      served/     servers that were started           NAME
      stages/     what curations have done so far, for the next one to go on from; may be deleted at any time
      allowed.json  folders outside the workspace that the user allowed to be read
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from engine import files
from engine.config import UserError

ASSETS = Path(__file__).resolve().parent.parent / "assets"
PLACES = ("corpora", "datasets", "tokens", "labs", "runs", "bundles")


class Workspace:
    """One folder that holds everything a person made. Any number of processes may use it at once.

    `allow` names folders outside it that may be read from now on.
    """

    def __init__(self, path: str | Path | None = None, allow: Iterable[str | Path] = ()) -> None:
        chosen = path or os.environ.get("STUDIO_WORKSPACE") or Path.home() / "training-studio"
        self.path = Path(chosen).expanduser().resolve()
        try:
            for place in PLACES:
                (self.path / place).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise files.unwritable(self.path, error) from error
        for folder in allow:
            self.allow(folder)

    def __repr__(self) -> str:
        return f"Workspace({str(self.path)!r})"

    def place(self, kind: str) -> Path:
        """The folder of one kind of thing: "corpora", "datasets", "tokens", "labs", "runs" or "bundles"."""
        assert kind in PLACES, kind
        return self.path / kind

    # Paths that a person typed -------------------------------------------------------------------

    @property
    def allowed(self) -> list[Path]:
        """The folders outside the workspace that the user allowed to be read."""
        listing = self.path / "allowed.json"
        return [Path(p) for p in files.read_json(listing)] if listing.exists() else []

    def allow(self, folder: str | Path) -> None:
        """Let typed paths reach into `folder` from now on."""
        chosen = str(Path(folder).expanduser().resolve())
        listed = [str(p) for p in self.allowed]
        if chosen not in listed:
            files.write_json(self.path / "allowed.json", [*listed, chosen])

    def permits(self, path: str | Path) -> bool:
        """Whether a path, links followed, lies in the workspace, the bundled assets or an allowed folder."""
        real = Path(path).expanduser().resolve()
        return any(real.is_relative_to(root) for root in (self.path, ASSETS, *self.allowed))

    def resolve(self, typed: str | Path) -> Path:
        """The real path of what was typed, links followed; relative to the workspace, then to `assets/`.

        Raises UserError when it leads outside the workspace, the bundled assets and the allowed folders.
        """
        path = Path(typed).expanduser()
        candidates = [path] if path.is_absolute() else [self.path / path, ASSETS / path]
        try:
            real = next((c for c in candidates if c.exists()), candidates[0]).resolve()
        except (OSError, RuntimeError, ValueError) as error:  # too long, a link to itself, a null byte
            raise UserError(f"{str(typed)!r} is no path that can be followed ({error}); check it.",
                            where=str(typed)) from None
        if not self.permits(real):
            raise UserError(f"{typed} is outside the workspace {self.path}; copy it into the workspace, "
                            f"or allow its folder (studio: the button beside the field; command line: --allow FOLDER).",
                            where=str(typed))
        return real

    def bring_in(self, name: str, content: bytes) -> Path:
        """Keep a file that somebody sent, among the corpora; its name is made safe, and numbered if it is taken."""
        plain = re.sub(r"[^\w.\- ]+", "-", Path(name.replace("\\", "/")).name)
        # Filesystems take 255 bytes; the end is kept, since it says what the file is.
        plain = plain.encode()[-200:].decode("utf-8", "ignore").strip(" .-") or "unnamed.txt"
        files.require_space(self.place("corpora"), len(content))
        target, number = self.place("corpora") / plain, 1
        while target.exists():
            if target.is_file() and target.read_bytes() == content:
                return target
            number += 1
            target = self.place("corpora") / f"{number}-{plain}"
        files.write(target, content)
        return target

    # Things that were made -----------------------------------------------------------------------

    def listing(self, kind: str) -> list[Path]:
        """Every finished folder of one kind, newest first."""
        found = [p for p in self.place(kind).iterdir() if p.is_dir() and not p.name.startswith(".")]
        if kind != "runs":
            found = [p for p in found if (p / files.MANIFEST).exists()]
        return sorted(found, key=lambda p: p.stat().st_mtime, reverse=True)

    def find(self, kind: str, name: str) -> Path:
        """The finished folder of one kind that is called so, or the newest one that was made under this name, or the
        only one whose name begins so; a UserError that names those there are."""
        found = self.listing(kind)
        for path in found:
            if name in (path.name, path.name.rpartition("-")[0]):
                return path
        close = [path for path in found if name and path.name.startswith(name)]
        if len(close) == 1:
            return close[0]
        there = ", ".join(path.name for path in (close or found)[:5])
        wrong = "may be several" if close else "is none"
        raise UserError(f"{name or 'nothing'} {wrong} of the {kind} in {self.path}; there "
                        f"{f'are {there}' if there else 'is none yet'}.", where=name)

    def made(self, kind: str, mark: str) -> Path | None:
        """The finished folder with this fingerprint, if it was made before."""
        found = sorted(self.place(kind).glob(f"*-{mark}"))
        return next((p for p in found if (p / files.MANIFEST).exists()), None)

    def make(self, kind: str, name: str, made_from: dict[str, Any], build: Callable[[Path], dict[str, Any]],
             mark: str = "") -> Path:
        """The folder made from exactly `made_from`: found again if it exists, else built by `build(folder)`.

        `build` writes into a folder that nobody sees yet and returns what the manifest shall tell.
        """
        mark = mark or files.fingerprint(kind, made_from)
        if found := self.made(kind, mark):
            return found
        target = self.place(kind) / f"{slug(name)}-{mark}"
        with files.making(target) as folder:
            summary = build(folder)
            files.write_json(folder / files.MANIFEST, manifest(folder, kind, mark, made_from, summary))
        return target


def manifest(folder: Path, kind: str, mark: str, made_from: dict[str, Any], summary: dict[str, Any]) -> dict[str, Any]:
    """What was made, from what, and the size in bytes of every file."""
    sizes = {str(p.relative_to(folder)): p.stat().st_size for p in sorted(folder.rglob("*")) if p.is_file()}
    return {"kind": kind, "fingerprint": mark, "made_from": made_from, "summary": summary, "files": sizes}


def slug(name: str) -> str:
    """A name as a safe folder name."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:48] or "unnamed"
