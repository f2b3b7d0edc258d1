import ast
import re
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from patchscale import budget, config
from patchscale.features import tier_features
from patchscale.model import PatchTST, PatchTSTConfig, predict_proba

ROOT = Path(__file__).resolve().parent.parent
SMALL = PatchTSTConfig(
    n_features=3,
    context_length=23,
    patch_length=5,
    stride=4,
    d_model=8,
    n_layers=2,
    n_heads=2,
    d_ff=16,
    dropout=0.3,
)
DROPPED = 2  # 23 sessions hold five patches of 5 at stride 4: the newest 21


def model_of(shape: PatchTSTConfig = SMALL, seed: int = 0) -> PatchTST:
    torch.manual_seed(seed)
    model = PatchTST(shape).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():  # large enough that every weight shows in a logit
            parameter.copy_(0.4 * torch.randn_like(parameter))
    return model


def contexts(n: int = 4, shape: PatchTSTConfig = SMALL) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    size = (n, shape.context_length, shape.n_features)
    return torch.randn(size, generator=generator, dtype=torch.float64)


def test_changing_the_last_bar_changes_every_logit():
    model, x = model_of(), contexts()
    changed = x.clone()
    changed[:, -1] += 1
    assert (model(x) != model(changed)).all()


def test_the_oldest_days_that_fill_no_stride_are_the_ones_dropped():
    model, x = model_of(), contexts()
    changed = x.clone()
    changed[:, :DROPPED] += 100
    assert torch.equal(model(x), model(changed))
    changed[:, DROPPED] += 1
    assert (model(x) != model(changed)).all()


def test_patches_hold_consecutive_days_with_all_their_features():
    model, x = model_of(), contexts(1)
    patches = model.patches(x)
    assert patches.shape == (1, 5, 15)
    for number in range(5):
        begin = DROPPED + 4 * number
        assert torch.equal(patches[0, number].view(3, 5).T, x[0, begin : begin + 5]) or torch.equal(
            patches[0, number].view(5, 3), x[0, begin : begin + 5]
        )


def test_counted_n_is_the_number_of_weights_of_all_sixteen_cells():
    params = config.load_params(ROOT / "params.yaml")
    n_features = len(tier_features(params.features.tier))
    common = {
        "n_features": n_features,
        "patch_length": params.model.patch_length,
        "n_patches": params.model.n_patches,
    }

    @cache  # h2 has the architecture of h3
    def sizes(n_params: int, d_model: int, n_layers: int, n_heads: int) -> tuple[int, int]:
        d_ff = budget.solve_d_ff(n_params, **common, d_model=d_model, n_layers=n_layers)
        shape = PatchTSTConfig(
            n_features=n_features,
            context_length=params.model.context_length,
            patch_length=params.model.patch_length,
            stride=params.model.stride,
            d_model=d_model,
            n_layers=n_layers,
            n_heads=n_heads,
            d_ff=d_ff,
            dropout=0.0,
        )
        with torch.device("meta"):
            built = sum(parameter.numel() for parameter in PatchTST(shape).parameters())
        counted = budget.count_params(**common, d_model=d_model, n_layers=n_layers, d_ff=d_ff)
        return built, counted

    assert len(params.cells) == 16
    for cell in params.cells.values():
        n_params = params.budgets[cell.budget].n_params
        built, counted = sizes(n_params, cell.d_model, cell.n_layers, cell.n_heads)
        assert built == counted
        assert abs(built / n_params - 1) <= 0.02


def test_logits_are_those_of_pytorchs_own_encoder_layers_with_the_same_weights():
    model, x = model_of(), contexts()
    h = model.embed(model.patches(x)) + model.positions
    for layer in model.layers:
        oracle = nn.TransformerEncoderLayer(
            SMALL.d_model,
            SMALL.n_heads,
            SMALL.d_ff,
            activation="gelu",
            batch_first=True,
            norm_first=True,
            dtype=torch.float64,
        ).eval()
        ours = {
            "self_attn.in_proj_": layer.qkv,
            "self_attn.out_proj.": layer.out,
            "linear1.": layer.up,
            "linear2.": layer.down,
            "norm1.": layer.norm1,
            "norm2.": layer.norm2,
        }
        oracle.load_state_dict(
            {
                name + kind: getattr(module, kind)
                for name, module in ours.items()
                for kind in ("weight", "bias")
            }
        )
        h = oracle(h)
    expected = model.head(model.norm(h).flatten(1)).squeeze(-1)
    assert expected.abs().max() > 0.1
    assert torch.allclose(model(x), expected, rtol=0, atol=1e-5)


