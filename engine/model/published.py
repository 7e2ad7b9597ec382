"""Published: a ModelConfig in the words of Hugging Face's config.json, and back. Torch-free."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from engine import files
from engine.config import UserError, read
from engine.model import SIZES, ModelConfig
from engine.model.around import agreed
from engine.model.differences import how_it_differs
from engine.model.rope import yarn_attention
from engine.model.special import IDS, Special, added, special, text_of

CLASSES = {"llama": "LlamaForCausalLM", "qwen3": "Qwen3ForCausalLM", "gpt2": "GPT2LMHeadModel"}
"""The class of transformers that each family is."""

ALIKE = {"qwen2": "llama", "mistral": "llama"}
"""Published architectures that are one of our families with other numbers: Qwen2's attention adds a bias to queries,
keys and values but not to its output, which is a bias of zeros here; Mistral's window is as long as a context."""

TEMPLATE = "chat_template.jinja"
NAMED = ("bos_token", "eos_token", "pad_token", "unk_token")

def published_config(config: ModelConfig) -> dict[str, Any]:
    """The content of config.json, without the ids of special tokens."""
    # Stated even where empty: the published classes fill a missing id with one of their own vocabulary.
    common = {"architectures": [CLASSES[config.family]], "model_type": config.family,
              "vocab_size": config.vocab_size, "tie_word_embeddings": config.tied_embeddings,
              **dict.fromkeys(IDS), "initializer_range": 0.02,
              # transformers 5 reads `dtype` and `rope_parameters`, everything older `torch_dtype` and `rope_theta`.
              "dtype": "float32", "torch_dtype": "float32", "use_cache": True}
    if config.family == "gpt2":
        return {**common, "n_positions": config.context_length, "n_ctx": config.context_length,
                "n_embd": config.hidden_size, "n_layer": config.num_layers, "n_head": config.num_heads,
                "n_inner": config.intermediate_size, "activation_function": "gelu_new",
                "layer_norm_epsilon": config.norm_eps, "resid_pdrop": config.dropout, "embd_pdrop": config.dropout,
                "attn_pdrop": config.dropout}
    shape = {**common, "max_position_embeddings": config.context_length, "hidden_size": config.hidden_size,
             "num_hidden_layers": config.num_layers, "num_attention_heads": config.num_heads,
             "num_key_value_heads": config.num_kv_heads, "head_dim": config.head_size,
             "intermediate_size": config.intermediate_size, "hidden_act": "silu", "rms_norm_eps": config.norm_eps,
             "rope_theta": config.rope_theta, **_rope_words(config),
             "attention_bias": config.attention_bias, "attention_dropout": config.dropout}
    if config.family == "qwen3":
        return {**shape, "use_sliding_window": False, "sliding_window": None}
    return {**shape, "mlp_bias": config.mlp_bias}


def _rope_words(config: ModelConfig) -> dict[str, Any]:
    scaling: dict[str, Any] = {"rope_type": "default"}
    if config.rope_scaling != "none":
        scaling = {"rope_type": config.rope_scaling, "factor": config.rope_factor}
    if config.rope_scaling == "yarn":
        scaling |= {"beta_slow": config.rope_low_waves, "beta_fast": config.rope_high_waves,
                    "original_max_position_embeddings": config.rope_original_context}
        scaling |= {"attention_factor": config.rope_attention_factor} if config.rope_attention_factor else {}
    if config.rope_scaling == "llama3":
        scaling |= {"low_freq_factor": config.rope_low_waves, "high_freq_factor": config.rope_high_waves,
                    "original_max_position_embeddings": config.rope_original_context}
    words: dict[str, Any] = {"rope_parameters": {**scaling, "rope_theta": config.rope_theta}}
    return words if config.rope_scaling == "none" else {**words, "rope_scaling": scaling}


def config_from(folder: Path) -> ModelConfig:
    """The shape that a checkpoint's config.json states.

    Raises UserError for a missing or damaged file, another architecture, and whatever in it our blocks don't compute.
    """
    path = Path(folder) / "config.json"
    values = files.read_json(path)
    if not isinstance(values, dict):
        raise UserError(f"{path} holds no settings; restore it.", where=str(path))
    stated = values.get("model_type")
    family = ALIKE.get(stated, stated) if isinstance(stated, str) else stated
    if not isinstance(family, str) or family not in CLASSES:
        known = ", ".join([*CLASSES, *ALIKE])
        raise UserError(f"{path} describes a model of type {stated!r}{how_it_differs(values)}; known are {known}.",
                        where=str(path))
    _only_what_we_compute(path, family, values)
    numbers = _gpt2(path, values) if family == "gpt2" else _llama(path, family, values)
    if stated == "qwen2":
        numbers["attention_bias"] = True
    size = _nearest(numbers["num_layers"], numbers["hidden_size"])
    return read(ModelConfig, {"family": family, "size": size, **numbers}, str(path))


