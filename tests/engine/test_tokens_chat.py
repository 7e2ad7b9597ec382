from __future__ import annotations

import json

import pytest
import toy_tokens
from toy_tokens import texts

from engine import files
from engine.config import UserError
from engine.tokens import TokensConfig, chat
from engine.tokens import tokenizer as bpe
from engine.tokens.presets import CHAT_TEMPLATES
from engine.tokens.shards import tokenize

SPECIAL = tuple(token for preset in CHAT_TEMPLATES.values() for token in preset.special_tokens)
SHORT = [{"role": "user", "content": "ka lo?"}, {"role": "assistant", "content": "mi ne."}]
TALKS = [
    SHORT,
    [{"role": "system", "content": "Be brief.\n"}, *SHORT, {"role": "user", "content": " {{ 7*7 }} <b> 🙂👩‍👧 "},
     {"role": "assistant", "content": "  Ünï 日本語\n\n🙂 "}, {"role": "user", "content": "é"}],
    [{"role": "user", "content": ""}, {"role": "assistant", "content": ""}],
    [{"role": "assistant", "content": "first"}, {"role": "assistant", "content": "second"}],
]
LOOPS = """{% for m in messages %}{% if m.role == 'system' %}{% continue %}{% endif %}[{{ m.role | upper }}]
{% if m.role == 'assistant' %}{% generation %}{{ m | tojson }}{% endgeneration %}{% else %}{{ m.content }}{% endif %}
{% endfor %}{{ bos_token }}"""


@pytest.fixture(scope="module")
def tokenizer():
    return bpe.train([texts(300)], TokensConfig(vocab_size=400, special_tokens=SPECIAL))


@pytest.fixture(scope="module")
def published(tokenizer, tmp_path_factory):
    """What transformers makes of a folder with our two files."""
    from transformers import AutoTokenizer

    def load(template):
        folder = tmp_path_factory.mktemp("published")
        tokenizer.save(str(folder / "tokenizer.json"))
        files.write_json(folder / "tokenizer_config.json", chat.tokenizer_config(tokenizer, template))
        return AutoTokenizer.from_pretrained(folder)

    return load


@pytest.mark.parametrize("name", [*CHAT_TEMPLATES, "loops"])
def test_ids_and_loss_mask_are_those_of_transformers(tokenizer, published, name):
    template = LOOPS if name == "loops" else CHAT_TEMPLATES[name].template
    theirs = published(template)
    for messages in TALKS:
        for prompt in (False, True):
            wanted = theirs.apply_chat_template(messages, return_dict=True, return_assistant_tokens_mask=True,
                                                add_generation_prompt=prompt)
            ours = chat.encode(tokenizer, template, messages, add_generation_prompt=prompt)
            assert ours.text == theirs.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt)
            assert ours.ids == list(wanted["input_ids"])
            assert [int(one) for one in ours.learned] == list(wanted["assistant_masks"])
            assert "".join(piece for _, piece in ours.pieces) == ours.text


@pytest.mark.parametrize("name", CHAT_TEMPLATES)
def test_the_assistant_learns_its_words_and_to_stop_and_nothing_else(tokenizer, name):
    turns = chat.encode(tokenizer, CHAT_TEMPLATES[name].template, TALKS[1])
    learned = tokenizer.decode([i for i, on in zip(turns.ids, turns.learned, strict=True) if on],
                               skip_special_tokens=False)
    stop = {"chatml": "<|im_end|>", "llama3": "<|eot_id|>", "plain": "<|endoftext|>"}[name]
    assert learned.count(stop) == 2
    assert "mi ne." in learned
    assert "Ünï 日本語" in learned
    for left_out in ("ka lo", "brief", "49", "user", "<b>"):
        assert left_out not in learned
    assert "{{ 7*7 }}" in turns.text, "a message is no template"


def test_a_preset_s_tokens_stand_whole(tokenizer):
    for preset in CHAT_TEMPLATES.values():
        ids = chat.encode(tokenizer, preset.template, SHORT).ids
        assert all(tokenizer.token_to_id(token) in ids for token in preset.special_tokens)


@pytest.mark.parametrize("template", [
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ messages.__init__.__globals__ }}",
    "{{ messages.append(1) }}",
    "{% for i in range(10**9) %}x{% endfor %}",
    "{{ raise_exception('roles must alternate') }}",
    "{{ 1 / 0 }}", "{{ messages[0].content.nothing.more }}", "{{ messages[0].content + 1 }}",
    "{% for %}", "{% generation %}", "{{ messages | no_such_filter }}",
])
def test_a_template_that_is_broken_or_reaches_out_gets_a_sentence(template):
    with pytest.raises(UserError, match="chat template") as caught:
        _refuse_nothing(chat.render(template, SHORT)[0])
    assert caught.value.where == "tokens.chat_template"


def _refuse_nothing(text):
    """The sandbox answers some reaching out with nothing at all."""
    assert not text, "something was reached"
    raise UserError("The chat template wrote nothing.", where="tokens.chat_template")


@pytest.mark.parametrize("messages", [[], [{"content": "x"}], ["text"], [{"role": "boss", "content": "x"}]])
def test_what_is_no_conversation_is_refused(messages):
    with pytest.raises(UserError, match=r"role|no messages"):
        chat.render(CHAT_TEMPLATES["plain"].template, messages)


def test_the_template_goes_with_the_tokens_and_into_the_checkpoint(workspace):
    from transformers import AutoTokenizer

    from engine.model import ModelConfig
    from engine.model.published import sidecars

    made = toy_tokens.dataset(workspace, texts(200, seed=1), texts(20, seed=2))
    plain = tokenize(TokensConfig(vocab_size=300), made, workspace, "toy")
    folder = tokenize(TokensConfig(vocab_size=300, chat_template="chatml"), made, workspace, "toy")
    assert folder != plain
    assert not (plain / "tokenizer_config.json").exists()
    assert bpe.load(folder / "tokenizer.json").token_to_id("<|im_end|>") == 2
    checkpoint = workspace.path / "checkpoint"
    checkpoint.mkdir()
    for name, text in sidecars(ModelConfig(vocab_size=300, context_length=64), folder / "tokenizer.json").items():
        (checkpoint / name).write_text(text)
    again = AutoTokenizer.from_pretrained(checkpoint)
    assert again.model_max_length == 64
    assert again.apply_chat_template(SHORT, tokenize=False) == chat.render(CHAT_TEMPLATES["chatml"].template, SHORT)[0]


def test_a_template_of_one_s_own_is_a_file_of_the_workspace(workspace):
    (workspace.path / "mine.jinja").write_text("{{ messages | length }}")
    assert chat.source("mine.jinja", workspace) == "{{ messages | length }}"
    assert chat.source("", workspace) == ""
    with pytest.raises(UserError, match="chatml, llama3, plain"):
        chat.source("none.jinja", workspace)
    with pytest.raises(UserError, match="outside the workspace"):
        chat.source("/etc/passwd", workspace)
    assert json.dumps(chat.tokenizer_config(bpe.train([texts(50)], TokensConfig(vocab_size=258)), "x"))
