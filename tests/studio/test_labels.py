"""Labels: what is wrong is said in the words of the form."""

from __future__ import annotations

import pytest
from planted import opened

from engine.config import Problem
from studio.forms import Form
from studio.labels import named, said, title
from studio.pages.stages import Train


@pytest.mark.parametrize(("field", "words"), [
    ("model.rope_theta", "Model RoPE base"), ("train.max_steps", "Train steps"), ("name", "Name"),
    ("model.num_kv_heads", "Model key-value heads"), ("corpus.steps.1", "Corpus steps 2"),
    ("corpus.steps.0.min_words", "Corpus min words")])
def test_a_field_is_called_what_its_form_calls_it(field, words):
    assert title(field) == words


@pytest.mark.parametrize(("sentence", "shown"), [
    ("is 3, which does not divide num_heads 8; choose 4", "is 3, which does not divide “Heads” 8; choose 4"),
    ("set train.launcher to torchrun or slurm.", "set “Train launcher” to torchrun or slurm."),
    # What is to be typed, and names that are no setting's, stay as they are.
    ("run it with train.max_steps=5", "run it with train.max_steps=5"),
    ("my_file.txt and config.json are not there", "my_file.txt and config.json are not there")])
def test_a_sentence_names_settings_as_the_forms_do(sentence, shown):
    assert named(sentence) == shown
    assert said(Problem("", sentence)) == shown


def test_neither_a_form_nor_the_start_shows_a_name_of_the_recipe_file(session):
    form, page = Form("model", session), opened(Train, session)
    session.draft.put(("model", "num_kv_heads"), 3)
    assert "“Heads”" in form.field("num_kv_heads").widget.helper_text
    session.draft.put(("model", "num_kv_heads"), 1)
    session.draft.put(("model", "rope_theta"), -1)
    assert "Model RoPE base is -1" in page.ready.html
    assert "_" not in page.missing()[0][0]
