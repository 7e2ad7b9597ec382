"""Shards: a dataset as token ids on disk, read through the page cache.

    TOKENS/
      tokenizer.json        train-00000.bin ..     all documents end to end, each with its end of text
      token_bytes.npy       train-documents.npy    where each document starts, and the end: int64 (N+1,)
      manifest.json         val-00000.bin ..       val-documents.npy
      tokenizer_config.json    with the chat template, where one was chosen
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from engine import files
from engine.config import UserError
from engine.progress import Progress, silent
from engine.tokens import TokensConfig
from engine.workspace import Workspace

if TYPE_CHECKING:
    import pyarrow as pa

SPLITS = ("train", "val")
SHARD_TOKENS = 1 << 26         # 128 MiB of uint16
BATCH_BYTES = 4 << 20          # text that is encoded at once
TRAINING_BYTES = 512 << 20     # text from which a tokenizer is trained; more changes hardly a merge
LAYOUT = 1                     # part of the fingerprint: a new layout is a new folder


def tokenize(config: TokensConfig, dataset: Path, workspace: Workspace, name: str, progress: Progress = silent) -> Path:
    """The folder of shards made from this dataset with these settings; found again if it was made before.

    Its manifest's summary has vocab_size, dtype, end_of_text, train and val (tokens, documents,
    bytes), bytes_per_token, unused_tokens, lengths and notes. Raises UserError if the dataset is
    damaged or empty, or if the tokenizer cannot be had.
    """
    from engine.tokens import chat

    given = workspace.resolve(config.tokenizer) if config.tokenizer else None
    template = chat.source(config.chat_template, workspace)
    wanted = dict.fromkeys((*config.special_tokens, *chat.special_tokens(config.chat_template)))
    config = config.replace(special_tokens=[*wanted]) if template else config
    settings: dict[str, Any] = {"special_tokens": list(config.special_tokens)}
    if template:
        settings["chat_template"] = template
    if given is None:
        settings["vocab_size"] = config.vocab_size
    else:
        if not given.is_file():
            raise UserError(f"tokens.tokenizer is {config.tokenizer}, which is missing or no file; "
                            "name a tokenizer.json.", where="tokens.tokenizer")
        settings["tokenizer"] = files.fingerprint_file(given)
    source = files.read_json(dataset / files.MANIFEST)
    made_from = {"layout": LAYOUT, "dataset": source["fingerprint"], **settings}
    return workspace.make("tokens", name, made_from,
                          lambda folder: _build(folder, config, given, template, dataset, progress))


def _build(folder: Path, config: TokensConfig, given: Path | None, template: str, dataset: Path,
           progress: Progress) -> dict[str, Any]:
    from engine.tokens import chat
    from engine.tokens import tokenizer as bpe
    from engine.tokens.encoder import Encoder

    documents = {split: _measure(dataset, split) for split in SPLITS}
    total = sum(count for count, _ in documents.values())
    count, num_bytes = documents["train"]
    if not count:
        raise UserError(f"{dataset.name} has no training documents; add text or filter less.", where="corpus.sources")
    files.require_space(folder, num_bytes)
    if given is None:
        stride = math.ceil(num_bytes / TRAINING_BYTES)
        done, of = count, count + total
        texts = _told(_documents(dataset, "train"), 0, of, "training the tokenizer", progress)
        tokenizer, notes = bpe.train((batch[::stride] for batch in texts), config), []
    else:
        tokenizer, done, of = bpe.load(given), 0, total
        notes = bpe.complete(tokenizer, config.special_tokens)
        if tokenizer.num_special_tokens_to_add(False):
            # Texts are cut here with nothing around them, so that nothing may be put around prompts later.
            tokenizer.post_processor = None
    tokenizer.save(str(folder / "tokenizer.json"))
    if template:
        files.write_json(folder / "tokenizer_config.json", chat.tokenizer_config(tokenizer, template))

    size, end = bpe.vocab_size(tokenizer), bpe.end_of_text(tokenizer)
    dtype = np.dtype(np.uint16 if size <= 1 << 16 else np.uint32)
    encoder = Encoder(tokenizer)
    uses, splits = {split: np.zeros(size, np.int64) for split in SPLITS}, {}
    for split in SPLITS:
        writer = _Writer(folder, split, dtype, documents[split][0])
        for batch in _told(_documents(dataset, split), done, of, f"encoding {split}", progress):
            ids = encoder(batch)
            flat = np.concatenate([part for row in ids for part in (row, [end])]).astype(dtype)
            writer.add(flat, np.array([len(row) + 1 for row in ids]))
            uses[split] += np.bincount(flat, minlength=size)
        splits[split] = {"tokens": writer.close(), "documents": documents[split][0], "bytes": documents[split][1]}
        done += documents[split][0]

    table, all_uses = bpe.bytes_per_token(tokenizer), uses["train"] + uses["val"]
    all_bytes = sum(num_bytes for _, num_bytes in documents.values())
    if int(all_uses @ table) != all_bytes:
        # Not byte-level, or it normalises: each token is given its share of the bytes that were really read.
        table = np.full(size, all_bytes / max(1, all_uses.sum() - all_uses[end]))
        table[end] = 0
        notes.append("The tokenizer does not keep every byte, so bits per byte of a part of the text are estimates.")
    np.save(folder / "token_bytes.npy", table)
    return {"vocab_size": size, "dtype": dtype.name, "end_of_text": end, **splits,
            "bytes_per_token": round(all_bytes / int(all_uses.sum()), 4),
            "unused_tokens": int((uses["train"] == 0).sum()), "lengths": _lengths(folder), "notes": notes}


def _documents(dataset: Path, split: str) -> Iterator[list[str]]:
    """The texts of one split in their order, in batches of about BATCH_BYTES."""
    batch: list[str] = []
    size = 0
    for texts in _texts(dataset, split):
        for text in texts.to_pylist():
            batch.append(text)
            size += len(text)
            if size >= BATCH_BYTES:
                yield batch
                batch, size = [], 0
    if batch:
        yield batch


def _measure(dataset: Path, split: str) -> tuple[int, int]:
    """Documents and bytes of one split."""
    import pyarrow.compute as pc

    count = num_bytes = 0
    for texts in _texts(dataset, split):
        count, num_bytes = count + len(texts), num_bytes + (pc.sum(pc.binary_length(texts)).as_py() or 0)
    return count, num_bytes


def _texts(dataset: Path, split: str) -> Iterator[pa.Array]:
    import pyarrow.compute as pc

    for rows in rows_of(dataset, ("text", "split")):
        yield rows.filter(pc.equal(rows.column("split"), split)).column("text")


def rows_of(dataset: Path, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """The documents of a dataset in their order, with those of the columns that it has; UserError if it is damaged."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    paths = sorted(dataset.glob("documents-*.parquet"))
    if not paths:
        raise UserError(f"{dataset} has no documents-*.parquet; curate the corpus again.", where=str(dataset))
    for path in paths:
        try:
            with pq.ParquetFile(path) as file:
                there = [name for name in columns if name in file.schema_arrow.names]
                yield from file.iter_batches(batch_size=256, columns=there)
        except (pa.ArrowException, OSError, KeyError) as error:
            raise UserError(f"{path} is damaged ({str(error).splitlines()[0]}); delete {dataset.name} and curate "
                            "the corpus again.", where=str(path)) from None


