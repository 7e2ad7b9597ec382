"""Files that are complete or absent, and fingerprints that name what made them."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from engine.config import UserError

MANIFEST = "manifest.json"
FULL = (28, 122)  # the numbers of the errors for a full disk and a used-up quota

MOST_BYTES = {"tokenizer.json": 128 << 20, "config.json": 4 << 20, "generation_config.json": 4 << 20,
              "tokenizer_config.json": 16 << 20, "special_tokens_map.json": 16 << 20, "chat_template.jinja": 1 << 20}
"""Of files that come with models, and may come from strangers; the largest published ones are a third of that."""
ANY_BYTES = 64 << 20    # of every other file that is read whole as JSON or text
MISSHAPEN = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError)
"""What code raises that looks into a JSON value of another shape than it should have."""


def write(path: Path, content: str | bytes) -> None:
    """Replace the file at once or not at all: written beside, flushed to the disk, renamed."""
    data = content.encode() if isinstance(content, str) else content
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        with open(beside, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise unwritable(path, error) from error
    sync(path.parent)


def write_json(path: Path, value: Any) -> None:
    write(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path, most: int | None = None) -> Any:
    """The value in a JSON file; a UserError that names file, line and column if it is damaged.

    It is also refused where it has more than `most` bytes (those of MOST_BYTES if None), where it is nested so deeply
    that it cannot be read, and where it is no file, such as a pipe, which would be waited for.
    """
    try:
        return json.loads(read_text(path, most))
    except RecursionError:
        reason = "it is nested too deeply"
    except json.JSONDecodeError as error:
        reason = str(error)
    except ValueError:
        reason = "one of its numbers has thousands of digits"     # which Python refuses to read
    raise UserError(f"{path} is damaged ({reason}); restore or delete it.", where=str(path))


def read_text(path: Path, most: int | None = None) -> str:
    """The text of a UTF-8 file, under the limits of `read_json`."""
    try:
        require_size(path, most)
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path} is missing.", where=str(path)) from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is damaged ({error}); restore or delete it.", where=str(path)) from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}.", where=str(path)) from None


def require_size(path: Path, most: int | None = None) -> None:
    """Refuse what is no file, or one that is larger than any honest one of its name. Raises OSError if there is none.
    """
    found, most = path.stat(), MOST_BYTES.get(path.name, ANY_BYTES) if most is None else most
    if not stat.S_ISREG(found.st_mode):
        raise UserError(f"{path} cannot be read: it is no file; remove it.", where=str(path))
    if found.st_size > most:
        raise UserError(f"{path} has {found.st_size:,} bytes, and no honest one has more than {most:,}; choose "
                        "another.", where=str(path))


def sync(path: Path) -> None:
    """Make the content of a file, or a rename inside a folder, survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError:
        pass  # some network filesystems refuse to sync a folder; the rename is still atomic
    finally:
        os.close(handle)


@contextmanager
def making(folder: Path) -> Iterator[Path]:
    """A folder that appears under its name when the block ends well, and never in part.

    Write into the folder that is yielded, its manifest last. An existing `folder` is replaced.
    """
    beside = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}")
    try:
        beside.mkdir(parents=True)
        yield beside
        readable = beside.stat().st_mode & 0o666  # some writers make files that nobody else may read
        for path in sorted(beside.rglob("*")):
            if path.is_file():
                path.chmod(readable)
                with open(path, "rb") as file:
                    os.fsync(file.fileno())
            else:
                sync(path)
        sync(beside)
        old = None
        if folder.exists():
            old = folder.with_name(f".{folder.name}.old.{uuid.uuid4().hex[:8]}")
            os.replace(folder, old)
        os.replace(beside, folder)
        sync(folder.parent)
        if old is not None:
            shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise unwritable(folder, error) from error
    finally:
        if beside.exists():
            shutil.rmtree(beside, ignore_errors=True)


def unwritable(path: Path, error: OSError) -> UserError:
    """The sentence for a full disk, a read-only folder or a missing parent."""
    reason = {28: "the disk is full", 122: "the disk quota is used up", 30: "the filesystem is read-only",
              13: "permission is denied"}.get(error.errno or 0, error.strerror or str(error))
    remedy = "Free some space" if error.errno in FULL else "Check the path and its permissions"
    return UserError(f"{path} could not be written: {reason}. {remedy}, or choose another workspace.",
                     where=str(path))


def require_space(folder: Path, size_bytes: int) -> None:
    """Refuse, before the work, what the disk has no room for."""
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < size_bytes:
        raise UserError(f"{folder} has {free / 2**20:,.0f} MiB free, and about {size_bytes / 2**20:,.0f} MiB are "
                        "needed. Free some space or choose another workspace.", where=str(folder))


def fingerprint(*values: Any) -> str:
    """16 hexadecimal digits that change when any of the JSON values changes."""
    text = json.dumps(values, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def fingerprint_file(path: Path) -> str:
    """16 hexadecimal digits of a file's content."""
    digest = hashlib.blake2b(digest_size=8)
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def held(lock: Path) -> bool:
    """Whether a process of this machine holds the lock on a file; not so where there is none."""
    try:
        with open(lock) as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False
