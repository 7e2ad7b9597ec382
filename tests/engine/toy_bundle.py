"""A toy checkpoint, and the bundle made of it."""

from __future__ import annotations

from pathlib import Path

import toy_models
import toy_tokens

from engine import files
from engine.export import ExportConfig
from engine.export.bundle import export
from engine.model.pretrained import save
from engine.tokens import TokensConfig
from engine.tokens.tokenizer import train

VOCABULARY, CONTEXT = 400, 96


def checkpoint(folder: Path, form: str = "llama", **changes) -> Path:
    """A Hugging Face folder of a stirred toy model that knows the toy texts' tokens."""
    tokenizer = folder.parent / "tokenizer.json"
    if not tokenizer.exists():
        train([toy_tokens.texts(300, seed=1)], TokensConfig(vocab_size=VOCABULARY)).save(str(tokenizer))
    folder.mkdir(exist_ok=True)
    model = toy_models.decoder(form, **{"vocab_size": VOCABULARY, "context_length": CONTEXT, **changes})
    save(model, folder, tokenizer)
    return folder


def bundle(folder: Path, form: str = "llama", **changes) -> Path:
    """The bundle `folder`/toy of a checkpoint made beside it."""
    made, verdict = export(checkpoint(folder / "checkpoint", form, **changes), ExportConfig(), folder / "toy")
    assert verdict["passed"], verdict["sentence"]
    return made


def declare(folder: Path) -> None:
    """Make the manifest agree with the files, as one who forges a bundle would."""
    manifest = files.read_json(folder / files.MANIFEST)
    names = [str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file() and p.name != files.MANIFEST]
    manifest["files"] = {name: (folder / name).stat().st_size for name in names}
    manifest["checksums"] = {name: files.fingerprint_file(folder / name) for name in names}
    files.write_json(folder / files.MANIFEST, manifest)
