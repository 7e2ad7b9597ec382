"""A served bundle speaks to the real OpenAI client, and to nobody who may not ask."""

from __future__ import annotations

import json
import math
import os
import queue
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

import numpy as np
import openai
import pytest
import toy_bundle
from tokenizers import processors

from engine import files
from engine.config import UserError
from engine.inference import chat, load
from engine.inference.serve import serve
from engine.tokens.presets import CHAT_TEMPLATES
from engine.tokens.tokenizer import pieces

TEMPLATE = ("{{ bos_token }}{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
            "{% if add_generation_prompt %}assistant:{% endif %}")
KEY = "a-key"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = toy_bundle.bundle(tmp_path_factory.mktemp("served"))
    settings = files.read_json(folder / "tokenizer_config.json")
    files.write_json(folder / "tokenizer_config.json", {**settings, "chat_template": TEMPLATE})
    toy_bundle.declare(folder)
    return load(folder)


@pytest.fixture(scope="module")
def address(model):
    told: queue.Queue[str] = queue.Queue()
    threading.Thread(target=serve, args=(model, "toy"), kwargs={"port": 0, "key": f" {KEY}\n", "ready": told.put},
                     daemon=True).start()
    return told.get(timeout=60)


@pytest.fixture(scope="module")
def client(address):
    return openai.OpenAI(base_url=address, api_key=KEY, timeout=60, max_retries=0)


def posted(address, body, path="/completions", **headers):
    """Status and body of a request made by hand."""
    request = urllib.request.Request(address + path, body if isinstance(body, bytes) else json.dumps(body).encode(), {
        "Authorization": f"Bearer {KEY}", "Content-Type": "application/json", **headers})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


@pytest.mark.parametrize("key", ["schlüssel", "two words", " ", "\x07"])
def test_a_key_that_no_header_carries_is_refused(model, key):
    with pytest.raises(UserError, match="the key must be"):
        serve(model, "toy", port=0, key=key, over=lambda: True)


def test_a_chat_that_fills_the_context_is_told_so(address, model):
    messages = next(messages for length in range(model.context_length) if len(model.encode(model.chat(
        messages := [{"role": "user", "content": "k" * length}]), room=0)) == model.context_length)
    status, answer = posted(address, {"messages": messages}, "/chat/completions")
    assert status == 400
    assert answer["error"]["message"].startswith(f"the prompt has {model.context_length} tokens")


def test_a_completion_is_the_models_text(client, model):
    answer = client.completions.create(model="toy", prompt="kalo mi", max_tokens=20, temperature=0)
    assert answer.choices[0].text == model.generate("kalo mi", 20, temperature=0)
    assert answer.usage.prompt_tokens == len(model.encode("kalo mi"))
    assert answer.usage.completion_tokens == 20
    assert answer.choices[0].finish_reason == "length"
    assert client.models.list().data[0].id == "toy"


def test_seeds_stops_and_several_texts(client, model):
    asked = {"model": "toy", "max_tokens": 24, "temperature": 1.2, "top_p": 0.9, "seed": 3}
    answer = client.completions.create(prompt=["kalo mi", "sané"], n=2, **asked)
    assert [c.index for c in answer.choices] == [0, 1, 2, 3]
    assert [c.text for c in answer.choices] == [
        model.generate(prompt, 24, temperature=1.2, top_p=0.9, seed=seed)
        for prompt in ("kalo mi", "sané") for seed in (3, 4)]
    whole = answer.choices[0].text
    stop = whole[5:8]
    cut = client.completions.create(prompt="kalo mi", stop=[stop], **asked).choices[0]
    assert cut.text == whole[:whole.index(stop)]
    assert cut.finish_reason == "stop"
    ids = model.tokenizer.encode("kalo mi", add_special_tokens=False).ids
    assert client.completions.create(prompt=ids, **asked).choices[0].text == whole


