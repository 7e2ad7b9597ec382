"""Sampling against transformers' own cuts, and against its own frequencies."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from engine.inference.sampling import cut, draw, probability, softmax


@pytest.mark.parametrize("temperature", [0.3, 0.8, 2.0])
@pytest.mark.parametrize("top_k", [0, 1, 7, 500])
@pytest.mark.parametrize("top_p", [1.0, 0.9, 0.3, 1e-6])
def test_probabilities_are_those_of_transformers(temperature, top_k, top_p):
    logits = np.random.default_rng(3).normal(0, 3, 200).astype(np.float32)
    scores = TemperatureLogitsWarper(temperature)(None, torch.from_numpy(logits)[None])
    if top_k:
        scores = TopKLogitsWarper(top_k)(None, scores)
    if top_p < 1:
        scores = TopPLogitsWarper(top_p)(None, scores)
    assert np.allclose(cut(logits, temperature, top_k, top_p), scores[0].softmax(-1).numpy(), atol=1e-6)


def test_equal_logits_at_the_threshold_do_not_let_more_than_k_in():
    assert (cut(np.zeros(10, np.float32), top_k=3) > 0).sum() == 3


def test_tokens_are_drawn_as_often_as_their_probability_says():
    shares = np.array([0.5, 0.0, 0.3, 0.2, 0.0])
    dice = np.random.default_rng(1)
    counts = np.bincount([draw(shares, dice) for _ in range(20_000)], minlength=5) / 20_000
    assert np.allclose(counts, shares, atol=0.015)
    assert counts[1] == counts[4] == 0


def test_huge_logits_do_not_overflow():
    assert softmax(np.array([1e30, 0, -1e30], np.float32)).tolist() == [1, 0, 0]
    assert cut(np.array([80_000, 79_999], np.float32), temperature=0.01).tolist() == pytest.approx([1, 0])


def test_the_share_of_one_token_is_that_of_all_and_leaves_the_logits_alone():
    logits = np.random.default_rng(3).normal(0, 3, 50_000).astype(np.float32)
    before, shares = logits.copy(), torch.from_numpy(logits).double().softmax(-1)
    for token in (int(logits.argmax()), 0, int(logits.argmin())):
        assert probability(logits, token) == pytest.approx(float(shares[token]), rel=1e-5)
    assert np.array_equal(logits, before)
    assert probability(np.array([1e30, 0, -1e30], np.float32), 0) == 1