def _told(batches: Iterator[list[str]], done: int, of: int, message: str, progress: Progress) -> Iterator[list[str]]:
    """The batches, with progress told after each."""
    for batch in batches:
        progress(done, of, message)
        yield batch
        done += len(batch)
    progress(done, of, message)


class _Writer:
    """Appends token ids to shards of at most SHARD_TOKENS, and notes where documents start."""

    def __init__(self, folder: Path, split: str, dtype: np.dtype, num_documents: int) -> None:
        self.folder, self.split, self.dtype = folder, split, dtype
        self.tokens = self.document = 0
        self.starts = np.lib.format.open_memmap(folder / f"{split}-documents.npy", mode="w+", dtype=np.int64,
                                                shape=(num_documents + 1,))

    def add(self, ids: np.ndarray, lengths: np.ndarray) -> None:
        ends = self.tokens + np.cumsum(lengths)
        self.starts[self.document + 1:self.document + 1 + len(ends)] = ends
        self.document += len(ends)
        while len(ids):
            number, filled = divmod(self.tokens, SHARD_TOKENS)
            piece, ids = np.split(ids, [SHARD_TOKENS - filled])
            with open(self.folder / f"{self.split}-{number:05d}.bin", "ab") as file:
                file.write(piece.astype(self.dtype).tobytes())
            self.tokens += len(piece)

    def close(self) -> int:
        """The number of tokens written."""
        self.starts.flush()
        return self.tokens