def test_a_stream_is_the_same_text_in_pieces(client, model):
    asked = {"model": "toy", "prompt": "kalo mi", "max_tokens": 30, "temperature": 0}
    pieces = list(client.completions.create(stream=True, stream_options={"include_usage": True}, **asked))
    assert "".join(p.choices[0].text for p in pieces if p.choices) == model.generate("kalo mi", 30, temperature=0)
    assert len(pieces) == 31
    assert pieces[-2].choices[0].finish_reason == "length"
    assert pieces[-1].usage.completion_tokens == 30


def test_log_probabilities_are_the_models(client, model):
    answer = client.completions.create(model="toy", prompt="kalo mi", max_tokens=5, temperature=0, logprobs=3)
    told = answer.choices[0].logprobs
    ids = [token.id for token in model.tokens("kalo mi", 5, temperature=0)]
    logits = model.logits(np.array([[*model.encode("kalo mi"), *ids[:-1]]]))[0, -5:].astype(np.float64)
    shares = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    assert told.token_logprobs == pytest.approx(shares[np.arange(5), ids].tolist(), abs=1e-4)
    assert [len(others) for others in told.top_logprobs] == [3] * 5
    chat = client.chat.completions.create(model="toy", messages=[{"role": "user", "content": "mi"}], temperature=0,
                                          max_tokens=3, logprobs=True, top_logprobs=2)
    first = chat.choices[0].logprobs.content[0]
    assert first.logprob == pytest.approx(max(t.logprob for t in first.top_logprobs))
    assert sum(math.exp(t.logprob) for t in first.top_logprobs) <= 1


def test_chat_goes_through_the_models_template(client, model):
    messages = [{"role": "system", "content": "kalo"}, {"role": "user", "content": "mi?"}]
    answer = client.chat.completions.create(model="toy", messages=messages, temperature=0, max_tokens=12)
    end = files.read_json(model.bundle / "tokenizer_config.json")["bos_token"]
    wanted = model.generate(f"{end}system: kalo\nuser: mi?\nassistant:", 12, temperature=0)
    assert answer.choices[0].message.content == wanted
    pieces = client.chat.completions.create(model="toy", messages=messages, temperature=0, max_tokens=12, stream=True)
    assert "".join(p.choices[0].delta.content or "" for p in pieces) == wanted


# Echo: how evaluation harnesses score what they have already ------------------------------------------------


@pytest.fixture(scope="module")
def pytorch(model):
    """Log-probabilities (T, V) after each of the tokens, of the checkpoint that was exported, in PyTorch."""
    import torch

    from engine.model import pretrained

    checkpoint = pretrained.load(model.bundle.parent / "checkpoint")

    def told(ids):
        with torch.no_grad():
            return checkpoint(torch.tensor([ids]))[0].double().log_softmax(-1)
    return told


TEXT = "kalo mi sané, tékanevö 中"


def ids_of(model, text):
    return model.tokenizer.encode(text, add_special_tokens=False).ids


@pytest.mark.parametrize("as_ids", [False, True])
def test_echo_tells_the_prompt_s_own_log_probabilities(client, model, pytorch, monkeypatch, as_ids):
    monkeypatch.setattr("engine.inference.session.PREFILL_TOKENS", 4)       # so that it is read in several parts
    ids = ids_of(model, TEXT)
    answer = client.completions.create(model="toy", prompt=ids if as_ids else TEXT, max_tokens=0, echo=True,
                                       logprobs=5, temperature=0)
    choice, expected = answer.choices[0], pytorch(ids)
    told = choice.logprobs
    assert choice.text == "".join(told.tokens) == TEXT
    assert (choice.finish_reason, answer.usage.completion_tokens, answer.usage.prompt_tokens) == ("length", 0, len(ids))
    assert told.token_logprobs[0] is None
    assert told.top_logprobs[0] is None
    wanted = [float(expected[place, token]) for place, token in enumerate(ids[1:])]
    assert told.token_logprobs[1:] == pytest.approx(wanted, abs=1e-4)
    assert [TEXT[start:] for start in told.text_offset] == ["".join(told.tokens[n:]) for n in range(len(ids))]
    for row, others in zip(expected, told.top_logprobs[1:], strict=False):
        assert sorted(others.values(), reverse=True) == pytest.approx(row.topk(5).values.tolist(), abs=1e-4)


