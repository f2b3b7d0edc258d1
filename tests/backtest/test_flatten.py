import json
import math
from dataclasses import astuple, dataclass

import pytest

from patchscale.backtest.bootstrap import UNDEFINED, Estimate
from patchscale.backtest.flatten import flatten, flatten_estimate, restore


@dataclass(frozen=True)
class Part:
    loss: float
    auc: float | None


@dataclass(frozen=True)
class Whole:
    n: int
    skill: Estimate
    part: Part
    seeds: dict[str, Part]
    counts: list[int]
    p: float = math.nan
    scale: Estimate | None = None


PART = Part(0.5, None)
WHOLE = Whole(3, Estimate(0.25, -0.5, 1.0), PART, {"seed0": PART}, [1, 2])
ROW = {
    "n": 3,
    "skill": 0.25,
    "skill_low": -0.5,
    "skill_high": 1.0,
    "part": {"loss": 0.5, "auc": None},
    "seeds": {"seed0": {"loss": 0.5, "auc": None}},
    "counts": [1, 2],
}


def test_an_estimate_becomes_three_keys_of_its_record():
    assert flatten(WHOLE) == ROW
    assert flatten({"a": WHOLE, "b": {}}) == {"a": ROW, "b": {}}


def test_what_is_undefined_is_null():
    assert flatten_estimate("x", UNDEFINED) == {"x": None, "x_low": None, "x_high": None}
    assert flatten_estimate("x", Estimate(1.0, math.nan, math.nan))["x"] == 1.0


def test_a_field_is_left_out_while_it_has_its_default():
    filled = Whole(3, WHOLE.skill, PART, {}, [], p=0.5, scale=Estimate(1.0, 0.0, 2.0))
    row = flatten(filled)
    assert (row["p"], row["scale"], row["scale_low"], row["scale_high"]) == (0.5, 1.0, 0.0, 2.0)


def test_nan_outside_an_estimate_is_not_hidden():
    with pytest.raises(ValueError, match="not JSON compliant"):
        json.dumps(flatten(Part(float("nan"), None)), allow_nan=False)


@dataclass(frozen=True)
class Record:
    n: int
    skill: Estimate
    part: Part
    seeds: dict[str, Part]
    reasons: dict[str, str]


def test_a_record_is_restored_from_its_json():
    record = Record(3, Estimate(0.25, -0.5, 1.0), PART, {"seed0": PART}, {"auc": "one class"})
    assert restore(Record, json.loads(json.dumps(flatten(record)))) == record
    assert restore(Record, flatten(record) | {"trained": True}) == record


def test_null_is_restored_as_undefined():
    row = flatten(Record(3, UNDEFINED, PART, {}, {}))
    assert all(map(math.isnan, astuple(restore(Record, row).skill)))


@dataclass(frozen=True)
class Optional:
    part: Part | None
    auc: float | None


def test_a_record_that_may_be_absent_is_restored():
    for whole in (Optional(PART, 0.5), Optional(None, None)):
        assert restore(Optional, json.loads(json.dumps(flatten(whole)))) == whole
