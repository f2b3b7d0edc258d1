import ast
import math
import re
import shutil
from dataclasses import replace
from functools import cache

import pytest
import torch
from conftest import ROOT
from torch import Tensor, nn
from torch.nn import functional as F

from patchscale.features.tiers import tier_features
from patchscale.model.patchtst import (
    Layer,
    PatchTST,
    PatchTSTConfig,
    keep_mask,
    predict,
    predict_logits,
    predict_proba,
)
from patchscale.model.size import count_params, solve_d_ff
from patchscale.model.weights import build
from patchscale.study.params import load_params

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
DEVICES = [
    "cpu",
    pytest.param(
        "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
    ),
    pytest.param(
        "mps",
        marks=pytest.mark.skipif(not torch.backends.mps.is_available(), reason="no Apple GPU"),
    ),
]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


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
    model, x = model_of(), contexts(2)
    patches = model.patches(x)
    assert patches.shape == (5, 2, 15)
    for number in range(5):
        begin = DROPPED + 4 * number
        for sample in range(2):
            days = x[sample, begin : begin + 5]
            assert torch.equal(patches[number, sample].view(5, 3), days)


def test_counted_n_is_the_number_of_weights_of_every_cell(monkeypatch):
    for initialised in (PatchTST, nn.Linear):  # takes most of the time and makes no weights
        name = "initialise" if initialised is PatchTST else "reset_parameters"
        monkeypatch.setattr(initialised, name, lambda self: None)
    params = load_params(ROOT)
    n_features = len(tier_features(params.features.tier))
    common = {
        "n_features": n_features,
        "patch_length": params.window.patch_length,
        "n_patches": params.window.n_patches,
    }

    @cache  # h2 has the architecture of h3
    def sizes(n_params: int, d_model: int, n_layers: int, n_heads: int) -> tuple[int, int]:
        d_ff = solve_d_ff(n_params, **common, d_model=d_model, n_layers=n_layers)
        shape = PatchTSTConfig(
            n_features=n_features,
            context_length=params.window.context_length,
            patch_length=params.window.patch_length,
            stride=params.window.stride,
            d_model=d_model,
            n_layers=n_layers,
            n_heads=n_heads,
            d_ff=d_ff,
            dropout=0.0,
        )
        with torch.device("meta"):
            built = sum(parameter.numel() for parameter in PatchTST(shape).parameters())
        counted = count_params(**common, d_model=d_model, n_layers=n_layers, d_ff=d_ff)
        return built, counted

    for cell in params.cells.values():
        n_params = params.budgets[cell.budget].n_params
        built, counted = sizes(n_params, cell.d_model, cell.n_layers, cell.n_heads)
        assert built == counted
        assert abs(built / n_params - 1) <= 0.02


# where torch.nn.TransformerEncoderLayer keeps the weights of ours
ORACLE = {
    "self_attn.in_proj_": "qkv",
    "self_attn.out_proj.": "out",
    "linear1.": "up",
    "linear2.": "down",
    "norm1.": "norm1",
    "norm2.": "norm2",
}
ORACLE_NAMES = {
    theirs + kind: f"{ours}.{kind}"
    for theirs, ours in ORACLE.items()
    for kind in ("weight", "bias")
}


SHARE = 1 / SMALL.n_layers
"""Share of a residual branch that is added."""


def oracle_of(layer: Layer) -> nn.TransformerEncoderLayer:
    """Return PyTorch's own layer with the weights of ours, without dropout."""
    oracle = nn.TransformerEncoderLayer(
        SMALL.d_model,
        SMALL.n_heads,
        SMALL.d_ff,
        dropout=0.0,
        activation="gelu",
        batch_first=True,
        norm_first=True,
        dtype=torch.float64,
    )
    weights = layer.state_dict()
    for name in ("out", "down"):  # a branch times a number is its last projection times it
        for kind in ("weight", "bias"):
            weights[f"{name}.{kind}"] = weights[f"{name}.{kind}"] * SHARE
    oracle.load_state_dict({theirs: weights[ours] for theirs, ours in ORACLE_NAMES.items()})
    return oracle


def oracle_logits(model: PatchTST, oracles: list[nn.Module], x: Tensor) -> Tensor:
    """Return logits with other layers, samples first: `(B, context, F) -> (B,)`."""
    h = model.embed(model.patches(x).transpose(0, 1)) + model.positions
    for oracle in oracles:
        h = oracle(h)
    return model.head(model.norm(h).flatten(1)).squeeze(-1)


