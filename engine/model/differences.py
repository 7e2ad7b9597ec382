"""Differences: what an architecture that is not computed here does otherwise than those that are, from its config.json.

Most of it stands in the file. What an architecture always does is written nowhere but in its code, and is kept here by
the name of its type, for the ones that are asked for most. Torch-free.
"""

from __future__ import annotations

from typing import Any

STATED = {
    "num_local_experts": "a mixture of experts", "num_experts": "a mixture of experts",
    "n_routed_experts": "a mixture of experts", "kv_lora_rank": "latent attention",
    "state_size": "state-space blocks", "ssm_state_size": "state-space blocks", "d_state": "state-space blocks",
    "lru_width": "recurrent blocks", "attn_logit_softcapping": "capped attention scores",
    "final_logit_softcapping": "capped logits", "logits_soft_cap": "capped logits",
    "use_parallel_residual": "attention and MLP side by side", "parallel_attn": "attention and MLP side by side",
    "alibi": "ALiBi in place of RoPE", "rotary_dim": "RoPE on a part of each head",
    "is_encoder_decoder": "an encoder", "vision_config": "images", "audio_config": "sound",
    "clip_qkv": "clipped queries", "relative_attention_num_buckets": "relative positions",
    "sliding_window_pattern": "a window that slides", "use_qk_norm": "norms on queries and keys",
    "qk_layernorm": "norms on queries and keys", "attention_multiplier": "attention scores of another scale",
}
"""Words that stand for something as soon as they are set."""

SCALES = {
    "partial_rotary_factor": "RoPE on a part of each head", "rotary_pct": "RoPE on a part of each head",
    "residual_multiplier": "a scaled stream", "embedding_multiplier": "scaled embeddings",
    "logit_scale": "scaled logits", "logits_scaling": "scaled logits",
}
"""Words that stand for something unless they are 1."""

_SHIFTED = "norms whose weights are added to one"
_AFTER = "norms after attention and MLP"
_LAYER_NORM = "LayerNorm in place of RMSNorm"
_UNGATED = "an MLP without a gate"
_BESIDE = "attention and MLP side by side"
_PAIRS = "RoPE that turns neighbours"
ALWAYS = {
    "gemma": (_SHIFTED, "embeddings scaled by the root of their width"),
    "gemma2": (_SHIFTED, "embeddings scaled by the root of their width", _AFTER),
    "gemma3": (_SHIFTED, "embeddings scaled by the root of their width", _AFTER),
    "gemma3_text": (_SHIFTED, "embeddings scaled by the root of their width", _AFTER),
    "phi": (_BESIDE, _LAYER_NORM, _UNGATED),
    "phi3": ("queries, keys and values in one matrix, gate and MLP in another",),
    "olmo": ("norms without weights",),
    "olmo2": (f"{_AFTER} alone", "norms over all queries and keys at once"),
    "olmo3": (f"{_AFTER} alone", "norms over all queries and keys at once"),
    "opt": ("learned positions that begin at 2",),
    "bloom": ("ALiBi in place of RoPE", "a norm on the embeddings"),
    "stablelm": (_LAYER_NORM,),
    "gpt_neo": ("attention scores of another scale",),
    "gptj": (_BESIDE, _LAYER_NORM, _PAIRS),
    "gpt_neox": (_LAYER_NORM, _UNGATED),
    "falcon": (_LAYER_NORM, _UNGATED),
    "bert": ("attention to what follows", _AFTER),
    "starcoder2": (_LAYER_NORM, _UNGATED),
    "glm": (_PAIRS, "gate and MLP in one matrix"),
    "glm4": (_PAIRS, _AFTER, "gate and MLP in one matrix"),
    "nemotron": (_LAYER_NORM, _SHIFTED, _UNGATED),
    "cohere": (_BESIDE, _LAYER_NORM, _PAIRS),
}
"""What architectures do whatever their files say, by model_type."""


def how_it_differs(values: dict[str, Any]) -> str:
    """The differences as the end of a sentence: ", which has ..."; empty where none is known."""
    inner = [values.get(name) for name in ("text_config", "rope_parameters", "rope_scaling", "attn_config")]
    if isinstance(values.get("text_config"), dict):
        inner.append(values["text_config"].get("rope_parameters"))
    known = {name: value for part in [*inner, values] if isinstance(part, dict) for name, value in part.items()}
    found = [*ALWAYS.get(str(values.get("model_type")), ()),
             *(words for name, words in STATED.items() if known.get(name)),
             *(words for name, words in SCALES.items() if known.get(name) not in (None, 1)),
             *_layers(known), *_activation(known)]
    found = list(dict.fromkeys(found))
    if not found:
        return ""
    return f", which has {', '.join(found[:-1])}{' and ' if found[1:] else ''}{found[-1]}"


def _layers(known: dict[str, Any]) -> list[str]:
    """What some layers do and others don't."""
    kinds = {str(kind) for name in ("layer_types", "attention_layers") for kind in _listed(known.get(name))}
    found = ["linear attention"] if "linear_attention" in kinds else []
    window = known.get("sliding_window") and known.get("use_sliding_window", True) and not known.get("layer_types")
    if window or kinds & {"sliding_attention", "chunked_attention", "local"}:
        found.append("a window that slides")
    if not all(_listed(known.get("no_rope_layers"))):
        found.append("layers without positions")
    return found


def _activation(known: dict[str, Any]) -> list[str]:
    for name, ours in (("activation_function", ("gelu_new", "gelu_pytorch_tanh")), ("hidden_activation", ("silu",)),
                       ("hidden_act", ("silu", "swish")), ("activation", ("silu",))):
        if isinstance(known.get(name), str):
            return [] if known[name] in ours else [f"the activation {known[name][:40]}"]
    return []


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
