"""dvc.lock is of the code and parameters beside it: a bare `dvc repro` has nothing to do."""

import json
import subprocess

from conftest import ROOT

from patchscale.verify.pipeline import declared_stages
from patchscale.verify.records import dvc_md5, records
from patchscale.verify.strict_lock import strict_stages


def test_every_stage_was_committed_with_the_code_that_is_here() -> None:
    stale = {
        f"{name}: {dep['path']}"
        for name, stage in strict_stages(ROOT / "dvc.lock").items()
        for dep in stage["deps"]
        if dep["path"].startswith(("src/", "stages/", "params.yaml"))
        and dep["md5"] != dvc_md5(ROOT / dep["path"])
    }
    assert stale == set()


def test_every_record_is_of_what_dvc_yaml_declares() -> None:
    stages = declared_stages(ROOT)
    rows = list(records(strict_stages(ROOT / "dvc.lock"), stages, ROOT))
    assert [row for row in rows if row.verdict == "differs"] == []
    assert {row.what for row in rows} >= {f"record of {name}" for name in stages}


def test_all_that_dvc_lock_caches_is_published_in_the_repository() -> None:
    lock = strict_stages(ROOT / "dvc.lock")
    tracked = set(git_files())
    wanted = {
        out["md5"]: f"{out['path']} of {name}"
        for name, stage in lock.items()
        for out in stage["outs"]
        if out["path"] not in tracked
    }
    published = ROOT / "published/files/md5"
    for md5, whose in list(wanted.items()):
        listing = published / md5[:2] / md5[2:]
        if md5.endswith(".dir") and listing.is_file():
            for entry in json.loads(listing.read_text()):
                wanted[entry["md5"]] = f"{entry['relpath']} in {whose}"
    missing = [
        whose for md5, whose in wanted.items() if not (published / md5[:2] / md5[2:]).is_file()
    ]
    assert len(wanted) > 80
    assert missing == []


def git_files() -> list[str]:
    command = ["git", "ls-files", "docs", "metrics", "plots"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()