def test_logits_are_those_of_pytorchs_own_encoder_layers_with_the_same_weights():
    model, x = model_of(), contexts()
    oracles = [oracle_of(layer).eval() for layer in model.layers]
    expected = oracle_logits(model, oracles, x)
    assert expected.abs().max() > 0.1
    assert torch.allclose(model(x), expected, rtol=0, atol=1e-5)


def test_gradients_are_those_of_pytorchs_own_encoder_layers_with_the_same_weights():
    model, x = model_of(replace(SMALL, dropout=0.0)).train(), contexts()
    oracles = [oracle_of(layer).train() for layer in model.layers]
    labels = torch.tensor([0.0, 1.0, 1.0, 0.0], dtype=torch.float64)
    F.binary_cross_entropy_with_logits(oracle_logits(model, oracles, x), labels).backward()
    shared = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert set(shared) == {n for n, _ in model.named_parameters() if not n.startswith("layers.")}
    for number, oracle in enumerate(oracles):
        theirs = dict(oracle.named_parameters())
        for name, ours in ORACLE_NAMES.items():
            scale = SHARE if ours.startswith(("out", "down")) else 1
            shared[f"layers.{number}.{ours}"] = theirs[name].grad * scale
    model.zero_grad(set_to_none=True)
    F.binary_cross_entropy_with_logits(model(x), labels).backward()
    for name, parameter in model.named_parameters():
        assert torch.allclose(parameter.grad, shared[name], rtol=0, atol=1e-9), name
        assert shared[name].abs().max() > 1e-4 or name.endswith("qkv.bias"), name


