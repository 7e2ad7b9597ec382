"""Training speed: ours in a bare loop and through a whole run, beside transformers, nanoGPT and litgpt.

    python benchmarks/train.py [--size 12M|30M] [--nanogpt FOLDER] [--litgpt FOLDER] [--compile] [--steps 12] [--small]
    python benchmarks/train.py --busy --rows 4          # processor seconds of one thread, where others are at work, too
    python benchmarks/train.py --vocabulary 50000       # peak memory: the loss by pieces against all logits at once

One process, one step of each in turns, medians. The others' steps are taken while our run, which is a real one with its
folder, rows, validations and checkpoints, waits for its next batch. Prints Markdown.
"""

from __future__ import annotations

import argparse
import copy
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import peers
import torch
import torch.nn.functional as F
from plan import text
from torch import Tensor, nn

from engine import hardware, runs
from engine.model import ModelConfig, estimate
from engine.model.cross_entropy import cross_entropy
from engine.model.decoder import Decoder
from engine.model.operators import Operators, use
from engine.recipe import Recipe
from engine.runs.worker import Worker
from engine.tokens.batches import Loader, TokenData
from engine.workspace import Workspace

SIZES = {  # layers, width, heads, context, rows
    "12M": (6, 384, 6, 256, 16),
    "30M": (8, 512, 8, 512, 16),
    "small": (2, 64, 2, 64, 4),
}
FORMATS = {"float32": torch.float32, "bf16": torch.bfloat16}
clock = time.perf_counter
RUN, BARE, ALONE = "ours, the whole run", "ours, bare loop", "matrix products alone"
Step = Callable[[Tensor], Any]


