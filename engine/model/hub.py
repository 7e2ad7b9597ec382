"""Hub: the files of a published model, from a folder of this machine or, if its repository is named, from the network.

Weights are taken as safetensors alone, and beside them JSON and the chat template: no pickle, no code. A repository's
revision is looked up once, and all its files are those of that one commit.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple, Self

from pydantic import model_validator

from engine import files
from engine.config import Config, UserError, setting, wrong
from engine.progress import Progress, Stopped

WANTED = re.compile(r"(config|generation_config|tokenizer|tokenizer_config|special_tokens_map)\.json"
                    r"|chat_template\.jinja|model[\w.-]*\.safetensors(\.index\.json)?")
MIB = 1 << 20
REPOSITORY = re.compile(r"(\w[\w.-]*/)?\w[\w.-]*")


class PublishedConfig(Config):
    """Which published model is brought into the workspace."""

    folder: str = setting("", "Folder of a published model: config.json, safetensors and tokenizer.json")
    repository: str = setting("", "Model on the Hugging Face hub, as OWNER/NAME; it is fetched over the network")
    revision: str = setting("main", "Branch, tag or commit of the repository; the commit that it stood for is kept",
                            min_length=1, max_length=200)

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if self.repository and not REPOSITORY.fullmatch(self.repository):
            raise wrong("repository", f"is {self.repository!r}; write it as OWNER/NAME, without an address")
        if self.folder and self.repository:
            raise wrong("repository", "is named beside a folder; leave one of the two empty")
        return self


class Origin(NamedTuple):
    """Where files came from, in words that can be looked up again, and the licence that was stated there."""

    words: str
    revision: str = ""      # the commit, of a repository
    licence: str = ""


def mebibytes(sizes: Iterable[int]) -> int:
    """How many MiB these bytes count as where progress is told: at least one, so that small models have some, too."""
    return max(1, sum(sizes) // MIB)


def vetted(source: Path, permits: Callable[[Path], bool]) -> list[Path]:
    """The files of a published model in a folder, none of which was opened yet.

    Raises UserError for a link that leads where `permits` says no, for what is no plain file (a pipe or a device never
    ends), and for a file of settings that is larger than any honest one.
    """
    found = sorted(path for path in source.iterdir() if WANTED.fullmatch(path.name) or path.suffix == ".safetensors")
    for path in found:
        if path.is_symlink() and not permits(path):
            raise UserError(f"{path} leads to {path.resolve()}, which is outside the folders that may be read; allow "
                            "that folder too.", where="published.folder")
        if not path.is_file():
            raise UserError(f"{path} is no plain file, or a link to none; put the file itself there.",
                            where="published.folder")
        _require_small(path.name, path.stat().st_size, str(path), "published.folder")
    return [path for path in found if WANTED.fullmatch(path.name)]


def _require_small(name: str, size: int, shown: str, where: str) -> None:
    most = size if name.endswith(".safetensors") else files.MOST_BYTES.get(name, files.ANY_BYTES)
    if size > most:
        raise UserError(f"{shown} has {size:,} bytes, and no honest one has more than {most:,}; choose another model.",
                        where=where)


def copy(source: Path, out: Path, permits: Callable[[Path], bool], progress: Progress) -> Origin:
    """Copy the files of a published model into `out`. Raises UserError as `vetted` does."""
    found = vetted(source, permits)
    sizes = [path.stat().st_size for path in found]
    files.require_space(out, sum(sizes) + MIB)
    for place, path in enumerate(found):
        progress(sum(sizes[:place]) // MIB, mebibytes(sizes), path.name)
        shutil.copyfile(path, out / path.name)
    return Origin(source.name)


def fetch(asked: PublishedConfig, out: Path, progress: Progress) -> Origin:
    """Fetch the files of a repository into `out`, going on with those that an earlier call left in part.

    The address is the library's, or $HF_ENDPOINT; $HF_TOKEN opens what is not public. Raises UserError that says
    whether the network, the repository, its revision or its terms stand in the way, and when there is nothing to read.
    """
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")      # read when the library is imported
    from huggingface_hub import HfApi, hf_hub_download

    try:
        progress(0, 0, f"asking for {asked.repository}")
        about = HfApi().model_info(asked.repository, revision=asked.revision, files_metadata=True, timeout=30)
        sizes = {file.rfilename: file.size or 0 for file in about.siblings or [] if WANTED.fullmatch(file.rfilename)}
        if not any(name.endswith(".safetensors") for name in sizes):
            raise UserError(f"{asked.repository} at {asked.revision} has no weights in safetensors, and other files "
                            "can run code when they are read; choose another repository or revision.",
                            where="published.repository")
        for name, size in sizes.items():
            _require_small(name, size, f"{name} of {asked.repository}", "published.repository")
        files.require_space(out, sum(sizes.values()) + MIB)
        done = 0
        for name, size in sizes.items():
            bar = _bar(lambda more, name=name, done=done: progress(
                (done + more) // MIB, mebibytes(sizes.values()), f"fetching {name}"))
            hf_hub_download(asked.repository, name, revision=about.sha, local_dir=out, tqdm_class=bar)
            done += size
    except (UserError, Stopped):
        raise
    except Exception as error:
        raise _refused(asked, error) from error
    licence = (about.card_data or {}).get("license")
    return Origin(f"{asked.repository}@{about.sha}", str(about.sha), licence if isinstance(licence, str) else "")


def _bar(told: Callable[[int], None]) -> type:
    """A bar for the library that draws nothing, and tells how many bytes of the file in hand are there."""
    from tqdm.auto import tqdm

    class Told(tqdm):  # type: ignore[misc]
        def __init__(self, *_: Any, **named: Any) -> None:
            super().__init__(disable=True)
            self.n = named.get("initial") or 0
            self.update(0)

        def update(self, n: float | None = 1) -> None:
            self.n += n or 0
            told(int(self.n))

    return Told


def _refused(asked: PublishedConfig, error: Exception) -> UserError:
    """One sentence for what stood in the way."""
    from huggingface_hub import constants, errors

    name, where = asked.repository, "published.repository"
    if isinstance(error, errors.GatedRepoError):
        return UserError(f"{name} is given to those who accepted its terms; accept them on its page, put your token "
                         "into $HF_TOKEN, and try again.", where=where)
    if isinstance(error, errors.RepositoryNotFoundError):
        return UserError(f"There is no repository {name} at {constants.ENDPOINT}, or it is private; check the name, or "
                         "put your token into $HF_TOKEN.", where=where)
    if isinstance(error, errors.RevisionNotFoundError):
        return UserError(f"{name} has no revision {asked.revision}; choose a branch, tag or commit that it has.",
                         where="published.revision")
    if constants.HF_HUB_OFFLINE or isinstance(error, errors.OfflineModeIsEnabled):
        return UserError("The network was not asked, because $HF_HUB_OFFLINE forbids it; take it away, or bring the "
                         "model in from a folder.", where=where)
    if isinstance(error, OSError) and error.errno in files.FULL:
        return files.unwritable(Path(error.filename or "the workspace"), error)
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return UserError(f"{name} could not be fetched from {constants.ENDPOINT} ({reason}); check the network and try "
                     "again, which goes on where it broke off, or bring the model in from a folder.", where=where)
