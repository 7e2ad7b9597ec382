"""Outline: the plan of one recipe on this machine: what it takes, what it costs, what loss to expect, and by which
assumptions."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from engine import files
from engine.config import UserError
from engine.model import estimate
from engine.plan import machines, memory, prices, scaling, speed
from engine.plan.here import Here, here, precision_of
from engine.plan.measured import Measured, measured, near, start_seconds
from engine.plan.memory import Remedy
from engine.plan.prices import Machine, Prices
from engine.plan.scaling import Prediction, Seen
from engine.recipe import Recipe
from engine.workspace import Workspace

START_SECONDS = 3.0        # until the first step, libraries loaded, until any training was measured here
DISK_BYTES = 300e6         # a second, for checkpoints, until one was measured
FORWARD = 1 / 3            # of a training step, that looking without learning takes
TOKEN_SECONDS = 2e-3       # of a sample, below which none is made
MOST_FILES = 2000          # that are asked for their size while somebody types
GIB = 2**30


@dataclass(frozen=True)
class Text:
    """What the recipe would train on: tokens that are there, or a guess."""

    unique: float = 0.0         # training tokens; 0 if nobody knows yet
    bytes_per_token: float = 0.0
    tokens: str = ""            # the folder, if there is one

    @property
    def known(self) -> bool:
        """Whether the tokens were counted; otherwise they are guessed from the size of the files, if at all."""
        return bool(self.tokens)

    @property
    def words(self) -> tuple[str, str]:
        """How much text there is, and how that is known."""
        if self.known:
            return f"{self.unique:,.0f} tokens", f"the folder {self.tokens}"
        if self.unique:
            return f"about {self.unique:,.0f} tokens", "the size of the files, before anything is filtered"
        return "new text at every step", "nobody knows yet how much there is"


@dataclass(frozen=True)
class Plan:
    """The figures, in plain units. `based_on` says what speed and memory are from."""

    parameters: int
    tokens: int
    unique_tokens: float
    flops: float
    memory: dict[str, int]
    memory_bytes: int            # measured where it was
    available_bytes: float
    precision: str
    seconds: dict[str, float]    # start, steps, looks, samples, checkpoints
    watts: float
    kwh: float
    cost: float
    co2e_kg: float
    currency: str
    based_on: str
    measured: bool
    pays: str                    # what `cost` is for: electricity, or rent
    prediction: Prediction | None
    remedies: list[Remedy] = field(default_factory=list)
    assumptions: list[tuple[str, str, str]] = field(default_factory=list)  # words, value, source

    @property
    def wall_seconds(self) -> float:
        return sum(self.seconds.values())

    @property
    def tokens_per_parameter(self) -> float:
        return self.tokens / self.parameters

    @property
    def fits(self) -> bool:
        return not self.available_bytes or self.memory_bytes <= memory.SAFETY * self.available_bytes

    def kept(self) -> dict[str, Any]:
        """What is stored with a run, to be held against what happened."""
        prediction = self.prediction._asdict() if self.prediction else None
        return {"seconds": self.wall_seconds, "memory_gib": self.memory_bytes / GIB, "kwh": self.kwh,
                "cost": self.cost, "currency": self.currency, "co2e_kg": self.co2e_kg, "flops": self.flops,
                "tokens": self.tokens, "parameters": self.parameters, "based_on": self.based_on,
                "measured": self.measured, "loss": prediction}


def outline(recipe: Recipe, workspace: Workspace, *, figures: Prices | None = None, machine: Here | None = None,
            seen: list[Seen] | None = None, rent: Machine | None = None) -> Plan:
    """The plan of a recipe. Reads small files only: fit to be called while a person types.

    `rent`: the price of `machine`, which then is `here.rented`: what is paid is its hours, and not electricity.
    `seen`: finished runs on the same text (`engine.runs.history.seen`), for the loss to expect.
    Raises UserError when the workspace's prices.yaml is wrong.
    """
    figures, machine = figures or prices.load(workspace), machine or here(workspace)
    found = measured(workspace, recipe, machine)
    precision = precision_of(recipe, machine)
    size, tokens = estimate.parameters(recipe.model), recipe.tokens_per_step * recipe.train.max_steps
    flops = float(estimate.flops_per_token(recipe.model)) * tokens
    text = text_of(recipe, workspace)
    unique = text.unique or tokens
    took, words, source = _step(recipe, workspace, machine, figures, found, rent)
    seconds = _seconds(recipe, machine, found, took, machines.START_SECONDS if rent else
                       start_seconds(workspace, machine) or START_SECONDS)
    parts = memory.peak(_spread(recipe, machine, precision), precision, machine.device)
    held = round(found.peak_gib * GIB) if found and found.peak_gib else sum(parts.values())
    copy = memory.copied(recipe, held, machine.device, machine.memory_bytes)
    held, parts = held + sum(copy.values()), {**parts, **copy}
    watts, why_watts = _watts(recipe, machine, figures, found, held)
    machines_at_it = 1 if found and found.watts else recipe.train.nodes  # a measurement is of all
    kwh = watts * sum(seconds.values()) / 3.6e6 * machines_at_it
    cost = figures.cost(kwh) if rent is None else (
        sum(seconds.values()) / 3600 * rent.price * machine.gpus * recipe.train.nodes)
    ratio = text.bytes_per_token or scaling.bytes_per_token(recipe.model.vocab_size)
    prediction = scaling.predict(size, estimate.non_embedding_parameters(recipe.model), tokens, unique, ratio,
                                 seen or ())
    fits = not machine.memory_bytes or held <= memory.SAFETY * machine.memory_bytes
    assumed = [
        (words, f"{speed.flops(recipe, machine) / took / 1e9:,.0f} GFLOP/s", source),
        *_unknown(machine, figures),
        ("Power", f"{watts:.1f} W", why_watts),
        ("Electricity", f"{figures.electricity.value:g} {figures.currency} a kWh", _told(figures.electricity))
        if rent is None else ("Rent", f"{machine.gpus} × {rent.price:g} {figures.currency} an hour",
                              f"{rent.price_source}, {rent.date}"),
        ("Carbon", f"{figures.carbon.value:g} kg CO2e a kWh", _told(figures.carbon)),
        ("Overhead of the building", f"{figures.overhead.value:g}", _told(figures.overhead)),
        ("Text", *text.words),
        ("Bytes a token", f"{ratio:.2f}", "counted" if text.known else "a guess for English"),
    ]
    return Plan(size, tokens, unique, flops, parts, held, machine.memory_bytes, precision, seconds, watts, kwh,
                cost, figures.co2e_kg(kwh), figures.currency,
                f"{found.steps} steps, in run {found.source}" if found else source, found is not None,
                "electricity" if rent is None else "rent", prediction,
                [] if fits else memory.remedies(
                    recipe, precision, machine.memory_bytes, machine.device), assumed)


def _spread(recipe: Recipe, machine: Here, precision: str) -> Recipe:
    """With the processes and the strategy that `auto` takes on several GPUs (`runs.spread`)."""
    count = speed.shared(recipe, machine).here
    if machine.device == "cpu" or count == 1:
        return recipe
    recipe = recipe.override(f"train.devices={count}")
    fits = memory.total(recipe, precision, machine.device) <= memory.SAFETY * (machine.memory_bytes or float("inf"))
    cut = recipe.train.strategy == "auto" and not fits and recipe.optim.kind != "adafactor"
    return recipe.override("train.strategy=fsdp") if cut else recipe


def text_of(recipe: Recipe, workspace: Workspace) -> Text:
    """The newest tokens that were made of this corpus with these settings."""
    for folder in workspace.listing("tokens"):
        try:
            manifest = files.read_json(folder / files.MANIFEST)
            if not _made_from(recipe, manifest["made_from"], workspace):
                continue
            train = manifest["summary"]["train"]
            return Text(float(train["tokens"]), train["bytes"] / max(1, train["tokens"]), folder.name)
        except (UserError, KeyError, AttributeError, TypeError, OSError):
            continue
    return Text(_guess(recipe, workspace))


def _guess(recipe: Recipe, workspace: Workspace) -> float:
    """Training tokens, from the size of the sources' files; 0 where they cannot be found, or are too many to ask."""
    size, left = 0, MOST_FILES
    for source in recipe.corpus.sources:
        try:
            path = workspace.resolve(source.path)
            found = [path] if path.is_file() else list(islice(path.rglob("*"), left)) if path.is_dir() else []
            size += sum(file.stat().st_size for file in found if file.is_file())
        except (UserError, OSError):
            return 0.0
        left -= len(found)
        if left <= 0:
            return 0.0
    kept = size * (1 - recipe.corpus.validation_fraction)
    return kept / scaling.bytes_per_token(recipe.model.vocab_size)


