"""Lab: tokenizers of several sizes, and others, measured on the same documents.

BPE adds one merge after the other, so the largest vocabulary holds every smaller one: it is trained once, and the
smaller ones are its beginnings, exactly those that training each would give.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tokenizers import Tokenizer

from engine import files
from engine.config import UserError
from engine.progress import Progress, silent
from engine.tokens import TokensConfig
from engine.tokens import tokenizer as bpe
from engine.tokens.encoder import Encoder
from engine.tokens.shards import rows_of
from engine.workspace import Workspace

SAMPLE_BYTES = 24 << 20  # text that a lab looks at, spread over the dataset, so that it takes seconds
MOST_GROUPS = 8          # sources or languages that are told apart; the rest is one group more
LOOKED_AT = 2000         # characters of a document whose language is identified here
LAYOUT = 1


class Documents(NamedTuple):
    """The documents that are measured: the same for every tokenizer."""

    texts: list[str]
    train: list[bool]
    sources: list[str]
    languages: list[str]
    of: int               # documents in the dataset


def lab(dataset: Path, workspace: Workspace, name: str, sizes: Sequence[int], special_tokens: Sequence[str] = (),
        others: Sequence[str] = (), progress: Progress = silent) -> Path:
    """The folder of a lab on this dataset: a tokenizer-SIZE.json each, and the measures in the manifest's summary.

    `others` are paths of tokenizer.json files to measure beside. The summary has `rows` (see `measure`; with `name`,
    `size` and `path`), `documents`, `of`, `bytes` and `notes`. The same lab is found again. Raises UserError if a
    tokenizer or the dataset cannot be read, and for sizes that hold no bytes.
    """
    wanted, given = sorted(set(sizes)), [workspace.resolve(path) for path in others]
    if not wanted and not given:
        raise UserError("There is nothing to compare; name a vocabulary size or a tokenizer.json.", where="sizes")
    loaded = [bpe.load(path) for path in given]
    made_from = {"layout": LAYOUT, "dataset": files.read_json(dataset / files.MANIFEST)["fingerprint"],
                 "sizes": wanted, "special_tokens": list(special_tokens),
                 "others": [files.fingerprint_file(path) for path in given]}

    def build(folder: Path) -> dict[str, Any]:
        of = 1 + 2 * bool(wanted) + len(wanted) + len(loaded)
        progress(0, of, "reading documents")
        documents, done, notes = sample(dataset), 1, []
        entries: list[tuple[str, str, Tokenizer]] = []
        if wanted:
            progress(done, of, f"training {wanted[-1]:,} tokens")
            own = train_sizes([text for text, on in zip(documents.texts, documents.train, strict=True) if on],
                              wanted, special_tokens)
            done += 2
            if missing := [size for size in wanted if size not in own]:
                notes.append(f"The sample supports only {max(own):,} tokens, so there is no vocabulary of "
                             f"{' or '.join(f'{size:,}' for size in missing)}.")
            for size, tokenizer in own.items():
                tokenizer.save(str(folder / f"tokenizer-{size}.json"))
                entries.append((f"{size:,}", f"tokenizer-{size}.json", tokenizer))
        for typed, tokenizer in zip(others, loaded, strict=True):
            notes += [f"{typed}: {note}" for note in bpe.complete(tokenizer)]
            entries.append((typed, typed, tokenizer))
        rows = []
        for label, path, tokenizer in entries:
            progress(done, of, f"encoding with {label}")
            rows.append({"name": label, "path": path, "trained": path.startswith("tokenizer-"),
                         **measure(tokenizer, documents)})
            done += 1
        progress(of, of, "")
        return {"rows": rows, "documents": len(documents.texts), "of": documents.of, "notes": notes,
                "bytes": sum(len(text.encode()) for text in documents.texts)}

    return workspace.make("labs", name, made_from, build)


def train_sizes(texts: Sequence[str], sizes: Sequence[int], special_tokens: Sequence[str] = ()) -> dict[int, Tokenizer]:
    """A tokenizer of each size, trained in one go; sizes that the texts do not support become the largest that they do.

    Errors as in `tokenizer.train`.
    """
    settings = {"special_tokens": list(special_tokens)}
    for size in sizes:
        if size < TokensConfig.model_fields["vocab_size"].metadata[0].ge:
            raise UserError(f"A vocabulary of {size} has no room for the 256 bytes; choose 258 or more.", where="sizes")
    largest = bpe.train([list(texts)], TokensConfig(vocab_size=max(sizes), **settings), or_fewer=True)
    supported = bpe.vocab_size(largest)
    least = bpe.NUM_BYTES + 1 + len(special_tokens)
    if min(sizes) < least:
        raise UserError(f"A vocabulary of {min(sizes)} has no room for the 256 bytes and the special tokens; choose "
                        f"{least} or more.", where="sizes")
    return {size: beginning(largest, size) for size in sorted({min(size, supported) for size in sizes})}


def beginning(tokenizer: Tokenizer, size: int) -> Tokenizer:
    """The first `size` tokens of a tokenizer made by `tokenizer.train`: what training that size would have given."""
    settings = json.loads(tokenizer.to_str())
    model = settings["model"]
    model["vocab"] = {token: i for token, i in model["vocab"].items() if i < size}
    model["merges"] = [merge for merge in model["merges"] if "".join(merge) in model["vocab"]]
    return Tokenizer.from_str(json.dumps(settings))


def sample(dataset: Path, most_bytes: int = SAMPLE_BYTES) -> Documents:
    """Documents of both splits, spread evenly over the dataset; with the language of each, identified here where the
    dataset does not tell it."""
    told = files.read_json(dataset / files.MANIFEST)["summary"]
    stride = max(1, math.ceil(int(told.get("bytes") or 0) / most_bytes))
    found, count, size = Documents([], [], [], [], 0), 0, 0
    for rows in rows_of(dataset, ("text", "split", "source", "language")):
        columns = rows.to_pydict()
        for place, text in enumerate(columns["text"]):
            count += 1
            if (count - 1) % stride or not text or size > 2 * most_bytes:
                continue
            size += len(text.encode())
            found.texts.append(text)
            found.train.append(columns["split"][place] == "train")
            found.sources.append(columns["source"][place] if "source" in columns else "all")
            found.languages.append((columns["language"][place] if "language" in columns else None) or "")
    if not any(found.train):
        raise UserError(f"{dataset.name} has no training documents; add text or filter less.", where="corpus.sources")
    return found._replace(languages=_identified(found), of=count)


def _identified(documents: Documents) -> list[str]:
    if all(documents.languages):
        return documents.languages
    from engine.corpus.language import identifier

    identify = identifier()
    return [known or identify(text[:LOOKED_AT])[0]
            for text, known in zip(documents.texts, documents.languages, strict=True)]


def measure(tokenizer: Tokenizer, documents: Documents) -> dict[str, Any]:
    """What a tokenizer makes of the documents, their ends of text not counted; JSON values.

        size                       rows that an embedding needs
        bytes_per_token            on all documents; `held_out`: on those of the validation split, None without any
        fertility                  tokens per word, words being parted by white space (Rust et al. 2021)
        unused                     tokens that occur in no document
        lossless                   whether the first documents came back from their ids as they were
        sources, languages         [{"name", "bytes", "bytes_per_token", "fertility"}], the largest first
    """
    encoder, size = Encoder(tokenizer), bpe.vocab_size(tokenizer)
    ids = encoder(documents.texts)
    tokens = np.array([len(one) for one in ids])
    num_bytes = np.array([len(text.encode()) for text in documents.texts])
    words = np.array([len(text.split()) for text in documents.texts])
    uses = np.bincount(np.concatenate([*ids, np.empty(0, np.uint32)]).astype(np.int64), minlength=size)
    held_out = ~np.array(documents.train)
    known = np.zeros(size, bool)  # published vocabularies have gaps, which are no tokens
    known[list(tokenizer.get_vocab(with_added_tokens=True).values())] = True
    return {
        "size": size, "bytes_per_token": _ratio(num_bytes, tokens), "held_out": _ratio(num_bytes, tokens, held_out),
        "fertility": _ratio(tokens, words), "unused": int((known & (uses == 0)).sum()), "fast": encoder.fast,
        "lossless": all(tokenizer.decode(one.tolist(), skip_special_tokens=False) == text
                        for one, text in zip(ids[:20], documents.texts[:20], strict=True)),
        "sources": _groups(documents.sources, num_bytes, tokens, words),
        "languages": _groups(documents.languages, num_bytes, tokens, words),
    }


def _ratio(above: np.ndarray, below: np.ndarray, chosen: np.ndarray | None = None) -> float | None:
    if chosen is not None:
        above, below = above[chosen], below[chosen]
    return round(float(above.sum() / below.sum()), 4) if below.sum() else None


def _groups(names: Sequence[str], num_bytes: np.ndarray, tokens: np.ndarray,
            words: np.ndarray) -> list[dict[str, Any]]:
    sizes: Counter[str] = Counter()
    for name, size in zip(names, num_bytes.tolist(), strict=True):
        sizes[name] += size
    largest = [name for name, _ in sizes.most_common(MOST_GROUPS)]
    labels = np.array([name if name in largest else "others" for name in names])
    rows = []
    for name in [*largest, *(["others"] if len(sizes) > MOST_GROUPS else [])]:
        here = labels == name
        rows.append({"name": name, "bytes": int(num_bytes[here].sum()),
                     "bytes_per_token": _ratio(num_bytes, tokens, here), "fertility": _ratio(tokens, words, here)})
    return rows
