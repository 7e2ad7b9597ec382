"""Pretrained: a checkpoint is a Hugging Face folder, which transformers' own classes load, and whose like load here.

    config.json  model.safetensors  generation_config.json
    tokenizer.json  tokenizer_config.json  special_tokens_map.json   where a tokenizer is given;
    chat_template.jinja                                              where one stands beside it

Names and layouts of the weights are the published ones on disk and ours in memory. Weights are read from
safetensors alone: pickled files can run a stranger's code.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from engine import files
from engine.config import UserError
from engine.model import ModelConfig
from engine.model.decoder import Decoder
from engine.model.published import config_from, published_config, scores, sidecars
from engine.model.special import own, special

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"

_LLAMA = {
    "embedding": "model.embed_tokens", "norm": "model.norm", "head": "lm_head", "blocks": "model.layers",
    "score": "score", "attention_norm": "input_layernorm", "mlp_norm": "post_attention_layernorm",
    "attention.query": "self_attn.q_proj", "attention.key": "self_attn.k_proj", "attention.value": "self_attn.v_proj",
    "attention.query_norm": "self_attn.q_norm", "attention.key_norm": "self_attn.k_norm",
    "attention.output": "self_attn.o_proj", "mlp.gate": "mlp.gate_proj", "mlp.up": "mlp.up_proj",
    "mlp.down": "mlp.down_proj",
}
_GPT2 = {
    "embedding": "transformer.wte", "positions": "transformer.wpe", "norm": "transformer.ln_f", "head": "lm_head",
    "score": "score", "blocks": "transformer.h", "attention_norm": "ln_1", "mlp_norm": "ln_2",
    # GPT-2 keeps query, key and value side by side in one matrix.
    "attention.query": "attn.c_attn", "attention.key": "attn.c_attn", "attention.value": "attn.c_attn",
    "attention.output": "attn.c_proj", "mlp.up": "mlp.c_fc", "mlp.down": "mlp.c_proj",
}
_NAMES = {"llama": _LLAMA, "qwen3": _LLAMA, "gpt2": _GPT2}


def published_name(config: ModelConfig, name: str) -> str:
    """What the published checkpoints call our parameter `name`: blocks.3.mlp.up.weight -> model.layers.3.mlp..."""
    names = _NAMES[config.family]
    module, _, kind = name.rpartition(".")
    if not module.startswith("blocks."):
        return f"{names[module]}.{kind}"
    _, number, part = module.split(".", 2)
    return f"{names['blocks']}.{number}.{names[part]}.{kind}"


def to_published(config: ModelConfig, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our state dict under the published names and in the published layout; `from_published` is its exact inverse."""
    together: dict[str, list[str]] = {}
    for name in state:
        together.setdefault(published_name(config, name), []).append(name)
    made = {}
    for name, ours in together.items():
        tensor = torch.cat([state[one] for one in ours]) if len(ours) > 1 else state[ours[0]]
        made[name] = tensor.T.contiguous() if _transposed(config, ours[0], tensor) else tensor
    return made


