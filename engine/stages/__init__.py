"""Stages: what a batch means and what the loss is. The menu of stages, and the settings of training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import field_validator, model_validator

from engine.config import Config, Part, setting, wrong
from engine.table import Table

if TYPE_CHECKING:
    from engine.stages.base import Stage

STAGES: Table[type[StageConfig]] = Table("stage")


class StageConfig(Part):
    """Which loss is trained, with the settings of that loss."""

    table: ClassVar[Table] = STAGES

    def module(self) -> type[Stage]:
        """The LightningModule that trains this loss."""
        raise TypeError(f"{type(self).__name__} names no module")


@STAGES.add("pretrain")
class Pretrain(StageConfig):
    """Next-token prediction on packed text (Radford et al. 2018)."""

    def module(self) -> type[Stage]:
        from engine.stages.pretrain import PretrainStage

        return PretrainStage


class TrainConfig(Config):
    """How long, in what batches, on what and how often looked at."""

    max_steps: int = setting(1000, "Optimizer updates to make", ge=1, unit="steps")
    micro_batch_size: int = setting(16, "Rows that go through the model at once", ge=1, unit="rows")
    accumulation: int = setting(1, "Micro-batches whose gradients are added up before one update", ge=1)
    max_grad_norm: float = setting(1.0, "Gradients longer than this are shortened to it; 0 turns clipping off",
                                   ge=0)
    ema_decay: float = setting(0.0, "Average the weights over about 1/(1 - this) steps, and evaluate and export the "
                                    "average; 0.999 suits long runs, 0 turns it off", ge=0, lt=1, advanced=True)
    precision: Literal["auto", "bf16", "float32"] = setting(
        "auto", "Number format of the matrix products; auto measures whether bf16 is faster here")
    compile: Literal["auto", "on", "off"] = setting(
        "auto", "Compile the model with torch.compile; auto does so in runs long enough to repay it", advanced=True)
    device: Literal["auto", "cpu", "cuda"] = setting("auto", "Where to train; auto takes a GPU if there is one")
    devices: str = setting("auto", "Processes on each machine, one a GPU; they share out the rows of a step evenly. "
                                   "auto takes all GPUs of this machine, or one process without a GPU")
    strategy: Literal["auto", "single", "ddp", "fsdp"] = setting(
        "auto", "How several processes train one model: ddp gives each a copy, fsdp a part of every matrix; auto takes "
                "fsdp where a copy does not fit a GPU", advanced=True)
    nodes: int = setting(1, "Machines that train together, each with as many devices", ge=1, le=1024, advanced=True)
    launcher: Literal["local", "torchrun", "slurm", "ray"] = setting(
        "local", "Who starts the processes: the studio on this machine, torchrun by your hand on each machine, a SLURM "
                 "cluster, or Ray", advanced=True)
    restarts: int = setting(0, "Times that training goes on by itself from its last checkpoint after a process died",
                            ge=0, le=100, advanced=True)
    ray_wait_seconds: float = setting(600.0, "Longest wait until Ray has room for the processes; after it the run "
                                             "ends with an error", gt=0, unit="seconds", advanced=True)
    sbatch: tuple[str, ...] = setting((), "Further options for SLURM's batch script, such as --partition=gpu or "
                                          "--time=4:00:00", advanced=True)
    validate_every: int = setting(100, "Steps between two looks at the validation loss", ge=1, unit="steps")
    validation_batches: int = setting(20, "Micro-batches of validation text in one look", ge=1, advanced=True)
    patience: int = setting(0, "Validations in a row without a better loss after which training ends; 0 never ends it "
                               "early", ge=0, advanced=True)
    skip_spikes: bool = setting(False, "Whether a step is left out when its loss or gradient stands more than 6 "
                                       "standard deviations above the 128 before; waits for each loss on a GPU",
                                advanced=True)
    checkpoint_every: int = setting(200, "Steps between two checkpoints", ge=1, unit="steps")
    keep_last: int = setting(2, "Newest checkpoints kept beside the best one", ge=1, advanced=True)
    keep_every: int = setting(0, "Steps between two checkpoints that are kept for good; 0 keeps none so", ge=0,
                              unit="steps", advanced=True)
    sample_every: int = setting(200, "Steps between two sample texts; 0 writes none", ge=0, unit="steps")
    sample_prompts: tuple[str, ...] = setting(("It was", "The"), "Beginnings that the sample texts continue")
    sample_tokens: int = setting(64, "Length of a sample text", ge=1, le=4096, unit="tokens", advanced=True)

    @field_validator("compile", mode="before")
    @classmethod
    def _words(cls, value: Any) -> Any:
        """YAML reads a bare on or off as true or false."""
        return {True: "on", False: "off"}.get(value, value) if isinstance(value, bool) else value

    @field_validator("devices", mode="before")
    @classmethod
    def _devices(cls, value: Any) -> str:
        text = str(value).strip()
        if text != "auto" and not (text.isdecimal() and 1 <= int(text) <= 1024):
            raise ValueError(f"is {text or 'empty'}, must be auto or a number from 1 to 1024")
        return text

    @model_validator(mode="after")
    def _rows_for_all(self) -> Self:
        if self.devices == "auto":
            return self
        processes = int(self.devices) * self.nodes
        if self.strategy == "single" and processes > 1:
            raise wrong("strategy", f"is single, which is one process, but there are {processes}; choose ddp or fsdp, "
                                    "or one device on one node", self.strategy)
        if sentence := uneven(self.micro_batch_size, self.accumulation, processes):
            raise wrong("devices", sentence, self.devices)
        return self


def uneven(micro_batch_size: int, accumulation: int, processes: int) -> str:
    """Why the rows of a step cannot be shared out evenly, and what would do; empty if they can."""
    rows = micro_batch_size * accumulation
    if rows % processes == 0:
        return ""
    fewer = next(count for count in range(min(processes, rows), 0, -1) if rows % count == 0)
    return (f"makes {processes} processes, which cannot share the {rows} rows of a step evenly (micro_batch_size "
            f"{micro_batch_size} times accumulation {accumulation}); take {fewer} of them, or a micro_batch_size that "
            f"is a multiple of {processes}")


def share(micro_batch_size: int, accumulation: int, processes: int) -> tuple[int, int]:
    """(rows at once, accumulation) of each process, whose product is its part of the step's rows."""
    rows = max(1, micro_batch_size * accumulation // processes)
    times = next(times for times in range(1, rows + 1) if rows % times == 0 and rows // times <= micro_batch_size)
    return rows // times, times
