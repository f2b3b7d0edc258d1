"""The small model that tests of checkpoints, optimisers and memory share."""

from patchscale.model.patchtst import PatchTSTConfig

SHAPE = PatchTSTConfig(
    n_features=2,
    context_length=6,
    patch_length=3,
    stride=3,
    d_model=8,
    n_layers=2,
    n_heads=2,
    d_ff=16,
    dropout=0.0,
)
