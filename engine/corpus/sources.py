"""Sources: which files a typed path, folder or glob stands for, and how each is to be read."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from engine.config import UserError
from engine.corpus import Source
from engine.workspace import ASSETS, Workspace

ENDINGS = {".txt": "text", ".text": "text", ".md": "markdown", ".markdown": "markdown", ".jsonl": "jsonl",
           ".ndjson": "jsonl", ".json": "json", ".csv": "csv", ".tsv": "csv", ".parquet": "parquet"}
COMPRESSED = (".gz", ".zst")
MAGIC = "*?["
NO_ENDING, LINK = "no ending", "link to a folder"
NAMED = 5
"""Skipped files that are named; the others are counted."""


@dataclass(frozen=True)
class File:
    """One file to read: where it is, what people call it, how it is read, and its size in bytes on the disk."""

    path: Path
    name: str                                   # from the workspace or the assets on, if it lies there
    format: str
    source: Source
    size: int
    modified: int = 0                           # nanoseconds since the epoch, when it was found


def find(source: Source, workspace: Workspace) -> list[File]:
    """The files of a source, in the order of their names; hidden ones and unknown endings are left out.

    Raises UserError if there is none: nothing matches, nothing of a known ending, outside the workspace.
    """
    paths, alone = _paths(source.path, workspace)
    if not paths:
        raise UserError(f"{source.path} holds no file; put text files there, or name another path.",
                        where=source.path)
    files = []
    for path in paths:
        kind = format_of(path) if source.format == "auto" else source.format
        if kind:
            about = path.stat()
            files.append(File(path, _name(path, workspace), kind, source, about.st_size, about.st_mtime_ns))
    if not files:
        endings = sorted({"".join(path.suffixes[-2:]) or path.name for path in paths})[:5]
        what = (f"{source.path} has an ending that is not read" if alone else
                f"{source.path} holds no file whose ending is read (there is {', '.join(endings)})")
        raise UserError(f"{what}; endings are {', '.join(ENDINGS)}, each also with .gz or .zst. "
                        "Rename the file, or say its format under source.format.", where=source.path)
    return files


@dataclass(frozen=True)
class Skipped:
    """What a folder or glob holds besides the files that are read: how many, why (by ending), and a few names."""

    path: str
    files: int
    endings: dict[str, int]                     # most first; NO_ENDING and LINK besides endings such as ".docx"
    names: tuple[str, ...]

    def __str__(self) -> str:
        kinds = ", ".join(f"{count} × {what}" for what, count in self.endings.items())
        few = ", ".join(self.names) + (", ..." if self.files > len(self.names) else "")
        return (f"{self.path} holds {self.files} more {'file' if self.files == 1 else 'files'} that nothing was read "
                f"of ({kinds}): {few}")


def skipped(source: Source, workspace: Workspace) -> Skipped | None:
    """What `find` leaves out of a folder or glob for its ending, and links to folders; None if nothing is."""
    paths, alone = _paths(source.path, workspace)
    left = [(path.suffix.lower() or NO_ENDING, path) for path in paths if not format_of(path)]
    if alone or source.format != "auto" or all(path.is_relative_to(ASSETS) for path in paths):
        left = []                               # what the bundled corpora hold besides is known
    if (folder := workspace.path / source.path).is_dir():
        left += [(LINK, Path(here, name)) for here, folders, _ in os.walk(folder) for name in sorted(folders)
                 if Path(here, name).is_symlink()]
    if not left:
        return None
    kinds = dict(Counter(kind for kind, _ in left).most_common())
    return Skipped(source.path, len(left), kinds, tuple(_name(path, workspace) for _, path in left[:NAMED]))


def format_of(path: Path) -> str:
    """The format that a file's ending names; empty if it names none."""
    name = path.name.lower()
    for ending in COMPRESSED:
        name = name.removesuffix(ending)
    return ENDINGS.get(Path(name).suffix, "")


def compression_of(path: Path) -> str:
    """".gz", ".zst" or nothing."""
    return path.suffix.lower() if path.suffix.lower() in COMPRESSED else ""


def _paths(typed: str, workspace: Workspace) -> tuple[list[Path], bool]:
    """The files that a typed path stands for, and whether it named one alone."""
    if not any(sign in typed for sign in MAGIC) or os.path.lexists(workspace.path / Path(typed).expanduser()):
        path = workspace.resolve(typed)
        if path.is_file():
            return [path], True
        if not path.is_dir():
            raise UserError(f"There is no file or folder {typed} in the workspace {workspace.path} or among the "
                            f"bundled corpora ({', '.join(bundled())}); check the path, or put your files there.",
                            where=typed)
        return _permitted(_walk(path), workspace), False
    pattern = Path(typed).expanduser()
    fixed = list(_until_magic(pattern.parts))
    rest = str(Path(*pattern.parts[len(fixed):]))
    for root in (workspace.path, ASSETS):                   # an absolute pattern replaces either
        base = root.joinpath(*fixed)
        if base.is_dir():
            workspace.resolve(base)
            try:
                found = sorted(p for p in base.glob(rest) if p.is_file() and not _hidden(p.relative_to(base)))
            except (ValueError, NotImplementedError) as error:
                raise UserError(f"{typed} is not a pattern ({error}); write it as corpora/mine/*.txt, or "
                                "corpora/**/*.txt for all folders below.", where=typed) from None
            if found:
                return _permitted(found, workspace), False
    raise UserError(f"{typed} matches no file in the workspace {workspace.path}; check the pattern.", where=typed)


def bundled() -> list[str]:
    """The corpora that come with the project, as paths that a source may name."""
    return sorted(f"corpora/{p.name}" for p in (ASSETS / "corpora").iterdir() if p.is_dir())


def _until_magic(parts: tuple[str, ...]) -> Iterator[str]:
    for part in parts:
        if any(sign in part for sign in MAGIC):
            return
        yield part


def _walk(folder: Path) -> Iterator[Path]:
    """Every file under a folder in a fixed order. Links to folders are not followed: they may lead in a circle."""
    for here, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(here, name) for name in sorted(names)
                    if not name.startswith(".") and Path(here, name).is_file())


def _permitted(paths: Iterator[Path] | list[Path], workspace: Workspace) -> list[Path]:
    """The paths as they are, unless a link leads to where the workspace does not allow reading."""
    found = list(paths)
    for path in found:
        if path.is_symlink():
            workspace.resolve(path)
    return found


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _name(path: Path, workspace: Workspace) -> str:
    root = next((root for root in (workspace.path, ASSETS) if path.is_relative_to(root)), None)
    name = path.relative_to(root).as_posix() if root else str(path)
    return os.fsencode(name).decode("utf-8", "replace")     # old disks hold names that are no UTF-8
