"""Shapes: the name and size of every parameter of a decoder, from its config alone. Torch-free."""

from __future__ import annotations

from collections.abc import Iterator

from engine.model import ModelConfig

Shape = tuple[int, ...]


def shapes(config: ModelConfig) -> dict[str, Shape]:
    """The parameters of `decoder.Decoder` in its own order, by name; a tied head has none of its own."""
    width, vocabulary = config.hidden_size, config.vocab_size
    found: dict[str, Shape] = {"embedding.weight": (vocabulary, width)}
    if config.position == "learned":
        found["positions.weight"] = (config.context_length, width)
    for number in range(config.num_layers):
        found.update((f"blocks.{number}.{name}", shape) for name, shape in _block(config))
    found.update(_norm(config, "norm", width))
    if not config.tied_embeddings:
        found["head.weight"] = (vocabulary, width)
    return found


def _block(config: ModelConfig) -> Iterator[tuple[str, Shape]]:
    width, inside, head = config.hidden_size, config.intermediate_size, config.head_size
    queries, keys = config.num_heads * head, config.num_kv_heads * head
    yield from _norm(config, "attention_norm", width)
    for name, out, into in (("query", queries, width), ("key", keys, width), ("value", keys, width),
                            ("output", width, queries)):
        yield from _linear(f"attention.{name}", out, into, config.attention_bias)
    if config.qk_norm:
        yield from _norm(config, "attention.query_norm", head)
        yield from _norm(config, "attention.key_norm", head)
    yield from _norm(config, "mlp_norm", width)
    for name in ("gate", "up") if config.mlp == "swiglu" else ("up",):
        yield from _linear(f"mlp.{name}", inside, width, config.mlp_bias)
    yield from _linear("mlp.down", width, inside, config.mlp_bias)


def _linear(name: str, out: int, into: int, bias: bool) -> Iterator[tuple[str, Shape]]:
    yield f"{name}.weight", (out, into)
    if bias:
        yield f"{name}.bias", (out,)


def _norm(config: ModelConfig, name: str, size: int) -> Iterator[tuple[str, Shape]]:
    yield f"{name}.weight", (size,)
    if config.norm == "layernorm":
        yield f"{name}.bias", (size,)
