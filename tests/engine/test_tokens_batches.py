from __future__ import annotations

import threading
from itertools import islice

import numpy as np
import pytest
import torch
import toy_tokens

from engine.config import UserError
from engine.tokens.batches import Batches, Loader, TokenData, Validation
from engine.tokens.shards import Shards


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    from engine.workspace import Workspace

    return toy_tokens.tokens(Workspace(tmp_path_factory.mktemp("batches")))


class Count:
    """Shards whose tokens are their own places, so that a batch tells where it was cut."""

    def __init__(self, num_tokens, split="train"):
        self.num_tokens, self.split = num_tokens, split

    def windows(self, starts, length):
        assert starts.min() >= 0
        assert starts.max() + length <= self.num_tokens
        return np.asarray(starts)[:, None] + np.arange(length)

    count_bytes = staticmethod(lambda ids: float(ids.size))
    spread = Shards.spread


def test_a_batch_depends_on_seed_and_number_alone(folder):
    shards = Shards(folder, "train")
    one, other = Batches(shards, 16, 4, seed=3), Batches(shards, 16, 4, seed=3)
    wanted = [one.batch(i) for i in range(3 * len(one))]
    for i in (0, 2 * len(one) + 1, 5, 3 * len(one) - 1, len(one)):
        assert torch.equal(other.batch(i), wanted[i])
    assert not torch.equal(Batches(shards, 16, 4, seed=4).batch(0), wanted[0])
    assert wanted[0].shape == (4, 17)
    assert wanted[0].dtype == torch.int64


