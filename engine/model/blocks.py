"""The blocks of a decoder: norms, positions, attention, MLPs. Each is its mathematics and no more.

Letters in the shapes: B rows, T new tokens, P tokens in the cache, d width of the stream,
H query heads, K key-value heads, s width of a head, h width inside the MLP.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.model import ModelConfig, fused
from engine.model.attention import attend


class RMSNorm(nn.Module):
    """x / rms(x) * weight over the last dimension (Zhang & Sennrich 2019). Statistics in float32."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps
        self.fused = False  # see `operators`

    def forward(self, x: Tensor) -> Tensor:
        if self.fused:
            return fused.RMSNorm.apply(x, self.weight, self.eps, _dtype(x))
        x32 = x.float()
        x32 = x32 * torch.rsqrt(x32.square().mean(-1, keepdim=True) + self.eps)
        return (x32 * self.weight).to(_dtype(x))


class LayerNorm(nn.LayerNorm):
    """(x - mean(x)) / deviation(x) * weight + bias over the last dimension (Ba et al. 2016)."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).to(_dtype(x))


def _dtype(x: Tensor) -> torch.dtype:
    """Of what a norm makes: under autocast that of the products which read it, or each would cast it for itself."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype


def norm(config: ModelConfig, size: int) -> nn.Module:
    """The normalisation of the family over `size` numbers."""
    if config.norm == "layernorm":
        return LayerNorm(size, eps=config.norm_eps)
    return RMSNorm(size, config.norm_eps)


def angles(positions: Tensor, head_size: int, theta: float, stretch: Tensor | None = None,
           amplitude: float = 1.0) -> tuple[Tensor, Tensor]:
    """Cosine and sine of RoPE's angles (Su et al. 2021): pair i turns by position / theta^(2i/s) * stretch_i.
    Both are multiplied by `amplitude`.

    `positions` (B, T), a batch of 1 for all rows -> two tensors (B, 1, T, s/2), float32 whatever the
    precision of the model, since bf16 cannot tell position 257 from 258.
    """
    pairs = torch.arange(0, head_size, 2, device=positions.device, dtype=torch.float32)          # (s/2)
    frequency = 1.0 / theta ** (pairs / head_size)
    if stretch is not None:
        frequency = frequency * stretch
    turn = positions[:, None, :, None].float() * frequency                                       # (B, 1, T, s/2)
    if amplitude == 1:
        return turn.cos(), turn.sin()
    return turn.cos() * amplitude, turn.sin() * amplitude


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn the pairs (x_i, x_{i+s/2}) of each head by their angle: the pairing of the published checkpoints."""
    first, second = x.chunk(2, dim=-1)                                                           # (B, H, T, s/2)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1).type_as(x)


class Cache:
    """Keys and values of the tokens read so far, of every block: (B, K, P, s), after rotation."""

    def __init__(self) -> None:
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []

    @property
    def length(self) -> int:
        """Tokens in the cache, padding included: P."""
        return self.keys[0].shape[2] if self.keys else 0

    def append(self, block: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Add (B, K, T, s) of one block; returns all of it, (B, K, P + T, s)."""
        if block == len(self.keys):
            self.keys.append(key)
            self.values.append(value)
        else:
            self.keys[block] = torch.cat((self.keys[block], key), dim=2)
            self.values[block] = torch.cat((self.values[block], value), dim=2)
        return self.keys[block], self.values[block]


class Attention(nn.Module):
    """softmax(q k^T / sqrt(s)) v in H heads (Vaswani et al. 2017), groups of which share a key-value head
    (Ainslie et al. 2023), with queries and keys normalised in each head if so configured (Henry et al. 2020)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width, head, bias = config.hidden_size, config.head_size, config.attention_bias
        self.head_size, self.dropout = head, config.dropout
        self.queries_at_once, self.fused = 0, False  # see `operators`
        self.grouped = config.num_kv_heads != config.num_heads
        self.query = nn.Linear(width, config.num_heads * head, bias=bias)
        self.key = nn.Linear(width, config.num_kv_heads * head, bias=bias)
        self.value = nn.Linear(width, config.num_kv_heads * head, bias=bias)
        self.output = nn.Linear(config.num_heads * head, width, bias=bias)
        self.query_norm = norm(config, head) if config.qk_norm else nn.Identity()
        self.key_norm = norm(config, head) if config.qk_norm else nn.Identity()

    def forward(self, x: Tensor, turn: tuple[Tensor, Tensor] | None, mask: Tensor | None, cache: Cache | None,
                block: int) -> Tensor:
        """`mask`: True where a query sees a key, (T, P + T) or (B, 1, T, P + T); None: each sees what is before it."""
        heads = (*x.shape[:2], -1, self.head_size)
        query = self.query_norm(self.query(x).view(heads)).transpose(1, 2)                       # (B, H, T, s)
        key = self.key_norm(self.key(x).view(heads)).transpose(1, 2)                             # (B, K, T, s)
        value = self.value(x).view(heads).transpose(1, 2)                                        # (B, K, T, s)
        if turn is not None:
            turned = fused.Rotate.apply if self.fused else rotate
            query, key = turned(query, *turn), turned(key, *turn)
        if cache is not None:
            key, value = cache.append(block, key, value)                                         # (B, K, P + T, s)
        dropout = self.dropout if self.training else 0.0
        if self.queries_at_once and cache is None:
            mixed = attend(query, key, value, self.queries_at_once, mask, dropout)               # (B, H, T, s)
        else:
            mixed = F.scaled_dot_product_attention(
                query, key, value, attn_mask=mask, is_causal=mask is None and query.shape[2] > 1,
                dropout_p=dropout, enable_gqa=self.grouped,
            )                                                                                    # (B, H, T, s)
        return self.output(mixed.transpose(1, 2).flatten(2))                                     # (B, T, d)


class SwiGLU(nn.Module):
    """down(silu(gate(x)) * up(x)) (Shazeer 2020)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width, inside, bias = config.hidden_size, config.intermediate_size, config.mlp_bias
        self.gate = nn.Linear(width, inside, bias=bias)
        self.up = nn.Linear(width, inside, bias=bias)
        self.down = nn.Linear(inside, width, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.silu(self.gate(x)) * self.up(x))                                      # (B, T, h) inside


class GELU(nn.Module):
    """down(gelu(up(x))) with the tanh form of GELU that GPT-2 was trained with (Hendrycks & Gimpel 2016)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width, inside, bias = config.hidden_size, config.intermediate_size, config.mlp_bias
        self.up = nn.Linear(width, inside, bias=bias)
        self.down = nn.Linear(inside, width, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.gelu(self.up(x), approximate="tanh"))                                 # (B, T, h) inside


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)): norms first, so that the stream itself stays linear."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.attention_norm = norm(config, config.hidden_size)
        self.attention = Attention(config)
        self.mlp_norm = norm(config, config.hidden_size)
        self.mlp = SwiGLU(config) if config.mlp == "swiglu" else GELU(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, turn: tuple[Tensor, Tensor] | None, mask: Tensor | None, cache: Cache | None,
                block: int) -> Tensor:
        x = x + self.dropout(self.attention(self.attention_norm(x), turn, mask, cache, block))   # (B, T, d)
        return x + self.dropout(self.mlp(self.mlp_norm(x)))                                      # (B, T, d)
