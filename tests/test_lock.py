"""dvc.lock is of the code and parameters beside it: a bare `dvc repro` has nothing to do."""

from conftest import ROOT

from patchscale.verify import dvc_md5, locked_stages


def test_every_stage_was_committed_with_the_code_that_is_here() -> None:
    stale = {
        f"{name}: {dep['path']}"
        for name, stage in locked_stages(ROOT / "dvc.lock").items()
        for dep in stage["deps"]
        if dep["path"].startswith(("src/", "stages/", "params.yaml"))
        and dep["md5"] != dvc_md5(ROOT / dep["path"])
    }
    assert stale == set()
