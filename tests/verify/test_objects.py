"""Objects of the cache and of published/ are what their names say, and listings stay inside."""

import json
import os

import pytest
from locked import cache_of, lock_of, md5, small_study, write

from patchscale.verify.objects import cached, published

LISTED = {"md5": "0" * 32, "relpath": "seed0"}


def differing(rows):
    return [row for row in rows if row.verdict == "differs"]


@pytest.mark.parametrize(
    ("content", "whose"),
    [
        (b"date,close,2M-h1", "data/2M-h1.csv of train@2M-h1"),
        (b"weights of 2M-h1", "models/2M-h1/seed0 of train@2M-h1"),
    ],
)
def test_a_damaged_cache_object_is_named_with_its_file_and_the_way_out(tmp_path, content, whose):
    lock = lock_of(small_study(tmp_path))
    assert [(row.what, row.verdict) for row in cached(lock, tmp_path)] == [
        ("7 cache objects", "reproduced")
    ]
    path = cache_of(tmp_path, md5(content))
    write(path, content[:-1])
    (row,) = differing(cached(lock, tmp_path))
    assert row.what == f"cache object of {whose}"
    assert f"rm {path.relative_to(tmp_path)}" in row.detail


def test_a_damaged_listing_of_a_cached_folder_is_named(tmp_path):
    lock = lock_of(small_study(tmp_path))
    listing = cache_of(tmp_path, lock["train@2M-h1"]["outs"][2]["md5"])
    write(listing, b"not json")
    (row,) = differing(cached(lock, tmp_path))
    assert row.what == "cache object of models/2M-h1 of train@2M-h1"


def test_what_is_not_cached_is_no_fault(tmp_path):
    lock = lock_of(small_study(tmp_path))
    cache_of(tmp_path, md5(b"weights of 2M-h1")).unlink()
    assert [row.what for row in cached(lock, tmp_path)] == ["6 cache objects"]


@pytest.mark.parametrize(
    "listing",
    [
        [LISTED | {"relpath": "../outside"}],
        [LISTED | {"relpath": "/outside"}],
        [LISTED | {"relpath": "a/../../outside"}],
        [LISTED | {"relpath": "..\\outside"}],
        [LISTED | {"relpath": ""}],
        [LISTED | {"relpath": 3}],
        [LISTED | {"md5": "../" * 10 + "outside"}],
        [LISTED | {"more": 1}],
        [LISTED, LISTED],
        [{"relpath": "seed0"}],
        {"md5": "0" * 32},
        ["seed0"],
        "seed0",
        None,
    ],
    ids=str,
)
def test_a_listing_that_leads_elsewhere_or_has_another_form_differs(tmp_path, listing):
    text = json.dumps(listing).encode()
    lock = lock_of(small_study(tmp_path))
    name = f"{md5(text)}.dir"
    lock["train@2M-h1"]["outs"][2]["md5"] = name
    write(cache_of(tmp_path, name), text)
    (row,) = differing(cached(lock, tmp_path))
    assert "not a listing" in row.detail
    assert "\n" not in row.detail
    write(tmp_path / "published/files/md5" / name[:2] / name[2:], text)
    (row,) = differing(published(tmp_path))
    assert row.what.startswith("published object published/files/md5/")
    assert "not a listing" in row.detail


def test_a_listing_that_is_nested_too_deep_differs(tmp_path):
    text = b"[" * 200_000
    name = f"{md5(text)}.dir"
    write(tmp_path / "published/files/md5" / name[:2] / name[2:], text)
    (row,) = differing(published(tmp_path))
    assert "not a listing" in row.detail


OLD_LAYOUT = f"../../{md5(b'[]')[:2]}/{md5(b'[]')[2:]}"


@pytest.mark.parametrize(
    "name",
    [
        "00/" + "0" * 30,
        "00/" + "0" * 30 + ".dir",
        "re/adme",
        "00/x/y/z",
        OLD_LAYOUT,
        f"{OLD_LAYOUT}.dir",
        "../../readme",
    ],
)
def test_a_published_object_without_its_md5_differs(tmp_path, name):
    sound = md5(b"sound")
    store = tmp_path / "published/files/md5"
    write(store / sound[:2] / sound[2:], b"sound")
    assert [row.what for row in published(tmp_path)] == ["1 published objects"]
    write(store / name, b"[]")
    assert [row.what.split("/", 1)[0] for row in differing(published(tmp_path))] == [
        "published object published"
    ]


def test_a_published_object_that_is_a_link_differs(tmp_path):
    target = write(tmp_path / "outside", b"content")
    name = md5(b"content")
    link = tmp_path / "published/files/md5" / name[:2] / name[2:]
    link.parent.mkdir(parents=True)
    link.symlink_to(target)
    (row,) = differing(published(tmp_path))
    assert "not an object that DVC has written" in row.detail


@pytest.mark.parametrize("name", [md5(b"content"), "readme"])
@pytest.mark.parametrize("kind", ["pipe", "folder"])
def test_a_published_object_that_is_no_file_is_not_opened(tmp_path, name, kind):
    place = tmp_path / "published/files/md5" / name[:2] / name[2:]
    place.parent.mkdir(parents=True)
    if kind == "pipe":
        os.mkfifo(place)  # to open it would wait for a writer
        (row,) = differing(published(tmp_path))
        assert row.detail == "not an object that DVC has written; remove it"
    else:
        place.mkdir()
        assert differing(published(tmp_path)) == []
