"""The catalogue: names of features and shared series, and the names in their formulas."""

from inspect import isfunction

from patchscale.features import catalogue, indicators, rolling
from patchscale.features.formulas import CALENDAR, FORMULAS, NUMPY, SHARED
from patchscale.features.tiers import A200, SCALE, VIX

FUNCTIONS = {
    name
    for module in (rolling, indicators)
    for name, value in vars(module).items()
    if isfunction(value)
} | {*NUMPY, "last_week"}
INPUTS = {"open", "high", "low", "close", "volume", "vix", "pi", *CALENDAR}


def names_in(formula: str) -> set[str]:
    return set(compile(formula, formula, "eval").co_names)


def test_catalogue_declares_every_name_once() -> None:
    declared = [line.split()[0] for line in catalogue.SHARED.strip().splitlines()]
    declared += [feature.name for feature in A200 + SCALE + VIX]
    assert sorted(set(declared)) == sorted(declared)
    assert set(declared) == set(FORMULAS)


def test_series_have_no_name_of_a_function_or_an_input() -> None:
    assert set(FORMULAS) & (FUNCTIONS | INPUTS) == set()
    assert not INPUTS & FUNCTIONS


def test_formulas_use_names_that_exist() -> None:
    known = FUNCTIONS | INPUTS | set(FORMULAS)
    unknown = {name: names_in(formula) - known for name, formula in FORMULAS.items()}
    assert {name: names for name, names in unknown.items() if names} == {}


def test_shared_series_and_functions_are_all_used() -> None:
    used = set().union(*(names_in(formula) for formula in FORMULAS.values()))
    assert set(SHARED) - used == set()
    public = {name for name in vars(indicators) if name in FUNCTIONS and not name.startswith("_")}
    assert public - set(vars(rolling)) - used == set()


def test_only_features_of_the_index_read_the_index() -> None:
    def reads(formula: str) -> set[str]:
        direct = names_in(formula)
        return direct.union(*(reads(FORMULAS[name]) for name in direct & set(FORMULAS)))

    readers = {name for name, formula in FORMULAS.items() if "vix" in reads(formula)}
    assert readers == {feature.name for feature in VIX}
