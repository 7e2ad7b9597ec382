from __future__ import annotations

import json

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from toy_tokens import texts

from engine.config import UserError
from engine.model import special
from engine.tokens import END_OF_TEXT, ENDS, TokensConfig
from engine.tokens import tokenizer as bpe

HARD = ["", " ", "\n\n\t  end ", "Ünïcödé, 日本語 🙂👨‍👩‍👧", "\x00\x01\u200b\ufeff", "don't   SHOUT 12345!?",
        "e\u0301 é", f"a{END_OF_TEXT}b", "<|user|> hi <|user|>"]


@pytest.fixture(scope="module")
def trained():
    return bpe.train([texts(300)], TokensConfig(vocab_size=400, special_tokens=("<|user|>",)))


def test_every_text_comes_back(trained):
    for text, ids in zip(HARD, bpe.encode(trained, HARD), strict=True):
        assert trained.decode(ids, skip_special_tokens=False) == text
        assert max(ids, default=0) < 400


def test_size_and_special_tokens_are_what_was_asked(trained):
    assert bpe.vocab_size(trained) == 400
    assert trained.token_to_id(END_OF_TEXT) == bpe.end_of_text(trained) == 0
    assert bpe.encode(trained, ["<|user|>"]) == [[1]]


def test_a_text_cannot_say_that_it_ends(trained):
    ids = bpe.encode(trained, [f"one{END_OF_TEXT}two", "plain <|user|>"])
    assert bpe.end_of_text(trained) not in ids[0]
    assert 1 in ids[1]


def test_the_same_texts_give_the_same_tokenizer():
    config = TokensConfig(vocab_size=400)
    made = {bpe.train([batch], config).to_str() for batch in (texts(200), texts(200), texts(200))}
    assert len(made) == 1


def test_bytes_of_tokens_add_up_to_the_text(trained):
    table = bpe.bytes_per_token(trained)
    for text, ids in zip(HARD, bpe.encode(trained, HARD), strict=True):
        assert table[ids].sum() == len(text.encode())


def test_a_vocabulary_beyond_the_corpus_names_what_it_supports():
    with pytest.raises(UserError, match=r"tokens\.vocab_size is 90000, but .* supports only (\d+)") as caught:
        bpe.train([texts(50)], TokensConfig(vocab_size=90_000))
    assert caught.value.where == "tokens.vocab_size"
    supported = int(caught.value.sentence.split("at most ")[1].split(",")[0])
    assert bpe.vocab_size(bpe.train([texts(50)], TokensConfig(vocab_size=supported))) == supported


@pytest.mark.parametrize("special", [(END_OF_TEXT,), ("<a>", "<a>"), ("",)])
def test_special_tokens_must_differ(special):
    with pytest.raises(UserError, match=r"tokens\.special_tokens"):
        bpe.train([texts(50)], TokensConfig(vocab_size=300, special_tokens=special))


def test_special_tokens_need_room():
    with pytest.raises(UserError, match="alone are 260; choose more"):
        bpe.train([texts(50)], TokensConfig(vocab_size=258, special_tokens=("<a>", "<b>", "<c>")))


def test_transformers_reads_the_file_and_agrees(trained, tmp_path):
    from transformers import PreTrainedTokenizerFast

    trained.save(str(tmp_path / "tokenizer.json"))
    theirs = PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"))
    for text in HARD[:-2]:
        ids = bpe.encode(trained, [text])[0]
        assert theirs(text)["input_ids"] == ids
        assert theirs.decode(ids, clean_up_tokenization_spaces=False) == text


def test_a_loaded_tokenizer_neither_cuts_nor_pads(trained, tmp_path):
    cutting = Tokenizer.from_str(trained.to_str())
    cutting.enable_truncation(4)
    cutting.enable_padding(length=64)
    cutting.save(str(tmp_path / "tokenizer.json"))
    text = texts(1)[0]
    assert bpe.encode(bpe.load(tmp_path / "tokenizer.json"), [text]) == bpe.encode(trained, [text])


@pytest.mark.parametrize("damage", [
    lambda text: "", lambda text: text[:len(text) // 2], lambda text: "{}", lambda text: "[1, 2]",
    lambda text: json.dumps({"model": {"type": "BPE", "vocab": {}, "merges": [["a", "b"]]}}),
    lambda text: json.dumps({"version": "1.0", "model": {"type": "WordLevel", "vocab": {}, "unk_token": "?"}}),
], ids=["empty", "cut", "no model", "a list", "merges without vocabulary", "empty vocabulary"])
def test_a_damaged_file_is_refused_by_name(trained, tmp_path, damage):
    path = tmp_path / "tokenizer.json"
    path.write_text(damage(trained.to_str()))
    with pytest.raises(UserError, match=r"tokenizer\.json") as caught:
        bpe.load(path)
    assert "\n" not in caught.value.sentence


def test_a_binary_or_missing_file_is_refused(tmp_path):
    (tmp_path / "binary.json").write_bytes(bytes(range(256)))
    for name in ("binary.json", "none.json", "."):
        with pytest.raises(UserError, match=r"name a tokenizer\.json"):
            bpe.load(tmp_path / name)


def test_a_tokenizer_without_an_end_is_given_one_and_says_so():
    words = Tokenizer(models.WordLevel({"?": 0, "one": 1, "two": 5}, unk_token="?"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.normalizer = normalizers.Lowercase()
    with pytest.raises(UserError, match="end of a text"):
        bpe.end_of_text(words)
    notes = bpe.complete(words, ["<|user|>"])
    assert len(notes) == 2
    assert END_OF_TEXT in notes[0]
    assert words.id_to_token(bpe.end_of_text(words)) == END_OF_TEXT
    assert bpe.vocab_size(words) == max(words.get_vocab().values()) + 1


def test_a_published_end_is_kept():
    words = Tokenizer(models.WordLevel({"?": 0, "one": 1, "</s>": 2}, unk_token="?"))
    words.add_special_tokens(["</s>"])
    assert "</s>" in bpe.complete(words)[0]
    assert bpe.end_of_text(words) == 2


def test_checkpoints_look_for_the_same_ends():
    assert special.ENDS == ENDS
