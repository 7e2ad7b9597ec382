"""A bundle speaks: the same as the model it was made of, reproducibly, and without torch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import toy_bundle

from engine.config import UserError
from engine.inference import load
from engine.inference import session as sessions
from engine.model.generate import generate
from engine.model.pretrained import load as load_checkpoint

pytestmark = pytest.mark.usefixtures("one_thread")
PROMPT = "kalo mi sané vö"
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module", params=["llama", "qwen3-wide-heads", "gpt2"])
def bundle(request, tmp_path_factory):
    return toy_bundle.bundle(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="module")
def model(bundle):
    return load(bundle)


@pytest.fixture(scope="module")
def decoder(bundle):
    return load_checkpoint(bundle.parent / "checkpoint").eval()


def ids_of(tokens):
    return [token.id for token in tokens]


def test_greedy_text_is_the_decoders(model, decoder):
    prompt = torch.from_numpy(model.encode(PROMPT))[None]
    expected = generate(decoder, prompt, 64, temperature=0, end=min(model.ends))
    assert ids_of(model.tokens(PROMPT, 64, temperature=0)) == expected


def test_probabilities_are_the_models(model, decoder):
    found = list(model.tokens(PROMPT, 12, seed=3, alternatives=4))
    text = torch.tensor([[*model.encode(PROMPT).tolist(), *ids_of(found)]])
    with torch.no_grad():
        shares = decoder(text)[0].softmax(-1).numpy()
    for place, token in enumerate(found, start=text.shape[1] - len(found)):
        assert token.probability == pytest.approx(float(shares[place - 1, token.id]), rel=1e-3)
        best = np.argsort(-shares[place - 1])[:4]
        assert [i for i, _, _ in token.alternatives] == best.tolist()
        assert [p for _, _, p in token.alternatives] == pytest.approx(shares[place - 1, best].tolist(), rel=1e-3)


@pytest.mark.parametrize("side", ["left", "right"])
def test_logits_of_padded_rows_are_those_of_the_rows_alone(model, side):
    rows = [np.array([[9, 3, 77, 40, 5]]), np.array([[8, 8, 120]])]
    ids, mask = np.zeros((2, 5), np.int64), np.zeros((2, 5), np.int64)
    for number, row in enumerate(rows):
        where = slice(5 - row.shape[1], 5) if side == "left" else slice(0, row.shape[1])
        ids[number, where], mask[number, where] = row[0], 1
    found = model.logits(ids, mask)
    for number, row in enumerate(rows):
        assert np.allclose(found[number][mask[number] == 1], model.logits(row)[0], atol=1e-4)


def test_a_long_prompt_is_read_in_parts_and_stays_the_same(model, monkeypatch):
    whole = model.generate(PROMPT * 3, 20, temperature=0)
    monkeypatch.setattr(sessions, "PREFILL_TOKENS", 7)
    assert model.generate(PROMPT * 3, 20, temperature=0) == whole


def test_a_seed_gives_the_same_text_and_another_seed_another(model):
    first, again, other = (model.generate(PROMPT, 40, seed=seed) for seed in (5, 5, 6))
    assert first == again != other
    assert model.generate(PROMPT, 40) != model.generate(PROMPT, 40)


@pytest.mark.parametrize("temperature", [0, 0.9])
def test_a_batch_writes_what_each_prompt_alone_does(model, temperature):
    prompts = [PROMPT, "kalo", PROMPT * 2]
    alone = [model.generate(prompt, 20, temperature=temperature, seed=4 + n) for n, prompt in enumerate(prompts)]
    assert model.batch(prompts, 20, temperature=temperature, seed=4) == alone
    stop = alone[0][4:7]
    cut = [model.generate(prompt, 20, temperature=temperature, seed=4 + n, stop=[stop])
           for n, prompt in enumerate(prompts)]
    assert model.batch(prompts, 20, temperature=temperature, seed=4, stop=[stop]) == cut
    assert model.batch([]) == []
    with pytest.raises(UserError, match="but the model sees"):
        model.batch(["kalo", PROMPT * 50])


def test_a_portable_bundle_writes_the_same_text_though_its_cache_grows(model, tmp_path):
    from engine.export import ExportConfig
    from engine.export.bundle import export

    out, verdict = export(model.bundle.parent / "checkpoint", ExportConfig(target="portable"), tmp_path / "portable")
    assert verdict["passed"]
    other = load(out)
    assert other.generate(PROMPT, 40, temperature=0) == model.generate(PROMPT, 40, temperature=0)
    assert other.generate(PROMPT, 40, seed=3) == model.generate(PROMPT, 40, seed=3)
    assert other.batch([PROMPT, "kalo"], 10, seed=1) == model.batch([PROMPT, "kalo"], 10, seed=1)


def test_top_k_of_one_is_greedy_and_narrow_top_p_too(model):
    greedy = model.generate(PROMPT, 20, temperature=0)
    assert model.generate(PROMPT, 20, top_k=1, seed=1) == greedy == model.generate(PROMPT, 20, top_p=1e-6, seed=1)


def test_pieces_and_tokens_make_up_the_text(model):
    for seed in range(8):
        text = model.generate(PROMPT, 60, temperature=1.5, seed=seed)
        pieces = list(model.stream(PROMPT, 60, temperature=1.5, seed=seed))
        tokens = list(model.tokens(PROMPT, 60, temperature=1.5, seed=seed))
        assert "".join(pieces) == text == "".join(token.text for token in tokens)
        before = model.encode(PROMPT).tolist()
        assert PROMPT + text == model.tokenizer.decode([*before, *ids_of(tokens)], skip_special_tokens=True)


def test_a_stop_string_ends_the_text_before_it(model):
    text = model.generate(PROMPT, 60, seed=2)
    stop = text[20:23]
    cut = text[:text.index(stop)]
    assert model.generate(PROMPT, 60, seed=2, stop=[stop, "not there"]) == cut
    assert "".join(model.stream(PROMPT, 60, seed=2, stop=stop)) == cut
    assert len(list(model.tokens(PROMPT, 60, seed=2, stop=[stop]))) < 60


def test_the_end_of_a_text_ends_it_and_is_not_shown(model):
    token = next(iter(model.tokens(PROMPT, 1, temperature=0)))
    other = load(model.bundle)
    other.ends = frozenset([token.id])
    found = list(other.tokens(PROMPT, 50, temperature=0))
    assert ids_of(found) == [token.id]
    assert other.generate(PROMPT, 50, temperature=0) == ""


def test_a_full_context_ends_the_text(model):
    model.ends, ends = frozenset(), model.ends
    try:
        found = list(model.tokens(PROMPT, 10_000, seed=1))
    finally:
        model.ends = ends
    assert len(found) == toy_bundle.CONTEXT - len(model.encode(PROMPT))


def test_an_empty_prompt_begins_a_new_text(model, decoder):
    start = torch.tensor([[min(model.ends)]])
    assert ids_of(model.tokens("", 20, temperature=0)) == generate(decoder, start, 20, temperature=0,
                                                                  end=min(model.ends))


@pytest.mark.parametrize(("settings", "sentence"), [
    ({"prompt": "kalo " * 200}, "the prompt has .* tokens, but the model sees 96 at once"),
    ({"temperature": -1.0}, "temperature is -1.0; it must be 0 or more"),
    ({"temperature": float("nan")}, "temperature is nan"),
    ({"top_p": 0.0}, "top_p is 0.0; it must be more than 0"),
    ({"top_k": -2}, "top_k is -2"),
    ({"max_new_tokens": 0}, "max_new_tokens is 0; it must be at least 1"),
])
def test_settings_out_of_range_are_refused_before_anything_is_written(model, settings, sentence):
    with pytest.raises(UserError, match=sentence):
        model.stream(**{"prompt": PROMPT, **settings})


def test_wrong_token_ids_are_refused(model):
    with pytest.raises(UserError, match="from 0 to 399; found 3 to 400"):
        model.logits(np.array([[3, 400]]))
    with pytest.raises(UserError, match="97 tokens are more than the model's context of 96"):
        model.logits(np.ones((1, 97), np.int64))


def test_it_works_where_torch_and_onnx_are_absent(bundle):
    program = f"""
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {{"torch", "lightning", "onnx", "transformers", "safetensors"}}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
from engine.inference import load
sys.stdout.buffer.write(load({str(bundle)!r}).generate({PROMPT!r}, 30, temperature=0).encode())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, cwd=ROOT, check=False,
                          env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.decode() == load(bundle).generate(PROMPT, 30, temperature=0)
