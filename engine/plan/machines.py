"""Machines that are not here: time, cost and energy on rented devices, by arithmetic from public figures. Estimated.

A step takes the time of its products at a share of the device's peak, plus that of moving what is no product
through the device's memory, plus that part of the traffic between devices that the backward pass does not hide.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from engine.model import estimate
from engine.plan import memory
from engine.plan.prices import Machine, Prices
from engine.recipe import Recipe

COUNTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
UTILISATION = 0.6   # of the peak, that large products reach
BANDWIDTH = 0.8      # of the memory's speed, that plain reads and writes reach
TRAFFIC = 5          # times that each kept activation passes through memory: written and read, forward and backward
LAUNCH_SECONDS = 5e-4  # a block and micro-batch, below which no device gets: about 100 kernels of 5 µs, an assumption
START_SECONDS = 60.0  # until the first step: libraries, meeting, compiling: an assumption, paid on every device
LINK = 0.42          # of the link's figure (both directions together): one direction, less protocol
NODE = 8             # devices joined by the fast link; beyond it goes the network
NETWORK_GB = 50.0    # a second and device, both directions together: 200 Gbit/s each way: an assumption
HIDDEN = 0.8         # of the computing, under which traffic between devices hides (Li et al. 2020)
DRAW = 0.8           # of the most power, while training
HOST_WATTS = 60.0    # of the machine around it, a device: an assumption


class Estimate(NamedTuple):
    """One row: so many devices, the strategy that fits, and what it comes to. All of it is arithmetic."""

    devices: int
    strategy: str       # "DDP", "FSDP", "one device" or "does not fit"
    memory_gb: float    # on each device
    rows: int           # of a step, on each device
    batch_grows: float  # times the recipe's step, where devices outnumber its rows
    seconds: float
    cost: float
    kwh: float
    utilisation: float  # of the peak (MFU)

    @property
    def fits(self) -> bool:
        return self.strategy != "does not fit"


def estimates(recipe: Recipe, machine: Machine, prices: Prices) -> list[Estimate]:
    """1 to 1,024 devices of one kind."""
    return [estimate_on(recipe, machine, count, prices) for count in COUNTS]


class Step(NamedTuple):
    """One step of a recipe on some devices."""

    strategy: str
    held: float      # bytes on each device
    rows: int        # on each device
    seconds: float


def step_on(recipe: Recipe, machine: Machine, devices: int) -> Step:
    """One step, whose rows are kept as long as there is one for each device."""
    model = recipe.model
    rows = max(1, math.ceil(recipe.train.micro_batch_size * recipe.train.accumulation / devices))
    strategy, held, at_once = _strategy(recipe, machine, devices, rows)
    own = rows * model.context_length  # tokens of a step, on one device
    products = estimate.flops_per_token(model) * own / (peak_flops(recipe, machine) * UTILISATION)
    moved = (TRAFFIC * _kept(recipe, machine, at_once) * rows / at_once + _update(recipe, devices, strategy)) / (
        machine.bandwidth_gb * 1e9 * BANDWIDTH)
    computing = max(products + moved, LAUNCH_SECONDS * model.num_layers * math.ceil(rows / at_once))
    talking = max(0.0, _talk(recipe, machine, devices, strategy, math.ceil(rows / at_once)) - HIDDEN * computing)
    return Step(strategy, held, rows, computing + talking)


def precision_on(recipe: Recipe, machine: Machine) -> str:
    """The number format of a training there: where there is no bf16 it is float32, whatever was asked."""
    return "float32" if "float32" in (machine.precision, recipe.train.precision) else "bf16"


def peak_flops(recipe: Recipe, machine: Machine) -> float:
    """FLOP/s of one device's peak in that format; float32 is TF32 where there is bf16, at half its speed."""
    half = precision_on(recipe, machine) == "float32" and machine.precision == "bf16"
    return machine.tflops * 1e12 / (2 if half else 1)