def recipe(size: str, rows: int, steps: int, precision: str, compiled: bool) -> Recipe:
    layers, width, heads, context, _ = SIZES[size]
    half = max(1, steps // 2)
    return Recipe().override(
        f"name=bench-{size}", "corpus.sources=[{path: corpora/words}]", f"tokens.vocab_size={vocabulary(size)}",
        "jobs=[train]", f"model.num_layers={layers}", f"model.hidden_size={width}", f"model.num_heads={heads}",
        f"model.num_kv_heads={heads}", f"model.context_length={context}", f"train.micro_batch_size={rows}",
        "optim={kind: adamw, lr: 3e-4}", f"train.max_steps={steps}", f"train.validate_every={half}",
        "train.validation_batches=2", f"train.checkpoint_every={half}", "train.sample_every=0",
        f"train.compile={'on' if compiled else 'off'}", f"train.precision={precision}")


def vocabulary(size: str) -> int:
    return 512 if size == "small" else 4096


def plain_loop(model: nn.Module, loss: peers.Loss, precision: str,
               optimizer: torch.optim.Optimizer | None = None) -> Step:
    """A step as everybody writes it: loss, backward, clip, fused AdamW."""
    params = list(model.train().parameters())
    if optimizer is None:
        optimizer = torch.optim.AdamW(params, lr=3e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True)

    def step(batch: Tensor) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            told = loss(model, batch[:, :-1].contiguous(), batch[:, 1:].contiguous())
        told.backward()
        nn.utils.clip_grad_norm_(params, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return step


def ours(run: Callable[..., Tensor] | None = None) -> peers.Loss:
    def loss(model: Any, inputs: Tensor, targets: Tensor) -> Tensor:
        return cross_entropy((run or model.hidden)(inputs), model.head_weight, targets) / targets.numel()
    return loss


class Turns:
    """Takes the others' steps, one each, whenever the run asks for its next batch."""

    def __init__(self, asked: argparse.Namespace, shape: ModelConfig, formats: list[str], precision: str) -> None:
        self.asked, self.shape, self.formats, self.precision = asked, shape, formats, precision
        self.took: dict[str, list[float]] = {}
        self.others: dict[str, Step] = {}
        self.left = 0.0

    def batches(self, data: TokenData, loader: Loader) -> Iterator[Any]:
        """The run's batches; the moment between two of them is one step of the run, with all that belongs to it."""
        for number, batch in enumerate(loader):
            if number:
                self.took.setdefault(RUN, []).append(clock() - self.left)
            else:
                self._build(data.trainer.lightning_module, data.trainer.optimizers[0])
            for name, step in self.others.items():
                begun = clock()
                step(batch)
                self.took.setdefault(name, []).append(clock() - begun)
                if not number:
                    print(f"first step of {name}: {self.took[name][0]:.1f} s", file=sys.stderr, flush=True)
            self.left = clock()
            yield batch

    def _build(self, stage: Any, optimizer: torch.optim.Optimizer) -> None:
        asked, shape = self.asked, self.shape
        alone = peers.products(shape, asked.rows, FORMATS[self.precision])
        self.others[ALONE] = lambda batch: alone()
        mine = copy.deepcopy(stage.model)
        use(mine, Operators(mine.blocks[0].attention.queries_at_once, fused=True))
        self.others[BARE] = plain_loop(mine, ours(), self.precision, stage.optim.build(mine))
        if asked.compile:
            mine = copy.deepcopy(stage.model)
            use(mine, Operators(mine.blocks[0].attention.queries_at_once))
            run = torch.compile(mine.hidden, dynamic=False)
            self.others[f"{BARE}, compiled"] = plain_loop(mine, ours(run), self.precision)
        like_gpt2 = Decoder(ModelConfig(
            family="gpt2", num_layers=shape.num_layers, hidden_size=shape.hidden_size, num_heads=shape.num_heads,
            context_length=shape.context_length, vocab_size=shape.vocab_size))
        use(like_gpt2, Operators(mine.blocks[0].attention.queries_at_once, fused=True))
        self.others[f"{BARE}, GPT-2"] = plain_loop(like_gpt2, ours(), self.precision)
        known = {} if asked.own else {"transformers Llama": peers.transformers_llama,
                                      "transformers GPT-2": peers.transformers_gpt2}
        if asked.nanogpt:
            known["nanoGPT"] = peers.nanogpt(asked.nanogpt)
        if asked.litgpt:
            known["litgpt"] = peers.litgpt(asked.litgpt)
        for name, build in known.items():
            for precision in self.formats:
                for compiled in (False, True) if asked.compile else (False,):
                    with redirect_stdout(sys.stderr):  # nanoGPT tells its size
                        model, loss = build(shape)
                    called = torch.compile(model, dynamic=False) if compiled else model
                    self.others[f"{name}, {precision}{', compiled' * compiled}"] = plain_loop(called, loss, precision)


def compare(asked: argparse.Namespace) -> None:
    if asked.stock:
        hardware.keep_freed_memory = lambda: False
    hardware.keep_freed_memory()  # as our runs do; here it serves everybody
    best, why = hardware.choose_precision()
    formats = asked.formats or sorted({"float32", best}, reverse=True)
    precision = best if best in formats else formats[0]
    torch.set_float32_matmul_precision(hardware.choose_matmul_precision()[0])
    before = TokenData.train_dataloader
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(folder)
        text(workspace)
        wanted = recipe(asked.size, asked.rows, asked.steps + 2, precision, asked.compile)
        runs.start(wanted.override("jobs=[tokenize]"), workspace).wait()
        run = runs.create(wanted, workspace)
        turns = Turns(asked, wanted.model.replace(vocab_size=wanted.tokens.vocab_size), formats, precision)
        TokenData.train_dataloader = lambda data: _Sized(data, before(data), turns)  # type: ignore[method-assign]
        with redirect_stdout(sys.stderr):
            state = Worker(run).work()
        if state != "finished":
            raise SystemExit(run.status().error)
        saves = {event["step"] for event in run.rows("events")[0] if event["kind"] == "checkpoint"}
        told = [event for event in run.rows("events")[0] if event["kind"] == "resolved"]
    table(turns, saves, why)
    for event in told:
        print(f"- {event['setting']}: {event['value']} ({event['why']})")


class _Sized:
    """A loader with a length, as Lightning wants it."""

    def __init__(self, data: TokenData, loader: Loader, turns: Turns) -> None:
        self.data, self.loader, self.turns = data, loader, turns

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        return self.turns.batches(self.data, self.loader)


def table(turns: Turns, saves: set[int], why: str) -> None:
    shape, rows = turns.shape, turns.asked.rows
    tokens = rows * shape.context_length
    flops = estimate.flops_per_token(shape) * tokens
    peak = peak_flops(FORMATS[turns.precision])
    # The first step of each warms up or compiles. A step of ours that saves and validates is told of apart.
    runs_own = turns.took[RUN]
    plain = [seconds for step, seconds in enumerate(runs_own, 1) if step > 1 and step not in saves]
    boundary = [seconds for step, seconds in enumerate(runs_own, 1) if step in saves]
    middle, word = (min, "best of each") if turns.asked.busy else (statistics.median, "medians")
    medians = {name: middle(times[1:]) for name, times in turns.took.items()} | {RUN: middle(plain)}
    first = next((name for name in ("nanoGPT, float32", "transformers GPT-2, float32") if name in medians), BARE)
    print(f"\n{turns.asked.size}: {estimate.parameters(shape):,} parameters, {shape.num_layers} layers, width "
          f"{shape.hidden_size}, context {shape.context_length}, {rows} rows; {torch.get_num_threads()} threads, "
          f"{'processor' if turns.asked.busy else 'wall'} seconds; "
          f"{why}; best matrix product {peak / 1e9:.0f} GFLOP/s in {turns.precision}.\n")
    print(f"| {turns.asked.steps} steps, {word} | tokens/s | × {first} | share of the products alone | MFU |\n"
          "|---|---|---|---|---|")
    for name in sorted(medians, key=lambda name: medians[name]):
        took = medians[name]
        words = f"{name}, compiled" if name == RUN and turns.asked.compile else name
        print(f"| {words} | {tokens / took:,.0f} | {medians.get(first, took) / took:.2f} "
              f"| {medians[ALONE] / took:.2f} | {flops / took / peak:.2f} |")
    bare = f"{BARE}, compiled" if turns.asked.compile else BARE
    more = [runs_own[step] / turns.took[bare][step] - 1 for step in range(1, len(runs_own)) if step + 1 not in saves]
    error = statistics.stdev(more) / len(more)**0.5 if len(more) > 1 else float("nan")
    print(f"\nThe whole run against the same bare loop: {medians[RUN] / medians[bare] - 1:+.1%} a step by medians; "
          f"step by step {statistics.mean(more):+.2%}, standard error {error:.2%}, {len(more)} steps.")
    if boundary:
        more = statistics.median(boundary) - medians[RUN]
        print(f"A step that also validates on 2 batches and saves takes {more:.2f} s longer.")


def peak_flops(dtype: torch.dtype, size: int = 1024) -> float:
    """FLOP/s of the best of 20 products of square matrices, by the same clock as the steps."""
    a, b = (torch.full((size, size), 0.5, dtype=dtype) for _ in range(2))
    took = []
    for _ in range(20):
        begun = clock()
        torch.mm(a, b)
        took.append(clock() - begun)
    return 2 * size**3 / min(took)


# Memory -------------------------------------------------------------------------------------------


def one_step(asked: argparse.Namespace) -> None:
    """Two steps of one form of the loss, in this process; prints seconds and the peak."""
    hardware.keep_freed_memory()
    torch.set_float32_matmul_precision(hardware.choose_matmul_precision()[0])
    layers, width, heads, context, _ = SIZES[asked.size]
    shape = ModelConfig(num_layers=layers, hidden_size=width, num_heads=heads, num_kv_heads=heads,
                        context_length=context, vocab_size=asked.vocabulary)
    model = Decoder(shape)
    use(model, Operators(fused=True))

    def whole(model: Any, inputs: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(model(inputs).float().flatten(0, 1), targets.flatten())

    step = plain_loop(model, whole if asked.alone == "whole" else ours(), "float32")
    batch = torch.randint(asked.vocabulary, (asked.rows, context + 1))
    for _ in range(2):
        begun = clock()
        step(batch)
        took = clock() - begun
    print(f"{took} {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}")


def memory(asked: argparse.Namespace) -> None:
    print(f"\n{asked.size} with a vocabulary of {asked.vocabulary:,}, each in a process of its own:\n\n"
          "| loss | s a step | peak GiB |\n|---|---|---|")
    for form, words in (("whole", "all logits at once"), ("pieces", "by pieces")):
        command = [sys.executable, __file__, "--size", asked.size, "--vocabulary", str(asked.vocabulary),
                   "--rows", str(asked.rows), "--alone", form, *["--busy"] * asked.busy]
        made = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        print(f"| {words} | {float(made[0]):.2f} | {float(made[1]):.2f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=SIZES, default="12M")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--formats", nargs="*", choices=FORMATS)
    parser.add_argument("--compile", action="store_true", help="each also by torch.compile")
    parser.add_argument("--own", action="store_true", help="nobody else's but those that are named by a folder")
    parser.add_argument("--stock", action="store_true", help="everybody with the allocator as it comes")
    parser.add_argument("--nanogpt", type=Path, help="a checkout of karpathy/nanoGPT")
    parser.add_argument("--litgpt", type=Path, help="a checkout of Lightning-AI/litgpt")
    parser.add_argument("--vocabulary", type=int, help="measure the memory of the loss instead")
    parser.add_argument("--rows", type=int, help="of a batch; 16 without")
    parser.add_argument("--busy", action="store_true", help="one thread, and its processor seconds for the wall's")
    parser.add_argument("--small", action="store_true", help="a toy size, to see that it works")
    parser.add_argument("--alone", choices=("whole", "pieces"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.small:
        asked.size = "small"
    asked.rows = asked.rows or SIZES[asked.size][4]
    if asked.busy:
        global clock
        clock = time.process_time
        torch.set_num_threads(1)
    (one_step if asked.alone else memory if asked.vocabulary else compare)(asked)


if __name__ == "__main__":
    main()
