import shutil
from pathlib import Path

import pytest
from small_study import SmallStudy, small_study


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> SmallStudy:
    return small_study(tmp_path_factory.mktemp("small") / "study")


@pytest.fixture
def study(template: SmallStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SmallStudy:
    """Return a copy of the small study; it is the current folder."""
    shutil.copytree(template.path, tmp_path / "study", symlinks=True)
    study = SmallStudy(tmp_path / "study")
    for key, value in study.environment().items():
        monkeypatch.setenv(key, value)
    monkeypatch.chdir(study.path)
    return study
