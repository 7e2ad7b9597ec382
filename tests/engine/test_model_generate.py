"""Generation: the same text as transformers when greedy, the right tokens kept when sampled."""

from __future__ import annotations

import pytest
import torch
from toy_models import CONTEXT, VOCABULARY, decoder, tokens

from engine.config import UserError
from engine.model import pretrained
from engine.model.generate import generate, sample

LOGITS = torch.tensor([0.10, 0.40, 0.05, 0.30, 0.15]).log()


def drawn(**settings) -> set[int]:
    dice = torch.Generator().manual_seed(0)
    return {sample(LOGITS, generator=dice, **settings) for _ in range(400)}


@pytest.mark.parametrize("form", ["llama", "qwen3", "gpt2"])
def test_greedy_text_is_transformers(form, tmp_path):
    transformers = pytest.importorskip("transformers")
    model = decoder(form)
    pretrained.save(model, tmp_path)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    prompt = tokens(1, 5)
    wanted = theirs.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=20, do_sample=False)
    text = generate(model, prompt, 20, temperature=0)
    assert text == wanted[0, 5:].tolist()
    assert len(set(text)) > 3, "a text of one token would prove little"


def test_top_k_and_top_p_keep_the_likeliest():
    assert drawn() == {0, 1, 2, 3, 4}
    assert drawn(top_k=2) == {1, 3}
    assert drawn(top_k=99) == {0, 1, 2, 3, 4}
    assert drawn(top_p=0.39) == drawn(top_p=0.0) == drawn(top_k=1) == {1}
    assert drawn(top_p=0.5) == {1, 3}           # 0.40 is too little, 0.70 enough
    assert drawn(top_p=0.8) == {1, 3, 4}
    assert drawn(top_k=3, top_p=0.8) == {1, 3}  # of the three that are left, two hold 0.82
    assert sample(LOGITS, temperature=0) == 1


def test_temperature_and_chances_are_those_of_softmax():
    dice, draws = torch.Generator().manual_seed(1), 8000
    counts = torch.zeros(5)
    for _ in range(draws):
        counts[sample(LOGITS, temperature=0.5, generator=dice)] += 1
    torch.testing.assert_close(counts / draws, (LOGITS / 0.5).softmax(0), atol=0.02, rtol=0)


def test_end_ends_the_text_and_is_its_last_token():
    model, prompt = decoder("llama"), tokens(1, 5)
    text = generate(model, prompt, 20, temperature=0)
    end = text[6]
    assert generate(model, prompt, 20, temperature=0, end=end) == text[:text.index(end) + 1]


def test_a_generator_repeats_and_none_leaves_training_alone():
    model, prompt = decoder("gpt2", dropout=0.5).train(), tokens(1, 5)
    once, again = (generate(model, prompt, 15, generator=torch.Generator().manual_seed(3)) for _ in range(2))
    assert once == again, "dropout must be off"
    before = torch.get_rng_state()
    assert len({tuple(generate(model, prompt, 15, temperature=2.0)) for _ in range(3)}) == 3
    assert torch.equal(torch.get_rng_state(), before)
    assert model.training


@pytest.mark.parametrize("form", ["llama", "gpt2"])
def test_text_goes_on_past_the_context(form):
    model, prompt = decoder(form), tokens(1, 30)
    text = generate(model, prompt, 60, temperature=0)
    assert len(text) == 60
    assert all(0 <= token < VOCABULARY for token in text)
    assert text[:3] == generate(model, prompt, 3, temperature=0), "the same until the context is full"
    # Full after 30 + 2 tokens: the next comes of the last 16 alone.
    whole = torch.cat((prompt, torch.tensor([text])), dim=1)
    again = whole[:, 33 - CONTEXT // 2:33]
    with torch.no_grad():
        assert text[3] == int(model(again)[0, -1].argmax())


def test_prompts_too_long_and_empty():
    model = decoder("llama")
    assert len(generate(model, tokens(1, 3 * CONTEXT), 4)) == 4
    with pytest.raises(UserError, match="prompt holds no token"):
        generate(model, tokens(1, 0), 4)


def test_ranks_take_the_token_that_they_agree_on():
    model, prompt = decoder("llama"), tokens(1, 5)
    first = generate(model, prompt, 20, generator=torch.Generator().manual_seed(1))
    said, own = iter(first), []
    made = generate(model, prompt, 20, generator=torch.Generator().manual_seed(2),
                    agree=lambda token: own.append(token) or next(said))
    assert made == first
    assert own != first, "left alone it would have taken others"
