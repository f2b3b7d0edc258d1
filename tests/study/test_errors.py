"""Messages are short and contain no password; a disk at fault is an expected failure."""

import errno
import os

import pytest

from patchscale.study.errors import OF_MACHINE, of_machine, printable, shown, without_secrets
from patchscale.verify.strict_lock import shortened


@pytest.mark.parametrize("value", [1, 0.5, None, True, "a", "it's", [0.5, 0.1], {"a": 1}])
def test_short_value_is_shown_as_its_repr(value: object) -> None:
    assert shown(value) == repr(value)


@pytest.mark.parametrize(
    "value",
    [
        "x" * 10_000,
        [["y" * 1000] * 1000] * 1000,
        10**4000,
        16**10_000,
        [16**10_000],
        {"k" * 999: 1},
    ],
    ids=range(6),
)
def test_long_value_is_cut(value: object) -> None:
    assert len(shown(value)) <= 100


def test_control_characters_are_escaped() -> None:
    assert shown("a\x1b[31m\nb") == r"'a\x1b[31m\nb'"


PASSWORD = "hunter2/@x"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("sqlite:///mlflow.db", "sqlite:///mlflow.db"),
        ("at http://me:hunter2@host:5000/api, later", "at http://host:5000/api, later"),
        ("postgresql+psycopg://me:a/b@c?d@host/db?x=1", "postgresql+psycopg://host/db"),
        ("'https://token@host/a?key=hunter2' failed", "'https://host/a' failed"),
        ("with url: /?token=hunter2/api (Caused by", "with url: / (Caused by"),
        ("two: s3://k:s@a/b and HTTP://u@b", "two: s3://a/b and HTTP://b"),
        ("what? nothing; a = b @ c", "what? nothing; a = b @ c"),
    ],
)
def test_an_address_has_no_user_no_password_and_no_query(text: str, expected: str) -> None:
    assert without_secrets(text) == expected


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WANDB_API_KEY", PASSWORD),
        ("MLFLOW_TRACKING_PASSWORD", PASSWORD),
        ("RAY_AUTH_TOKEN", PASSWORD),
        ("AWS_SECRET_ACCESS_KEY", PASSWORD),
        ("PATCHSCALE_MLFLOW", f"http://me:{PASSWORD}@host"),
        ("PATCHSCALE_MLFLOW", "http://me:hunter2%2F%40x@host"),
    ],
)
def test_what_the_environment_keeps_secret_is_not_shown(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    assert without_secrets(f"{PASSWORD} is false") == "*** is false"


def test_a_full_or_read_only_disk_is_a_failure_that_can_be_resumed() -> None:
    for number in (errno.ENOSPC, errno.EROFS, errno.EACCES):
        assert number in OF_MACHINE
        stopped = of_machine(OSError(number, os.strerror(number), "/data/x"))
        assert stopped is not None
        assert stopped.exit_code == 75
        assert str(stopped).startswith(f"/data/x: {os.strerror(number)}; the same command")


def test_a_file_that_is_missing_is_no_fault_of_the_machine() -> None:
    assert of_machine(FileNotFoundError(errno.ENOENT, "No such file", "x")) is None
    assert of_machine(OSError("no number")) is None
    assert of_machine(ValueError("(os error 2)")) is None


def test_a_full_disk_is_recognised_in_the_error_of_a_library() -> None:
    stopped = of_machine(RuntimeError("I/O error: No space left on device (os error 28)"))
    assert str(stopped).startswith("No space left on device; the same command")


@pytest.mark.parametrize("address", ["https://u:{}@h/x", "https:/u:{}@h/x", "s3://u:{}@h/{}"])
def test_a_password_is_left_out_before_a_value_is_cut(address: str) -> None:
    for length in (3, 8, 40, 90):
        password = "pässw0rd" * 12
        value = address.replace("{}", password[:length], 1).replace("{}", "x" * 100)
        for found in (shown(value), shown([value]), shown({"path": value}), shortened(value)):
            assert password[:3] not in found
            assert len(found) <= 100


def test_a_printable_line_has_no_control_characters() -> None:
    assert printable("a\x1b[31m \n b\u202e") == "a?[31m b?"