def _llama(path: Path, family: str, values: dict[str, Any]) -> dict[str, Any]:
    """Llama's and Qwen3's words; what is left out means what their classes take it to mean."""
    heads, width = _whole(path, "num_attention_heads", values), _whole(path, "hidden_size", values)
    rope = _rope(values)
    theta = rope.get("rope_theta") or values.get("rope_theta") or 10_000.0
    context = _stated(path, values, "max_position_embeddings")
    own_head = 128 if family == "qwen3" else width // heads
    kv_heads = values.get("num_key_value_heads", 32 if family == "qwen3" else heads) or heads
    numbers = {
        "vocab_size": _stated(path, values, "vocab_size"),
        "context_length": _window(values, _stretched(rope, context)), **_scaling(path, rope, context),
        "num_layers": _whole(path, "num_hidden_layers", values), "hidden_size": width,
        "num_heads": heads, "num_kv_heads": kv_heads,
        "head_size": values.get("head_dim") or own_head,
        "intermediate_size": _stated(path, values, "intermediate_size"),
        "norm_eps": values.get("rms_norm_eps", 1e-6), "rope_theta": theta,
        "tied_embeddings": values.get("tie_word_embeddings", False),
        "attention_bias": values.get("attention_bias", False), "dropout": values.get("attention_dropout", 0.0),
    }
    return numbers if family == "qwen3" else {**numbers, "mlp_bias": values.get("mlp_bias", False)}


def _rope(values: dict[str, Any]) -> dict[str, Any]:
    """RoPE's settings: transformers 5 writes rope_parameters, everything older rope_scaling."""
    found = values.get("rope_parameters") or values.get("rope_scaling") or {}
    found = dict(found) if isinstance(found, dict) else {"rope_type": str(found)}
    return {**found, "rope_type": found.get("rope_type", found.get("type", "default"))}


def _scaling(path: Path, rope: dict[str, Any], context: Any) -> dict[str, Any]:
    """Within the context that it was trained on, dynamic scaling changes nothing, and our contexts end there."""
    if rope["rope_type"] in ("default", "dynamic"):
        return {}
    found = {"rope_scaling": rope["rope_type"], "rope_factor": _stated(path, rope, "factor")}
    if rope["rope_type"] == "llama3":
        found |= {"rope_original_context": _stated(path, rope, "original_max_position_embeddings"),
                  "rope_low_waves": _stated(path, rope, "low_freq_factor"),
                  "rope_high_waves": _stated(path, rope, "high_freq_factor")}
    if rope["rope_type"] == "yarn":
        found |= _yarn(rope, context)
    return found


def _yarn(rope: dict[str, Any], context: Any) -> dict[str, Any]:
    """YaRN's words; what is left out, or 0, means what the paper takes."""
    factor, scales = rope["factor"], [rope.get("mscale"), rope.get("mscale_all_dim")]
    attention = rope.get("attention_factor") or 0.0
    if not attention and all(isinstance(number, int | float) and number for number in [factor, *scales]):
        attention = yarn_attention(factor, scales[0]) / yarn_attention(factor, scales[1])     # of DeepSeek
    return {"rope_original_context": rope.get("original_max_position_embeddings") or context,
            "rope_low_waves": rope.get("beta_slow") or 1.0, "rope_high_waves": rope.get("beta_fast") or 32.0,
            "rope_attention_factor": attention}


def _stretched(rope: dict[str, Any], context: Any) -> Any:
    """Files that YaRN was written into by hand, as Qwen2.5's authors advise, still state the context before it."""
    numbers = [context, rope.get("factor"), rope.get("original_max_position_embeddings")]
    if rope["rope_type"] != "yarn" or not all(isinstance(number, int | float) for number in numbers):
        return context
    return max(context, int(numbers[1] * numbers[2]))


def _window(values: dict[str, Any], context: Any) -> Any:
    """Mistral's context ends with its sliding window: so far, what it sees is what full attention sees."""
    window = values.get("sliding_window") if values.get("model_type") == "mistral" else None
    return min(context, window) if isinstance(window, int) and isinstance(context, int) else context


def _gpt2(path: Path, values: dict[str, Any]) -> dict[str, Any]:
    width, heads = _whole(path, "n_embd", values), _whole(path, "n_head", values)
    return {
        "vocab_size": _stated(path, values, "vocab_size"), "context_length": _stated(path, values, "n_positions"),
        "num_layers": _whole(path, "n_layer", values), "hidden_size": width, "num_heads": heads, "num_kv_heads": heads,
        "head_size": width // heads, "intermediate_size": values.get("n_inner") or 4 * width,
        "norm_eps": values.get("layer_norm_epsilon", 1e-5), "dropout": values.get("resid_pdrop", 0.1),
        "tied_embeddings": values.get("tie_word_embeddings", True),
    }


