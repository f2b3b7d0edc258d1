"""Connection to the Ray cluster that RAY_ADDRESS names."""

import os
import re
import socket
import subprocess
import sys
import textwrap

from patchscale.study.errors import InputError, without_secrets

ANSWERS_WITHIN = 5.0
"""Seconds in which something must listen at an address."""
KNOWN_WITHIN = 20.0
"""Seconds in which it must have said that it is a cluster; `ray.init` would try for minutes."""
HOST_AND_PORT = re.compile(r"(?P<host>\[[0-9a-f:.]+\]|[^\s:/@\[\]]+):\d{1,5}", re.I)


def connect() -> None:
    """Connect this process to the cluster, unless it is connected; without an address start one.

    Raises
    ------
    InputError
        Ray is not installed, RAY_ADDRESS is no address of a cluster, no cluster answers there, or
        it refuses this process.
    """
    try:
        import ray
    except ImportError:
        raise InputError("Ray is not installed; pip install '.[ray]'") from None
    if ray.is_initialized():
        return
    wanted = os.environ.get("RAY_ADDRESS", "")
    if wanted not in ("", "local"):
        check(wanted)
    try:
        ray.init(log_to_driver=False, include_dashboard=False, configure_logging=False)
    except (OSError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
        raise refused(wanted, _shortened(str(error))) from None


def check(address: str) -> None:
    """Raise InputError where no cluster answers at an address, which `auto` stands for as well."""
    if address != "auto":
        if not HOST_AND_PORT.fullmatch(address):
            raise refused(address, f"write {suggestion(address)!r}, the head node and its port")
        host, _, port = address.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), ANSWERS_WITHIN).close()
        except (OSError, OverflowError):
            raise refused(
                address,
                "does not answer; `ray start --head` starts a cluster and names its address",
            ) from None
    try:
        done = subprocess.run(
            [sys.executable, "-m", "ray.scripts.scripts", "status", "--address", address],
            capture_output=True,
            text=True,
            check=False,
            timeout=KNOWN_WITHIN,
        )
    except subprocess.TimeoutExpired:
        raise refused(address, "is not a Ray cluster") from None
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()] or ["is not a cluster"]
        if "Authentication" in done.stderr:
            said = ["refuses the token; RAY_AUTH_MODE=token and its RAY_AUTH_TOKEN are needed"]
        raise refused(address, _shortened(said[-1]))


def refused(address: str, reason: str) -> InputError:
    """Return the error of an address that does not do."""
    return InputError(f"RAY_ADDRESS: {without_secrets(address)!r}: {reason}")


def suggestion(address: str) -> str:
    """Return the address to write for one of Ray Client, of the dashboard, or without a port."""
    host = re.match(r"\[[^\]]*\]|[^:/?]*", without_secrets(address).partition("://")[2] or address)
    return f"{(host and host[0]) or 'host'}:6379"


def _shortened(text: str) -> str:
    return textwrap.shorten(text, 200, placeholder=" ...")
