"""The same model around other packages' encoders: what a training step is measured against.

A peer has our cell's d_model, n_layers, n_heads and d_ff, pre-norm, GELU and dropout, and gets the
same tokens: a patch of all features of its days. Everything but the encoder is ours. An encoder
is as its package has it beyond that: torch.nn and neuralforecast drop out in the middle of the
feed-forward as well, neuralforecast also twice after attention, and its residual starts after the
norm. transformers' drops out where ours does.
"""

from collections.abc import Callable
from importlib.util import find_spec

import torch
from torch import Tensor, nn

from patchscale.model.patchtst import PatchTSTConfig

TOLERANCE = 0.01


class PeerModel(nn.Module):
    """Context to one logit through an encoder that maps `(B, P, d) -> (B, P, d)`."""

    def __init__(self, shape: PatchTSTConfig, encoder: nn.Module) -> None:
        super().__init__()
        d, p = shape.d_model, shape.n_patches
        self.shape = shape
        self.embed = nn.Linear(shape.patch_length * shape.n_features, d)
        self.positions = nn.Parameter(0.02 * torch.randn(p, d))
        self.dropout = nn.Dropout(shape.dropout)
        self.encoder = encoder
        self.norm = nn.LayerNorm(d)
        self.head = nn.Linear(p * d, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits; `(B, context, F) -> (B,)`."""
        cut = x.unfold(1, self.shape.patch_length, self.shape.stride)  # (B, P, F, patch)
        h = self.embed(cut.transpose(2, 3).flatten(2)) + self.positions  # (B, P, d)
        h = self.encoder(self.dropout(h))
        return self.head(self.norm(h).flatten(1)).squeeze(-1)


class OneChannel(nn.Module):
    """transformers' channel-independent layers, given one channel whose patches are the tokens."""

    def __init__(self, layers: nn.ModuleList) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, h: Tensor) -> Tensor:
        """Transform tokens; `(B, P, d) -> (B, P, d)`."""
        h = h.unsqueeze(1)
        for layer in self.layers:
            h = layer(h)[0]
        return h.squeeze(1)


def torch_encoder(shape: PatchTSTConfig) -> nn.Module:
    """Return torch.nn's encoder."""
    layer = nn.TransformerEncoderLayer(
        shape.d_model,
        shape.n_heads,
        shape.d_ff,
        shape.dropout,
        "gelu",
        batch_first=True,
        norm_first=True,
    )
    return nn.TransformerEncoder(layer, shape.n_layers, enable_nested_tensor=False)


def transformers_encoder(shape: PatchTSTConfig) -> nn.Module:
    """Return the layers of transformers' PatchTST, with its attention that is faster here."""
    from transformers.models.patchtst.configuration_patchtst import PatchTSTConfig as Config
    from transformers.models.patchtst.modeling_patchtst import PatchTSTEncoder

    config = Config(
        context_length=shape.context_length,
        patch_length=shape.patch_length,
        patch_stride=shape.stride,
        num_hidden_layers=shape.n_layers,
        d_model=shape.d_model,
        num_attention_heads=shape.n_heads,
        ffn_dim=shape.d_ff,
        norm_type="layernorm",
        pre_norm=True,
        channel_attention=False,
        attention_dropout=shape.dropout,
        path_dropout=shape.dropout,
        ff_dropout=0.0,
        attn_implementation="eager",
    )
    return OneChannel(PatchTSTEncoder(config, shape.n_patches).layers)


def neuralforecast_encoder(shape: PatchTSTConfig) -> nn.Module:
    """Return the encoder of neuralforecast's PatchTST."""
    from neuralforecast.models.patchtst import TSTEncoder

    return TSTEncoder(
        shape.n_patches,
        shape.d_model,
        shape.n_heads,
        linear_hidden_size=shape.d_ff,
        norm="LayerNorm",
        attn_dropout=shape.dropout,
        dropout=shape.dropout,
        activation="gelu",
        res_attention=False,
        n_layers=shape.n_layers,
        pre_norm=True,
    )


ENCODERS: dict[str, Callable[[PatchTSTConfig], nn.Module]] = {
    "torch.nn": torch_encoder,
    "transformers": transformers_encoder,
    "neuralforecast": neuralforecast_encoder,
}


def installed() -> list[str]:
    """Return the names of the peers whose package is installed; a line tells of each other one."""
    found = []
    for name in ENCODERS:
        if find_spec(name.split(".")[0]):
            found.append(name)
        else:
            print(f"{name} is left out: not installed, the extra `bench` brings it")
    return found


def peer(name: str, shape: PatchTSTConfig) -> PeerModel:
    """Return a peer of `PatchTST(shape)`.

    Raises
    ------
    ValueError
        It does not give one logit a sample, or its parameters are not as many as ours within 1 %.
    """
    model = PeerModel(shape, ENCODERS[name](shape))
    found = tuple(model(torch.zeros(2, shape.context_length, shape.n_features)).shape)
    if found != (2,):
        raise ValueError(f"{name}: expected logits (2,), found: {found}")
    expected = shape.n_params
    if abs(n_params(model) - expected) > TOLERANCE * expected:
        raise ValueError(f"{name}: {n_params(model):,} parameters, ours has {expected:,}")
    return model


def n_params(model: nn.Module) -> int:
    """Return how many parameters are trained."""
    return sum(part.numel() for part in model.parameters() if part.requires_grad)
