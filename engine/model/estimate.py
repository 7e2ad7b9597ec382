"""Estimate: parameters, arithmetic and memory of a model from its config alone, before it is built. Torch-free."""

from __future__ import annotations

from typing import Any

from engine.model import ModelConfig

OVERHEAD = 0.35
"""What a training process takes beyond the sum of its tensors: fragments in the allocator and temporaries.

With it the estimate came within a ninth of the measured peak, either way, at five shapes of 1 to 25M on CPU.
"""


LOGITS_AT_ONCE = 1 << 24
"""Logits whose gradient the loss holds at one time (`model.cross_entropy`): 64 MiB of float32."""

ROWS_AT_ONCE = 512
"""Tokens of which it holds the logits at the least: products of fewer rows were measured to be slower, 1.05 times at
256 and 1.25 at 64."""

CACHED_ROWS = 256
"""Tokens whose logits it works on at a time on a processor, whose cache holds them from one operation to the next."""

# Parameters ---------------------------------------------------------------------------------------

def block_parameters(config: ModelConfig) -> dict[str, dict[str, int]]:
    """Where the parameters of one block sit: {"attention": {"query": ..., ...}, "mlp": {...}, "norms": {...}}."""
    width, inside = config.hidden_size, config.intermediate_size
    queries, keys = config.num_heads * config.head_size, config.num_kv_heads * config.head_size
    bias, mlp_bias, norm = int(config.attention_bias), int(config.mlp_bias), _norm(config, width)
    attention = {
        "query": (width + bias) * queries,
        "key": (width + bias) * keys,
        "value": (width + bias) * keys,
        "output": (queries + bias) * width,
    }
    if config.qk_norm:
        attention |= {"query_norm": _norm(config, config.head_size), "key_norm": _norm(config, config.head_size)}
    gate = {"gate": (width + mlp_bias) * inside} if config.mlp == "swiglu" else {}
    mlp = {**gate, "up": (width + mlp_bias) * inside, "down": (inside + mlp_bias) * width}
    return {"attention": attention, "mlp": mlp, "norms": {"attention_norm": norm, "mlp_norm": norm}}


def _norm(config: ModelConfig, size: int) -> int:
    return size * (2 if config.norm == "layernorm" else 1)


def tree(config: ModelConfig) -> dict[str, Any]:
    """Where all parameters sit, as nested names; a block's part stands for that part of all blocks together.

    The leaves sum to `parameters`. A tied head has no parameters of its own and is left out.
    """
    blocks = {part: {name: config.num_layers * count for name, count in inner.items()}
              for part, inner in block_parameters(config).items()}
    vocabulary = config.vocab_size * config.hidden_size
    positions = {"positions": config.context_length * config.hidden_size} if config.position == "learned" else {}
    return {"embedding": vocabulary, **positions, "blocks": blocks, "norm": _norm(config, config.hidden_size),
            **({} if config.tied_embeddings else {"head": vocabulary})}


def parts(config: ModelConfig) -> dict[str, int]:
    """The same in one level, in the order of the data's path: embedding, positions, attention, mlp, norms, head.

    All six names are there, with 0 for what the model has not.
    """
    whole = tree(config)
    blocks = {part: sum(inner.values()) for part, inner in whole["blocks"].items()}
    return {"embedding": whole["embedding"], "positions": whole.get("positions", 0), "attention": blocks["attention"],
            "mlp": blocks["mlp"], "norms": blocks["norms"] + whole["norm"], "head": whole.get("head", 0)}


def parameters(config: ModelConfig) -> int:
    """All trained numbers; a tied embedding counts once."""
    return sum(parts(config).values())


def non_embedding_parameters(config: ModelConfig) -> int:
    """The parameters of the blocks and the last norm: the N of scaling laws (Kaplan et al. 2020)."""
    found = parts(config)
    return found["attention"] + found["mlp"] + found["norms"]


# Arithmetic ---------------------------------------------------------------------------------------

def forward_flops_per_token(config: ModelConfig, sequence_length: int | None = None) -> int:
    """Floating-point operations of the matrix products for one token of a row of `sequence_length` tokens.

    Two for each weight that multiplies a token (the head too, the embedding's look-up not), and four for each
    number of a head's width and each token looked at. Counted over the whole row, as throughput is always quoted
    (Chowdhery et al. 2022); a causal kernel does half of that last part.
    """
    length = sequence_length or config.context_length
    width, inside = config.hidden_size, config.intermediate_size
    queries, keys = config.num_heads * config.head_size, config.num_kv_heads * config.head_size
    block = width * (2 * queries + 2 * keys) + width * inside * (3 if config.mlp == "swiglu" else 2)
    head = config.vocab_size * width
    return 2 * (config.num_layers * block + head) + 4 * config.num_layers * queries * length


