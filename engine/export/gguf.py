"""GGUF: the model in llama.cpp's format, one file with weights, tokenizer and chat template.

The names and their meaning are those of llama.cpp's own converter; the file is written by its
library `gguf`. Three things differ from the published checkpoints: Llama's queries and keys have
RoPE's partners side by side instead of half a head apart, GPT-2's matrices are (out, in), and the
stretch of Llama 3's RoPE is a tensor.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from engine.config import UserError
from engine.export.gguf_vocabulary import ROLES, Vocabulary, vocabulary
from engine.inference.chat import template_of
from engine.model import ModelConfig
from engine.model.rope import amplitude, stretch

_NAMES = {
    "embedding": "token_embd", "positions": "position_embd", "norm": "output_norm", "head": "output",
    "attention_norm": "attn_norm", "mlp_norm": "ffn_norm", "attention.query": "attn_q", "attention.key": "attn_k",
    "attention.value": "attn_v", "attention.query_norm": "attn_q_norm", "attention.key_norm": "attn_k_norm",
    "attention.output": "attn_output", "mlp.gate": "ffn_gate", "mlp.up": "ffn_up", "mlp.down": "ffn_down",
}
_FILE_TYPES = {"f32": "ALL_F32", "f16": "MOSTLY_F16", "q8_0": "MOSTLY_Q8_0", "q4_0": "MOSTLY_Q4_0"}
BLOCK = 32      # weights that share one scale in Q8_0 and Q4_0
AS_TENSOR = ("llama3", "yarn")      # RoPE that is stretched by a tensor of factors
LAST = ("token_embd.weight", "output.weight")
THREE = ("query", "key", "value")   # which GPT-2 keeps in one matrix


def require() -> Any:
    """The library that writes the files; a UserError that says how to get it where it is missing."""
    try:
        import gguf
    except ImportError:
        raise UserError("export.gguf asks for the library gguf, which is missing; install it with: pip install "
                        "'training-studio[gguf]', or leave gguf empty.", where="export.gguf") from None
    return gguf


def make(config: ModelConfig, weights: Mapping[str, np.ndarray], bundle: Path, name: str, kinds: tuple[str, ...],
         licence: str = "") -> dict[str, Any]:
    """Write gguf/NAME-KIND.gguf into a bundle that has its tokenizer, for each kind of weights.

    `weights` are float32, by our own names. Returns {"files": {kind: path in the bundle}, "refused": ""}, without
    files and with a sentence where llama.cpp could not run the model as it is.
    """
    try:
        _computed(config)
        words, template = vocabulary(bundle / "tokenizer.json", config.vocab_size), template_of(bundle)
    except UserError as error:
        return {"files": {}, "refused": error.sentence}
    found = {kind: f"gguf/{name}-{kind.upper()}.gguf" for kind in kinds}
    (bundle / "gguf").mkdir()
    for kind, path in found.items():
        _write(bundle / path, kind, config, weights, words, {"name": name, "licence": licence, "template": template})
    return {"files": found, "refused": ""}


def tensors(config: ModelConfig, weights: Mapping[str, np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
    """The weights under llama.cpp's names and in its layout, float32."""
    for name, array in weights.items():
        prefix, part, kind = _parts(name)
        if config.family == "gpt2" and part.startswith("attention.") and part != "attention.output":
            if part == "attention.query":
                three = [weights[name.replace("query", each)] for each in THREE]
                yield f"{prefix}attn_qkv.{kind}", np.concatenate(three)
            continue
        if config.family == "llama" and part in ("attention.query", "attention.key"):
            array = _side_by_side(array, config.num_heads if part == "attention.query" else config.num_kv_heads)
        yield f"{prefix}{_NAMES[part]}.{kind}", array
    if config.rope_scaling in AS_TENSOR:
        factors = stretch(config)
        assert factors is not None
        yield "rope_freqs.weight", 1 / factors


