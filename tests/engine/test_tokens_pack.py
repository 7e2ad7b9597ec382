from __future__ import annotations

import shutil
from itertools import pairwise

import numpy as np
import pytest
import torch
import toy_tokens

from engine.model import ModelConfig
from engine.model.decoder import Decoder
from engine.runs.worker import Worker
from engine.tokens.batches import Batches, Rows, TokenData
from engine.tokens.pack import IGNORED, best_fit, waste
from engine.tokens.shards import Shards


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    from engine.workspace import Workspace

    return Shards(toy_tokens.tokens(Workspace(tmp_path_factory.mktemp("pack"))), "train")


def drawn(seed, number=400, longest=150):
    return np.random.default_rng(seed).geometric(0.03, number).clip(1, longest)


def plain_best_fit(lengths, size):
    """Best-fit-decreasing as the paper says it, one piece after the other: the room left in each row."""
    rooms: list[int] = []
    pieces = [size] * int((lengths // size).sum()) + sorted((lengths % size).tolist(), reverse=True)
    for piece in filter(None, pieces):
        fits = [place for place, room in enumerate(rooms) if room >= piece]
        if fits:
            rooms[min(fits, key=lambda place: rooms[place])] -= piece
        else:
            rooms.append(size - piece)
    return rooms


@pytest.mark.parametrize("size", [16, 64, 200])
def test_rows_are_those_of_best_fit_decreasing(size):
    lengths = drawn(size)
    plan = best_fit(np.concatenate([[0], np.cumsum(lengths)]), size)
    used = [int(plan.lengths[a:b].sum()) for a, b in pairwise(plan.rows)]
    assert sorted(size - n for n in used) == sorted(plain_best_fit(lengths, size))
    # Each token stands in one piece, and only documents longer than a row are cut.
    covered = np.concatenate([np.arange(s, s + n) for s, n in zip(plan.starts, plan.lengths, strict=True)])
    assert np.array_equal(np.sort(covered), np.arange(lengths.sum()))
    assert len(plan.starts) == (-(-lengths // size)).sum()


def test_waste_is_what_rows_cut_anywhere_and_rows_packed_really_waste():
    lengths, size = drawn(1), 40
    ends = np.cumsum(lengths)
    firsts = [(end - n - offset) // size for offset in range(size) for end, n in zip(ends, lengths, strict=True)]
    lasts = [(end - 1 - offset) // size for offset in range(size) for end in ends]
    found = waste(lengths, size, "concatenate")
    assert found.cut == pytest.approx(np.mean(np.array(firsts) != np.array(lasts)))
    assert found.padding == 0
    packed, rooms = waste(lengths, size, "best_fit"), plain_best_fit(lengths, size)
    assert packed.padding == pytest.approx(sum(rooms) / (size * len(rooms)))
    assert packed.cut == np.mean(lengths > size)
    assert packed.cut < found.cut
    assert waste(np.empty(0, np.int64), 8, "best_fit").rows == 0


def test_an_epoch_of_packed_rows_trains_on_every_token_once_after_what_stood_before_it(shards):
    batches = Batches(shards, 32, 1, seed=1, packing="best_fit", document_mask=True)
    whole = np.concatenate([[shards.end_of_text], shards.window(0, shards.num_tokens)])
    followers = {(a, b) for a, b in pairwise(whole.tolist())}
    targets, count = [], 0
    for i in range(len(batches)):
        rows = batches.batch(i)
        kept = rows.targets != IGNORED
        targets += rows.targets[kept].tolist()
        count += rows.num_targets
        assert set(zip(rows.inputs[kept].tolist(), rows.targets[kept].tolist(), strict=True)) <= followers
    assert sorted(targets) == sorted(whole[1:].tolist())
    assert count == shards.num_tokens


@pytest.mark.parametrize("packing", ["concatenate", "best_fit"])
def test_masked_batches_depend_on_seed_and_number_alone_and_are_sliced_between_ranks(shards, packing):
    ways = {"packing": packing, "document_mask": True}
    one, other = Batches(shards, 16, 4, seed=3, **ways), Batches(shards, 16, 4, seed=3, **ways)
    wanted = [one.batch(i) for i in range(len(one) + 2)]
    ranks = [Batches(shards, 16, 2, seed=3, rank=r, world_size=2, **ways) for r in range(2)]
    for i in (len(one) + 1, 0, 5):
        sliced = [rank.batch(i) for rank in ranks]
        for name in ("inputs", "targets", "documents"):
            assert torch.equal(getattr(other.batch(i), name), getattr(wanted[i], name))
            assert torch.equal(torch.cat([getattr(part, name) for part in sliced]), getattr(wanted[i], name))
    assert not torch.equal(wanted[0].inputs, wanted[len(one)].inputs)


def test_rows_cut_from_the_stream_begin_a_document_at_each_end_of_text(shards):
    data = TokenData(shards.folder, 24, 3, seed=0, document_mask=True)
    plain = TokenData(shards.folder, 24, 3, seed=0).batches().batch(2)
    rows = data.batches().batch(2)
    assert torch.equal(rows.inputs, plain[:, :-1])
    assert torch.equal(rows.targets, plain[:, 1:])
    begins = rows.documents.diff(dim=1) == 1
    assert torch.equal(begins, rows.inputs[:, 1:] == shards.end_of_text)
    assert isinstance(data.validation().batch(0), Rows)
    assert data.validation().num_bytes == TokenData(shards.folder, 24, 3, seed=0).validation().num_bytes


@pytest.mark.parametrize("family", ["llama", "qwen3", "gpt2"])
def test_logits_of_a_packed_row_are_those_of_its_documents_alone(shards, family):
    torch.manual_seed(0)
    model = Decoder(ModelConfig(family=family, vocab_size=400, context_length=160, num_layers=2, hidden_size=32,
                                num_heads=4)).eval()
    for rows in (Batches(shards, 160, 2, seed=1, packing="best_fit", document_mask=True).batch(0),
                 Batches(shards, 160, 2, seed=1, document_mask=True).batch(0)):
        with torch.no_grad():
            packed = model(rows.inputs, documents=rows.documents)
            unmasked = model(rows.inputs)
        alone = 0
        for row, (inputs, documents) in enumerate(zip(rows.inputs, rows.documents, strict=True)):
            for number in documents.unique():
                place = documents == number
                with torch.no_grad():
                    own = model(inputs[place][None])[0]
                torch.testing.assert_close(packed[row, place], own, atol=2e-5, rtol=1e-4)
                alone += 1
        assert alone > 4
        assert (packed - unmasked).abs().max() > 1e-2, "without the mask the documents see one another"


def test_a_packed_run_learns_and_goes_on_bit_for_bit(world, one_thread):
    run = world.run("tokens.packing=best_fit", "tokens.document_mask=true", "train.max_steps=8",
                    "train.checkpoint_every=4", "train.validate_every=4")
    assert Worker(run).work() == "finished", run.status().error
    last = run.path / "checkpoints" / "step-000008"
    wanted = (last / "model.safetensors").read_bytes()
    shutil.rmtree(last)
    assert Worker(run).work() == "finished", run.status().error
    assert (last / "model.safetensors").read_bytes() == wanted