def test_a_harness_tells_greedy_tokens_by_the_same_number(client, model):
    """lm-evaluation-harness compares the token's log-probability with the largest one, as floats."""
    greedy = [token.id for token in model.tokens("kalo mi", 12, temperature=0)]
    ids = [*ids_of(model, "kalo mi"), *greedy]
    told = client.completions.create(model="toy", prompt=[ids], max_tokens=1, echo=True, logprobs=1, temperature=0,
                                     seed=1).choices[0].logprobs
    assert len(told.tokens) == len(ids) + 1
    for own, others in list(zip(told.token_logprobs, told.top_logprobs, strict=True))[-len(greedy) - 1:-1]:
        assert own == max(others.values())


def test_lists_of_token_ids_are_read_as_they_are(client, model, pytorch):
    """Not as the text that they spell, which would be cut in another way."""
    letters = [model.tokenizer.token_to_id(letter) for letter in "kalo"]
    assert letters != ids_of(model, "kalo")
    rows = [letters, ids_of(model, TEXT)]
    choices = client.completions.create(model="toy", prompt=rows, max_tokens=0, echo=True, logprobs=1).choices
    assert [choice.text for choice in choices] == ["kalo", TEXT]
    for row, choice in zip(rows, choices, strict=True):
        expected = pytorch(row)
        assert choice.logprobs.token_logprobs[1:] == pytest.approx(
            [float(expected[place, token]) for place, token in enumerate(row[1:])], abs=1e-4)
    assert client.completions.create(model="toy", prompt=letters, max_tokens=8, temperature=0).choices[0].text == \
        "".join(token.text for token in model.tokens(letters, 8, temperature=0))


def test_an_echo_goes_on_with_the_text_that_it_would_have_without(client, model):
    asked = {"model": "toy", "prompt": TEXT, "max_tokens": 10, "temperature": 0}
    alone = client.completions.create(**asked).choices[0].text
    assert client.completions.create(echo=True, **asked).choices[0].text == TEXT + alone
    pieces = list(client.completions.create(echo=True, stream=True, stream_options={"include_usage": True}, **asked))
    assert "".join(piece.choices[0].text for piece in pieces if piece.choices) == TEXT + alone
    assert pieces[-1].usage.completion_tokens == 10


def test_a_prompt_as_long_as_the_context_can_be_scored_and_not_continued(client, model, address):
    ids = [ids_of(model, "kalo")[0]] * model.context_length
    told = client.completions.create(model="toy", prompt=ids, max_tokens=0, echo=True, logprobs=1).choices[0].logprobs
    assert len(told.token_logprobs) == model.context_length
    for body in ({"prompt": ids, "max_tokens": 1, "echo": True}, {"prompt": [*ids, 1], "max_tokens": 0, "echo": True}):
        status, answer = posted(address, body)
        assert (status, answer["error"]["param"]) == (400, "prompt")


def test_an_echo_knows_what_the_tokenizer_puts_before_a_text_and_after_it(model, monkeypatch):
    begin, end = (model.tokenizer.id_to_token(number) for number in (0, 1))
    tokenizer = type(model.tokenizer).from_str(model.tokenizer.to_str())
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{begin} $A {end}",
                                                             special_tokens=[(begin, 0), (end, 1)])
    monkeypatch.setattr(model, "tokenizer", tokenizer)
    given = list(model.tokens(TEXT, 0, echo=True))
    assert [(token.id, token.text) for token in given] == [(0, ""), *pieces(tokenizer, TEXT), (1, "")]