def _only_what_we_compute(path: Path, family: str, values: dict[str, Any]) -> None:
    """Refuse the options of the published classes that would make our logits silently differ from theirs."""
    rope_type = _rope(values)["rope_type"]
    activation = values.get("activation_function", "gelu_new") if family == "gpt2" else values.get("hidden_act", "silu")
    layers = values.get("layer_types") or []
    # Inside its window, which ends the context here, sliding attention is the whole.
    whole = {"full_attention"} | ({"sliding_attention"} if values.get("model_type") == "mistral" else set())
    asked: dict[str, tuple[Any, tuple[Any, ...]]] = {
        "rope_type": (rope_type, ("default", "linear", "dynamic", "llama3", "yarn")),
        "truncate": (_rope(values).get("truncate", True), (True,)),
        "partial_rotary_factor": (values.get("partial_rotary_factor", _rope(values).get("partial_rotary_factor", 1.0)),
                                  (1.0,)),
        "activation": (activation, ("gelu_new", "gelu_pytorch_tanh") if family == "gpt2" else ("silu", "swish")),
        "quantization_config": (values.get("quantization_config"), (None,)),
        "layer_types": (sorted(set(map(str, layers)) - whole), ([],)),
        "use_sliding_window": (bool(values.get("use_sliding_window")), (False,)),
        "add_cross_attention": (bool(values.get("add_cross_attention")), (False,)),
        "scale_attn_weights": (values.get("scale_attn_weights", True), (True,)),
        "scale_attn_by_inverse_layer_idx": (bool(values.get("scale_attn_by_inverse_layer_idx")), (False,)),
    }
    for name, (value, known) in asked.items():
        if value not in known:
            raise UserError(f"{path} sets {name} to {value!r}, which is not computed here (known: {known[0]!r}); "
                            "use another checkpoint.", where=str(path))


def _stated(path: Path, values: dict[str, Any], name: str) -> Any:
    if values.get(name) is None:
        raise UserError(f"{path} does not state {name}; restore the file.", where=str(path))
    return values[name]


def _whole(path: Path, name: str, values: dict[str, Any]) -> int:
    """A number that others are derived from, so that it must be right before `ModelConfig` checks it."""
    value = _stated(path, values, name)
    if not isinstance(value, int) or value < 1:
        raise UserError(f"{path} states {name} as {value!r}; it must be a whole number above 0.", where=str(path))
    return value


def _nearest(layers: int, width: int) -> str:
    """The named size nearest in layers * width^2, which most of the parameters follow."""
    def distance(size: str) -> float:
        return abs(math.log(layers * width ** 2) - math.log(SIZES[size][0] * SIZES[size][1] ** 2))

    return min(SIZES, key=distance)


def sidecars(config: ModelConfig, tokenizer: Path) -> dict[str, str]:
    """tokenizer.json and the small files beside it, name -> text, as transformers' AutoTokenizer wants them.

    Files that stand beside the tokenizer already (a chat template may be in them) are taken over.
    """
    made, template = {"tokenizer.json": files.read_text(tokenizer)}, tokenizer.with_name(TEMPLATE)
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": config.context_length,
                "clean_up_tokenization_spaces": False}
    known = _beside(tokenizer, "tokenizer_config.json")
    if not (known and tokenizer.with_name("config.json").exists()):     # where its maker says what has which name
        settings |= _names(tokenizer, special(tokenizer, config.vocab_size))
    settings |= {name: text_of(value) if name in NAMED else value for name, value in known.items()}
    settings = agreed(_beside(tokenizer, tokenizer.name), settings)
    tokens = {name: settings[name] for name in NAMED if isinstance(settings.get(name), str)}
    tokens |= _beside(tokenizer, "special_tokens_map.json")
    for name, value in (("tokenizer_config.json", settings), ("special_tokens_map.json", tokens)):
        made[name] = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    if template.exists():
        made[TEMPLATE] = files.read_text(template)
    return made


def _beside(tokenizer: Path, name: str) -> dict[str, Any]:
    path = tokenizer.with_name(name)
    values = files.read_json(path) if path.exists() else {}
    return values if isinstance(values, dict) else {}


def _names(tokenizer: Path, stated: Special) -> dict[str, str]:
    """How the tokenizer writes the tokens that begin and end texts."""
    written = {token["id"]: token["content"] for token in added(tokenizer)}
    ids = {"bos_token": stated.begin, "eos_token": next(iter(stated.ends), None)}
    return {name: written[number] for name, number in ids.items() if number in written}


SCORES = "ForSequenceClassification"
"""How the classes of transformers end that score texts and write none: reward models and classifiers."""


def scores(folder: Path) -> bool:
    """Whether a checkpoint's config.json, if there is one, states a model that scores texts."""
    path = Path(folder) / "config.json"
    values = files.read_json(path) if path.exists() else {}
    stated = values.get("architectures") if isinstance(values, dict) else None
    return isinstance(stated, list) and any(str(name).endswith(SCORES) for name in stated)
