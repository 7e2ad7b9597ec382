"""Words: sentences about a plan that its page and the command line both say."""

from __future__ import annotations

from engine.plan import scaling
from engine.plan.here import Here
from engine.plan.machines import START_SECONDS
from engine.plan.outline import GIB, Plan
from engine.plan.prices import Machine

PIECES = {"start": "starting", "steps": "training steps", "looks": "validation", "samples": "samples",
          "checkpoints": "checkpoints"}


def balance(plan: Plan) -> str:
    """How the text compares with the compute-optimal amount."""
    low, high = sorted(scaling.optimal_tokens(plan.parameters))
    side = "fewer than" if plan.tokens < low else "more than" if plan.tokens > high else "about as many as"
    return (f"{count(plan.tokens)} tokens are {side} the compute-optimal {count(low)} to {count(high)} for this size "
            "(20 a parameter, Hoffmann et al. 2022; the fit of Besiroglu et al. 2024); both were found on models of "
            "44M parameters and more.")


def room(plan: Plan) -> str:
    """That it does not fit, and what there is to do; empty where it fits."""
    if plan.fits:
        return ""
    sentence = (f"It won't fit: training needs about {plan.memory_bytes / GIB:.1f} GiB, and this machine has "
                f"{plan.available_bytes / GIB:.1f}.")
    if not plan.remedies:
        return f"{sentence} Nothing that can be changed here makes it fit; choose a much smaller size."
    each = "Each of these makes it fit:" if plan.remedies[0].fits else "None of these is enough alone:"
    return f"{sentence} {each}"


def table(machine: Machine, currency: str) -> str:
    """What the table of other machines is made of."""
    return ("Estimated: arithmetic from public figures, nothing was measured. "
            f"{machine.name}: {machine.tflops:g} TFLOP/s in {machine.precision}, {machine.memory_gb:g} GB at "
            f"{machine.bandwidth_gb:,.0f} GB/s, {machine.watts:g} W ({machine.source}); {machine.price:g} {currency} "
            f"an hour ({machine.price_source}, {machine.date}). DDP holds the whole model on each device; FSDP cuts it "
            f"over all of them, where it would not fit. Each time has {START_SECONDS:.0f} s for the start.")


def place(machine: Here) -> str:
    """Where the plan is for: a processor with its cores, or GPUs."""
    what = f"{machine.name}, {machine.cores:g} cores" if machine.device == "cpu" else (
        f"{machine.gpus} × {machine.name}" if machine.gpus > 1 else machine.name)
    return f"{what}, {machine.memory_bytes / GIB:.1f} GiB" if machine.memory_bytes else what


def count(value: float) -> str:
    """A large number with a letter: 1.2M, 340k."""
    for limit, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:.3g}{letter}"
    return f"{value:.3g}"
