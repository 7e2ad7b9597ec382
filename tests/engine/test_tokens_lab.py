from __future__ import annotations

import numpy as np
import pytest
import toy_tokens
from toy_tokens import texts

from engine import files
from engine.config import UserError
from engine.progress import Stopped
from engine.tokens import END_OF_TEXT, TokensConfig
from engine.tokens import tokenizer as bpe
from engine.tokens.lab import beginning, lab, measure, sample, train_sizes


def test_one_training_gives_exactly_what_training_each_size_would():
    words, sizes, special = texts(400), (258, 300, 401, 555), ("<|user|>",)
    made = train_sizes(words, sizes, special)
    assert list(made) == list(sizes)
    for size, tokenizer in made.items():
        alone = bpe.train([words], TokensConfig(vocab_size=size, special_tokens=special))
        assert tokenizer.to_str() == alone.to_str()
        assert bpe.vocab_size(tokenizer) == size
    assert beginning(made[555], 300).to_str() == made[300].to_str()


def test_a_size_beyond_the_text_becomes_the_largest_there_is():
    made = train_sizes(texts(50), (300, 90_000))
    largest = max(made)
    assert 300 in made
    assert largest < 90_000
    assert bpe.vocab_size(made[largest]) == largest
    with pytest.raises(UserError, match="choose 260 or more"):
        train_sizes(texts(50), (258, 300), ("<a>", "<b>", "<c>"))


@pytest.fixture
def dataset(workspace):
    return toy_tokens.dataset(workspace, [*texts(120, seed=1), "The old house by the river was quiet. " * 8],
                              texts(20, seed=2))


def test_a_lab_measures_what_one_would_count_by_hand(workspace, dataset):
    other = workspace.path / "other.json"
    bpe.train([texts(300)], TokensConfig(vocab_size=350)).save(str(other))
    told = []
    folder = lab(dataset, workspace, "toy", (300, 400), others=["other.json"],
                 progress=lambda done, of, words="": told.append((done, of)))
    found = files.read_json(folder / files.MANIFEST)["summary"]
    assert [row["name"] for row in found["rows"]] == ["300", "400", "other.json"]
    assert [row["size"] for row in found["rows"]] == [300, 400, 350]
    assert found["documents"] == found["of"] == 141
    documents = sample(dataset)
    row, tokenizer = found["rows"][1], bpe.load(folder / "tokenizer-400.json")
    ids = bpe.encode(tokenizer, documents.texts)
    tokens, size = sum(map(len, ids)), sum(len(text.encode()) for text in documents.texts)
    assert found["bytes"] == size
    assert row["bytes_per_token"] == pytest.approx(size / tokens, abs=1e-4)
    assert row["fertility"] == pytest.approx(tokens / sum(len(t.split()) for t in documents.texts), abs=1e-4)
    held = [place for place, on in enumerate(documents.train) if not on]
    assert row["held_out"] == pytest.approx(
        sum(len(documents.texts[i].encode()) for i in held) / sum(len(ids[i]) for i in held), abs=1e-4)
    assert row["unused"] == 400 - len(np.unique(np.concatenate(ids)))
    assert row["lossless"]
    assert [group["name"] for group in row["sources"]] == ["toy"]
    assert "en" in documents.languages
    assert sum(group["bytes"] for group in row["languages"]) == size
    # A larger vocabulary of the same merges never needs more tokens.
    assert found["rows"][0]["bytes_per_token"] < row["bytes_per_token"]
    assert told[-1][0] == told[-1][1]
    assert all(done <= of for done, of in told)
    assert lab(dataset, workspace, "toy", (400, 300), others=["other.json"]) == folder


def test_a_stopped_lab_leaves_nothing(workspace, dataset):
    def stop(done, of, words=""):
        if done > 1:
            raise Stopped

    with pytest.raises(Stopped):
        lab(dataset, workspace, "toy", (300,), progress=stop)
    assert not list(workspace.place("labs").iterdir())


def test_a_large_dataset_is_sampled_from_end_to_end(workspace, dataset):
    made_by = files.read_json(dataset / files.MANIFEST)
    total = sum(len(text.encode()) for text in sample(dataset).texts)
    files.write_json(dataset / files.MANIFEST, {**made_by, "summary": {"bytes": total}})
    few = sample(dataset, most_bytes=total // 5)
    assert 20 <= len(few.texts) <= 36
    assert few.of == 141
    assert not few.train[-1], "the validation documents at the end are in it"


@pytest.mark.parametrize(("sizes", "others", "match"), [
    ((), (), "nothing to compare"), ((100,), (), "256 bytes"), ((), ("none.json",), "missing"),
    ((), ("/etc/passwd",), "outside the workspace")])
def test_what_cannot_be_compared_is_refused(workspace, dataset, sizes, others, match):
    with pytest.raises(UserError, match=match):
        lab(dataset, workspace, "toy", sizes, others=others)


def test_a_tokenizer_that_loses_text_says_so(dataset):
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = Tokenizer(models.WordLevel({"?": 0, "ka": 1, END_OF_TEXT: 2}, unk_token="?"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.add_special_tokens([END_OF_TEXT])
    found = measure(words, sample(dataset))
    assert not found["lossless"]
    assert not found["fast"]