def restored(config: ModelConfig, found: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    """Our weight of a name, out of tensors as `tensors` names them and lays them out."""
    prefix, part, kind = _parts(name)
    if config.family == "gpt2" and part.startswith("attention.") and part != "attention.output":
        return np.split(found[f"{prefix}attn_qkv.{kind}"], 3)[THREE.index(part.rpartition(".")[2])]
    array = found[f"{prefix}{_NAMES[part]}.{kind}"]
    if config.family == "llama" and part in ("attention.query", "attention.key"):
        return _half_apart(array, config.num_heads if part == "attention.query" else config.num_kv_heads)
    return array


def _parts(name: str) -> tuple[str, str, str]:
    """blocks.3.mlp.up.weight -> "blk.3.", "mlp.up", "weight" """
    module, _, kind = name.rpartition(".")
    if not module.startswith("blocks."):
        return "", module, kind
    _, number, part = module.split(".", 2)
    return f"blk.{number}.", part, kind


def _side_by_side(array: np.ndarray, heads: int) -> np.ndarray:
    """(heads * size, ...): place i of a head beside place i + size / 2, which RoPE turns with it."""
    halves = array.reshape(heads, 2, -1, *array.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(array.shape)


def _half_apart(array: np.ndarray, heads: int) -> np.ndarray:
    """The inverse of `_side_by_side`."""
    pairs = array.reshape(heads, -1, 2, *array.shape[1:])
    return np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(array.shape)


def _computed(config: ModelConfig) -> None:
    """Refuse what llama.cpp's Qwen3 leaves out; its Llama has all that ours has."""
    if config.family == "qwen3" and (config.attention_bias or config.rope_scaling in AS_TENSOR):
        what = "biases in its attention" if config.attention_bias else "RoPE stretched by a tensor"
        raise UserError(f"No GGUF file was made, because llama.cpp's qwen3 has no {what}, which this model has; use "
                        "the ONNX files.", where="export.gguf")


def stored(kind: str, name: str, array: np.ndarray) -> str:
    """How llama.cpp keeps a tensor in a file of a kind."""
    if array.ndim == 1 or name.startswith("position_embd") or kind == "f32":
        return "F32"
    if kind == "f16" or array.shape[-1] % BLOCK:
        return "F16"
    # In 4 bits the embedding and the head suffer most: llama.cpp's own files give them more bits too.
    return "Q8_0" if name in LAST else kind.upper()


def _write(path: Path, kind: str, config: ModelConfig, weights: Mapping[str, np.ndarray], words: Vocabulary,
           told: dict[str, str]) -> None:
    gguf = require()
    writer = gguf.GGUFWriter(path, config.family)
    try:
        writer.add_type("model")
        writer.add_name(told["name"])
        if told["licence"]:
            writer.add_license(told["licence"])
        writer.add_file_type(int(gguf.LlamaFileType[_FILE_TYPES[kind]]))
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
        _add_shape(gguf, writer, config)
        _add_words(writer, words, told["template"])
        kept = {}
        for name, array in tensors(config, weights):
            kept[name] = gguf.GGMLQuantizationType[stored(kind, name, array)]
            block, size = gguf.GGML_QUANT_SIZES[kept[name]]
            writer.add_tensor_info(name, array.shape, array.dtype, array.size // block * size, raw_dtype=kept[name])
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for name, array in tensors(config, weights):    # one at a time: no second copy of the model in memory
            writer.write_tensor_data(gguf.quants.quantize(np.ascontiguousarray(array), kept[name]))
    finally:
        writer.close()


def _add_shape(gguf: Any, writer: Any, config: ModelConfig) -> None:
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.context_length)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_heads)
    writer.add_head_count_kv(config.num_kv_heads)
    if config.position == "learned":
        writer.add_layer_norm_eps(config.norm_eps)
        return
    writer.add_layer_norm_rms_eps(config.norm_eps)
    writer.add_key_length(config.head_size)
    writer.add_value_length(config.head_size)
    writer.add_rope_dimension_count(config.head_size)
    writer.add_rope_freq_base(config.rope_theta)
    if config.rope_scaling == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(config.rope_factor)
    if config.rope_scaling == "yarn":   # its own words for YaRN leave the frequencies to each version's arithmetic
        writer.add_rope_scaling_attn_factors(amplitude(config))


def _add_words(writer: Any, words: Vocabulary, template: str) -> None:
    writer.add_tokenizer_model("gpt2")      # llama.cpp's word for byte-level BPE
    writer.add_tokenizer_pre(words.pattern)
    writer.add_token_list(words.tokens)
    writer.add_token_types(words.kinds)
    writer.add_token_merges(words.merges)
    # Stated in every case: llama.cpp fills in ids of GPT-2's own vocabulary, and for Llama 3 a beginning.
    writer.add_bos_token_id(words.begin)
    for role, number in zip(ROLES, words.ends, strict=False):
        getattr(writer, f"add_{role}_token_id")(number)
    writer.add_pad_token_id(words.pad)
    writer.add_add_bos_token(words.add_begin)
    writer.add_add_eos_token(words.add_end)
    if template:
        writer.add_chat_template(template)
