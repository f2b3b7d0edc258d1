import pytest
from conftest import ROOT

from patchscale.features.tiers import TIERS
from patchscale.model.size import count_params, same_proportions, solve_d_ff
from patchscale.study.errors import InputError
from patchscale.study.params import load_params

PARAMS = load_params(ROOT)
TINY = {"n_features": 2, "patch_length": 5, "n_patches": 3, "d_model": 4, "n_layers": 2}


def test_count_equals_a_tiny_network_added_up_by_hand() -> None:
    embedding = (10 * 4 + 4) + 3 * 4  # 2 features x 5 days -> 4, bias, 3 positions
    attention = 4 * (4 * 4 + 4)  # query, key, value, output, each with bias
    feed_forward = (4 * 8 + 8) + (8 * 4 + 4)
    norms = 2 * (4 + 4)
    head = (4 + 4) + 3 * 4 + 1  # final norm, then 3 patches x 4 -> 1 with bias
    expected = embedding + 2 * (attention + feed_forward + norms) + head
    assert expected == 421
    assert count_params(**TINY, d_ff=8) == expected


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("name", [name for name in PARAMS.cells if not name.startswith("20K")])
def test_every_cell_is_the_size_its_budget_says(name: str, tier: str) -> None:
    cell = PARAMS.cells[name]
    wanted = PARAMS.budgets[cell.budget].n_params
    shape = {
        "n_features": len(TIERS[tier]),
        "patch_length": PARAMS.window.patch_length,
        "n_patches": PARAMS.window.n_patches,
        "d_model": cell.d_model,
        "n_layers": cell.n_layers,
    }
    d_ff = solve_d_ff(wanted, **shape)
    assert d_ff % 8 == 0
    assert cell.d_model <= d_ff <= 8 * cell.d_model
    assert abs(count_params(**shape, d_ff=d_ff) - wanted) <= 0.02 * wanted


@pytest.mark.parametrize("d_ff", [8, 16, 24, 32])
def test_solution_is_the_d_ff_that_was_counted(d_ff: int) -> None:
    assert solve_d_ff(count_params(**TINY, d_ff=d_ff), **TINY) == d_ff


@pytest.mark.parametrize("d_ff", [40, 80])
def test_feed_forward_wider_than_eight_times_the_model_is_refused(d_ff: int) -> None:
    with pytest.raises(InputError, match=rf"{d_ff} would be needed.*\[4, 32\]"):
        solve_d_ff(count_params(**TINY, d_ff=d_ff), **TINY)


def test_feed_forward_narrower_than_the_model_is_refused() -> None:
    wide = TINY | {"d_model": 64}
    with pytest.raises(InputError, match=r"56 would be needed.*\[64, 512\]"):
        solve_d_ff(count_params(**wide, d_ff=56), **wide)


def test_budget_between_two_counts_is_refused_when_both_miss_by_more_than_the_tolerance() -> None:
    # one step of 8 is 144 of about 500 parameters: half a step misses by 14 %
    between = (count_params(**TINY, d_ff=8) + count_params(**TINY, d_ff=16)) // 2
    with pytest.raises(InputError, match="within 2% of the budget"):
        solve_d_ff(between, **TINY)


def test_refusal_names_the_shape_and_what_is_reachable() -> None:
    low, high = count_params(**TINY, d_ff=4), count_params(**TINY, d_ff=32)
    with pytest.raises(InputError) as caught:
        solve_d_ff(2_000_000, **TINY)
    line = str(caught.value)
    assert "d_model=4, n_layers=2 has no d_ff for a budget of 2,000,000" in line
    assert f"(reachable: {low:,} to {high:,})" in line
    assert "\n" not in line


INPUTS = {"n_features": 22, "patch_length": 10, "n_patches": 6}
BASE = {"d_model": 64, "n_layers": 4, "n_heads": 4, "d_ff": 256}


@pytest.mark.parametrize("budget", [20_000, 200_000, 2_000_000, 20_000_000, 2_000_000_000])
def test_a_transferred_shape_has_its_count_and_the_proportions_of_the_base(budget: int) -> None:
    shape = same_proportions(budget, **BASE, **INPUTS)
    size = {name: shape[name] for name in ("d_model", "n_layers", "d_ff")}
    assert shape["n_params"] == count_params(**INPUTS, **size)
    assert abs(shape["n_params"] / budget - 1) <= 0.02
    assert shape["d_model"] / shape["n_heads"] == 16  # heads keep their width
    close = 1.25 if budget >= 2_000_000 else 2  # few whole numbers are small
    assert 1 / close <= shape["n_layers"] / shape["d_model"] * 16 <= close
    assert 1 / (2 * close) < shape["d_ff"] / shape["d_model"] / 4 < 2 * close


def test_the_shape_of_the_base_transfers_to_itself() -> None:
    size = {name: BASE[name] for name in ("d_model", "n_layers", "d_ff")}
    budget = count_params(**INPUTS, **size)
    assert same_proportions(budget, **BASE, **INPUTS) == BASE | {"n_params": budget}


def test_a_budget_that_no_shape_reaches_is_refused() -> None:
    with pytest.raises(InputError, match="heads 16 wide and 22 features has 3,000 parameters"):
        same_proportions(3000, **BASE, **INPUTS)


def test_wide_heads_leave_a_small_budget_a_shape_far_from_the_proportion() -> None:
    wide = {"d_model": 64, "n_layers": 6, "n_heads": 2, "d_ff": 104}
    shape = same_proportions(20_000, **wide, **INPUTS)
    assert (shape["d_model"], shape["n_heads"], shape["n_layers"]) == (32, 1, 1)
