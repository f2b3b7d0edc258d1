"""Push and pull through dvc-s3, with rclone as S3 server on loopback.

Each test starts a server: 45 s for all of them.
"""

import json
import shutil
import signal
import sys
from collections.abc import Iterator
from hashlib import md5
from pathlib import Path

import pytest
from repository import SIZES, Repository, small_repository
from s3_server import KEY, SECRET, KillingProxy, Server, find_rclone

pytest.importorskip("dvc_s3")
pytestmark = pytest.mark.slow

LARGE = "data/weights/20M-h1/seed0.bin"
BIG = """\
['remote "big"']
    url = s3://bucket/dvc
    region = us-east-1
    connect_timeout = 5
    read_timeout = 20
    verify = true
"""


@pytest.fixture(scope="module")
def rclone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return find_rclone(tmp_path_factory.mktemp("rclone"))


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    return small_repository(tmp_path_factory.mktemp("template") / "repo", BIG)


@pytest.fixture
def repo(template: Repository, tmp_path: Path) -> Repository:
    shutil.copytree(template.path, tmp_path / "repo")
    return Repository(tmp_path / "repo")


@pytest.fixture
def server(rclone: Path, tmp_path: Path) -> Iterator[Server]:
    (tmp_path / "server").mkdir()
    server = Server(rclone, tmp_path / "server")
    yield server
    server.kill()


def connect(repo: Repository, port: int, secret: str | None = SECRET) -> None:
    """Write the server's address into .dvc/config.local, with credentials unless secret is None."""
    lines = ["['remote \"big\"']", f"endpointurl = http://127.0.0.1:{port}"]
    if secret is not None:
        lines += [f"access_key_id = {KEY}", f"secret_access_key = {secret}"]
    (repo.path / ".dvc/config.local").write_text("\n".join(lines) + "\n")


def damaged(objects: dict[str, bytes]) -> list[str]:
    """Return the names of objects that are not the MD5 of their content."""
    return [name for name, content in objects.items() if md5(content).hexdigest() != name]


def cached(repo: Repository) -> dict[str, bytes]:
    """Return the complete objects of the repository's cache by their MD5."""
    folders = (repo.path / ".dvc/cache/files/md5").glob("??")
    files = [each for folder in folders for each in folder.iterdir() if each.suffix != ".tmp"]
    return {f"{each.parent.name}{each.stem}": each.read_bytes() for each in files}


def refusal(repo: Repository, *command: str) -> str:
    """Return the stderr of a command that must end with an error and without a traceback."""
    done = repo.call(*command, seconds=180)
    assert done.returncode != 0, done.stdout
    assert "ERROR: " in done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def test_another_clone_pulls_the_pushed_outputs_byte_for_byte(
    repo: Repository, server: Server, tmp_path: Path
) -> None:
    connect(repo, server.port)
    repo.do("dvc", "push", "-r", "big")
    assert server.stored() == cached(repo)
    clone = repo.clone(tmp_path / "clone")
    connect(clone, server.port)
    clone.do("dvc", "pull", "-r", "big")
    assert clone.content() == repo.content()
    assert {name: len(content) for name, content in clone.content().items()} == {
        f"{folder}/seed{seed}.bin": size
        for folder, sizes in SIZES.items()
        for seed, size in enumerate(sizes)
    }


def test_a_push_sends_the_missing_objects_and_a_second_push_nothing(
    repo: Repository, server: Server
) -> None:
    def written() -> dict[Path, int]:
        return {p: p.stat().st_mtime_ns for p in server.objects.rglob("*") if p.is_file()}

    server.fill(repo)
    content = (repo.path / LARGE).read_bytes()
    listing = [{"md5": md5(content).hexdigest(), "relpath": "seed0.bin"}]
    folder = md5(json.dumps(listing).encode()).hexdigest() + ".dir"
    for name in (listing[0]["md5"], folder):
        (server.objects / name[:2] / name[2:]).unlink()
    present = written()
    connect(repo, server.port)
    assert "2 files pushed" in repo.do("dvc", "push", "-r", "big")
    pushed = written()
    assert pushed.items() > present.items()
    assert server.stored() == cached(repo)
    assert "Everything is up to date" in repo.do("dvc", "push", "-r", "big")
    assert written() == pushed


