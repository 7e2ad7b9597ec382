"""Characters come whole, stop strings are found across tokens, and nothing is lost or said twice."""

from __future__ import annotations

import random

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from engine.inference.text import UNFINISHED, Writing

TEXT = "naïve — 東京 🙂👩‍👩‍👧 é"


@pytest.fixture(scope="module")
def byte_level():
    """Every byte a token: characters come in up to four."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


@pytest.fixture(scope="module")
def byte_fallback():
    """As sentencepiece vocabularies: words with their space, and unknown characters byte by byte."""
    vocab = {"<unk>": 0, **{f"<0x{b:02X}>": b + 1 for b in range(256)}, "▁": 257, "▁a": 258, "b": 259}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[], byte_fallback=True,
                                     unk_token="<unk>"))
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
                                           decoders.Strip(" ", 1, 0)])
    return tokenizer


def written(writing, ids):
    return [writing.add(i) for i in ids]


def test_no_half_character_is_given(byte_level):
    ids = byte_level.encode(TEXT).ids
    writing = Writing(byte_level)
    pieces = written(writing, ids)
    assert len(ids) > len(TEXT)
    assert not any(UNFINISHED in piece for piece in pieces)
    assert "".join(pieces) == TEXT
    assert writing.end() == ""
    assert sum(bool(piece) for piece in pieces) == len(TEXT), "each character as soon as it is whole"


def test_a_character_that_is_never_finished_is_marked_at_the_end(byte_level):
    ids = byte_level.encode("a🙂").ids[:-1]
    writing = Writing(byte_level)
    assert "".join(written(writing, ids)) == "a"
    assert writing.end() == UNFINISHED


@pytest.mark.parametrize("seed", range(5))
def test_noise_comes_out_as_the_tokenizer_decodes_it(byte_level, seed):
    dice = random.Random(seed)
    letters = byte_level.encode("abc éü東🙂").ids
    ids = [dice.choice(letters) if dice.random() < 0.7 else dice.randrange(256) for _ in range(300)]
    writing = Writing(byte_level)
    assert "".join(written(writing, ids)) + writing.end() == byte_level.decode(ids)


def test_byte_fallback_holds_back_all_bytes_of_a_character(byte_fallback):
    ids = [258, *(byte + 1 for byte in "🙂".encode()), 258, 259]
    writing = Writing(byte_fallback)
    pieces = written(writing, ids)
    assert pieces == ["a", "", "", "", "🙂", " a", "b"]


def test_the_space_after_the_prompt_is_kept(byte_fallback):
    writing = Writing(byte_fallback, before=[258, 259])
    assert written(writing, [258, 259]) == [" a", "b"], "decoding it alone would drop the space"


def test_a_long_text_in_short_words_is_the_same_as_decoded_at_once(byte_fallback):
    ids = [random.Random(1).choice([257, 258, 259]) for _ in range(200)]
    writing = Writing(byte_fallback, before=[259])
    assert "b" + "".join(written(writing, ids)) + writing.end() == byte_fallback.decode([259, *ids])


def test_a_stop_string_is_never_given_even_in_part(byte_level):
    writing = Writing(byte_level, stop=["END!", "other"])
    pieces = written(writing, byte_level.encode("an ENDless tale END! and more").ids)
    assert "".join(pieces) == "an ENDless tale "
    assert writing.stopped
    assert writing.end() == ""


def test_what_only_looked_like_a_stop_string_is_given_at_the_end(byte_level):
    writing = Writing(byte_level, stop=["END!"])
    assert "".join(written(writing, byte_level.encode("the EN").ids)) == "the "
    assert writing.end() == "EN"
    assert not writing.stopped


def test_of_two_stop_strings_the_first_in_the_text_counts(byte_level):
    writing = Writing(byte_level, stop=["yz", "xy"])
    assert "".join(written(writing, byte_level.encode("wxyz").ids)) == "w"
    assert writing.stopped
