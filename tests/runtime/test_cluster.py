"""Every form of RAY_ADDRESS connects, or is refused in one line and in bounded time."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from patchscale.runtime import cluster
from patchscale.study.errors import InputError

TOKEN = "0123456789" * 4
CONNECTS = """
from patchscale.runtime.cluster import connect
from patchscale.study.stage import run

def main():
    connect()
    import ray
    print(ray.get_runtime_context().gcs_address)

if __name__ == "__main__":
    run(main)
"""


def told(address: str, **variables: str) -> tuple[int, str, list[str]]:
    """Connect in another process; return its exit code and what it printed."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", CONNECTS],
        env=kept | {"RAY_ADDRESS": address} | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert time.monotonic() - begun < 60  # 30 s, and the time to start on a busy machine
    return done.returncode, done.stdout.strip(), done.stderr.splitlines()


@pytest.mark.parametrize(
    ("address", "instead"),
    [
        ("ray://head:10001", "head:6379"),
        ("http://head:8265", "head:6379"),
        ("https://user:hunter2@head:8265/api?token=hunter2", "head:6379"),
        ("head", "head:6379"),
        ("head:", "head:6379"),
        ("10.0.0.7", "10.0.0.7:6379"),
        ("[::1]", "[::1]:6379"),
        (":6379", "host:6379"),
        ("head:port", "head:6379"),
    ],
)
def test_an_address_of_another_kind_is_refused_with_what_to_write(
    address: str, instead: str
) -> None:
    with pytest.raises(InputError) as raised:
        cluster.check(address)
    line = str(raised.value)
    assert line.startswith("RAY_ADDRESS: '")
    assert line.endswith(f": write '{instead}', the head node and its port")
    assert "hunter2" not in line


@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.0.0.1:99999", "no-such-host.invalid:6379"])
def test_an_address_where_nobody_listens_is_named(address: str) -> None:
    with pytest.raises(InputError, match=f"^RAY_ADDRESS: '{address}': does not answer; `ray start"):
        cluster.check(address)


def test_a_server_that_is_no_cluster_is_named_in_bounded_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cluster, "KNOWN_WITHIN", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(InputError, match=f"^RAY_ADDRESS: '{address}': is not a Ray cluster$"):
            cluster.check(address)
    assert cluster.ANSWERS_WITHIN + 20.0 <= 30


@pytest.mark.parametrize(
    ("code", "said", "line"),
    [
        (0, "", ""),
        (1, "Traceback\n\nConnectionError: Could not find any running Ray\n", "Could not find any"),
        (1, "", "is not a cluster"),
    ],
)
def test_auto_is_what_ray_finds_on_this_machine(
    monkeypatch: pytest.MonkeyPatch, code: int, said: str, line: str
) -> None:
    def status(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        assert command[-2:] == ["--address", "auto"]
        return subprocess.CompletedProcess(command, code, "", said)

    monkeypatch.setattr(subprocess, "run", status)
    if code == 0:
        cluster.check("auto")
        return
    with pytest.raises(InputError, match=f"^RAY_ADDRESS: 'auto': .*{line}") as raised:
        cluster.check("auto")
    assert "\n" not in str(raised.value)


def test_without_ray_a_line_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "patchscale.runtime.ray_pool", raising=False)
    with pytest.raises(InputError, match=r"^Ray is not installed; pip install"):
        cluster.connect()
    with pytest.raises(InputError, match=r"^PATCHSCALE_TRIALS=ray: Ray is not installed; pip"):
        import patchscale.runtime.ray_pool  # noqa: F401


@pytest.fixture(scope="module")
def guarded() -> Iterator[str]:
    """Yield the address of a cluster that wants a token."""
    pytest.importorskip("ray")
    code = (
        "from ray.cluster_utils import Cluster\n"
        "cluster = Cluster(initialize_head=True, head_node_args={'num_cpus': 1})\n"
        "print(cluster.address, flush=True)\n"
        "input()\n"
        "cluster.shutdown()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env=os.environ | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    yield process.stdout.readline().strip()
    process.communicate("\n")


@pytest.mark.slow
def test_a_cluster_is_found_by_its_address(guarded: str) -> None:
    assert told(guarded, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=TOKEN) == (0, guarded, [])


@pytest.mark.slow
@pytest.mark.parametrize(
    "variables",
    [
        {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN[::-1]},
        {"RAY_AUTH_MODE": "disabled"},
        {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": "/nowhere"},
    ],
)
def test_a_cluster_that_refuses_the_token_is_one_line(
    guarded: str, variables: dict[str, str]
) -> None:
    code, _, lines = told(guarded, **variables)
    assert code == 2
    (line,) = lines
    assert f"RAY_ADDRESS: '{guarded}': refuses the token; RAY_AUTH_MODE=token" in line
    assert TOKEN[::-1] not in line