def test_outputs_are_unbounded_logits():
    model, x = model_of(), contexts()
    before = model(x)
    with torch.no_grad():
        model.head.weight *= 100
        model.head.bias *= 100
    logits = model(x)
    assert logits.shape == (4,)
    assert logits.abs().max() > 1
    assert (logits < 0).any() or (logits > 1).any()
    assert torch.allclose(logits, 100 * before)


def test_probabilities_are_the_logistic_function_of_logits():
    logits = torch.tensor([-3.0, 0.0, 2.0])
    assert torch.allclose(predict_proba(logits), 1 / (1 + torch.exp(-logits)))


def test_a_batch_gives_what_its_members_give_alone():
    model, x = model_of(), contexts(5)
    alone = torch.cat([model(x[i : i + 1]) for i in range(5)])
    assert torch.allclose(model(x), alone, rtol=0, atol=1e-12)


def test_dropout_acts_in_training_mode_only():
    model, x = model_of(), contexts()
    assert torch.equal(model(x), model(x))
    model.train()
    assert not torch.equal(model(x), model(x))


@pytest.mark.parametrize(
    ("shape", "found"),
    [
        ((2, 22, 3), r"\(2, 22, 3\)"),
        ((2, 3, 23), r"\(2, 3, 23\)"),
        ((23, 3), r"\(23, 3\)"),
        ((2, 1, 23, 3), r"\(2, 1, 23, 3\)"),
    ],
)
def test_a_wrong_input_shape_is_refused_with_the_shape_found(shape, found):
    with pytest.raises(ValueError, match=rf"expected \(B, 23, 3\), found: {found}"):
        model_of()(torch.zeros(shape, dtype=torch.float64))


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(ValueError, match="n_heads=3 does not divide d_model=8"):
        PatchTST(replace(SMALL, n_heads=3))


@pytest.mark.parametrize(
    ("context", "patch", "stride", "n_patches"), [(60, 10, 10, 6), (23, 5, 4, 5), (10, 10, 7, 1)]
)
def test_the_position_table_has_a_row_per_patch(context, patch, stride, n_patches):
    shape = replace(SMALL, context_length=context, patch_length=patch, stride=stride)
    model = PatchTST(shape)
    assert model.positions.shape == (n_patches, SMALL.d_model)
    assert model.patches(torch.zeros(1, context, 3)).shape[1] == n_patches


def test_residual_projections_start_smaller_the_deeper_the_model():
    torch.manual_seed(0)
    layer = PatchTST(replace(SMALL, d_model=64, n_layers=8, d_ff=256)).layers[0]
    assert layer.up.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert layer.qkv.weight.std().item() == pytest.approx(0.02, rel=0.05)
    for projection in (layer.out, layer.down):
        assert projection.weight.std().item() == pytest.approx(0.02 / 4, rel=0.05)


def test_64_narrow_layers_train_with_a_finite_loss():
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = PatchTST(replace(SMALL, n_layers=64))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    x, labels = contexts(16).float(), (torch.arange(16) % 2).float()
    losses = []
    for _ in range(5):
        loss = nn.functional.binary_cross_entropy_with_logits(model(x), labels)
        optimizer.zero_grad()
        loss.backward()
        assert all(parameter.grad.isfinite().all() for parameter in model.parameters())
        optimizer.step()
        losses.append(loss.detach())
    assert torch.stack(losses).isfinite().all()


def test_a_probability_is_made_from_logits_in_one_place_only():
    places = []
    for path in sorted([*ROOT.glob("src/**/*.py"), *ROOT.glob("stages/**/*.py")]):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            for field in ("attr", "id", "name"):  # x.sigmoid, sigmoid, import sigmoid
                text = getattr(node, field, None)
                if isinstance(text, str) and re.search("sigmoid|expit", text.lower()):
                    places.append((path.name, text))
    assert places == [("model.py", "sigmoid")]