def document_lengths(folder: Path) -> np.ndarray:
    """Tokens of each document of both splits, its end of text included, (N,) int64; UserError if a file is damaged."""
    try:
        return np.concatenate([np.diff(np.load(folder / f"{s}-documents.npy", mmap_mode="r")) for s in SPLITS])
    except (OSError, ValueError) as error:
        raise UserError(f"{folder} is damaged ({error}); delete it and tokenize again.", where=str(folder)) from None


def _lengths(folder: Path) -> dict[str, Any]:
    """Tokens per document of both splits, the end of text included: histogram and percentiles."""
    lengths = document_lengths(folder)
    # Powers of two and their middles: the bars end at the lengths that one chooses a context from.
    edges, longest = [1], int(lengths.max())
    while edges[-1] <= longest:
        edges.append(edges[-1] * 3 // 2 if edges[-1] & (edges[-1] - 1) == 0 and edges[-1] > 1
                     else 1 << edges[-1].bit_length())
    percentiles = {str(p): int(np.percentile(lengths, p)) for p in (1, 5, 25, 50, 75, 95, 99, 100)}
    return {"edges": edges, "counts": np.histogram(lengths, edges)[0].tolist(), "percentiles": percentiles}


class Shards:
    """The tokens of one split of a folder made by `tokenize`, memory-mapped.

    Raises UserError if a file is missing or cut.
    """

    def __init__(self, folder: str | Path, split: str) -> None:
        assert split in SPLITS, split
        self.folder, self.split = Path(folder), split
        summary = files.read_json(self.folder / files.MANIFEST)["summary"]
        self.num_tokens: int = summary[split]["tokens"]
        self.num_bytes: int = summary[split]["bytes"]
        self.num_documents: int = summary[split]["documents"]
        self.vocab_size: int = summary["vocab_size"]
        self.end_of_text: int = summary["end_of_text"]
        dtype = np.dtype(summary["dtype"])
        try:
            self._parts = [np.memmap(path, dtype=dtype, mode="r")
                           for path in sorted(self.folder.glob(f"{split}-[0-9]*.bin"))]
            self.starts: np.ndarray = np.load(self.folder / f"{split}-documents.npy", mmap_mode="r")
            self.token_bytes: np.ndarray = np.load(self.folder / "token_bytes.npy")
        except (OSError, ValueError) as error:
            raise UserError(f"{self.folder} is damaged ({error}); delete it and tokenize again.",
                            where=str(self.folder)) from None
        self._ends = np.cumsum([len(part) for part in self._parts], dtype=np.int64)
        found = int(self._ends[-1]) if len(self._ends) else 0
        if found != self.num_tokens or len(self.starts) != self.num_documents + 1:
            raise UserError(f"{self.folder} has {found} {split} tokens, but its manifest says {self.num_tokens}; "
                            "delete it and tokenize again.", where=str(self.folder))

    def window(self, start: int, length: int) -> np.ndarray:
        """`length` tokens from token `start` on, (length,) int64, across shards and documents."""
        if not 0 <= start <= start + length <= self.num_tokens:
            raise IndexError(f"tokens {start} to {start + length} of {self.num_tokens}")
        found = np.empty(length, np.int64)
        done = 0
        while done < length:
            number = int(np.searchsorted(self._ends, start + done, side="right"))
            part = self._parts[number]
            offset = start + done - (int(self._ends[number]) - len(part))
            piece = part[offset:offset + length - done]
            found[done:done + len(piece)] = piece
            done += len(piece)
        return found

    def windows(self, starts: np.ndarray, length: int) -> np.ndarray:
        """One window a row, (len(starts), length) int64."""
        return np.stack([self.window(int(start), length) for start in starts])

    def count_bytes(self, ids: np.ndarray) -> float:
        """Bytes of text that the tokens stand for; exact for byte-level tokenizers."""
        return float(self.token_bytes[ids].sum())

    def spread(self, length: int, most: int) -> np.ndarray:
        """Starts of at most `most` windows of `length` inputs and their targets, evenly over the split.

        Windows overlap only in the token that is the last target of one and the first input of the
        next, so that no target counts twice.
        """
        there = max(0, self.num_tokens - 1) // length
        return np.linspace(0, max(0, there - 1), min(most, there)).round().astype(np.int64) * length


def bits_per_byte(loss: float, num_tokens: float, num_bytes: float) -> float:
    """Bits that the model needs for a byte of text: comparable between tokenizers, as the loss is not.

    `loss` is the mean in nats over `num_tokens` targets, which stand for `num_bytes` of text. The
    end of a text costs bits, as every token does, and stands for no byte (Gao et al. 2020).
    """
    return loss * num_tokens / (math.log(2) * num_bytes) if num_bytes else math.nan
