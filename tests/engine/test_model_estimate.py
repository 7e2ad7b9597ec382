"""Estimates against what they estimate: the built model, torch's counters, autograd's own list."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from toy_models import FORMS, config, tokens

from engine.model import SIZES, ModelConfig, estimate
from engine.model.decoder import Cache, Decoder


def built(shape: ModelConfig) -> Decoder:
    with torch.device("meta"):
        return Decoder(shape)


@pytest.mark.parametrize("form", FORMS)
def test_parameters_and_where_they_sit_are_the_models(form):
    shape = config(form)
    model = built(shape)
    assert estimate.parameters(shape) == sum(p.numel() for p in model.parameters())
    for part, inner in estimate.block_parameters(shape).items():
        for name, count in inner.items():
            module = model.blocks[0].get_submodule(name if part == "norms" else f"{part}.{name}")
            assert count == sum(p.numel() for p in module.parameters()), name


@pytest.mark.parametrize("family", ["llama", "qwen3", "gpt2"])
@pytest.mark.parametrize("size", SIZES)
def test_parameters_of_every_size_are_exact(family, size):
    shape = ModelConfig(family=family, size=size, vocab_size=32_000)
    counted = sum(p.numel() for p in built(shape).parameters())
    assert estimate.parameters(shape) == counted == leaves(estimate.tree(shape))
    outside = estimate.parts(shape)
    assert (estimate.non_embedding_parameters(shape)
            == counted - outside["embedding"] - outside["positions"] - outside["head"])


def leaves(tree: dict) -> int:
    return sum(leaves(value) if isinstance(value, dict) else value for value in tree.values())


@pytest.mark.parametrize("form", FORMS)
def test_flops_are_those_that_torch_counts(form):
    shape = config(form)
    model, ids = Decoder(shape), tokens(2, 16)
    # The fused kernel on CPU is not counted; the plain one is made of products, which are.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        model(ids).sum().backward()
    assert estimate.flops_per_token(shape, 16) * ids.numel() == counter.get_total_flops()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_activations_are_what_autograd_keeps(form, precision, dropout):
    shape = config(form, dropout=dropout, hidden_size=64, head_size=16, num_layers=4)
    model, ids, kept = Decoder(shape), tokens(7, 32), {}
    weights = {p.data_ptr() for p in model.parameters()}
    # The copies that autocast makes of weights are under "weights".
    shapes = {tuple(p.shape) for p in model.parameters()} | {tuple(p.shape[::-1]) for p in model.parameters()}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in weights and tuple(tensor.shape) not in shapes:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), \
            torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        model.hidden(ids)
    measured = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    memory = estimate.training_memory_bytes(shape, state_bytes_per_parameter=8, micro_batch_size=7, sequence_length=32,
                                            precision=precision)
    assert memory["activations"] == pytest.approx(measured, rel=0.06)


def test_weights_gradients_and_optimizer_are_what_adamw_holds():
    from engine.optim.adamw import AdamW

    shape = config("llama")
    model, settings = Decoder(shape), AdamW()
    optimizer = settings.build(model)
    model(tokens(1, 8)).sum().backward()
    optimizer.step()
    state = [t for held in optimizer.state.values() for name, t in held.items() if name != "step"]
    memory = estimate.training_memory_bytes(shape, state_bytes_per_parameter=settings.state_bytes_per_parameter,
                                            micro_batch_size=1)
    assert memory["weights"] == sum(p.nbytes for p in model.parameters())
    assert memory["gradients"] == sum(p.grad.nbytes for p in model.parameters())
    assert memory["optimizer"] == sum(t.nbytes for t in state)


@pytest.mark.parametrize("form", FORMS)
@torch.no_grad()
def test_kv_cache_is_as_large_as_estimated(form):
    shape, cache = config(form), Cache()
    Decoder(shape)(tokens(1, 20), cache=cache)
    assert estimate.kv_cache_bytes(shape, 20) == sum(t.nbytes for t in (*cache.keys, *cache.values))
    assert estimate.kv_cache_bytes(shape) == shape.context_length * estimate.kv_cache_bytes_per_token(shape)


def test_estimates_and_reading_a_config_need_no_torch():
    code = ("import sys; from engine.model import ModelConfig, estimate, published; "
            "estimate.parts(ModelConfig(size='7b')); published.published_config(ModelConfig()); "
            "assert 'torch' not in sys.modules")
    subprocess.run([sys.executable, "-c", code], check=True)