def test_a_layer_with_dropout_is_what_a_computation_by_hand_gives():
    torch.manual_seed(0)
    p, b, d, heads, dropout = 5, 3, SMALL.d_model, SMALL.n_heads, SMALL.dropout
    layer = model_of().layers[0]
    x = torch.randn(p, b, d, dtype=torch.float64)
    keep = (torch.rand(2, p, b, d) > dropout).double()

    def normed(tokens: Tensor, norm: nn.LayerNorm) -> Tensor:
        spread = (tokens.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()
        return (tokens - tokens.mean(-1, keepdim=True)) / spread * norm.weight + norm.bias

    expected = torch.empty_like(x)
    for sample in range(b):
        tokens, width = x[:, sample], d // heads
        qkv = normed(tokens, layer.norm1) @ layer.qkv.weight.T + layer.qkv.bias
        mixed = []
        for head in range(heads):
            part = slice(head * width, (head + 1) * width)
            q, k, v = (qkv[:, number * d : (number + 1) * d][:, part] for number in range(3))
            mixed.append(torch.softmax(q @ k.T / math.sqrt(width), dim=1) @ v)
        attended = torch.cat(mixed, 1) @ layer.out.weight.T + layer.out.bias
        tokens = tokens + SHARE * keep[0, :, sample] * attended / (1 - dropout)
        up = normed(tokens, layer.norm2) @ layer.up.weight.T + layer.up.bias
        gelu = up * 0.5 * (1 + torch.erf(up / math.sqrt(2)))
        down = gelu @ layer.down.weight.T + layer.down.bias
        expected[:, sample] = tokens + SHARE * keep[1, :, sample] * down / (1 - dropout)
    assert torch.allclose(layer(x, keep), expected, rtol=0, atol=1e-10)
    assert not torch.allclose(layer(x), expected, rtol=0, atol=1e-2)


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


def test_predictions_of_many_rows_are_those_of_single_ones_in_evaluation_mode():
    model, x = model_of().train(), contexts(600)
    rows = torch.arange(599, -1, -1)
    logits = predict_logits(model, lambda part: x[part], rows)
    assert not logits.requires_grad
    assert logits.dtype == torch.float32
    alone = torch.cat([model(x[i : i + 1]) for i in (599, 344, 343, 0)])
    assert torch.allclose(logits[[0, 255, 256, 599]], alone.float(), rtol=0, atol=1e-6)
    assert torch.equal(predict(model.train(), lambda part: x[part], rows), predict_proba(logits))


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
    assert model.patches(torch.zeros(2, context, 3)).shape == (n_patches, 2, patch * 3)


def test_matrices_start_with_the_variance_of_one_over_their_inputs():
    torch.manual_seed(0)
    model = PatchTST(replace(SMALL, d_model=64, n_layers=8, d_ff=256))
    layer = model.layers[0]
    for matrix in (model.embed, layer.qkv, layer.out, layer.up, layer.down):
        std = 1 / math.sqrt(matrix.in_features)
        assert matrix.weight.std().item() == pytest.approx(std, rel=0.05)
        assert not matrix.bias.any()


@pytest.mark.parametrize("rate", [0.02, 0.5, 0.7])
def test_the_first_forecast_of_a_new_model_is_the_base_rate(rate):
    model = build(SMALL, "32-true", seed=0, base_rate=rate)
    logits = model.eval()(contexts(50).float())
    assert torch.allclose(predict_proba(logits), torch.tensor(rate))


def test_residual_branches_are_divided_by_depth():
    for n_layers in (1, 2, 8):
        layer = PatchTST(replace(SMALL, n_layers=n_layers)).layers[0]
        assert layer.share == 1 / n_layers


@pytest.mark.parametrize("dropout", [0.12, 0.2, 0.25])
def test_a_mask_drops_the_share_it_is_told(dropout):
    torch.manual_seed(0)
    like = torch.empty(100, 10, 101)
    mask = keep_mask(like, 2, dropout, torch.bfloat16)
    assert mask.shape == (2, 100, 10, 101)
    assert mask.dtype == torch.bfloat16
    assert set(mask.unique().tolist()) == {0.0, 1.0}
    error = math.sqrt(dropout * (1 - dropout) / mask.numel())
    assert abs(1 - mask.double().mean() - dropout) < 4 * error


def test_a_mask_of_any_size_has_the_shape_and_type_asked_for():
    for size in range(1, 10):  # four elements come from one draw
        for dtype in (torch.float32, torch.float64, torch.bfloat16):
            mask = keep_mask(torch.empty(size, 1), 1, 0.5, dtype)
            assert (mask.shape, mask.dtype) == ((1, size, 1), dtype)


def test_elements_of_masks_are_independent_of_one_another():
    torch.manual_seed(0)
    masks = keep_mask(torch.empty(400_000), 2, 0.25, torch.float64)
    error = 1 / math.sqrt(400_000)
    assert abs(torch.corrcoef(masks)[0, 1]) < 4 * error  # the two branches of a layer
    draws = torch.corrcoef(masks[0].view(-1, 4).T) - torch.eye(4)
    assert draws.abs().max() < 4 * 2 * error  # the four elements of a draw
    after = torch.corrcoef(torch.stack([masks[0, :-4], masks[0, 4:]]))[0, 1]
    assert abs(after) < 4 * error  # a draw and the next one


def test_masks_follow_from_the_seed():
    like = torch.empty(1000)
    torch.manual_seed(5)
    first, second = (keep_mask(like, 2, 0.2, torch.float32) for _ in range(2))
    torch.manual_seed(5)
    assert torch.equal(first, keep_mask(like, 2, 0.2, torch.float32))
    assert not torch.equal(first, second)


def test_dropout_leaves_the_mean_of_a_branch_where_it_is():
    torch.manual_seed(0)
    layer, n = model_of().layers[0], 20_000
    x = torch.randn(5, 1, SMALL.d_model, dtype=torch.float64).expand(5, n, SMALL.d_model)
    with torch.no_grad():
        layer.down.weight.zero_()  # leaves the branch of attention
        outputs = layer(x, keep_mask(x, 2, SMALL.dropout, x.dtype))
        error = outputs.std(1) / math.sqrt(n)
        assert (error > 0).all()
        assert ((outputs.mean(1) - layer(x[:, :1])[:, 0]).abs() < 5 * error).all()


def test_dropout_leaves_the_mean_of_embeddings_where_it_is():
    torch.manual_seed(0)
    model, n = model_of(replace(SMALL, n_layers=0)), 20_000
    model.norm = nn.Identity()  # the logit is linear in the embeddings now
    x = contexts(1).expand(n, -1, -1)
    with torch.no_grad():
        expected, logits = model(x[:1]), model.train()(x)
    error = logits.std() / math.sqrt(n)
    assert error > 0
    assert abs(logits.mean() - expected) < 4 * error


def test_recomputed_layers_give_the_very_gradients_of_kept_ones():
    model, x = model_of().float().train(), contexts().float()
    calls = []
    model.layers[0].register_forward_pre_hook(lambda *_: calls.append(1))
    found = []
    for recompute in (False, True):
        model.recompute = recompute
        torch.manual_seed(7)
        model(x).square().sum().backward()
        found.append([parameter.grad.clone() for parameter in model.parameters()])
        model.zero_grad(set_to_none=True)
    assert len(calls) == 1 + 2
    assert all(torch.equal(kept, again) for kept, again in zip(*found, strict=True))


def gradients(model: PatchTST, x: Tensor, *, mixed: bool) -> tuple[Tensor, Tensor]:
    """Return logits and all gradients in one vector, in float32 or under autocast."""
    with torch.autocast(x.device.type, torch.bfloat16, enabled=mixed):
        logits = model(x).float()
    model.zero_grad(set_to_none=True)
    logits.square().sum().backward()
    found = [parameter.grad for parameter in model.parameters()]
    assert all(gradient.dtype == torch.float32 for gradient in found)
    return logits.detach(), torch.cat([gradient.flatten() for gradient in found])


def with_a_head(model: PatchTST) -> PatchTST:
    """Return the model with a head that is not zero, as after its first steps."""
    with torch.no_grad():
        model.head.weight.normal_(std=0.1)
    return model


@pytest.mark.parametrize("device", DEVICES)
def test_autocast_comes_close_to_float32_forward_and_backward(device):
    shape = replace(SMALL, d_model=64, n_heads=4, d_ff=128, dropout=0.0)
    torch.manual_seed(0)
    model = with_a_head(PatchTST(shape)).to(device).train()
    x = contexts(16).float().to(device)
    exact, exact_gradient = gradients(model, x, mixed=False)
    logits, gradient = gradients(model, x, mixed=True)
    assert not torch.equal(logits, exact)
    assert (logits - exact).norm() < 0.02 * exact.norm()
    assert (gradient - exact_gradient).norm() < 0.02 * exact_gradient.norm()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("mixed", [False, True])
def test_training_mode_with_dropout_works_on_every_device(device, mixed):
    torch.manual_seed(0)
    model = with_a_head(PatchTST(SMALL)).to(device).train()
    x = contexts(16).float().to(device)
    logits, gradient = gradients(model, x, mixed=mixed)
    assert logits.isfinite().all()
    assert gradient.isfinite().all()
    assert gradient.norm() > 0


@pytest.mark.skipif(
    not any(shutil.which(name) for name in ("c++", "g++", "clang++", "cl")), reason="no compiler"
)
def test_a_compiled_layer_gives_what_an_eager_one_gives():
    layer = model_of().float().layers[0]
    x = torch.randn(5, 4, SMALL.d_model)
    keep = keep_mask(x, 2, SMALL.dropout, x.dtype)
    with torch.no_grad():
        eager, compiled = layer(x, keep), torch.compile(layer, dynamic=False)(x, keep)
    assert torch.allclose(compiled, eager, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_256_layers_of_256_train_without_warm_up_and_do_not_diverge():
    torch.manual_seed(0)
    shape = PatchTSTConfig(
        n_features=2,
        context_length=4,
        patch_length=2,
        stride=2,
        d_model=256,
        n_layers=256,
        n_heads=4,
        d_ff=256,
        dropout=0.0,
    )
    model = PatchTST(shape).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=6e-4, fused=True)
    x, labels = contexts(8, shape).float(), (torch.arange(8) % 2).float()
    losses = []
    for _ in range(20):
        loss = F.binary_cross_entropy_with_logits(model(x), labels)
        optimizer.zero_grad(set_to_none=False)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0, error_if_nonfinite=True)
        optimizer.step()
        losses.append(loss.item())
    assert all(loss < 5 for loss in losses)  # NaN fails too


def test_a_probability_is_made_from_logits_in_one_place_only():
    places = []
    for path in sorted([*ROOT.glob("src/**/*.py"), *ROOT.glob("stages/**/*.py")]):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            for field in ("attr", "id", "name"):  # x.sigmoid, sigmoid, import sigmoid
                text = getattr(node, field, None)
                if isinstance(text, str) and re.search("sigmoid|expit", text.lower()):
                    places.append((path.name, text))
    assert places == [("patchtst.py", "sigmoid")]
