"""Lock files: who holds one, and when it is released."""

import os
import subprocess
import sys

import pytest

from patchscale.runtime.lockfile import file_lock
from patchscale.study.errors import Stopped

HOLDER = """
import os, sys
from pathlib import Path
from patchscale.runtime.lockfile import file_lock
with file_lock(Path(sys.argv[1])):
    print(os.getpid(), flush=True)
    input()
"""


def test_a_held_lock_is_refused_in_one_line_that_names_the_holder(tmp_path):
    path = tmp_path / "2M-h1" / "lock"
    command = [sys.executable, "-c", HOLDER, str(path)]
    process = subprocess.Popen(command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    pid = int(process.stdout.readline())
    with pytest.raises(Stopped) as refusal, file_lock(path):
        pytest.fail("two hold the lock")
    assert str(refusal.value) == (
        f"{path} is held by process {pid}; the same command works once it has ended"
    )
    process.kill()
    process.communicate()
    with file_lock(path):
        assert path.with_name("lock.pid").read_text() == f"{os.getpid()}\n"


def test_a_lock_is_released_at_the_end_of_its_block_also_after_an_exception(tmp_path):
    path = tmp_path / "lock"
    with pytest.raises(KeyError), file_lock(path):
        raise KeyError
    with file_lock(path), pytest.raises(Stopped, match=f"process {os.getpid()};"), file_lock(path):
        pass
    with file_lock(path):
        assert path.with_name("lock.pid").exists()
    assert not path.with_name("lock.pid").exists()


def test_a_holder_that_has_not_yet_written_its_number_is_unknown(tmp_path):
    path = tmp_path / "lock"
    with file_lock(path):
        path.with_name("lock.pid").unlink()
        with pytest.raises(Stopped, match="held by process unknown;"), file_lock(path):
            pass