def test_what_asks_for_nothing_is_let_pass(client, model):
    answer = client.completions.create(model="toy", prompt="kalo", max_tokens=3, temperature=0, suffix="", best_of=1)
    assert answer.choices[0].text == model.generate("kalo", 3, temperature=0)
    messages = [{"role": "user", "content": "kalo"}, {"role": "assistant", "content": None},
                {"role": "user", "content": "mi"}]
    asked = {"model": "toy", "temperature": 0, "max_tokens": 5, "response_format": {"type": "text"}}
    empty = [{**message, "content": message["content"] or ""} for message in messages]
    assert client.chat.completions.create(messages=messages, **asked).choices[0].message.content == \
        client.chat.completions.create(messages=empty, **asked).choices[0].message.content
    with pytest.raises(openai.BadRequestError, match="response_format is not done here"):
        client.chat.completions.create(messages=messages, **{**asked, "response_format": {"type": "json_object"}})


@pytest.mark.parametrize(("body", "field"), [
    (b"{", None), (b"[1]", None), ({"prompt": 3}, "prompt"), ({"prompt": []}, "prompt"),
    ({"prompt": "a", "temperature": "hot"}, "temperature"), ({"prompt": "a", "temperature": -1}, "temperature"),
    ({"prompt": "a", "top_p": 0}, "top_p"), ({"prompt": "a", "max_tokens": 0}, "max_tokens"),
    ({"prompt": "a", "max_tokens": 9, "max_completion_tokens": -1}, "max_completion_tokens"),
    ({"prompt": "a", "model": 3}, "model"),
    ({"prompt": "a", "n": 99}, "n"), ({"prompt": "a", "stop": 3}, "stop"), ({"prompt": [99999]}, "prompt"),
    ({"prompt": "a", "n": 10**30}, "n"), ({"prompt": "a", "temperature": 10**400}, "temperature"),
    ({"prompt": ["a"] * 999}, "n"), ({"prompt": [[1], [99999]]}, "prompt"), ({"prompt": [[]]}, "prompt"),
    ({"prompt": [[1], "a", 3]}, "prompt"), ({"prompt": [True]}, "prompt"), ({"prompt": [-1]}, "prompt"),
    (b'{"prompt": "a \\ud800"}', "prompt"), ({"prompt": "a", "logprobs": 101}, "logprobs"),
    (b'{"prompt": "a", "seed": 1' + b"0" * 5000 + b"}", None), (b"[" * 100_000, None),
    ({"prompt": "a", "suffix": "b"}, "suffix"), ({"prompt": "a", "response_format": {"type": "json_object"}},
                                                 "response_format"),
    ({"prompt": "a", "presence_penalty": 1}, "presence_penalty"), ({"prompt": "kalo " * 200}, "prompt"),
])
def test_what_is_wrong_is_told_by_its_field(address, body, field):
    status, answer = posted(address, body)
    assert status == 400
    assert answer["error"]["param"] == field
    assert answer["error"]["message"].endswith(".")


def test_half_a_character_in_a_message_is_told_too(address):
    status, answer = posted(address, b'{"messages": [{"role": "user", "content": "\\ud800"}]}', "/chat/completions")
    assert status == 400
    assert "half a character" in answer["error"]["message"]


def test_nobody_comes_in_without_the_key_or_under_a_strange_name(address, client):
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=address, api_key="wrong", max_retries=0).models.list()
    assert posted(address, {"prompt": "a"}, Authorization="")[0] == 401
    assert posted(address, {"prompt": "a"}, Host="evil.example")[0] == 403
    assert posted(address, {"prompt": "a"}, **{"Content-Type": "text/plain"})[0] == 415
    assert posted(address, {}, "/nothing")[0] == 404
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("other")


def test_another_model_than_the_served_one_is_not_found(address, client):
    for ask in (lambda: client.completions.create(model="gpt-4o", prompt="kalo"),
                lambda: client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "mi"}])):
        with pytest.raises(openai.NotFoundError, match="there is no model 'gpt-4o' here; the only one is toy") as error:
            ask()
        assert (error.value.code, error.value.param) == ("model_not_found", "model")
    assert posted(address, {"prompt": "kalo", "max_tokens": 1})[0] == 200, "whichever is served, where none is named"


