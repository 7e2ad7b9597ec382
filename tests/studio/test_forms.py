"""Forms: every setting is there with its words; what is typed reaches the draft; errors stand beside the field."""

from __future__ import annotations

import pytest

from engine.config import settings
from engine.recipe import Recipe
from studio.forms import SECTIONS, Form

NAMES = [name for name, setting in SECTIONS.items() if setting.config is not None]


@pytest.mark.parametrize("section", NAMES)
def test_every_setting_of_a_section_has_a_field_with_its_help_and_its_default(section, session):
    form, config = Form(section, session), getattr(Recipe(), section)
    for setting in settings(type(config)):
        field = form.field(setting.name)
        if setting.config is None:
            helped = getattr(field.widget, "helper_text", None) or field.widget.description
            assert helped == setting.words
            shown = field._parse(getattr(field.widget, "value_input", None) or field.widget.value)
            default = getattr(config, setting.name)
            assert shown == (list(default) if isinstance(default, tuple) else default)


def test_what_is_typed_reaches_the_draft_at_each_key(session):
    field = Form("optim", session).field("lr")
    field.widget.value_input = "3e-4"
    assert session.recipe().optim.lr == 3e-4
    assert field.reset.visible
    assert "0.001" in field.reset.description
    field.draft.drop(field.where)
    assert field.widget.value_input == "0.001"
    assert not field.reset.visible


@pytest.mark.parametrize(("typed", "words"), [("-1", "at least 1"), ("ten", "whole number"), ("1.5", "whole number"),
                                               ("", "whole number"), ("<b>", "whole number")])
def test_a_wrong_value_is_kept_beside_its_error_and_nothing_is_lost(typed, words, session):
    form = Form("train", session)
    form.field("validate_every").widget.value_input = "30"
    field = form.field("max_steps")
    field.widget.value_input = typed
    assert field.widget.error_state
    assert words in field.widget.helper_text
    assert session.recipe() is None
    field.widget.value_input = "12"
    assert not field.widget.error_state
    assert (session.recipe().train.max_steps, session.recipe().train.validate_every) == (12, 30)


def test_an_error_in_an_advanced_setting_unfolds_it(session):
    form = Form("train", session)
    assert not form.group.more.active
    form.field("keep_last").widget.value_input = "0"
    assert form.group.more.active


def test_an_error_that_two_settings_make_lands_beside_one_of_them(session):
    form = Form("model", session, skip=("vocab_size",))
    form.field("num_heads").widget.value_input = "3"
    assert "“Hidden size”" in form.field("num_heads").widget.helper_text
    assert not form.field("hidden_size").widget.error_state


def test_another_kind_swaps_the_settings_below(session):
    form = Form("optim", session)
    assert "beta1" in form.group.fields
    form.group.select.value = "sgd"
    assert "momentum" in form.group.fields
    assert "beta1" not in form.group.fields
    form.field("momentum").widget.value_input = "0.5"
    assert session.recipe().optim.model_dump()["momentum"] == 0.5


def test_a_kind_that_is_chosen_again_has_what_was_set_of_it(session):
    form = Form("optim", session)
    form.field("beta1").widget.value_input = "0.8"
    form.group.select.value = "sgd"
    form.field("momentum").widget.value_input = "0.5"
    form.group.select.value = "adamw"
    assert form.field("beta1").widget.value_input == "0.8"
    assert session.recipe().optim == Recipe().override("optim.beta1=0.8").optim
    form.group.select.value = "sgd"
    assert session.recipe().optim.model_dump()["momentum"] == 0.5
    session.draft.replace({})
    form.group.select.value = "sgd"
    assert session.recipe().optim == Recipe().override("optim.kind=sgd").optim, "another recipe was loaded meanwhile"


def test_choosing_a_size_refills_the_numbers_and_keeps_the_edited_one(session):
    form = Form("model", session, skip=("vocab_size",))
    form.field("num_layers").widget.value_input = "9"
    form.field("size").widget.value = "mini"
    assert form.field("hidden_size").widget.value_input == "384"
    assert form.field("num_layers").widget.value_input == "9"
    assert form.field("num_layers").reset.visible


def test_an_error_is_not_folded_away_when_the_page_is_opened_anew(session):
    Form("model", session).field("rope_theta").widget.value_input = "abc"
    group = Form("model", session).group
    assert group.more.active == [0]
    assert group.fields["rope_theta"].view in group.more.objects[0].objects


def test_folded_settings_are_given_to_the_browser_when_they_are_opened(session):
    group = Form("optim", session).group.group
    folded = group.more.objects[0]
    assert not folded.objects
    group.more.active = [0]
    assert len(folded.objects) == len(group.advanced) > 0


def test_lists_of_parts_are_added_to_moved_and_shortened(session):
    steps = Form("corpus", session).field("steps")
    before = [step.kind for step in session.recipe().corpus.steps]
    steps.own.add({"kind": "clean"})
    assert [step.kind for step in session.recipe().corpus.steps] == [*before, "clean"]
    steps.own.move(len(before), len(before) - 1)
    steps.own.remove(0)
    assert [step.kind for step in session.recipe().corpus.steps] == [*before[1:-1], "clean", before[-1]]
    assert len(steps.items) == len(before)
    assert len(steps.rows) == len(before)


def test_an_empty_list_says_what_is_missing(session):
    sources = Form("corpus", session).field("sources")
    sources.own.remove(0)
    assert sources.wrong
    assert session.recipe() is None
    sources.own.add({})
    assert session.recipe() is not None


def test_two_forms_on_one_draft_agree(session):
    one, other = Form("train", session), Form("train", session)
    one.field("max_steps").widget.value_input = "55"
    assert other.field("max_steps").widget.value_input == "55"


def test_texts_are_edited_line_by_line(session):
    field = Form("train", session).field("sample_prompts")
    field.widget.value_input = "Once\n\nTwo words"
    assert session.recipe().train.sample_prompts == ("Once", "Two words")
