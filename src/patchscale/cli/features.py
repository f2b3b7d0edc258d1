"""Command `patchscale features`: the data dictionary, whole or of some features."""

from patchscale.features import dictionary
from patchscale.features.formulas import SHARED
from patchscale.features.tiers import TIERS, Feature
from patchscale.study.errors import InputError, shown
from patchscale.study.parser import parser


def main(*words: str) -> None:
    """Print the dictionary, or what it says of the features that are named."""
    command = parser(
        "features",
        "Say what features are: kind, warm-up, formula and source. Without a name the whole data\n"
        "dictionary is printed in Markdown, as in docs/features.md.",
        "rsi_daily log_atr_pct",
        "> docs/features.md",
    )
    command.add_argument("names", nargs="*", metavar="NAME", help="name of a feature")
    names = command.parse_args(words).names
    if not names:
        print(dictionary.dictionary(), end="")
        return
    known = {feature.name: feature for tier in TIERS.values() for feature in tier}
    for name in names:
        if name not in known:
            raise InputError(
                f"{shown(name)} is no feature; `patchscale features` lists all {len(known)}"
            )
    print("\n\n".join(explained(known[name]) for name in names))


def explained(feature: Feature) -> str:
    """Return what the dictionary says of a feature, and of the functions that it names."""
    tiers = [name for name, features in TIERS.items() if feature in features]
    how = "inside each window" if feature.kind == "level" else "with statistics of the training"
    lines = [
        f"{feature.name}: {feature.kind}, standardised {how}",
        f"  family   {feature.family}",
        f"  formula  {dictionary.code(feature.formula)}",
        f"  warm-up  {feature.warm_up} sessions",
        f"  tiers    {', '.join(tiers)}",
    ]
    if cited := sorted(dictionary.sources(feature.formula)):
        lines.append(f"  source   {'; '.join(cited)}")
    used = dict.fromkeys(dictionary.words(feature.formula))
    lines += [
        f"  {name}: {dictionary.meaning(dictionary.FUNCTIONS[name])}"
        for name in used
        if name in dictionary.FUNCTIONS
    ]
    lines += [f"  {name} = {dictionary.code(SHARED[name])}" for name in used if name in SHARED]
    return "\n".join(lines)
