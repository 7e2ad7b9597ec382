"""Model: a decoder of named blocks, compatible with published families. The menu: families and sizes; torch-free.

A `ModelConfig` is written short, `{family: llama, size: nano}`, and read in full: the family says
which blocks, the size how many and how wide, and any setting given besides replaces theirs.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import model_serializer, model_validator

from engine.config import Config, setting, wrong

FAMILIES: dict[str, dict[str, Any]] = {
    # Touvron et al. 2023; Dubey et al. 2024
    "llama": {"norm": "rmsnorm", "norm_eps": 1e-5, "position": "rope", "rope_theta": 10_000.0, "mlp": "swiglu",
              "qk_norm": False, "attention_bias": False, "mlp_bias": False},
    # Yang et al. 2025
    "qwen3": {"norm": "rmsnorm", "norm_eps": 1e-6, "position": "rope", "rope_theta": 1_000_000.0, "mlp": "swiglu",
              "qk_norm": True, "attention_bias": False, "mlp_bias": False},
    # Radford et al. 2019
    "gpt2": {"norm": "layernorm", "norm_eps": 1e-5, "position": "learned", "rope_theta": 10_000.0, "mlp": "gelu",
             "qk_norm": False, "attention_bias": True, "mlp_bias": True},
}
"""The blocks of each family: exactly those that transformers' class of the same name has."""

SIZES: dict[str, tuple[int, int, int, int, int, bool]] = {
    # layers, width, heads, key-value heads, context, tied embeddings; the parameters of a llama
    "nano": (4, 128, 4, 2, 128, True),          # 1.0M at a vocabulary of 2,048
    "micro": (4, 256, 4, 2, 256, True),         # 3.5M
    "mini": (6, 384, 6, 3, 256, True),          # 10.5M
    "small": (8, 512, 8, 4, 512, True),         # 24M
    "base": (12, 768, 12, 4, 1024, True),       # 101M at a vocabulary of 32,768; depth and width of GPT-2 small
    "medium": (24, 1024, 16, 4, 1024, True),    # 299M; of GPT-2 medium
    "large": (36, 1280, 20, 4, 1024, True),     # 657M; of GPT-2 large
    "1b": (22, 2048, 32, 4, 2048, False),       # 1.1B; the shape of TinyLlama (Zhang et al. 2024)
    "3b": (28, 3072, 24, 8, 2048, True),        # 2.9B; the shape of Llama 3.2 3B
    "7b": (32, 4096, 32, 32, 4096, False),      # 6.7B; the shape of Llama 2 7B (Touvron et al. 2023)
}
"""Named sizes; a family fills in the rest. GPT-2 has no grouped queries: its key-value heads are its heads."""


