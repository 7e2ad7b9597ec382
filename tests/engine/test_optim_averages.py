"""The weights that are evaluated: an average that a plain loop confirms, and a training that does not notice."""

from __future__ import annotations

import pytest
import schedulefree
import torch
from test_runs_training import events, rows, trained
from toy_models import decoder

from engine import files, hardware
from engine.config import UserError
from engine.model import pretrained
from engine.optim import OPTIMIZERS
from engine.optim.averages import average, evaluated
from engine.optim.schedule_free import ScheduleFree
from engine.runs import checkpoint
from engine.runs.callbacks import Boundary
from engine.runs.worker import Worker

pytestmark = pytest.mark.usefixtures("one_thread")


def steps(model, optimizer, number, seed=0):
    dice = torch.Generator().manual_seed(seed)
    for _ in range(number):
        for p in model.parameters():
            p.grad = 0.1 * p.detach() + torch.randn(p.shape, generator=dice)
        optimizer.step()
        yield [p.detach().clone() for p in model.parameters()]


@pytest.mark.parametrize("kind", ["adamw", "sgd", "muon"])
def test_the_average_is_the_recursion_written_out(kind):
    model = decoder("llama", num_layers=1)
    optimizer = OPTIMIZERS[kind]().build(model)
    average(optimizer, 0.8)
    mean = None
    for number, weights in enumerate(steps(model, optimizer, 60), start=1):
        kept = min(0.8, (1 + number) / (10 + number))
        mean = [w.double() if mean is None else kept * m + (1 - kept) * w.double()
                for w, m in zip(weights, mean or weights, strict=True)]
    with evaluated(optimizer) as training:
        for p, m, w in zip(model.parameters(), mean, weights, strict=True):
            torch.testing.assert_close(p, m.float(), atol=1e-6, rtol=0)
            assert torch.equal(training[p], w)
    assert all(torch.equal(p, w) for p, w in zip(model.parameters(), weights, strict=True))


def test_without_an_average_the_weights_in_training_are_evaluated():
    model = decoder("llama", num_layers=1)
    optimizer = OPTIMIZERS["adamw"]().build(model)
    [weights] = steps(model, optimizer, 1)
    with evaluated(optimizer) as training:
        assert training == {}
        assert all(torch.equal(p, w) for p, w in zip(model.parameters(), weights, strict=True))


def test_schedule_free_is_evaluated_at_its_average_and_trains_on_as_if_nobody_had_looked():
    looked_at, alone, reference = (decoder("llama", num_layers=1) for _ in range(3))
    ours, same = (ScheduleFree(lr=0.01).build(model) for model in (looked_at, alone))
    theirs = schedulefree.AdamWScheduleFreeReference(
        [{"params": [p for p in reference.parameters() if p.ndim > 1], "weight_decay": 0.1},
         {"params": [p for p in reference.parameters() if p.ndim == 1], "weight_decay": 0.0}], lr=0.01,
        betas=(0.9, 0.95))
    theirs.train()
    for a, b, _ in zip(steps(looked_at, ours, 20), steps(alone, same, 20), steps(reference, theirs, 20), strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
        with evaluated(ours):
            pass
    theirs.eval()
    with evaluated(ours):
        for p, q in zip(looked_at.parameters(), reference.parameters(), strict=True):
            torch.testing.assert_close(p, q, atol=1e-5, rtol=0)


EMA = ("train.ema_decay=0.9", "train.checkpoint_every=10")
KINDS = {
    "adam": ("optim.kind=adam",),
    "lion": ("optim.kind=lion",),
    "adafactor": ("optim.kind=adafactor",),
    "muon": ("optim.kind=muon", "optim.layers=[{names: embedding*, lr_factor: 0.5}, {names: norm*, lr_factor: 0}]"),
    "schedule_free": ("optim.kind=schedule_free", "schedule.kind=constant"),
    "adamw with an average": (*EMA,),
    "muon with an average": ("optim.kind=muon", *EMA),
}


@pytest.mark.parametrize("changes", KINDS.values(), ids=KINDS)
def test_every_optimizer_goes_on_bit_for_bit_and_does_not_notice_who_looks(world, changes, monkeypatch):
    # Which is faster is measured, and a busy machine may answer differently from one run to the next.
    monkeypatch.setattr(hardware, "choose_matmul_precision", lambda device: ("highest", "as the test wants it"))
    base = (*changes, "model.dropout=0.1", "train.max_steps=12", "train.keep_last=9")
    whole = trained(world, *base, "train.checkpoint_every=100")
    run = world.run(*base, "train.checkpoint_every=7", "train.validate_every=2", "train.sample_every=3")
    for stop in (1, 5):
        with pytest.MonkeyPatch.context() as asked:
            asked.setattr(Boundary, "_asked", lambda self, stop=stop: {"stop"} if self.seen == stop else set())
            assert Worker(run).work() == "stopped"
        assert run.checkpoints[-1].name == f"step-00000{stop}"
    assert Worker(run).work() == "finished", run.status().error
    for metric in ("train/loss", "train/grad_norm", "train/lr"):
        assert [row[metric] for row in rows(run)] == [row[metric] for row in rows(whole)], metric
    last, reference = checkpoint.last(run), checkpoint.last(whole)
    for path in ("model.safetensors", checkpoint.OPTIMIZER, checkpoint.WEIGHTS):
        assert (last / path).exists() == (reference / path).exists()
        if (last / path).exists():
            assert (last / path).read_bytes() == (reference / path).read_bytes(), path
    assert files.read_json(last / checkpoint.POSITION) == files.read_json(reference / checkpoint.POSITION)
    assert rows(run, "val/loss")[-1]["val/loss"] == rows(whole, "val/loss")[-1]["val/loss"]


def test_saved_and_sampled_are_the_averaged_weights(world):
    from safetensors.torch import load_file
    from tokenizers import Tokenizer

    from engine.model.generate import generate

    run = trained(world, *EMA, "train.sample_every=20")
    saved, state = checkpoint.last(run), load_file(checkpoint.last(run) / checkpoint.OPTIMIZER)
    model = pretrained.load(saved).eval()
    training = load_file(saved / checkpoint.WEIGHTS)
    averages = [value for name, value in state.items() if name.endswith(".average")]
    assert len(averages) == len(training) == len(list(model.parameters()))
    for name, p in model.named_parameters():
        assert any(torch.equal(p, mean) for mean in averages), name
        assert not torch.equal(p, training[name])
    ids = torch.tensor([Tokenizer.from_file(str(world.tokens / "tokenizer.json")).encode("The").ids])
    made = generate(model, ids, 8, generator=torch.Generator().manual_seed(world.recipe.seed), end=0)
    tokenizer = Tokenizer.from_file(str(world.tokens / "tokenizer.json"))
    assert events(run, "sample")[-1]["text"] == tokenizer.decode(made)


@pytest.mark.parametrize(("change", "sentence"), [
    ("optim={kind: schedule_free}", "train.ema_decay: is for optimizers that do not average the weights themselves"),
    ("optim.layers=[{names: head*}]", r"optim.layers.0.names: is head\*, which no parameter is called"),
    ("optim.layers=[{lr_factor: 0}]", "optim.layers: freezes every parameter"),
])
def test_what_cannot_be_is_said_before_a_run_begins(world, change, sentence):
    with pytest.raises(UserError, match=sentence):
        world.recipe.override("train.ema_decay=0.9", change)
