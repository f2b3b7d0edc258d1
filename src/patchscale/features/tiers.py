"""Feature tiers: the columns of each, their kinds and their warm-up."""

from dataclasses import dataclass
from typing import Literal

from patchscale.features import catalogue
from patchscale.study.errors import InputError, shown

Kind = Literal["level", "stationary"]


@dataclass(frozen=True)
class Feature:
    """A column of a tier."""

    name: str
    kind: Kind
    family: str
    warm_up: int
    """Number of sessions at the start without a value."""
    formula: str
    """Expression; a citation may follow as a comment."""


def read_catalogue(text: str) -> tuple[Feature, ...]:
    """Return the features of a table of the catalogue, in its order."""
    features, family = [], ""
    for line in text.strip().splitlines():
        if line.endswith(":"):
            family = line[:-1]
            continue
        name, letter, warm_up, formula = line.split(None, 3)
        kind: Kind = "level" if letter == "L" else "stationary"
        features.append(Feature(name, kind, family, int(warm_up), formula))
    return tuple(features)


A20 = read_catalogue(catalogue.A20)
BAR = read_catalogue(catalogue.BAR)
A50 = A20 + read_catalogue(catalogue.A50)
A100 = A50 + read_catalogue(catalogue.A100)
A200 = A100 + read_catalogue(catalogue.A200)
VIX = read_catalogue(catalogue.VIX)
SCALE = read_catalogue(catalogue.SCALE)
"""The level of volatility, part of every tier: normalised windows do not show it."""
NAMED = {"a20": A20, "a25": A20 + BAR, "a50": A50, "a100": A100, "a200": A200}
PLAIN = {name: SCALE + features for name, features in NAMED.items()}
TIERS = PLAIN | {f"{name}c": features + VIX for name, features in PLAIN.items()}
WARM_UP = max(feature.warm_up for tier in TIERS.values() for feature in tier)
"""Number of sessions dropped from every tier: the longest warm-up, so that all share dates."""


def tier_features(tier: str) -> tuple[Feature, ...]:
    """Return the features of a tier; raise InputError if there is no such tier."""
    if tier not in TIERS:
        raise InputError(f"features.tier: {shown(tier)} is unknown; allowed: {', '.join(TIERS)}")
    return TIERS[tier]