def test_a_wrong_secret_is_refused_and_changes_nothing(
    repo: Repository, server: Server, tmp_path: Path
) -> None:
    before, kept = repo.content(), cached(repo)
    connect(repo, server.port, "wrong-secret")
    error = refusal(repo, "dvc", "push", "-r", "big")
    assert "Forbidden" in error
    assert "wrong-secret" not in error
    assert server.stored() == {}
    assert repo.content() == before
    assert cached(repo) == kept

    server.fill(repo)
    clone = repo.clone(tmp_path / "clone")
    connect(clone, server.port, "wrong-secret")
    assert "Forbidden" in refusal(clone, "dvc", "pull", "-r", "big")
    assert clone.content() == cached(clone) == {}


def test_a_push_cut_by_a_killed_server_leaves_no_partial_object_and_the_next_completes_it(
    repo: Repository, server: Server, tmp_path: Path
) -> None:
    before, kept = repo.content(), cached(repo)
    proxy = KillingProxy(server, n_bytes=5_000_000)  # all but the large file are 2 MB
    connect(repo, proxy.port)
    assert f"127.0.0.1:{proxy.port}" in refusal(repo, "dvc", "push", "-r", "big")
    assert proxy.left <= 0
    assert repo.content() == before
    assert cached(repo) == kept
    assert damaged(server.stored()) == []

    server.start()
    clone = repo.clone(tmp_path / "clone")
    connect(clone, proxy.port)
    refusal(clone, "dvc", "pull", "-r", "big")
    assert clone.content().items() <= before.items()
    assert LARGE not in clone.content()

    repo.do("dvc", "push", "-r", "big")
    assert server.stored() == kept
    clone.do("dvc", "pull", "-r", "big")
    assert clone.content() == before


def test_a_pull_cut_by_a_killed_server_leaves_no_partial_file_and_the_next_completes_it(
    repo: Repository, server: Server, tmp_path: Path
) -> None:
    server.fill(repo)
    proxy = KillingProxy(server, n_bytes=5_000_000)
    clone = repo.clone(tmp_path / "clone")
    connect(clone, proxy.port)
    assert f"127.0.0.1:{proxy.port}" in refusal(clone, "dvc", "pull", "-r", "big")
    assert proxy.left <= 0
    assert clone.content().items() <= repo.content().items()
    assert LARGE not in clone.content()
    assert damaged(cached(clone)) == []

    server.start()
    clone.do("dvc", "pull", "-r", "big")
    assert clone.content() == repo.content()


@pytest.mark.skipif(sys.platform == "win32", reason="SIGSTOP is POSIX")
def test_a_push_ends_when_the_server_stops_answering(repo: Repository, server: Server) -> None:
    config = repo.path / ".dvc/config"
    config.write_text(config.read_text().replace("read_timeout = 20", "read_timeout = 1"))
    connect(repo, server.port)
    server.process.send_signal(signal.SIGSTOP)
    assert "Read timeout" in refusal(repo, "dvc", "push", "-r", "big")


def test_an_object_damaged_on_the_server_is_refused(
    repo: Repository, server: Server, tmp_path: Path
) -> None:
    server.fill(repo)
    name = md5((repo.path / LARGE).read_bytes()).hexdigest()
    stored = server.objects / name[:2] / name[2:]
    content = bytearray(stored.read_bytes())
    content[len(content) // 2] ^= 1
    stored.unlink()  # the copy is read-only, as the cache is
    stored.write_bytes(content)
    clone = repo.clone(tmp_path / "clone")
    connect(clone, server.port)
    assert "failed to pull" in refusal(clone, "dvc", "pull", "-r", "big")
    assert LARGE not in clone.content()
    assert damaged(cached(clone)) == []


def test_a_clone_without_credentials_pulls_everything_but_the_weights_of_the_second_remote(
    repo: Repository, server: Server, tmp_path: Path
) -> None:
    connect(repo, server.port)
    repo.do("dvc", "push", "results", "weights@2M-h1")
    repo.do("dvc", "push", "-r", "big", "weights")
    repo.commit("published")
    everything = repo.content()
    rest = {name: content for name, content in everything.items() if name != LARGE}

    clone = repo.clone(tmp_path / "clone")
    connect(clone, server.port, secret=None)
    assert "20M-h1" in refusal(clone, "dvc", "pull")
    assert clone.content() == rest
    clone.do("dvc", "pull", "--allow-missing")
    assert "credentials" in refusal(clone, "dvc", "pull", "-r", "big", "weights")
    assert clone.content() == rest

    connect(clone, server.port)
    clone.do("dvc", "pull", "-r", "big", "weights")
    assert clone.content() == everything
