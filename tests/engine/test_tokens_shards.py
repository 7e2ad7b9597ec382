from __future__ import annotations

import math

import numpy as np
import pytest
import toy_tokens
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from engine import files
from engine.config import UserError
from engine.progress import Stopped
from engine.tokens import TokensConfig, shards
from engine.tokens import tokenizer as bpe
from engine.tokens.shards import Shards, bits_per_byte, tokenize


def summary(folder):
    return files.read_json(folder / files.MANIFEST)["summary"]


@pytest.mark.parametrize("shard_tokens", [1 << 26, 257])
def test_documents_come_back_from_the_shards(workspace, monkeypatch, shard_tokens):
    monkeypatch.setattr(shards, "SHARD_TOKENS", shard_tokens)
    monkeypatch.setattr(shards, "BATCH_BYTES", 1000)
    train, val = toy_tokens.texts(80, seed=1), toy_tokens.texts(9, seed=2)
    train[7] = "Ünïcödé 日本語 🙂 " * 300
    train[8] += "<|endoftext|> and on"
    folder = tokenize(TokensConfig(vocab_size=300), toy_tokens.dataset(workspace, train, val), workspace, "toy")
    tokenizer = bpe.load(folder / "tokenizer.json")
    for split, texts in (("train", train), ("val", val)):
        made = Shards(folder, split)
        told = summary(folder)[split]
        assert told == {"tokens": made.num_tokens, "documents": len(texts),
                        "bytes": sum(len(text.encode()) for text in texts)}
        for text, start, end in zip(texts, made.starts, made.starts[1:], strict=False):
            *ids, last = made.window(int(start), int(end - start)).tolist()
            assert last == made.end_of_text
            assert tokenizer.decode(ids) == text
        whole = made.window(0, made.num_tokens)
        assert int((whole == made.end_of_text).sum()) == len(texts)
        assert made.count_bytes(whole) == told["bytes"]
    biggest = max(path.stat().st_size for path in folder.glob("*.bin"))
    assert biggest <= 2 * shard_tokens


def test_summary_tells_lengths_and_use(workspace):
    folder = toy_tokens.tokens(workspace)
    told, train, val = summary(folder), Shards(folder, "train"), Shards(folder, "val")
    lengths = np.concatenate([np.diff(train.starts), np.diff(val.starts)])
    assert sum(told["lengths"]["counts"]) == len(lengths) == 340
    assert len(told["lengths"]["edges"]) == len(told["lengths"]["counts"]) + 1
    assert told["lengths"]["percentiles"]["50"] == int(np.median(lengths))
    assert told["lengths"]["percentiles"]["100"] == lengths.max() < told["lengths"]["edges"][-1]
    assert told["unused_tokens"] == 400 - len(np.unique(train.window(0, train.num_tokens)))
    assert told["bytes_per_token"] == pytest.approx((train.num_bytes + val.num_bytes)
                                                    / (train.num_tokens + val.num_tokens), abs=1e-3)
    assert (told["vocab_size"], told["dtype"], told["notes"]) == (400, "uint16", [])


def test_the_same_work_is_found_again_and_other_settings_are_not(workspace):
    made = toy_tokens.dataset(workspace, toy_tokens.texts(60), toy_tokens.texts(5, seed=2))
    first = tokenize(TokensConfig(vocab_size=300), made, workspace, "one")
    assert tokenize(TokensConfig(vocab_size=300), made, workspace, "two") == first
    assert tokenize(TokensConfig(vocab_size=301), made, workspace, "one") != first


def test_a_given_tokenizer_replaces_the_training_and_the_size(workspace):
    first = toy_tokens.tokens(workspace)
    (workspace.path / "mine.json").write_text((first / "tokenizer.json").read_text())
    made = toy_tokens.dataset(workspace, toy_tokens.texts(20, seed=3), toy_tokens.texts(5, seed=4), "other")
    second = tokenize(TokensConfig(tokenizer="mine.json", vocab_size=777), made, workspace, "toy")
    assert summary(second)["vocab_size"] == 400
    assert tokenize(TokensConfig(tokenizer="mine.json", vocab_size=400), made, workspace, "toy") == second
    (workspace.path / "same.json").write_text((first / "tokenizer.json").read_text())
    assert tokenize(TokensConfig(tokenizer="same.json"), made, workspace, "toy") == second


