from __future__ import annotations

import json
import random

import numpy as np
import pytest
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from toy_tokens import texts

from engine.tokens import END_OF_TEXT, TokensConfig
from engine.tokens import tokenizer as bpe
from engine.tokens.encoder import GPT2, PATTERNS, Encoder, _Quick

HARD = ["", " ", "\n\n\t  end ", "Ünïcödé, 日本語 🙂👨\u200d👩\u200d👧", "\x00\x01\u200b\ufeff",
        "don't   SHOUT 12345!?",
        "İSTANBUL'S 'ſ 'LL 'Ve", "e\u0301 é \u0939\u093f\u0928\u094d\u0926\u0940", f"a{END_OF_TEXT}b", "<|use",
        "<|user|> hi <|user|><|user|>x", "<|user||>", "\r\n\r\n \r  \u2028\u3000\u00a0x", "٣١٤ ½ Ⅷ ²", "aaaaaaaa" * 40,
        " " * 700 + "x" + "\n" * 700, "🙂" * 90, "def f(x):\n\treturn x**2  # ∑\n", "\U000e0041\U0010ffff\u0378",
        "a\u0301\u0302\u0303" * 20]


def pattern(last: str) -> str:
    return next(p for p in PATTERNS if p != GPT2 and p.startswith("(?i:") and last in p)


def trained(pre, special=(END_OF_TEXT, "<|user|>", "<|user||>"), normalizer=None, ignore_merges=False) -> Tokenizer:
    made = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    made.pre_tokenizer, made.decoder = pre, decoders.ByteLevel()
    if normalizer:
        made.normalizer = normalizer
    trainer = trainers.BpeTrainer(vocab_size=500, special_tokens=list(special), show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    made.train_from_iterator(texts(200) + [t for t in HARD if END_OF_TEXT not in t] * 3, trainer)
    return made


def splitting(regex: str):
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(regex), "isolated"),
                                    pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def noise(number: int) -> list[str]:
    """Texts of any code points, blanks and digits more often than by chance."""
    dice = random.Random(5)
    some = [" ", "  ", "\n", "\t", "'", "s", "12", "é", "\u0301"]
    return ["".join(dice.choice(some) if dice.random() < 0.5 else chr(dice.choice((dice.randrange(0xD800),
                    dice.randrange(0xE000, 0x110000), dice.randrange(0x250)))) for _ in range(dice.randrange(60)))
            for _ in range(number)]


def changed(tokenizer: Tokenizer, change) -> Tokenizer:
    settings = json.loads(tokenizer.to_str())
    change(settings)
    return Tokenizer.from_str(json.dumps(settings))


KNOWN = {
    "our own": lambda: bpe.train([texts(300)], TokensConfig(vocab_size=500, special_tokens=("<|user|>", "<|user||>"))),
    "GPT-2": lambda: trained(pre_tokenizers.ByteLevel(add_prefix_space=False)),
    "GPT-2's pattern said": lambda: trained(splitting(GPT2)),
    "Llama 3": lambda: trained(splitting(pattern("{1,3}")), special=(END_OF_TEXT, "<|user|>"), ignore_merges=False),
    "Llama 3 as it is published": lambda: trained(splitting(pattern("{1,3}")), ignore_merges=True),
    "a token that no merge reaches": lambda: changed(
        trained(pre_tokenizers.ByteLevel(add_prefix_space=False)),
        # Its last merge now joins two tokens that an earlier merge takes apart.
        lambda s: s["model"]["merges"].insert(0, s["model"]["merges"].pop())),
    "Qwen": lambda: trained(splitting(pattern(r"\p{N}| ")), normalizer=normalizers.NFC()),
}


@pytest.mark.parametrize("name", KNOWN)
def test_the_fast_way_gives_the_same_ids_on_every_text(name):
    tokenizer = KNOWN[name]()
    encoder, hard = Encoder(tokenizer), HARD + noise(400) + texts(20, seed=9)
    assert encoder.fast
    encoder._sampled = 1 << 40  # past its own comparison, so that the fast way itself is judged
    assert encoder._quick.able(HARD[3])
    for text, one, other in zip(hard, encoder(hard), encoder._slowly(hard), strict=True):
        assert np.array_equal(one, other), repr(text)
    assert encoder.fast


def words() -> Tokenizer:
    made = Tokenizer(models.WordLevel({"?": 0, "ka": 1, END_OF_TEXT: 2}, unk_token="?"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.add_special_tokens([END_OF_TEXT])
    return made


UNKNOWN = {
    "words": words,
    "another pattern": lambda: trained(splitting(r"\w+|\W+")),
    "a prefix blank": lambda: trained(pre_tokenizers.ByteLevel(add_prefix_space=True)),
    "lower case": lambda: trained(pre_tokenizers.ByteLevel(add_prefix_space=False), normalizer=normalizers.Lowercase()),
    "a token that eats blanks": lambda: changed(
        trained(pre_tokenizers.ByteLevel(add_prefix_space=False)),
        lambda s: s["added_tokens"][1].update(lstrip=True)),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_is_not_known_to_be_equal_is_left_to_the_library(name):
    tokenizer = UNKNOWN[name]()
    encoder = Encoder(tokenizer)
    assert not encoder.fast
    for text, ids in zip(HARD[:8], encoder(HARD[:8]), strict=True):
        assert ids.tolist() == tokenizer.encode(text, add_special_tokens=False).ids


def test_an_overlap_that_would_merge_otherwise_is_noticed():
    """With merges ab, bc, (a, bc): a reader of ranks alone would make abc of every a-b-c; the library never does."""
    tokenizer = trained(pre_tokenizers.ByteLevel(add_prefix_space=False))

    def change(settings):
        vocab = {letter: place for place, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
        for token in ("ab", "bc", "abc", END_OF_TEXT):
            vocab[token] = len(vocab)
        settings["model"].update(vocab=vocab, merges=[["a", "b"], ["b", "c"], ["a", "bc"]])
        settings["added_tokens"] = [{**settings["added_tokens"][0], "id": vocab[END_OF_TEXT]}]

    made = changed(tokenizer, change)
    encoder = Encoder(made)
    encoder._sampled = 1 << 40
    assert encoder.fast
    assert [made.id_to_token(i) for i in encoder(["abc"])[0]] == ["ab", "c"]


def test_a_difference_on_the_first_texts_ends_the_fast_way():
    encoder = Encoder(KNOWN["our own"]())
    encoder._quick = _Quick.of(KNOWN["GPT-2"]())
    sample = texts(10)
    assert [ids.tolist() for ids in encoder(sample)] == [ids.tolist() for ids in encoder._slowly(sample)]
    assert not encoder.fast


def test_half_a_surrogate_pair_is_refused_as_the_library_refuses_it():
    encoder = Encoder(KNOWN["our own"]())
    encoder._sampled = 1 << 40
    with pytest.raises(TypeError):
        encoder(["fine", "half \ud83d a pair"])


def test_a_very_long_run_of_blanks_does_not_end_the_work():
    encoder = Encoder(KNOWN["our own"]())
    encoder._sampled = 1 << 40
    text = "a" + " " * 300_000 + "b"
    assert np.array_equal(encoder([text])[0], encoder._slowly([text])[0])
