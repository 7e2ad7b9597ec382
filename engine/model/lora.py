"""LoRA: low-rank matrices that are added to those of a model (Hu et al. 2021), in the files of PEFT.

    adapter_config.json  adapter_model.safetensors
"""

from __future__ import annotations

import copy
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from engine import files
from engine.config import UserError
from engine.model import ModelConfig
from engine.model.decoder import Decoder
from engine.model.pretrained import published_name

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
MOST_RANK, MOST_ALPHA = 4096, 1e9
NOTHING: Mapping[str, tuple[Any, ...]] = {
    "use_dora": (False, None), "lora_bias": (False, None), "bias": ("none", None), "modules_to_save": (None, []),
    "layer_replication": (None, []), "trainable_token_indices": (None, [], {}), "megatron_config": (None,),
    "target_parameters": (None, []), "use_qalora": (False, None), "arrow_config": (None,), "alora_invocation_tokens":
    (None, []), "velora_config": (None,),
    # Others split the model's own matrices when training begins: what was learned does not fit the model without them.
    "init_lora_weights": (True, False, None, "gaussian", "eva", "orthogonal"),
}
"""Options of PEFT that change more than LoRA does, with the values that change nothing."""


class Adapter(NamedTuple):
    """What is added to a model's matrices: `up @ down` to the one of each module."""

    folder: Path
    parts: dict[str, tuple[Tensor, Tensor]]     # by our module's name: down (r, in), up (out, r) times the scale

    @property
    def parameters(self) -> int:
        return sum(down.numel() + up.numel() for down, up in self.parts.values())


def load(folder: Path, config: ModelConfig) -> Adapter:
    """The adapter of a model of this shape in a folder that PEFT wrote.

    Raises UserError that names the file when one is missing or damaged, when it is of another model, and for what
    adds more than low-rank matrices to the projections of the blocks.
    """
    folder = Path(folder)
    values = files.read_json(folder / CONFIG) if folder.is_dir() else None
    if not isinstance(values, dict) or str(values.get("peft_type")).upper() != "LORA":
        raise UserError(f"{folder} is no folder with a LoRA adapter in PEFT's form ({CONFIG} and {WEIGHTS}); choose "
                        "another.", where=str(folder))
    for name, known in NOTHING.items():
        if values.get(name) not in known:
            raise UserError(f"{folder / CONFIG} sets {name} to {values[name]!r}, which is not done here; merge the "
                            "adapter with PEFT and export the model that comes out.", where=str(folder / CONFIG))
    places = _places(config)
    parts: dict[str, tuple[Tensor, Tensor]] = {}
    for module, (down, up) in _read(folder / WEIGHTS).items():
        ours = places.get(module)
        if ours is None:
            raise UserError(f"{folder / WEIGHTS} adapts {module}, and only projections inside the blocks of this "
                            f"{config.family} model can be adapted here; choose another adapter.",
                            where=str(folder / WEIGHTS))
        scale = _scale(folder / CONFIG, values, module, len(down))
        for (name, shape), part in zip(ours, up.chunk(len(ours)), strict=True):
            if (part.shape[0], down.shape[1]) != shape or part.shape[1] != len(down):
                raise UserError(f"{folder / WEIGHTS}: the adapter of {module} is {tuple(down.shape)} and "
                                f"{tuple(up.shape)}, which does not fit the model; it was made for another one.",
                                where=str(folder / WEIGHTS))
            parts[name] = down, part * scale
    if not parts:
        raise UserError(f"{folder / WEIGHTS} holds no LoRA weights; choose another adapter.",
                        where=str(folder / WEIGHTS))
    return Adapter(folder, parts)


def merge(model: Decoder, adapter: Adapter) -> Decoder:
    """A copy of the model with the adapter added to its weights."""
    merged = copy.deepcopy(model)
    with torch.no_grad():
        for name, (down, up) in adapter.parts.items():
            merged.get_parameter(f"{name}.weight").add_(up @ down)
    return merged


def keep(adapter: Adapter, folder: Path) -> None:
    """The adapter's own files, which PEFT reads, without the place of the model that it was made from."""
    folder.mkdir(parents=True, exist_ok=True)
    values = files.read_json(adapter.folder / CONFIG)
    files.write_json(folder / CONFIG, {**values, "base_model_name_or_path": None, "inference_mode": True})
    files.write(folder / WEIGHTS, (adapter.folder / WEIGHTS).read_bytes())


def _places(config: ModelConfig) -> dict[str, list[tuple[str, tuple[int, int]]]]:
    """Published module -> ours with the (out, in) shapes of their matrices; GPT-2 keeps three of ours in one."""
    with torch.device("meta"):
        state = Decoder(config).state_dict()
    found: dict[str, list[tuple[str, tuple[int, int]]]] = {}
    for name, tensor in state.items():
        if name.startswith("blocks.") and tensor.ndim == 2:
            module = published_name(config, name).removesuffix(".weight")
            found.setdefault(module, []).append((name.removesuffix(".weight"), (tensor.shape[0], tensor.shape[1])))
    return found


def _read(path: Path) -> dict[str, tuple[Tensor, Tensor]]:
    """Published module -> (down, up), float32."""
    found: dict[str, dict[str, Tensor]] = {}
    try:
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118  the file is no mapping
                match = re.fullmatch(rf"{re.escape(PREFIX)}(.+)\.lora_(A|B)(\.default)?\.weight", name)
                tensor = file.get_tensor(name)
                if match is None or tensor.ndim != 2 or not tensor.is_floating_point():
                    raise UserError(f"{path} holds the tensor {name}, which is no matrix of LoRA; choose another "
                                    "adapter.", where=str(path))
                found.setdefault(match[1], {})[match[2]] = tensor.float()
    except FileNotFoundError:
        raise UserError(f"{path} is missing; restore it or choose another adapter.", where=str(path)) from None
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{path} is cut or damaged ({error}); restore it or choose another adapter.",
                        where=str(path)) from None
    for module, pair in found.items():
        if set(pair) != {"A", "B"} or not 1 <= len(pair["A"]) <= MOST_RANK:
            raise UserError(f"{path} does not hold both matrices of {module}, of a rank from 1 to {MOST_RANK}; restore "
                            "it.", where=str(path))
    return {module: (pair["A"], pair["B"]) for module, pair in found.items()}


def _scale(path: Path, values: Mapping[str, Any], module: str, rank: int) -> float:
    """alpha / rank, or alpha / sqrt(rank) (Kalajdzievski 2023)."""
    alpha = values.get("lora_alpha", 8)
    patterns = values.get("alpha_pattern") or {}
    if not isinstance(patterns, dict) or not all(re.fullmatch(r"\^?[\w.]+", name) for name in patterns):
        raise UserError(f"{path} has an alpha_pattern that is more than names of modules, {json.dumps(patterns)[:80]}; "
                        "merge the adapter with PEFT and export the model that comes out.", where=str(path))
    for name, own in patterns.items():
        plain = name.removeprefix("^")
        if module == plain or (plain == name and module.endswith(f".{name}")):
            alpha = own
            break
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not abs(alpha) < MOST_ALPHA:
        raise UserError(f"{path} states lora_alpha as {alpha!r}; it must be a number.", where=str(path))
    return alpha / (math.sqrt(rank) if values.get("use_rslora") else rank)
