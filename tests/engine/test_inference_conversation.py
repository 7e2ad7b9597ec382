"""Conversations: what is asked, where an answer ends, and how the last one is taken back."""

from __future__ import annotations

import pytest
import toy_bundle
import toy_chat

from engine.config import UserError
from engine.inference import load
from engine.inference.conversation import Conversation, answer, ends_of
from engine.tokens.presets import CHAT_TEMPLATES


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load(toy_chat.bundle(tmp_path_factory.mktemp("chat")))


def test_an_answer_continues_what_the_template_makes_of_the_messages(model):
    talk = Conversation("brief <b>")
    talk.say("kalo?")
    assert talk.messages[0] == {"role": "system", "content": "brief <b>"}
    prompt = model.chat(talk.messages)
    assert prompt == ("<|im_start|>system\nbrief <b><|im_end|>\n<|im_start|>user\nkalo?<|im_end|>\n"
                      "<|im_start|>assistant\n")
    tokens = list(answer(model, talk.messages, max_new_tokens=12, seed=4))
    assert [token.id for token in tokens] == [token.id for token in model.tokens(prompt, 12, seed=4)][:len(tokens)]


def test_an_answer_ends_where_the_template_ends_a_turn(model, monkeypatch):
    end = model.tokenizer.token_to_id("<|im_end|>")
    assert end in model.turn_ends
    assert model.ends <= model.turn_ends
    plan = [*model.tokenizer.encode("kalo mi").ids, end, *model.tokenizer.encode("sané").ids]
    real = type(model._session).cache

    def planned(self, capacity):
        cache, read = real(self, capacity), iter(plan)

        def reads(ids):
            type(cache).read(cache, ids)
            cache._logits[:] = 0
            cache._logits[0, -1, next(read)] = 50.0
            return cache._logits[0, -1]

        cache.read = reads
        return cache

    monkeypatch.setattr(type(model._session), "cache", planned)
    said = list(answer(model, [{"role": "user", "content": "?"}], temperature=0, max_new_tokens=20))
    assert "".join(token.text for token in said) == "kalo mi"
    assert said[-1].finish == "stop"
    on = "".join(token.text for token in model.tokens("kalo", temperature=0, max_new_tokens=len(plan)))
    assert on == "kalo misané", "a text that is continued goes on behind it"


@pytest.mark.parametrize(("name", "token"), [("chatml", "<|im_end|>"), ("llama3", "<|eot_id|>")])
def test_the_end_of_a_turn_is_found_in_the_template(name, token):
    from engine.tokens import TokensConfig
    from engine.tokens.tokenizer import train

    preset = CHAT_TEMPLATES[name]
    tokenizer = train([["kalo mi " * 50]], TokensConfig(vocab_size=300, special_tokens=preset.special_tokens),
                      or_fewer=True)
    assert ends_of(preset.template, {}, tokenizer) == {tokenizer.token_to_id(token)}
    assert not ends_of("", {}, tokenizer)
    assert not ends_of("{% for m in messages %}{{ m.content }}\n{% endfor %}", {}, tokenizer)
    assert not ends_of("{{ raise_exception('no') }}", {}, tokenizer)


def test_the_last_turn_is_taken_back_or_asked_again():
    talk = Conversation()
    assert not talk.again()
    assert talk.take_back() == ""
    talk.say("one")
    talk.heard("1")
    talk.say("two")
    talk.heard("2")
    assert talk.again()
    assert (talk.attempt, talk.turns[-1]["content"]) == (1, "two")
    talk.heard("2b")
    assert talk.take_back() == "two"
    assert [turn["content"] for turn in talk.turns] == ["one", "1"]
    talk.say("three")
    assert talk.attempt == 0


def test_a_model_without_a_template_and_a_full_context_say_so(model, tmp_path):
    with pytest.raises(UserError, match="has no chat template"):
        answer(load(toy_bundle.bundle(tmp_path)), [{"role": "user", "content": "kalo"}])
    with pytest.raises(UserError, match="needs room for an answer"):
        answer(model, [{"role": "user", "content": "kalo " * 100}])
