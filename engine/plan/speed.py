"""Speed: how long a training step takes on this machine, reckoned before it was measured.

On a processor a step takes the time of its products, at what a core multiplies, plus that of what is kept for the
backward pass, of the logits, and of beginning so many operations. On a GPU it is reckoned as on rented ones
(`engine.plan.machines`).
"""

from __future__ import annotations

from typing import NamedTuple

from engine.model import estimate
from engine.plan import machines, prices
from engine.plan.here import Here, precision_of
from engine.plan.prices import Machine, Prices
from engine.recipe import Recipe
from engine.stages import share

REFERENCE_FLOPS = 100e9
"""FLOP/s of a small float32 product on one core (`here.multiply`) of the processor that the figures below are from."""
UNTRIED_FLOPS = 50e9
"""The same where it was not tried: a core with AVX2 and no AVX-512."""
GAIN = {"float32": 2.3, "bf16": 4.1}
"""What a training step's products reach on one core, as a multiple of that."""
KEPT_SECONDS = 0.25e-9
"""Of one core, for each byte kept for the backward pass: what is no product, such as norms and activations."""
LOGIT_SECONDS = 2e-9
"""Of one core, for each logit: its exponential and its gradient."""
BLOCK_SECONDS = 2.4e-3
"""For each block and micro-batch, however small they are: operations are begun one by one."""
# With these, steps of 35k to 27M parameters on one core of an AMD EPYC (Zen 5) came within 6 % in bf16 and within 20 %
# in float32, but for one toy.
TOGETHER = 0.55
"""Of what a core does at its best and alone, that each of two did in whole runs of 0.2M to 24M parameters."""
LOOPBACK_BYTES = 1.5e9
"""A second, that processes of one machine tell one another: an assumption."""
UNKNOWN = Machine(name="a GPU that is not in prices.yaml", tflops=60, memory_gb=1, bandwidth_gb=500, link_gb=32,
                  watts=250, source="none; an assumption", price=0, price_source="none", date="2026-11")


class Shared(NamedTuple):
    """Over how many processes a step goes, and the batch of each."""

    here: int    # on this machine
    all: int     # on all machines of the training
    rows: int    # at once
    times: int   # accumulated


def shared(recipe: Recipe, machine: Here) -> Shared:
    """How the rows of a step are shared out; `auto` takes all GPUs of this machine, or one process."""
    train = recipe.train
    rows = train.micro_batch_size * train.accumulation
    here = int(train.devices) if train.devices != "auto" else max(
        count for count in range(1, machine.gpus + 1) if count == 1 or rows % (count * train.nodes) == 0)
    return Shared(here, here * train.nodes, *share(train.micro_batch_size, train.accumulation, here * train.nodes))


def flops(recipe: Recipe, machine: Here) -> float:
    """Floating-point operations of a step on this machine."""
    return float(estimate.flops_per_token(recipe.model)) * recipe.tokens_per_step / recipe.train.nodes


def step(recipe: Recipe, machine: Here, figures: Prices | None = None) -> tuple[float, str]:
    """(seconds of one step, from what it is reckoned)."""
    if machine.device == "cpu":
        return _on_cores(recipe, machine)
    known = (figures or prices.load()).machine_of(machine.name, machine.memory_bytes)
    device = known or UNKNOWN.replace(memory_gb=machine.memory_bytes / 1e9 or 1e6)
    told = (f"from {known.name}'s peak and memory speed in prices.yaml ({known.source})" if known else
            f"an assumption, {UNKNOWN.tflops:g} TFLOP/s: prices.yaml has no {machine.name}")
    return machines.step_on(recipe, device, shared(recipe, machine).all).seconds, told


def _on_cores(recipe: Recipe, machine: Here) -> tuple[float, str]:
    precision, how, context = precision_of(recipe, machine), shared(recipe, machine), recipe.model.context_length
    core = machine.core_flops or UNTRIED_FLOPS
    kept = estimate.training_memory_bytes(recipe.model, state_bytes_per_parameter=0, micro_batch_size=how.rows,
                                          precision=precision)["activations"]
    times, slower = how.times * how.here, REFERENCE_FLOPS / core
    products = flops(recipe, machine) / (core * GAIN[precision])
    rest = (KEPT_SECONDS * kept + LOGIT_SECONDS * how.rows * context * recipe.model.vocab_size) * times * slower
    begun = BLOCK_SECONDS * recipe.model.num_layers * how.times * slower
    talking = 2 * 4 * estimate.parameters(recipe.model) * (how.all - 1) / LOOPBACK_BYTES
    told = f"{machine.cores:g} cores in {precision}"
    told = (f"{told}, each with {core / 1e9:.0f} GFLOP/s in a short try of small float32 products" if machine.core_flops
            else f"an assumption for {told}")
    cores = machine.cores * (TOGETHER if machine.cores > 1 else 1)
    return (products + rest) / cores + begun + talking, told