def from_published(config: ModelConfig, published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A published state dict, complete and of the right shapes, as ours."""
    state = {}
    for name, like in _empty(config).state_dict().items():
        tensor = published[published_name(config, name)]
        tensor = tensor.T if _transposed(config, name, tensor) else tensor
        if "c_attn" in published_name(config, name):
            tensor = tensor.chunk(3)[("query", "key", "value").index(name.split(".")[3])]
        assert tensor.shape == like.shape, name
        state[name] = tensor.contiguous()
    return state


def _transposed(config: ModelConfig, name: str, tensor: Tensor) -> bool:
    """GPT-2's blocks are made of Conv1D, whose weights are (in, out)."""
    return config.family == "gpt2" and name.startswith("blocks.") and tensor.ndim == 2


def _empty(config: ModelConfig) -> Decoder:
    """The decoder without memory behind its weights: names and shapes."""
    with torch.device("meta"):
        return Decoder(config)


def save(model: Decoder, folder: Path, tokenizer: Path | None = None) -> None:
    """Write `model` as a Hugging Face folder, float32, with the files of a tokenizer.json if one is given.

    Of a tokenizer.json that stands in a checkpoint, the checkpoint's special tokens and generation defaults come along.
    Other files in `folder` stay. config.json goes first and comes back last, so that a folder written in part is
    never taken for a checkpoint. Raises UserError when there is no room or no permission.
    """
    write(model.config, model.state_dict(), folder, tokenizer)


def write(config: ModelConfig, state: Mapping[str, Tensor], folder: Path, tokenizer: Path | None = None,
          stated: Mapping[str, Any] | None = None) -> None:
    """`save` for weights that are at hand without their model, under our names; config.json has `stated` besides."""
    folder = Path(folder)
    weights = {name: tensor.detach().float().cpu().contiguous()
               for name, tensor in to_published(config, state).items()}
    beside = sidecars(config, Path(tokenizer)) if tokenizer else {}
    tokens = special(Path(tokenizer), config.vocab_size) if tokenizer else own(None)
    try:
        files.require_space(folder, sum(tensor.nbytes for tensor in weights.values()) + (8 << 20))
        (folder / "config.json").unlink(missing_ok=True)
    except OSError as error:
        raise files.unwritable(folder, error) from error
    _write_weights(folder / WEIGHTS, weights)
    for name, text in beside.items():
        files.write(folder / name, text)
    files.write_json(folder / "generation_config.json", tokens.generation)
    files.write_json(folder / "config.json", {**published_config(config), **tokens.config, **(stated or {})})


def _write_weights(path: Path, weights: dict[str, Tensor]) -> None:
    """`files.write` for tensors, without a second copy of them in memory."""
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        save_file(weights, beside, metadata={"format": "pt"})
        with open(beside, "rb") as file:
            os.fsync(file.fileno())
        os.replace(beside, path)
    except (OSError, SafetensorError) as error:
        beside.unlink(missing_ok=True)
        raise files.unwritable(path, error if isinstance(error, OSError) else OSError(str(error))) from error


def load(folder: Path, device: str | torch.device = "cpu") -> Decoder:
    """The decoder in a Hugging Face folder of a known family, in float32, whole or in shards.

    Raises UserError that names the file or tensor when one is missing, cut, damaged or of another shape, when the
    architecture is unknown, and for pickled weights.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; choose the folder of a checkpoint.", where=str(folder))
    config = config_from(folder)
    if scores(folder):
        raise UserError(f"{folder} is a model that scores texts, and one that writes them is needed here; "
                        "choose another checkpoint.", where=str(folder))
    model = _empty(config)
    found = tensors(folder, config, to_published(config, model.state_dict()), device)
    model.load_state_dict(from_published(config, found), assign=True)
    return model


def tensors(folder: Path, config: ModelConfig, wanted: Mapping[str, Tensor],
            device: str | torch.device = "cpu") -> dict[str, Tensor]:
    """All the `wanted` tensors of a checkpoint, in float32, by their published names; each has the shape of its like.

    Raises UserError as `load` does.
    """
    found: dict[str, Tensor] = {}
    for path in _weight_files(folder):
        for name, tensor in _read(path, config, wanted).items():
            found[name] = tensor.to(device=device, dtype=torch.float32)
    if config.attention_bias:   # of Qwen2, whose attention has no bias on its output
        found |= {name: torch.zeros_like(like, device=device) for name, like in wanted.items()
                  if name.endswith("self_attn.o_proj.bias") and name not in found and _is_qwen2(folder)}
    if missing := [name for name in wanted if name not in found]:
        raise UserError(f"{folder} lacks the tensor {missing[0]}{_and_more(missing)}, which its config.json asks for; "
                        "restore the weights.", where=str(folder))
    return found


def _is_qwen2(folder: Path) -> bool:
    return files.read_json(folder / "config.json").get("model_type") == "qwen2"


def _is_shard(name: Any) -> bool:
    return isinstance(name, str) and Path(name).name == name and name.endswith(".safetensors")


def _weight_files(folder: Path) -> list[Path]:
    """model.safetensors, or the shards that its index names."""
    if (folder / WEIGHTS).exists():
        return [folder / WEIGHTS]
    if (folder / INDEX).exists():
        index = files.read_json(folder / INDEX)
        shards = index.get("weight_map") if isinstance(index, dict) else None
        if not isinstance(shards, dict) or not all(_is_shard(name) for name in shards.values()):
            raise UserError(f"{folder / INDEX} does not map tensors to files of its folder; restore it.",
                            where=str(folder / INDEX))
        return [folder / name for name in sorted(set(shards.values()))]
    if any(folder.glob("*.bin")) or any(folder.glob("*.pt*")):
        raise UserError(f"{folder} holds pickled weights, which can run code when they are read; "
                        "convert them to model.safetensors.", where=str(folder))
    raise UserError(f"{folder / WEIGHTS} is missing; restore it or choose another checkpoint.",
                    where=str(folder / WEIGHTS))


def _read(path: Path, config: ModelConfig, wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The wanted tensors in one file, under their published names, each of the wanted shape."""
    found = {}
    prefix = _NAMES[config.family]["blocks"].split(".")[0] + "."
    try:
        with safe_open(path, framework="pt") as file:
            for stored in file.keys():  # noqa: SIM118  the file is no mapping
                # Checkpoints of the bare model, such as the first GPT-2, leave the prefix out.
                name = stored if stored.startswith((prefix, "lm_head.", "score.")) else prefix + stored
                if name not in wanted:
                    if _needless(name, config):
                        continue
                    raise UserError(f"{path} holds the tensor {stored}, for which a {config.family} model of its "
                                    "config.json has no place; restore config.json.", where=str(path))
                tensor = file.get_tensor(stored)
                if tensor.shape != wanted[name].shape:
                    raise UserError(f"{path}: the tensor {stored} is {tuple(tensor.shape)}, but config.json "
                                    f"asks for {tuple(wanted[name].shape)}; the two files are not of one model.",
                                    where=str(path))
                if tensor.dtype not in (torch.float32, torch.bfloat16, torch.float16, torch.float64):
                    raise UserError(f"{path}: the tensor {stored} is quantized ({tensor.dtype}); choose a checkpoint "
                                    "in float32, bfloat16 or float16.", where=str(path))
                found[name] = tensor
    except FileNotFoundError:
        raise UserError(f"{path} is missing; restore it or choose another checkpoint.", where=str(path)) from None
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{path} is cut or damaged ({error}); restore it or choose another checkpoint.",
                        where=str(path)) from None
    return found


def _needless(name: str, config: ModelConfig) -> bool:
    """Stored by some published checkpoints, and computed here: masks, RoPE's frequencies, the copy of a tied head."""
    return (name.endswith((".attn.bias", ".attn.masked_bias", "rotary_emb.inv_freq"))
            or (name == "lm_head.weight" and config.tied_embeddings))


def _and_more(names: list[str]) -> str:
    return f" and {len(names) - 1} more" if len(names) > 1 else ""