def estimate_on(recipe: Recipe, machine: Machine, devices: int, prices: Prices) -> Estimate:
    """The recipe's tokens on `devices` devices. A step keeps its rows as long as there is one for each device."""
    model, tokens = recipe.model, recipe.tokens_per_step * recipe.train.max_steps
    wanted = recipe.train.micro_batch_size * recipe.train.accumulation
    strategy, held, rows, took = step_on(recipe, machine, devices)
    own = rows * model.context_length
    training = math.ceil(tokens / (own * devices)) * took
    seconds = START_SECONDS + training
    hours = seconds / 3600 * devices
    kwh = (training / 3600 * devices * machine.watts * DRAW + hours * HOST_WATTS) / 1000
    used = estimate.flops_per_token(model) * own / peak_flops(recipe, machine) / took
    return Estimate(devices, strategy, held / 1e9, rows, rows * devices / wanted if devices > wanted else 1.0, seconds,
                    hours * machine.price, kwh * prices.overhead.value, used)


def _strategy(recipe: Recipe, machine: Machine, devices: int, at_once: int) -> tuple[str, float, int]:
    """Copies of the whole model (DDP) where they fit, else the model cut over all devices (FSDP), else neither; with
    the bytes held, and as many rows at once as leave them room."""
    room = machine.memory_gb * 1e9 * memory.SAFETY
    for strategy in ("DDP" if devices > 1 else "one device", "FSDP"):
        rows = at_once
        while True:
            held = _held(recipe, machine, rows, devices if strategy == "FSDP" else 1)
            if held <= room:
                return strategy, held, rows
            if rows == 1:
                break
            rows //= 2
        if devices == 1:
            break
    return "does not fit", held, 1


def _held(recipe: Recipe, machine: Machine, rows: int, parts: int) -> float:
    """Bytes on one device; with FSDP the weights, gradients and optimizer are cut into `parts`, two blocks gathered."""
    found = estimate.training_memory_bytes(
        recipe.model, state_bytes_per_parameter=memory.state_bytes(recipe) / estimate.parameters(recipe.model),
        micro_batch_size=rows, precision=precision_on(recipe, machine), device="cuda")
    cut = found["weights"] + found["gradients"] + found["optimizer"]
    rest = found["activations"] + found["logits"] + 1e9  # the CUDA context and the libraries' buffers
    gathered = 2 * 4 * estimate.parameters(recipe.model) / recipe.model.num_layers if parts > 1 else 0
    return 1.1 * (cut / parts + gathered + rest)


def _kept(recipe: Recipe, machine: Machine, rows: int) -> float:
    """Bytes of activations and logits of one micro-batch; all logits come by, though few are held at one time."""
    model = recipe.model
    found = estimate.training_memory_bytes(model, state_bytes_per_parameter=0, micro_batch_size=rows,
                                           precision=precision_on(recipe, machine), device="cuda")
    return found["activations"] + 10.0 * rows * model.context_length * model.vocab_size


def _update(recipe: Recipe, devices: int, strategy: str) -> float:
    """Bytes that the optimizer's update moves on one device: weights, gradients and state, read and written."""
    moved = (2 * 4 + 4) * estimate.parameters(recipe.model) + 2 * memory.state_bytes(recipe)
    return moved / (devices if strategy == "FSDP" else 1)


def _talk(recipe: Recipe, machine: Machine, devices: int, strategy: str, micro_batches: int) -> float:
    """Seconds of traffic in one step: gradients once around the ring in float32 (DDP); in bf16 weights gathered
    twice a micro-batch and gradients scattered once (FSDP; Zhao et al. 2023)."""
    if devices == 1 or strategy == "does not fit":
        return 0.0
    size, share = estimate.parameters(recipe.model), (devices - 1) / devices
    sent = share * size * (2 * 4 if strategy == "DDP" else (2 * micro_batches + 1) * 2)
    link = machine.link_gb if devices <= NODE else min(machine.link_gb, NETWORK_GB)
    return sent / (link * 1e9 * LINK)