class ModelConfig(Config):
    """The decoder's shape. Everything in it is a number that a published checkpoint states too."""

    family: Literal["llama", "qwen3", "gpt2"] = setting("llama", "Published family whose blocks are used")
    size: Literal["nano", "micro", "mini", "small", "base", "medium", "large", "1b", "3b", "7b"] = setting(
        "nano", "Named size that fills in every number not given below")
    vocab_size: int = setting(2048, "Number of tokens that the model knows", ge=1, le=16_777_216, unit="tokens")
    context_length: int = setting(128, "Tokens that the model sees at once", ge=8, le=1_048_576, unit="tokens")
    num_layers: int = setting(4, "Blocks stacked on one another", ge=1, le=512)
    hidden_size: int = setting(128, "Width of the stream that runs through the blocks", ge=8, le=65_536)
    num_heads: int = setting(4, "Attention heads in each block", ge=1, le=512)
    num_kv_heads: int = setting(2, "Key-value heads; fewer than the heads makes a smaller KV cache", ge=1, le=512)
    head_size: int = setting(32, "Width of one head", ge=2, le=1024, advanced=True)
    intermediate_size: int = setting(352, "Width inside the MLP", ge=8, le=262_144)
    tied_embeddings: bool = setting(True, "Whether input embedding and output head share one matrix")
    norm: Literal["rmsnorm", "layernorm"] = setting("rmsnorm", "Normalisation before each half of a block",
                                                    advanced=True)
    norm_eps: float = setting(1e-5, "Small number that keeps the normalisation from dividing by zero", gt=0, le=0.1,
                              advanced=True)
    position: Literal["rope", "learned"] = setting("rope", "How a token knows its place", advanced=True)
    rope_theta: float = setting(10_000.0, "Base of RoPE's wavelengths", gt=1, le=1e12, advanced=True)
    rope_scaling: Literal["none", "linear", "llama3", "yarn"] = setting(
        "none", "How RoPE was stretched over a longer context than the model was first trained on", advanced=True)
    rope_factor: float = setting(1.0, "How many times RoPE's slow waves are longer", ge=1, le=4096, advanced=True)
    rope_original_context: int = setting(8192, "Context that the model was first trained on; of llama3 and yarn", ge=8,
                                         le=1_048_576, unit="tokens", advanced=True)
    rope_low_waves: float = setting(1.0, "Waves with fewer turns in that context are stretched; of llama3 and yarn",
                                    gt=0, le=1024, advanced=True)
    rope_high_waves: float = setting(4.0, "Waves with more turns are not stretched; of llama3 and yarn (there 32)",
                                     gt=0, le=1024, advanced=True)
    rope_attention_factor: float = setting(0.0, "What RoPE's cosines and sines are multiplied by; of yarn, where 0 "
                                                "takes 0.1 ln(rope_factor) + 1", ge=0, le=100, advanced=True)
    mlp: Literal["swiglu", "gelu"] = setting("swiglu", "Kind of MLP", advanced=True)
    qk_norm: bool = setting(False, "Whether queries and keys are normalised in each head", advanced=True)
    attention_bias: bool = setting(False, "Whether the attention's projections add a bias", advanced=True)
    mlp_bias: bool = setting(False, "Whether the MLP's projections add a bias", advanced=True)
    dropout: float = setting(0.0, "Share of activations dropped in training; costs about a third of the speed on CPU",
                             ge=0, lt=1, advanced=True)

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        given = {"family": "llama", "size": "nano", **values}
        if given["family"] not in FAMILIES or given["size"] not in SIZES:
            return values  # the field's own check says which names there are
        return {**preset(given["family"], given["size"], given), **given}

    @model_validator(mode="after")
    def _shapes_fit(self) -> ModelConfig:
        heads, width = self.num_heads, self.hidden_size
        if heads % self.num_kv_heads:
            raise wrong("num_kv_heads", f"is {self.num_kv_heads}, which does not divide num_heads {heads}; "
                                        f"choose {_divisors(heads)}")
        if self.position == "rope" and self.head_size % 2:
            raise wrong("head_size", f"is {self.head_size}, and RoPE turns pairs; choose an even number")
        if self.rope_scaling in ("llama3", "yarn") and self.rope_low_waves >= self.rope_high_waves:
            raise wrong("rope_high_waves", f"is {self.rope_high_waves:g}; it must be more than rope_low_waves "
                                           f"{self.rope_low_waves:g}")
        if self.rope_attention_factor and self.rope_scaling != "yarn":
            raise wrong("rope_attention_factor", f"is {self.rope_attention_factor:g}, which only yarn has; leave it "
                                                 "out or choose rope_scaling yarn")
        if self.rope_scaling != "none" and self.position != "rope":
            raise wrong("rope_scaling", f"is {self.rope_scaling}, but a {self.family} model has no RoPE; "
                                        "choose another family or none")
        for name, value in FAMILIES[self.family].items():
            if getattr(self, name) != value and (self.family, name) not in FREE:
                raise wrong(name, f"is {getattr(self, name)}, but a {self.family} model has {value}; "
                                  "choose another family or leave it out")
        if self.family != "qwen3" and width % heads:
            raise wrong("num_heads", f"is {heads}, which does not divide hidden_size {width}; "
                                     f"choose {_divisors(width)}, or the family qwen3")
        if self.family == "gpt2" and self.num_kv_heads != heads:
            raise wrong("num_kv_heads", f"is {self.num_kv_heads}, but GPT-2 has as many as num_heads; choose {heads}")
        if self.family == "gpt2" and self.head_size * heads != width:
            raise wrong("head_size", f"is {self.head_size}, but GPT-2's heads fill the width; choose {width // heads}")
        return self

    @model_serializer(mode="wrap")
    def _short(self, handler: Any) -> dict[str, Any]:
        values = handler(self)
        # What width and heads fill in follows from the given ones; they themselves follow from the size alone.
        filled = preset(self.family, self.size, values)
        filled |= {"hidden_size": SIZES[self.size][1], "num_heads": SIZES[self.size][2]}
        return {k: v for k, v in values.items() if k in ("family", "size", "vocab_size") or filled.get(k, ...) != v}


UNSTRETCHED = {"rope_scaling": "none", "rope_factor": 1.0, "rope_original_context": 8192, "rope_low_waves": 1.0,
               "rope_high_waves": 4.0, "rope_attention_factor": 0.0}
"""What no size changes: models of one's own are trained on the context that they have."""

FREE = {("llama", "attention_bias"), ("llama", "mlp_bias"), ("qwen3", "attention_bias"),
        *((family, name) for family in FAMILIES for name in ("norm_eps", "rope_theta"))}
"""Blocks that the published class of a family lets one set."""


def preset(family: str, size: str, given: dict[str, Any]) -> dict[str, Any]:
    """What family and size fill in: every setting but the vocabulary, fitted to a given width or number of heads."""
    layers, width, heads, kv_heads, context, tied = SIZES[size]
    heads = _whole(given.get("num_heads"), heads)
    width = _whole(given.get("hidden_size"), width)
    if heads % kv_heads:
        kv_heads = heads
    if width % heads and "head_size" not in given:
        raise wrong("num_heads", f"is {heads}, which does not divide hidden_size {width}; choose {_divisors(width)}, "
                                 "or state head_size")
    # Where the heads don't fill the width, head_size has no default, so that it is written out and read back.
    head_size = {} if width % heads else {"head_size": width // heads}
    gelu = FAMILIES[family]["mlp"] == "gelu"
    turns = {"rope_high_waves": 32.0} if given.get("rope_scaling") == "yarn" else {}
    return {
        **FAMILIES[family],
        "num_layers": layers, "hidden_size": width, "num_heads": heads,
        "num_kv_heads": heads if family == "gpt2" else kv_heads,
        **UNSTRETCHED, **turns, **head_size, "context_length": context, "tied_embeddings": tied, "dropout": 0.0,
        # 8/3 of the width keeps SwiGLU's three matrices at the parameters of GELU's two (Shazeer 2020).
        "intermediate_size": 4 * width if gelu else -(-8 * width // 3 // 32) * 32,
    }


def _whole(value: Any, otherwise: int) -> int:
    """A number that may still be what a person typed; the field's own check speaks of a wrong one."""
    try:
        return max(1, int(value))
    except (TypeError, ValueError):
        return otherwise


def _divisors(number: int) -> str:
    found = [str(n) for n in range(1, min(number, 128) + 1) if number % n == 0]
    return ", ".join(found[:-1]) + f" or {found[-1]}" if len(found) > 1 else found[0]
