"""Models that score: the same numbers as transformers' classes, in both directions."""

from __future__ import annotations

import json

import pytest
import torch
import toy_models
import toy_scorer
from transformers import AutoConfig, AutoModelForSequenceClassification

from engine.config import UserError
from engine.model import pretrained
from engine.model.scorer import Scorer, load, load_either, save

pytestmark = pytest.mark.usefixtures("one_thread")
PAD, LABELS = toy_scorer.PAD, ("no", "yes", "perhaps")


def padded(side):
    """Three texts, two of them padded, as transformers wants them: the id of padding in the ids."""
    ids, mask = toy_models.tokens(3, 12, seed=4), torch.ones(3, 12, dtype=torch.long)
    ids[ids == PAD] += 1
    for row, pads in enumerate((4, 1)):
        place = slice(0, pads) if side == "left" else slice(12 - pads, None)
        ids[row, place], mask[row, place] = PAD, 0
    return ids, mask


def theirs(reference, ids, mask):
    with torch.no_grad():
        return reference(ids, attention_mask=mask, position_ids=(mask.cumsum(-1) - 1).clamp(min=0)).logits


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize(("form", "labels"), [("llama-untied-biased", ("score",)), ("qwen3-wide-heads", ("score",)),
                                              ("gpt2", LABELS)])
def test_transformers_gives_our_checkpoint_the_same_scores(tmp_path, form, labels, side):
    model = toy_scorer.model(form, labels)
    save(model, tmp_path)
    reference = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert tuple(reference.config.id2label[n] for n in range(len(labels))) == labels
    ids, mask = padded(side)
    with torch.no_grad():
        ours = model(ids, mask)
    assert ours.shape == (3, len(labels))
    assert torch.allclose(ours, theirs(reference, ids, mask), atol=1e-5)
    assert torch.equal(load(tmp_path)(ids, mask), ours)


@pytest.mark.parametrize("family", ["llama", "qwen3", "gpt2"])
def test_their_checkpoint_gives_the_same_scores_here(tmp_path, family):
    shape = ({"n_embd": 48, "n_layer": 2, "n_head": 4, "n_positions": 32} if family == "gpt2" else
             {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
              "head_dim": 12, "intermediate_size": 64, "max_position_embeddings": 32})
    config = AutoConfig.for_model(family, vocab_size=97, pad_token_id=PAD, num_labels=2, **shape)
    reference = toy_models.stir(AutoModelForSequenceClassification.from_config(config))
    reference.save_pretrained(tmp_path)
    model = load_either(tmp_path)
    assert isinstance(model, Scorer)
    assert model.labels == ("LABEL_0", "LABEL_1")
    ids, mask = padded("right")
    with torch.no_grad():
        assert torch.allclose(model.eval()(ids, mask), theirs(reference, ids, mask), atol=1e-5)


def test_a_text_that_ends_in_the_padding_token_is_read_before_it_as_there(tmp_path):
    model = toy_scorer.model()
    save(model, tmp_path)
    reference = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    ids, mask = torch.tensor([[5, 6, 7, PAD], [5, 6, 7, 8]]), torch.ones(2, 4, dtype=torch.long)
    with torch.no_grad():
        assert torch.allclose(model(ids, mask), theirs(reference, ids, mask), atol=1e-5)
        assert torch.allclose(model(ids)[0], model(ids[:1, :3])[0], atol=1e-5)


def test_one_that_writes_is_asked_for_where_text_is_wanted(tmp_path):
    save(toy_scorer.model(), tmp_path)
    with pytest.raises(UserError, match="scores texts, and one that writes them is needed"):
        pretrained.load(tmp_path)


@pytest.mark.parametrize(("change", "told"), [
    ({"id2label": {"0": "a", "2": "b"}}, "does not number its labels"),
    ({"id2label": {"0": 7}}, "does not number its labels"),
    ({"id2label": {}, "num_labels": -1}, "does not number its labels"),
    ({"id2label": {}, "num_labels": 10**12}, "does not number its labels"),
    ({"pad_token_id": "x"}, "pad_token_id"),
    ({"id2label": {"0": "a", "1": "b"}}, "score.weight is"),
])
def test_a_wrong_config_is_named(tmp_path, change, told):
    save(toy_scorer.model(), tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(UserError, match=told):
        load(tmp_path)
