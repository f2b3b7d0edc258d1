"""PatchTST from scratch, channel-mixing, logits only.

Notable: patches end on the newest day (the oldest days are dropped where the context is not a
whole number of strides), pre-norm layers whose residual branches are divided by depth, dropout
after the embedding and on the two residual branches of a layer. Initialisation and branches follow
CompleteP (`parametrisation`), so that one learning rate fits every width and depth.

Tokens are laid out (P, B, d), patches first: with 6 patches the attention of a head is 36 products
of vectors, and with the samples innermost `torch.compile` turns them into a few passes over
contiguous memory, where a fused attention kernel or batched 6 x 6 matmuls take several times as
long on a CPU (docs/decisions.md).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from patchscale.model.size import count_params
from patchscale.model.windows import Windows

POSITION_STD = 0.02


@dataclass(frozen=True)
class PatchTSTConfig:
    """Shape of a PatchTST. Shape and weights together rebuild a model."""

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

    @property
    def n_params(self) -> int:
        """Number of trainable parameters N."""
        return count_params(
            n_features=self.n_features,
            patch_length=self.patch_length,
            n_patches=self.n_patches,
            d_model=self.d_model,
            n_layers=self.n_layers,
            d_ff=self.d_ff,
        )


def random_16_bits(shape: torch.Size, device: torch.device | str = "cpu") -> Tensor:
    """Draw integers from -2**15 to 2**15 - 1, four from one draw of the generator."""
    size = shape.numel()
    draws = torch.empty(-(-size // 4), dtype=torch.int64, device=device)
    return draws.random_(-(2**63), None).view(torch.int16)[:size].view(shape)


def keep_mask(like: Tensor, copies: int, dropout: float, dtype: torch.dtype) -> Tensor:
    """Draw dropout masks of 0 and 1; `like (...) -> (copies, ...)`.

    On a CPU an element takes 16 random bits, four from one draw of the generator: a fifth of the
    time of `bernoulli_`; the share dropped is exact to 1 / 65,536.
    """
    size = torch.Size((copies, *like.shape))
    if like.device.type != "cpu":
        return torch.empty(size, dtype=dtype, device=like.device).bernoulli_(1 - dropout)
    return (random_16_bits(size) >= round(dropout * 2**16) - 2**15).to(dtype)


class Layer(nn.Module):
    """Pre-norm encoder layer: multi-head self-attention and a GELU feed-forward."""

    def __init__(self, config: PatchTSTConfig) -> None:
        super().__init__()
        d = config.d_model
        self.n_heads = config.n_heads
        self.dropout = config.dropout
        self.share = 1 / config.n_layers
        self.norm1 = nn.LayerNorm(d)
        self.qkv = nn.Linear(d, 3 * d)
        self.out = nn.Linear(d, d)
        self.norm2 = nn.LayerNorm(d)
        self.up = nn.Linear(d, config.d_ff)
        self.down = nn.Linear(config.d_ff, d)

    def attention(self, x: Tensor) -> Tensor:
        """Attend over patches; `(P, B, d) -> (P, B, d)`."""
        p, b, d = x.shape
        head = d // self.n_heads
        qkv = torch.addmm(self.qkv.bias[:, None], self.qkv.weight, x.reshape(p * b, d).T)
        q, k, v = qkv.view(3, self.n_heads, head, p, b)  # each (heads, d_head, P, B)
        scores = (q.unsqueeze(3) * k.unsqueeze(2)).sum(1) / math.sqrt(head)  # (heads, P, P, B)
        weights = scores.softmax(2)
        mixed = (weights.unsqueeze(1) * v.unsqueeze(2)).sum(3)  # (heads, d_head, P, B)
        projected: Tensor = self.out(mixed.view(d, p * b).T)
        return projected.view(p, b, d)

    def forward(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        """Transform tokens; `(P, B, d), (2, P, B, d) or None -> (P, B, d)`.

        `keep` holds the dropout masks of the two branches; None drops nothing.
        """
        x = x + self._kept(self.attention(self.norm1(x)), keep, 0)
        return x + self._kept(self.down(F.gelu(self.up(self.norm2(x)))), keep, 1)

    def _kept(self, branch: Tensor, keep: Tensor | None, number: int) -> Tensor:
        if keep is None:
            return branch * self.share
        return branch * keep[number] * (self.share / (1 - self.dropout))


class PatchTST(nn.Module):
    """Context of normalised features to one logit.

    References
    ----------
    Nie et al. (2023), "A Time Series is Worth 64 Words", ICLR; here with channel mixing: a patch
    holds all features of its days. Dey et al. (2025), "Don't be lazy: CompleteP enables
    compute-efficient deep transformers", arXiv 2505.01618.
    """

    recompute = False
    """Keep only the input of each layer and compute the rest again in the backward pass."""

    def __init__(self, config: PatchTSTConfig) -> None:
        super().__init__()
        if config.d_model % config.n_heads:
            raise ValueError(f"n_heads={config.n_heads} does not divide d_model={config.d_model}")
        self.config = config
        d, p = config.d_model, config.n_patches
        self.embed = nn.Linear(config.patch_length * config.n_features, d)
        self.positions = nn.Parameter(torch.empty(p, d))
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.n_layers))
        self.norm = nn.LayerNorm(d)
        self.head = nn.Linear(p * d, 1)
        self.initialise()

    def initialise(self, base_rate: float = 0.5) -> None:
        """Draw all weights, so that the first forecast is `base_rate` whatever the input.

        A matrix has the variance 1 / fan-in, the head is zero and its bias logit(`base_rate`).
        """
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=1 / math.sqrt(module.in_features))
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.LayerNorm):
                module.reset_parameters()
        nn.init.normal_(self.positions, std=POSITION_STD)
        nn.init.zeros_(self.head.weight)
        nn.init.constant_(self.head.bias, math.log(base_rate / (1 - base_rate)))

    def patches(self, x: Tensor) -> Tensor:
        """Cut patches that end on the newest day; `(B, context, F) -> (P, B, patch * F)`."""
        c = self.config
        if x.ndim != 3 or x.shape[1:] != (c.context_length, c.n_features):
            expected = f"(B, {c.context_length}, {c.n_features})"
            raise ValueError(f"expected {expected}, found: {tuple(x.shape)}")
        used = (c.n_patches - 1) * c.stride + c.patch_length
        cut = x[:, c.context_length - used :].unfold(1, c.patch_length, c.stride)
        return cut.permute(1, 0, 3, 2).flatten(2)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits; `(B, context, F) -> (B,)`."""
        h = self.embed(self.patches(x)) + self.positions[:, None]  # (P, B, d)
        drop = self.config.dropout if self.training else 0.0
        if drop:
            h = h * keep_mask(h, 1, drop, h.dtype)[0] / (1 - drop)
        for layer in self.layers:
            if self.recompute and self.training:
                h = checkpoint(self._transform, layer, h, use_reentrant=False)
            else:
                h = self._transform(layer, h)
        logits: Tensor = self.head(self.norm(h).transpose(0, 1).flatten(1)).squeeze(-1)
        return logits

    def _transform(self, layer: nn.Module, h: Tensor) -> Tensor:
        drop = self.config.dropout if self.training else 0.0
        half = torch.get_autocast_dtype(h.device.type)
        dtype = half if torch.is_autocast_enabled(h.device.type) else h.dtype
        transformed: Tensor = layer(h, keep_mask(h, 2, drop, dtype) if drop else None)
        return transformed


def predict_logits(model: PatchTST, windows: Windows, rows: Tensor, device: str = "cpu") -> Tensor:
    """Return logits in evaluation mode; `(n,) rows -> (n,)`."""
    model.eval()
    with torch.no_grad():
        parts = [model(windows(part).to(device)).float() for part in torch.split(rows, 256)]
        return torch.cat(parts).cpu()


def predict(model: PatchTST, windows: Windows, rows: Tensor) -> Tensor:
    """Return probabilities in evaluation mode; `(n,) rows -> (n,)`."""
    return predict_proba(predict_logits(model, windows, rows))


def predict_proba(logits: Tensor) -> Tensor:
    """Turn logits into probabilities: the only sigmoid of the code base."""
    return torch.sigmoid(logits.float())