def _made_from(recipe: Recipe, made_from: dict[str, Any], workspace: Workspace) -> bool:
    """Whether tokens made from that are those of the recipe, as far as can be told without reading its texts."""
    tokens = recipe.tokens
    if tokens.tokenizer:
        if made_from.get("tokenizer") != files.fingerprint_file(workspace.resolve(tokens.tokenizer)):
            return False
    elif made_from.get("vocab_size") != tokens.vocab_size:
        return False
    dataset = workspace.made("datasets", str(made_from.get("dataset")))
    return (list(tokens.special_tokens) == made_from.get("special_tokens", []) and dataset is not None
            and files.read_json(dataset / files.MANIFEST)["made_from"].get("settings") == recipe.corpus.dump())


def _step(recipe: Recipe, workspace: Workspace, machine: Here, figures: Prices,
          found: Measured | None, rent: Machine | None) -> tuple[float, str, str]:
    """(seconds of a step, words, source): measured of this shape, reckoned and held against another's, or reckoned."""
    if found:
        return found.step_seconds, "Speed of this very step", f"measured by {found.source}"
    reckoned, source = speed.step(recipe, machine, figures)
    before = near(workspace, recipe, machine)
    if before:
        return reckoned * before.factor, "Speed of a training step", (
            f"reckoned, and corrected by what {before.source}, of another shape, took here")
    return reckoned, "Speed of a training step", source if rent else f"{source}; measure it"