def flops_per_token(config: ModelConfig, sequence_length: int | None = None) -> int:
    """Floating-point operations to train on one token: the backward pass does each product twice over."""
    return 3 * forward_flops_per_token(config, sequence_length)


# Memory -------------------------------------------------------------------------------------------

def logits_at_once(num_tokens: int, vocab_size: int) -> int:
    """Of so many tokens, those whose gradients of logits the loss holds at one time: all, or equal pieces of many."""
    most = max(ROWS_AT_ONCE, LOGITS_AT_ONCE // vocab_size)
    return -(-num_tokens // -(-num_tokens // most))


def training_memory_bytes(config: ModelConfig, *, state_bytes_per_parameter: float, micro_batch_size: int,
                          sequence_length: int | None = None, precision: str = "float32",
                          device: str = "cpu") -> dict[str, int]:
    """Bytes in use at the peak of a training step, by part; their sum is the estimate.

    `state_bytes_per_parameter` is the optimizer's own (8 for AdamW). `precision` "bf16" computes in bfloat16 over
    float32 weights, by autocast; anything else is float32.
    """
    size, mixed, length = parameters(config), precision == "bf16", sequence_length or config.context_length
    tokens = micro_batch_size * length
    held = logits_at_once(tokens, config.vocab_size)
    worked_on = min(held, CACHED_ROWS) if device == "cpu" else held
    found = {
        # Autocast keeps a bfloat16 copy of what it multiplies by.
        "weights": size * (6 if mixed else 4),
        "gradients": size * 4,
        "optimizer": round(size * state_bytes_per_parameter),
        "activations": tokens * _activation_bytes_per_token(config, length, mixed),
        # The gradients of the logits of one piece; and of those that it works on logits and softmax, in float32,
        # since less is fast and wrong, in bf16 as well the logits as they leave the product.
        "logits": config.vocab_size * (held * (2 if mixed else 4) + worked_on * (10 if mixed else 8)),
    }
    return {**found, "overhead": round(OVERHEAD * sum(found.values()))}


def _activation_bytes_per_token(config: ModelConfig, length: int, mixed: bool) -> int:
    """What is kept of one token of a row of `length` for the backward pass: block by block what autograd saves.

    Norms keep float32: RMSNorm its input and the normalised, LayerNorm its input. Products keep their inputs, which
    norms make in the products' format, attention its queries, keys, values and result, SwiGLU four numbers of its
    width (gate, its silu, up, their product) and GELU two. With dropout, attention has no fused kernel on CPU and keeps
    its weights, `length` a head, three times. Fused norms keep less, attention by blocks half of its weights: together
    about as much, in contexts where a processor takes both (`model.operators`).
    """
    width, inside = config.hidden_size, config.intermediate_size
    queries, keys = config.num_heads * config.head_size, config.num_kv_heads * config.head_size
    swiglu, grouped, rms = config.mlp == "swiglu", config.num_kv_heads < config.num_heads, config.norm == "rmsnorm"
    norm = (2 if rms else 1) * width + (1 if rms else 2)
    wide = 2 * norm + config.num_heads
    multiplied = 2 * width + (3 if grouped else 2) * queries + 2 * keys + (4 if swiglu else 2) * inside
    if config.qk_norm:
        wide += 2 * (queries + keys) + config.num_heads + config.num_kv_heads
    if config.dropout:
        wide += 2 * width + 3 * config.num_heads * length + 2 * (queries - keys)
    return config.num_layers * (4 * wide + (2 if mixed else 4) * multiplied) + 4 * norm + (2 if mixed else 4) * width


def kv_cache_bytes_per_token(config: ModelConfig, bytes_per_number: int = 4) -> int:
    """Keys and values of one token in all blocks; 4 bytes a number in float32, 2 in float16."""
    return 2 * config.num_layers * config.num_kv_heads * config.head_size * bytes_per_number


def kv_cache_bytes(config: ModelConfig, num_tokens: int | None = None, bytes_per_number: int = 4) -> int:
    """The KV cache of one text of `num_tokens`, or of a full context."""
    return (num_tokens or config.context_length) * kv_cache_bytes_per_token(config, bytes_per_number)
