"""PatchTST from scratch, channel-mixing, logits only.

Notable: patches end on the newest day (the oldest days are dropped where the context is not a
whole number of strides), pre-norm layers with residual projections scaled down by depth, and
explicit softmax attention: with 6 patches the score matrix is 6 x 6 and two small batched
matmuls beat a fused kernel on a CPU.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

INIT_STD = 0.02


@dataclass(frozen=True)
class PatchTSTConfig:
    """Shape of a PatchTST; with the weights it rebuilds the model."""

    n_features: int
    context_length: int
    patch_length: int
    stride: int
    d_model: int
    n_layers: int
    n_heads: int
    d_ff: int
    dropout: float

    @property
    def n_patches(self) -> int:
        """Number of patches P cut from the context."""
        return (self.context_length - self.patch_length) // self.stride + 1


class Layer(nn.Module):
    """Pre-norm encoder layer: multi-head self-attention and a GELU feed-forward."""

    def __init__(self, config: PatchTSTConfig) -> None:
        super().__init__()
        d = config.d_model
        self.n_heads = config.n_heads
        self.dropout = config.dropout
        self.norm1 = nn.LayerNorm(d)
        self.qkv = nn.Linear(d, 3 * d)
        self.out = nn.Linear(d, d)
        self.norm2 = nn.LayerNorm(d)
        self.up = nn.Linear(d, config.d_ff)
        self.down = nn.Linear(config.d_ff, d)

    def attention(self, x: Tensor) -> Tensor:
        """Attend over patches; `(B, P, d) -> (B, P, d)`."""
        b, p, d = x.shape
        qkv = self.qkv(x).view(b, p, 3, self.n_heads, d // self.n_heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (B, heads, P, d_head)
        scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])  # (B, heads, P, P)
        weights = F.dropout(scores.softmax(dim=-1), self.dropout, self.training)
        mixed = (weights @ v).transpose(1, 2).reshape(b, p, d)
        projected: Tensor = self.out(mixed)
        return projected

    def forward(self, x: Tensor) -> Tensor:
        """Transform patches; `(B, P, d) -> (B, P, d)`."""
        x = x + F.dropout(self.attention(self.norm1(x)), self.dropout, self.training)
        hidden = self.down(F.gelu(self.up(self.norm2(x))))
        return x + F.dropout(hidden, self.dropout, self.training)


class PatchTST(nn.Module):
    """Context of normalised features to one logit.

    References
    ----------
    Nie et al. (2023), "A Time Series is Worth 64 Words", ICLR; here with channel mixing: a patch
    holds all features of its days.
    """

    def __init__(self, config: PatchTSTConfig) -> None:
        super().__init__()
        if config.d_model % config.n_heads:
            raise ValueError(f"n_heads={config.n_heads} does not divide d_model={config.d_model}")
        self.config = config
        d, p = config.d_model, config.n_patches
        self.embed = nn.Linear(config.patch_length * config.n_features, d)
        self.positions = nn.Parameter(torch.empty(p, d))
        layers = [Layer(config) for _ in range(config.n_layers)]
        self.layers = nn.ModuleList(layers)
        self.norm = nn.LayerNorm(d)
        self.head = nn.Linear(p * d, 1)
        self.apply(self._initialise)
        nn.init.normal_(self.positions, std=INIT_STD)
        for layer in layers:
            for projection in (layer.out, layer.down):
                nn.init.normal_(projection.weight, std=INIT_STD / math.sqrt(2 * config.n_layers))

    @staticmethod
    def _initialise(module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=INIT_STD)
            nn.init.zeros_(module.bias)

    def patches(self, x: Tensor) -> Tensor:
        """Cut patches that end on the newest day; `(B, context, F) -> (B, P, patch * F)`."""
        c = self.config
        if x.ndim != 3 or x.shape[1:] != (c.context_length, c.n_features):
            expected = f"(B, {c.context_length}, {c.n_features})"
            raise ValueError(f"expected {expected}, found: {tuple(x.shape)}")
        used = (c.n_patches - 1) * c.stride + c.patch_length
        cut = x[:, c.context_length - used :].unfold(1, c.patch_length, c.stride)
        return cut.transpose(2, 3).flatten(2)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits; `(B, context, F) -> (B,)`."""
        h = self.embed(self.patches(x)) + self.positions  # (B, P, d)
        h = F.dropout(h, self.config.dropout, self.training)
        for layer in self.layers:
            h = layer(h)
        logits: Tensor = self.head(self.norm(h).flatten(1)).squeeze(-1)
        return logits


def predict_proba(logits: Tensor) -> Tensor:
    """Turn logits into probabilities: the only sigmoid of the code base."""
    return torch.sigmoid(logits.float())