def test_an_epoch_shows_every_window_once_and_the_next_one_others():
    batches = Batches(Count(1003), 10, 3, seed=0)
    rows = torch.cat([batches.batch(i) for i in range(2 * batches.num_windows // 3)])
    epochs = rows[:, 0].view(2, batches.num_windows)
    assert batches.num_windows == 99
    for starts in epochs:
        assert len(set(starts.tolist())) == batches.num_windows
        assert len({s % 10 for s in starts.tolist()}) == 1, "windows of one epoch do not overlap"
        assert starts.diff().abs().double().mean() > 200, "neighbours in the order are not neighbours in the text"
    assert epochs[0].tolist() != epochs[1].tolist()
    assert len({int(Batches(Count(1003), 10, 1, seed=s).batch(0)[0, 0]) % 10 for s in range(30)}) > 5


@pytest.mark.parametrize("num_tokens", [11, 12, 19, 20, 21, 35])
def test_a_corpus_smaller_than_a_batch_wraps_around(num_tokens):
    batches = Batches(Count(num_tokens), 10, 8, seed=1)
    assert len(batches) >= 1
    for i in range(30):
        assert batches.batch(i).shape == (8, 11)


def test_the_global_batch_does_not_depend_on_how_it_is_sliced():
    whole = Batches(Count(5000), 10, 8, seed=2)
    ranks = [Batches(Count(5000), 10, 2, seed=2, rank=r, world_size=4) for r in range(4)]
    for i in (0, 7, 100):
        assert torch.equal(torch.cat([rank.batch(i) for rank in ranks]), whole.batch(i))


def test_validation_is_fixed_spread_out_and_counts_no_target_twice():
    looked_at = Validation(Count(10_000, "val"), 10, 4, num_batches=5)
    rows = torch.cat([looked_at.batch(i) for i in range(len(looked_at))])
    targets = rows[:, 1:].flatten().tolist()
    assert rows.shape == (20, 11)
    assert len(set(targets)) == len(targets) == looked_at.num_tokens == looked_at.num_bytes
    assert rows[0, 0] == 0
    assert rows[-1, -1] > 9_980
    assert torch.equal(looked_at.batch(2), Validation(Count(10_000, "val"), 10, 4, num_batches=5).batch(2))


@pytest.mark.parametrize(("num_tokens", "shapes"), [(11, [1]), (35, [3]), (61, [4]), (95, [4, 4])])
def test_short_validation_texts_are_used_in_equal_batches(num_tokens, shapes):
    looked_at = Validation(Count(num_tokens, "val"), 10, 4, num_batches=5)
    assert [len(looked_at.batch(i)) for i in range(len(looked_at))] == shapes


def test_validation_is_shared_out_between_ranks():
    ranks = [Validation(Count(1000, "val"), 10, 4, 5, rank=r, world_size=2) for r in range(2)]
    starts = [set(torch.cat([v.batch(i) for i in range(len(v))])[:, 0].tolist()) for v in ranks]
    assert not starts[0] & starts[1]
    assert len(ranks[0]) == len(ranks[1]) == 5
    assert ranks[0].num_tokens == 400


def test_validation_bytes_are_those_of_the_measured_text(folder):
    from engine.tokens import tokenizer as bpe

    shards, tokenizer = Shards(folder, "val"), bpe.load(folder / "tokenizer.json")
    looked_at = Validation(shards, 16, 4, num_batches=2)
    ids = torch.cat([looked_at.batch(i) for i in range(2)])[:, 1:].flatten().tolist()
    spelt = [tokenizer.id_to_token(i) for i in ids if i != shards.end_of_text]
    assert looked_at.num_bytes == sum(map(len, spelt))  # byte-level tokens are spelt with a character a byte


def test_the_loader_starts_at_any_batch_and_has_a_length(folder):
    whole = list(islice(TokenData(folder, 16, 4, seed=1).train_dataloader(), 9))
    later = TokenData(folder, 16, 4, seed=1, first_batch=6).train_dataloader()
    assert all(torch.equal(a, b) for a, b in zip(whole[6:], islice(later, 3), strict=True))
    assert len(later) > 1e9
    assert not later.pin


def test_lightning_trains_on_and_resumes_it_exactly(folder):
    import lightning

    class Watch(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.weight, self.seen = torch.nn.Parameter(torch.zeros(())), []

        def training_step(self, batch, index):
            self.seen.append(batch.clone())
            return self.weight * batch.float().mean()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    def train(first, steps):
        module = Watch()
        lightning.Trainer(accelerator="cpu", max_steps=steps, max_epochs=-1, logger=False, enable_checkpointing=False,
                          enable_progress_bar=False, enable_model_summary=False, limit_val_batches=0).fit(
            module, datamodule=TokenData(folder, 16, 4, seed=1, first_batch=first))
        return module.seen

    whole, rest = train(0, 7), train(4, 3)
    assert len(whole) == 7
    assert all(torch.equal(a, b) for a, b in zip(whole[4:], rest, strict=True))


def test_batches_made_ahead_are_the_same_and_wait_for_the_consumer():
    class Counted:
        def __init__(self):
            self.asked, self.third = [], threading.Event()

        def batch(self, number):
            self.asked.append(number)
            if number == 6:
                self.third.set()
            return torch.tensor([number])

    source = Counted()
    batches = iter(Loader(source, first=4, ahead=3))
    assert next(batches).item() == 4
    assert source.third.wait(30), "two more are made before they are asked for"
    assert [next(batches).item() for _ in range(2)] == [5, 6]
    batches.close()
    assert source.asked == sorted(source.asked)
    assert source.asked[-1] <= 4 + 3 + 2, "and no further than that"


@pytest.mark.parametrize(("split", "remedy"), [("train", "add text, or"), ("val", "validation_fraction")])
def test_text_shorter_than_a_context_is_refused_with_both_numbers(workspace, split, remedy):
    train, val = (2, 40) if split == "train" else (60, 1)
    made = toy_tokens.tokens(workspace, train=train, val=val, vocab_size=258)
    tokens = Shards(made, split).num_tokens
    numbers = f"has only {tokens} tokens and one context needs {tokens + 1}"
    with pytest.raises(UserError, match=f"{numbers}.*{remedy}") as caught:
        TokenData(made, tokens, 4, seed=1)
    assert caught.value.where == "model.context_length"
    with pytest.raises(UserError, match="shorter context"):
        TokenData(made, 100_000, 4, seed=1)
