"""Reading published outputs over HTTP, from another project and from a clone."""

import shutil
import threading
from collections.abc import Iterator
from functools import partial
from hashlib import md5
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml
from repository import Repository, small_repository

WEIGHTS = "data/weights/2M-h1"


class Handler(SimpleHTTPRequestHandler):
    """Handler of a request that records its answer."""

    server: "Web"

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        self.server.answered.append((self.path, int(code)))

    def log_message(self, *_: object) -> None:
        pass


class Web(ThreadingHTTPServer):
    """HTTP server of a folder, with the path and status of every answer."""

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
        self.answered: list[tuple[str, int]] = []
        self.url = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def served(self, content: bytes) -> bool:
        """Tell whether the object with this content was sent."""
        name = md5(content).hexdigest()
        return (f"/files/md5/{name[:2]}/{name[2:]}", 200) in self.answered


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("project") / "source"


@pytest.fixture(scope="module")
def web(folder: Path) -> Iterator[Web]:
    with Web(folder / "published") as web:
        yield web
        web.shutdown()


@pytest.fixture(scope="module")
def source(folder: Path, web: Web) -> Repository:
    config = f"['remote \"published-web\"']\n    url = {web.url}\n    verify = true\n"
    repo = small_repository(folder, config)
    repo.do("dvc", "push", "-q")
    repo.commit("published")
    return repo


@pytest.fixture
def weights(source: Repository, web: Web) -> bytes:
    """Return the content of the published weights; forget earlier answers of the server."""
    web.answered.clear()
    return (source.path / WEIGHTS / "seed0.bin").read_bytes()


@pytest.fixture
def project(tmp_path: Path) -> Repository:
    """Return the empty folder of another project."""
    (tmp_path / "project").mkdir()
    return Repository(tmp_path / "project")


def files(folder: Path) -> dict[str, bytes]:
    return {each.name: each.read_bytes() for each in folder.iterdir()}


def test_get_reads_over_http(
    source: Repository, web: Web, weights: bytes, project: Repository
) -> None:
    url = source.path.as_uri()
    project.do("dvc", "get", "--remote", "published-web", url, WEIGHTS, "-o", "out")
    assert files(project.path / "out") == {"seed0.bin": weights}
    assert web.served(weights)


def test_get_takes_the_address_of_a_remote_that_the_source_does_not_name(
    source: Repository, web: Web, weights: bytes, project: Repository, tmp_path: Path
) -> None:
    other = source.clone(tmp_path / "other")
    config = other.path / ".dvc/config"
    config.write_text(config.read_text().replace("published-web", "unused"))
    other.commit("another name")
    words = ["dvc", "get", other.path.as_uri(), WEIGHTS, "-o", "out", "--remote", "published-web"]
    unknown = project.call(*words)
    assert unknown.returncode != 0
    assert "'published-web' doesn't exist" in unknown.stderr
    project.do(*words, "--remote-config", f"url={web.url}")
    assert files(project.path / "out") == {"seed0.bin": weights}
    assert web.served(weights)


def test_get_without_http_fails_because_the_folder_is_inside_the_repository(
    source: Repository, web: Web, weights: bytes, project: Repository
) -> None:
    done = project.call("dvc", "get", source.path.as_uri(), WEIGHTS, "-o", "out")
    assert done.returncode != 0
    assert "published/files/md5" in done.stderr
    assert not (project.path / "out").exists()
    assert web.answered == []


def test_import_keeps_the_commit_and_a_clone_of_the_importer_pulls_it(
    source: Repository, web: Web, weights: bytes, project: Repository, tmp_path: Path
) -> None:
    project.do("git", "init", "-q", "-b", "main")
    project.do("dvc", "init", "-q")
    url = source.path.as_uri()
    project.do("dvc", "import", "--remote", "published-web", url, WEIGHTS, "-o", "imported")
    assert files(project.path / "imported") == {"seed0.bin": weights}
    locked = yaml.safe_load((project.path / "imported.dvc").read_text())["deps"][0]["repo"]
    assert locked["rev_lock"] == source.do("git", "rev-parse", "HEAD").strip()
    project.commit("imported")

    web.answered.clear()
    clone = project.clone(tmp_path / "clone")
    clone.do("dvc", "pull", "-q")
    assert files(clone.path / "imported") == {"seed0.bin": weights}
    assert web.served(weights)


def test_pull_reads_over_http(source: Repository, web: Web, weights: bytes, tmp_path: Path) -> None:
    clone = source.clone(tmp_path / "clone")
    shutil.rmtree(clone.path / "published")
    clone.do("dvc", "pull", "-q", "-r", "published-web")
    assert clone.content() == source.content()
    assert web.served(weights)


def test_an_object_damaged_on_the_server_is_refused(
    source: Repository, weights: bytes, tmp_path: Path
) -> None:
    shutil.copytree(source.path / "published", tmp_path / "published")
    name = md5(weights).hexdigest()
    stored = tmp_path / "published/files/md5" / name[:2] / name[2:]
    stored.unlink()  # it may be read-only
    stored.write_bytes(weights[:-1] + bytes([weights[-1] ^ 1]))
    clone = source.clone(tmp_path / "clone")
    with Web(tmp_path / "published") as web:
        address = f"['remote \"published-web\"']\n    url = {web.url}\n"
        (clone.path / ".dvc/config.local").write_text(address)
        done = clone.call("dvc", "pull", "-r", "published-web")
        web.shutdown()
    assert done.returncode != 0
    assert WEIGHTS in done.stderr
    assert not (clone.path / WEIGHTS / "seed0.bin").exists()
    assert clone.content("data/results") == source.content("data/results")