def test_a_tokenizer_that_loses_bytes_says_so_and_the_bytes_still_add_up(workspace):
    words = sorted({w for text in toy_tokens.texts(40) for w in text.replace(".", " .").split()})
    given = Tokenizer(models.WordLevel({w: i for i, w in enumerate(["[UNK]", *words])}, unk_token="[UNK]"))
    given.pre_tokenizer, given.normalizer = pre_tokenizers.Whitespace(), normalizers.Lowercase()
    given.save(str(workspace.path / "words.json"))
    made = toy_tokens.dataset(workspace, toy_tokens.texts(40), toy_tokens.texts(4, seed=5))
    folder = tokenize(TokensConfig(tokenizer="words.json"), made, workspace, "toy")
    train, val = Shards(folder, "train"), Shards(folder, "val")
    assert "estimates" in summary(folder)["notes"][-1]
    read = sum(s.count_bytes(s.window(0, s.num_tokens)) for s in (train, val))
    assert read == pytest.approx(train.num_bytes + val.num_bytes)


def test_large_vocabularies_take_four_bytes(workspace):
    given = Tokenizer(models.WordLevel({"[UNK]": 0, "ka": 70_000}, unk_token="[UNK]"))
    given.pre_tokenizer = pre_tokenizers.Whitespace()
    given.save(str(workspace.path / "wide.json"))
    folder = tokenize(TokensConfig(tokenizer="wide.json"), toy_tokens.dataset(workspace, ["ka lo ka"], ["ka"]),
                      workspace, "toy")
    train = Shards(folder, "train")
    assert summary(folder)["dtype"] == "uint32"
    assert train.window(0, 3).tolist() == [70_000, 0, 70_000]


def test_no_training_documents_is_refused(workspace):
    with pytest.raises(UserError, match="no training documents"):
        tokenize(TokensConfig(), toy_tokens.dataset(workspace, [], ["some text"]), workspace, "toy")


@pytest.mark.parametrize(("typed", "match"), [("none.json", r"tokens\.tokenizer is none\.json, which is missing"),
                                              ("/etc/passwd", "outside the workspace")])
def test_a_tokenizer_that_cannot_be_had_is_refused(workspace, typed, match):
    made = toy_tokens.dataset(workspace, ["text"], [])
    with pytest.raises(UserError, match=match):
        tokenize(TokensConfig(tokenizer=typed), made, workspace, "toy")


def test_a_damaged_dataset_is_refused_by_the_file(workspace):
    made = toy_tokens.dataset(workspace, toy_tokens.texts(50), [])
    path = made / "documents-00001.parquet"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(UserError, match=r"documents-00001\.parquet is damaged"):
        tokenize(TokensConfig(vocab_size=300), made, workspace, "toy")
    assert not list(workspace.place("tokens").iterdir())


def test_a_stop_leaves_nothing_behind(workspace):
    made = toy_tokens.dataset(workspace, toy_tokens.texts(50), toy_tokens.texts(5))
    seen = []

    def stop_at(message):
        def progress(done, of, words=""):
            seen.append((done, of))
            if words.startswith(message):
                raise Stopped
        return progress

    for message in ("training", "encoding val"):
        with pytest.raises(Stopped):
            tokenize(TokensConfig(vocab_size=300), made, workspace, "toy", stop_at(message))
        assert not list(workspace.place("tokens").iterdir())
    assert all(0 <= done <= of == 105 for done, of in seen)


@pytest.mark.parametrize("damage", [
    lambda folder: (folder / "train-00000.bin").unlink(),
    lambda folder: (folder / "train-00000.bin").write_bytes((folder / "train-00000.bin").read_bytes()[:-2]),
    lambda folder: (folder / "train-documents.npy").write_bytes(b"no numpy"),
    lambda folder: (folder / "token_bytes.npy").unlink(),
], ids=["missing shard", "cut shard", "bad index", "missing table"])
def test_damaged_shards_are_refused(workspace, damage):
    folder = toy_tokens.tokens(workspace, train=60, val=5, vocab_size=300)
    damage(folder)
    with pytest.raises(UserError, match="tokenize again"):
        Shards(folder, "train")


def test_windows_beyond_the_end_are_an_error(workspace):
    val = Shards(toy_tokens.tokens(workspace, train=60, val=5, vocab_size=300), "val")
    with pytest.raises(IndexError):
        val.window(val.num_tokens - 3, 4)


def test_bits_per_byte_by_hand():
    # 6 tokens at ln 4 nats are 12 bits; over 8 bytes that is 1.5.
    assert bits_per_byte(math.log(4), 6, 8) == pytest.approx(1.5)
    assert math.isnan(bits_per_byte(1.0, 2, 0))
