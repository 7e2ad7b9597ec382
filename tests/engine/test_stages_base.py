"""One optimizer step, against the same step written out in plain torch."""

from __future__ import annotations

import lightning
import pytest
import torch
from torch import nn

from engine.optim import OPTIMIZERS, SCHEDULES
from engine.stages import STAGES, TrainConfig
from engine.stages.base import NotFinite, Stage, clear_unless


class Ragged(Stage):
    """Squared error over rows that are masked at different lengths, as conversations are."""

    def loss(self, batch):
        x, mask = batch[..., :3], batch[..., 3]
        return (self.model(x).squeeze(-1).square() * mask).sum(), int(mask.sum())


class Noisy(Ragged):
    """The same, with something random in it, as dropout is."""

    def loss(self, batch):
        loss, count = super().loss(batch)
        return loss * (1 + torch.rand(())), count


class Data(list):
    """Batches in a list; what Lightning iterates."""


def batches(lengths):
    dice = torch.Generator().manual_seed(0)
    made = []
    for row in lengths:
        mask = torch.zeros(len(row), 8)
        for number, length in enumerate(row):
            mask[number, :length] = 1
        made.append(torch.cat((torch.randn(len(row), 8, 3, generator=dice), mask[..., None]), dim=-1))
    return made


def fit(kind, data, *, accumulation=1, max_norm=0.0, steps=None, lr=0.1, model=None, start=0):
    model = model or linear()
    train = TrainConfig(max_steps=100, accumulation=accumulation, max_grad_norm=max_norm)
    stage = kind(model, STAGES["pretrain"](), train, OPTIMIZERS["sgd"](lr=lr, momentum=0), SCHEDULES["constant"](
        warmup_steps=0), seed=3)
    stage.steps = start
    trainer = lightning.Trainer(
        accelerator="cpu", max_steps=steps or len(data) // accumulation, max_epochs=-1, logger=False,
        accumulate_grad_batches=accumulation, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False)
    trainer.fit(stage, train_dataloaders=Data(data))
    return stage


def linear():
    torch.manual_seed(1)
    return nn.Linear(3, 1)


@pytest.mark.parametrize("max_norm", [0.0, 0.05])
def test_a_step_divides_by_its_tokens_clips_and_tells_the_norm_before(max_norm):
    data = batches([[8, 8], [1, 2], [5, 0], [3, 1]])
    stage = fit(Ragged, data, accumulation=2, max_norm=max_norm)
    model = linear()
    for pair in (data[:2], data[2:]):
        model.zero_grad()
        x, mask = torch.cat(pair)[..., :3], torch.cat(pair)[..., 3]
        loss = (model(x).squeeze(-1).square() * mask).sum() / mask.sum()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), max_norm or float("inf"))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter -= 0.1 * parameter.grad
    for mine, plain in zip(stage.model.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(mine, plain)
    assert (stage.steps, stage.tokens) == (2, 28)
    torch.testing.assert_close(stage.last.loss, loss.detach())
    torch.testing.assert_close(stage.last.grad_norm, norm)
    assert norm > 0.05


def test_what_is_random_in_a_step_follows_from_its_number():
    data = batches([[8, 8]] * 6)
    whole = fit(Noisy, data, accumulation=2)
    first = fit(Noisy, data[:2], accumulation=2)
    torch.rand(7)  # somebody else draws in between
    rest = fit(Noisy, data[2:], accumulation=2, model=first.model, start=1)
    assert torch.equal(whole.model.weight, rest.model.weight)
    again = fit(Noisy, data[2:], accumulation=2, model=fit(Noisy, data[:2], accumulation=2).model)
    assert not torch.equal(whole.model.weight, again.model.weight), "each step draws something else"


def test_the_learning_rate_is_the_schedules():
    model, data = linear(), batches([[8, 8]] * 3)
    train = TrainConfig(max_steps=3)
    schedule = SCHEDULES["linear"](warmup_steps=1)
    stage = Ragged(model, STAGES["pretrain"](), train, OPTIMIZERS["sgd"](lr=0.5, momentum=0), schedule, seed=1)
    seen = []

    class Watch(lightning.Callback):
        def on_train_batch_end(self, *_):
            seen.append(stage.last.lr)

    lightning.Trainer(accelerator="cpu", max_steps=3, logger=False, enable_checkpointing=False, callbacks=[Watch()],
                      enable_progress_bar=False, enable_model_summary=False).fit(stage, train_dataloaders=Data(data))
    assert seen == [0.5 * schedule.factor(step, 3) for step in range(3)]
    assert seen[0] < seen[1] > seen[2]


@pytest.mark.parametrize("fault", [float("nan"), float("inf")])
@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_an_update_that_is_not_finite_is_not_made(fault, where):
    data, model, before = batches([[8, 8]] * 3), linear(), linear()
    if where == "loss":
        data[0][0, 0, 0] = fault
    else:
        model.weight.register_hook(lambda gradient: gradient * fault)
    with pytest.raises(NotFinite, match="step 1"):
        fit(Ragged, data, model=model)
    assert torch.equal(model.weight, before.weight)
    assert torch.equal(model.bias, before.bias)


@pytest.mark.parametrize("kind", ["adamw", "adam", "sgd"])
def test_a_fused_optimizer_skips_an_update_when_told_on_the_device(kind):
    model, before = linear(), linear()
    optimizer = OPTIMIZERS[kind]().build(model)
    assert optimizer._step_supports_amp_scaling
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, float("nan"))
    optimizer.found_inf = torch.ones(())
    optimizer.step()
    assert torch.equal(model.weight, before.weight)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.found_inf = torch.zeros(())
    optimizer.step()
    assert model.weight.isfinite().all()
    assert not torch.equal(model.weight, before.weight)


@pytest.mark.parametrize("kind", ["muon", "lion", "adafactor", "schedule_free"])
def test_any_other_optimizer_keeps_its_weights_finite_when_told_on_the_device(kind):
    """The bad gradients are zero by then, so that an update moves by what was known before, which is nothing here."""
    model, before = linear(), linear()
    settings = OPTIMIZERS[kind]
    optimizer = settings(**{"weight_decay": 0.0} if "weight_decay" in settings.model_fields else {}).build(model)
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, float("nan"))
    clear_unless(torch.tensor(False), [p.grad for p in model.parameters()])
    optimizer.step()
    assert torch.equal(model.weight, before.weight)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    clear_unless(torch.tensor(True), [p.grad for p in model.parameters()])
    optimizer.step()
    assert model.weight.isfinite().all()
    assert not torch.equal(model.weight, before.weight)


def test_validation_weighs_tokens_and_leaves_the_mode():
    stage = fit(Ragged, batches([[8, 8]]))
    looked_at = batches([[8, 8], [1, 0]])
    both = torch.cat(looked_at)
    stage.model.train()
    stage.train()
    loss = stage.validate(looked_at)
    expected = (stage.model(both[..., :3]).squeeze(-1).square() * both[..., 3]).sum() / 17
    assert loss == pytest.approx(float(expected.detach()), rel=1e-6)
    assert stage.training
    assert stage.model.training