def _seconds(recipe: Recipe, machine: Here, found: Measured | None, step: float, start: float) -> dict[str, float]:
    """Where the time goes. Each look, sample and checkpoint is counted; curation and tokenization are not."""
    train, size, how = recipe.train, estimate.parameters(recipe.model), speed.shared(recipe, machine)
    batches = -(-train.validation_batches * train.micro_batch_size // (how.rows * how.all))  # of each process
    look = found.look_seconds if found else FORWARD * step / how.times
    token = found.token_seconds if found else 0.0
    token = token or max(TOKEN_SECONDS, 3 * float(estimate.flops_per_token(recipe.model)) * step / speed.flops(
        recipe, machine))
    save = (found.save_seconds if found else 0.0) or (4 * size + memory.state_bytes(recipe)) / DISK_BYTES
    looks = _times(train.max_steps, train.validate_every, train.checkpoint_every)
    saves = _times(train.max_steps, train.checkpoint_every)
    samples = _times(train.max_steps, train.sample_every) if train.sample_every else 0
    return {"start": (found.start_seconds if found else 0.0) or start, "steps": step * train.max_steps,
            "looks": look * looks * batches,
            "samples": token * samples * train.sample_tokens * len(train.sample_prompts), "checkpoints": save * saves}


def _times(steps: int, *every: int) -> int:
    """At how many steps something is due that is due every so often, and at the end."""
    return len({step for each in every for step in range(each, steps + 1, each)} | {steps})


def _watts(recipe: Recipe, machine: Here, figures: Prices, found: Measured | None, held: float) -> tuple[float, str]:
    if found and found.watts:
        return found.watts, f"as counted by {found.source}"
    if machine.device == "cuda":
        device = figures.machine_of(machine.name, machine.memory_bytes)
        most, name = (device.watts, device.name) if device else (speed.UNKNOWN.watts, "a GPU, an assumption")
        count = speed.shared(recipe, machine).here
        return count * (machines.DRAW * most + machines.HOST_WATTS), (
            f"{machines.DRAW:.0%} of {most:g} W ({name}) and {machines.HOST_WATTS:g} W around it"
            f"{f', {count} times' if count > 1 else ''}")
    entry = figures.processor(machine.name)
    return machine.cores * entry.watts + held / GIB * figures.memory_watts.value, (
        f"{machine.cores:g} cores at {entry.watts:g} W ({entry.source}, {entry.date}) and memory at "
        f"{figures.memory_watts.value:g} W a GiB ({_told(figures.memory_watts)})")


def _unknown(machine: Here, figures: Prices) -> list[tuple[str, str, str]]:
    """What is said of a GPU that nothing is known of."""
    if machine.device == "cpu" or figures.machine_of(machine.name, machine.memory_bytes):
        return []
    memory_of_it = "as its driver tells" if machine.memory_bytes else "nobody tells its memory (install the extra gpu)"
    return [("GPU", machine.name, f"not in prices.yaml, so its speed and power are assumptions; {memory_of_it}")]


def _told(figure: prices.Figure) -> str:
    return f"{figure.source}, {figure.date}"
