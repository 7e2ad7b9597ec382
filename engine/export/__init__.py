"""Export: ONNX bundles, and the proof that a bundle is the same model. The menu of this noun: its settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import model_validator

from engine.config import Config, Part, setting, wrong
from engine.table import Table

if TYPE_CHECKING:
    from engine.export.matrices import Matrices

PRECISIONS: Table[type[Precision]] = Table("precision")


class Precision(Part):
    """A smaller form of the weights. A subclass says how they are kept, and the most that it may cost."""

    table: ClassVar[Table] = PRECISIONS
    file: ClassVar[str] = ""                                        # in the folder onnx/, as transformers.js names it
    targets: ClassVar[tuple[str, ...]] = ("native", "portable")     # the graphs that can be written with it

    def matrices(self) -> Matrices:
        """How a graph keeps and multiplies its matrices."""
        raise TypeError(f"{type(self).__name__} keeps no matrices")

    @property
    def limits(self) -> dict[str, float]:
        """The gate: max_loss, max_divergence, min_agreement."""
        values: dict[str, Any] = self.model_dump()
        return {name: values[name] for name in ("max_loss", "max_divergence", "min_agreement")}

    @property
    def score_limits(self) -> dict[str, float]:
        """The gate for a model that scores: max_score, min_agreement."""
        values: dict[str, Any] = self.model_dump()
        return {name: values[name] for name in ("max_score", "min_agreement")}


from engine.export import precisions  # noqa: E402, F401  the menu, in order


class ExportConfig(Config):
    """Which checkpoint becomes a bundle, for whom, in which precisions, and how close its logits must be."""

    checkpoint: Literal["best", "last"] = setting("best", "Checkpoint to export: lowest validation loss, or newest")
    target: Literal["native", "portable"] = setting(
        "native", "Operators of the graph: native ones of onnxruntime, which are fastest and in its builds for Node "
                  "and browsers too, or portable ones, which every runtime of ONNX opset 24 has")
    precisions: tuple[Precision, ...] = setting(
        (), "Smaller forms that go into the bundle beside float32, each with its cost measured")
    gguf: tuple[Literal["f32", "f16", "q8_0", "q4_0"], ...] = setting(
        (), "Files for llama.cpp that go into the bundle: the whole numbers, or rounded to 16, 8 or 4 bits, "
            "behind the limits of float16, int8 and int4")
    adapter: str = setting("", "Folder of a LoRA adapter of this model, in PEFT's form, to export with it; empty takes "
                               "none", advanced=True)
    merge_adapter: bool = setting(False, "Whether the adapter is added to the weights for good; else the bundle keeps "
                                         "it as a file that can be switched on and off", advanced=True)
    held_out_tokens: int = setting(4096, "Tokens of held-out text on which the cost of a precision is measured",
                                   ge=64, le=1_000_000, unit="tokens", advanced=True)
    pairs: str = setting("", "JSONL file of chosen and rejected texts on which the export of a reward model is proven; "
                             "empty takes held-out text that nobody has judged", advanced=True)
    tolerance: float = setting(1e-3, "Largest difference of any logit between PyTorch and onnxruntime that passes",
                               gt=0, le=1)
    licence: str = setting("", "Licence of the model, written into its card; empty says that none was given")

    @model_validator(mode="after")
    def _each_once_and_possible(self) -> Self:
        if len(set(self.gguf)) < len(self.gguf):
            raise wrong("gguf", "names a kind twice; name each once")
        kinds = [precision.kind for precision in self.precisions]
        for place, precision in enumerate(self.precisions):
            if precision.kind in kinds[:place]:
                raise wrong(f"precisions.{place}", f"is {precision.kind} again; keep one of the two")
            if self.target not in precision.targets:
                can = " or ".join(kind for kind, part in PRECISIONS.items() if self.target in part.targets)
                raise wrong(f"precisions.{place}", f"is {precision.kind}, which needs an operator that only "
                                                   f"onnxruntime has; choose {can}, or the target native")
        return self