def test_a_reader_that_leaves_frees_the_model(address, model, monkeypatch):
    seen = []
    whole = type(model).tokens

    def slowly(self, *arguments, **named):
        for token in whole(self, *arguments, **named):
            seen.append(token)
            time.sleep(0.02)
            yield token

    monkeypatch.setattr(type(model), "tokens", slowly)
    client = openai.OpenAI(base_url=address, api_key=KEY, timeout=60, max_retries=0)
    with client.completions.create(model="toy", prompt="mi", max_tokens=80, temperature=0, stream=True) as stream:
        next(iter(stream))
    assert client.completions.create(model="toy", prompt="mi", max_tokens=2, temperature=0).usage.completion_tokens == 2
    assert len(seen) < 60


def test_other_machines_need_a_key_and_a_taken_port_is_told(model):
    with pytest.raises(UserError, match=r"0\.0\.0\.0 lets other machines in, so a key is needed"):
        serve(model, "toy", "0.0.0.0", 0)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(UserError, match="cannot be used"):
            serve(model, "toy", port=taken.getsockname()[1])


def test_the_command_serves_without_torch(model):
    code = ("import sys; from engine.__main__ import main; import engine.inference.serve as s;"
            "s.serve = lambda m, n, a, p, k, ready: print(n, a, p, k, 'torch' in sys.modules, 'panel' in sys.modules);"
            f"main(['serve', {str(model.bundle)!r}, '--port', '0'])")
    told = subprocess.run([sys.executable, "-c", code], env={**os.environ, "STUDIO_API_KEY": "from-the-environment"},
                          capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["toy", "127.0.0.1", "0", "from-the-environment", "False", "False"]


# Templates ----------------------------------------------------------------------------------------------

ONE = [{"role": "user", "content": "hello"}]


@pytest.mark.parametrize("template", [
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ messages.__init__.__globals__ }}",
    "{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}",
    "{% for a in range(10**12) %}x{% endfor %}",
    "{% for a in range(100000) %}{{ messages[0]['content'] }}{{ 'x' | center(1000) }}{% endfor %}",
    "{{ 'x' * 10000000000 }}",
    "{{ messages * 100000000 }}",
    "{{ '%099999999999d' % 1 }}",
    "{% include '/etc/passwd' %}",
    "{{ self.__init__.__globals__.os.system('id') }}",
    "{{ cycler.__init__.__globals__.os }}",
    "{% if",
    "{{ raise_exception('roles must alternate') }}",
    "x" * 300_000,
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "{{ messages.append(1) }}",
])
def test_a_template_that_is_up_to_no_good_ends_in_a_sentence(template):
    with pytest.raises(UserError, match="template"):
        chat.render(template, ONE, {})


def test_a_template_escapes_nothing_and_a_model_without_one_says_so():
    assert chat.render("{{ messages[0]['content'] }}", [{"role": "user", "content": "<b>"}], {}) == "<b>"
    with pytest.raises(UserError, match="was not taught to answer"):
        chat.render("", ONE, {})
    for wrong in ([], [{"role": "user"}], [{"role": "king", "content": "a"}], ["hello"]):
        with pytest.raises(UserError, match=r"[Mm]essage"):
            chat.render("x", wrong, {})
    parts = [{"role": "developer", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}]
    assert chat.render("{{ messages[0]['role'] }} {{ messages[0]['content'] }}", parts, {}) == "system ab"


@pytest.mark.parametrize("name", list(CHAT_TEMPLATES))
def test_the_templates_that_ship_with_the_tokenizers_are_within_the_budget(name):
    told = chat.render(CHAT_TEMPLATES[name].template, [*ONE * 1, {"role": "assistant", "content": "hi"}, *ONE], {})
    assert told.index("hello") < told.index("hi")
