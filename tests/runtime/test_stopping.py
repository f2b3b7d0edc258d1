"""Requests to stop: signals, the key q, and the end of dvc or of a parent process."""

import os
import pty
import signal
import subprocess
import sys
import termios
import textwrap
import threading
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from patchscale.runtime import stopping
from patchscale.runtime.stopping import ANCESTORS_EVERY, _is_dvc, ancestors_to_dvc, stop_requests

WAITS = """
    import os, subprocess, sys, time
    from patchscale.runtime import stopping
    stopping.ANCESTORS_EVERY = {every}
    with stopping.stop_requests({arguments}) as stopped:
        assert stopped() == ""
        print("ready", os.getpid(), flush=True)
        until = time.monotonic() + 120
        while not stopped() and time.monotonic() < until:
            time.sleep(0.02)
    print("stopped", stopped(), flush=True)
"""
TERMINAL = """
    import fcntl, termios
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
"""
STARTS = """
    import subprocess, sys
    print("ready", subprocess.Popen({command}).pid, flush=True)
    import time; time.sleep(120)
"""


def write(path: Path, text: str, **values: object) -> str:
    path.write_text(textwrap.dedent(text.format(**values) if values else text))
    return str(path)


def waits(path: Path, arguments: str = "", every: float = 0.1, before: str = "") -> list[str]:
    """Return the command of a process that prints ready, waits until stopped, and says why."""
    return [sys.executable, write(path, before + WAITS.format(arguments=arguments, every=every))]


@pytest.fixture
def start():
    """Start processes that are killed after the test, with all their descendants."""
    started = []

    def end():
        for process in started:
            with suppress(psutil.Error):
                for each in psutil.Process(process.pid).children(recursive=True):
                    each.kill()
            process.kill()

    def start(command, **options):
        options = {"stdout": subprocess.PIPE, "stdin": subprocess.DEVNULL, "text": True} | options
        started.append(subprocess.Popen(command, **options))
        return started[-1]

    timer = threading.Timer(120, end)  # ends a test that hangs
    timer.start()
    yield start
    timer.cancel()
    end()
    for process in started:
        process.communicate()


def ready(process) -> int:
    word, pid = process.stdout.readline().split()
    assert word == "ready"
    return int(pid)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_becomes_the_reason(name, start, tmp_path):
    process = start(waits(tmp_path / "child.py"))
    ready(process)
    process.send_signal(getattr(signal, name))
    assert process.stdout.readline() == f"stopped {name}\n"
    assert process.wait(timeout=120) == 0


def test_a_second_ctrl_c_does_not_interrupt_what_is_being_written(start, tmp_path):
    text = """
        import time
        from patchscale.runtime.stopping import stop_requests
        with stop_requests() as stopped:
            print("ready", 0, flush=True)
            while not stopped():
                time.sleep(0.02)
            print("writing", flush=True)
            input()
            print("written", flush=True)
    """
    process = start([sys.executable, write(tmp_path / "child.py", text)], stdin=subprocess.PIPE)
    ready(process)
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "writing\n"
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    time.sleep(0.1)
    assert process.communicate("\n", timeout=120)[0] == "written\n"
    assert process.returncode == 0


def test_a_hang_up_that_nohup_ignores_stays_ignored(start, tmp_path):
    process = start(["nohup", *waits(tmp_path / "child.py")], stderr=subprocess.DEVNULL)
    ready(process)
    process.send_signal(signal.SIGHUP)
    time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == "stopped SIGTERM\n"


def test_handlers_are_restored_also_after_an_exception():
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    with pytest.raises(KeyError), stop_requests():
        raise KeyError(inside := [signal.getsignal(number) for number in numbers])
    assert not set(inside) & set(before)
    assert [signal.getsignal(number) for number in numbers] == before


def test_outside_the_main_thread_signals_are_not_handled():
    reasons = []

    def body():
        with stop_requests(keys=True) as stopped:
            reasons.append(stopped())

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert reasons == [""]


@pytest.fixture
def terminal():
    """Yield both ends of a pseudo-terminal."""
    ends = pty.openpty()
    yield ends
    for end in ends:
        with suppress(OSError):
            os.close(end)


def on_terminal(start, terminal, command):
    return start(command, stdin=terminal[1], start_new_session=True)


def is_line_buffered(terminal) -> bool:
    return bool(termios.tcgetattr(terminal[1])[3] & termios.ICANON)


def test_q_stops_and_other_keys_do_not(start, terminal, tmp_path):
    command = waits(tmp_path / "child.py", "keys=True", before=TERMINAL)
    before = termios.tcgetattr(terminal[1])
    process = on_terminal(start, terminal, command)
    ready(process)
    assert not is_line_buffered(terminal)
    os.write(terminal[0], b"x\n")
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=0.4)
    os.write(terminal[0], b"q")
    assert process.stdout.readline() == "stopped q\n"
    assert process.wait(timeout=120) == 0
    assert termios.tcgetattr(terminal[1]) == before


def test_the_terminal_is_restored_after_an_exception(start, terminal, tmp_path):
    text = """
        from patchscale.runtime.stopping import stop_requests
        with stop_requests(keys=True):
            print("ready", 0, flush=True)
            raise SystemExit(input() and 3)
    """
    before = termios.tcgetattr(terminal[1])
    script = write(tmp_path / "child.py", textwrap.dedent(TERMINAL) + textwrap.dedent(text))
    process = on_terminal(start, terminal, [sys.executable, script])
    ready(process)
    assert not is_line_buffered(terminal)
    os.write(terminal[0], b"y\n")
    assert process.wait(timeout=120) == 3
    assert termios.tcgetattr(terminal[1]) == before


def test_ctrl_c_on_the_terminal_is_a_request_while_keys_are_read(start, terminal, tmp_path):
    command = waits(tmp_path / "child.py", "keys=True", before=TERMINAL)
    process = on_terminal(start, terminal, command)
    ready(process)
    os.write(terminal[0], b"\x03\x03")
    assert process.stdout.readline() == "stopped SIGINT\n"
    assert process.wait(timeout=120) == 0


def test_without_keys_the_terminal_is_left_alone(start, terminal, tmp_path):
    command = waits(tmp_path / "child.py", "", before=TERMINAL)
    process = on_terminal(start, terminal, command)
    ready(process)
    assert is_line_buffered(terminal)


def test_in_the_background_the_terminal_is_left_alone(start, terminal, tmp_path):
    command = waits(tmp_path / "child.py", "keys=True")
    text = "import subprocess\n" + f"subprocess.run({command!r}, process_group=0)"
    script = write(tmp_path / "job.py", textwrap.dedent(TERMINAL) + text)
    process = on_terminal(start, terminal, [sys.executable, script])
    pid = ready(process)
    os.write(terminal[0], b"q\n")
    time.sleep(0.4)
    assert is_line_buffered(terminal)
    assert psutil.Process(pid).status() != psutil.STATUS_STOPPED
    os.kill(pid, signal.SIGTERM)
    assert process.stdout.readline() == "stopped SIGTERM\n"


def test_a_terminal_of_another_session_is_left_alone(start, terminal, tmp_path):
    process = on_terminal(start, terminal, waits(tmp_path / "child.py", "keys=True"))
    ready(process)
    assert is_line_buffered(terminal)
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == "stopped SIGTERM\n"


def test_closing_the_terminal_is_a_hang_up_and_no_error(start, terminal, tmp_path):
    command = waits(tmp_path / "child.py", "keys=True", before=TERMINAL)
    process = on_terminal(start, terminal, command)
    ready(process)
    for end in terminal:
        os.close(end)
    assert process.stdout.readline() == "stopped SIGHUP\n"
    assert process.wait(timeout=120) == 0


def start_dvc(start, tmp_path, command):
    """Start a stand-in for `dvc repro`: it runs `command` in a shell and goes on."""
    words = ["sh", "-c", f"{' '.join(command)}; true"]
    text = f"import subprocess, time\nsubprocess.run({words!r})\ntime.sleep(120)"
    environment = os.environ | {"DVC_STAGE": "train@2M-h1", "DVC_ROOT": str(tmp_path)}
    return start([sys.executable, write(tmp_path / "dvc", text), "repro"], env=environment)


def test_a_stage_notices_that_dvc_was_killed(start, tmp_path):
    command = waits(tmp_path / "stage.py", every=ANCESTORS_EVERY)
    dvc = start_dvc(start, tmp_path, command)
    pid = ready(dvc)
    shell = psutil.Process(pid).parent()
    assert shell.name() != "python"
    os.kill(dvc.pid, signal.SIGKILL)
    assert dvc.stdout.readline() == "stopped dvc ended\n"
    assert ANCESTORS_EVERY <= 1


def test_a_worker_notices_that_dvc_was_killed(start, tmp_path):
    worker = waits(tmp_path / "worker.py")
    stage = f"import subprocess; subprocess.run({worker!r})"
    stage = [sys.executable, write(tmp_path / "stage.py", stage)]
    dvc = start_dvc(start, tmp_path, stage)
    ready(dvc)
    os.kill(dvc.pid, signal.SIGKILL)
    assert dvc.stdout.readline() == "stopped dvc ended\n"


def test_a_worker_below_dvc_notices_that_its_stage_was_killed(start, tmp_path):
    worker = waits(tmp_path / "worker.py")
    stage = f"import subprocess; subprocess.run({worker!r})"
    dvc = start_dvc(start, tmp_path, [sys.executable, write(tmp_path / "stage.py", stage)])
    psutil.Process(ready(dvc)).parent().kill()
    assert dvc.stdout.readline() == "stopped parent ended\n"


def test_the_end_of_dvc_is_the_reason_where_all_ancestors_ended(start, tmp_path):
    dvc = start_dvc(start, tmp_path, waits(tmp_path / "stage.py"))
    shell = psutil.Process(ready(dvc)).parent()
    shell.kill()
    dvc.kill()
    assert dvc.stdout.readline() == "stopped dvc ended\n"


LATE = """
    import os, psutil, sys, time
    from patchscale.runtime.stopping import stop_requests
    print("ready", os.getpid(), flush=True)
    while psutil.pid_exists({pid}):
        time.sleep(0.01)
    with stop_requests() as stopped:
        print("stopped", stopped() or "nothing", flush=True)
"""
BEGINS = """
    import os, subprocess
    environment = os.environ | {variables}
    code = {code!r}.replace("{{pid}}", str(os.getpid()))
    subprocess.run([word.replace("CODE", code) for word in {command!r}], env=environment)
"""


def begin_late(start, path, command, **variables):
    """Start a process that runs a stage, which looks around once that process was killed."""
    code = textwrap.dedent(LATE)
    text = write(path, BEGINS, variables=variables, code=code, command=command)
    begun = start([sys.executable, text, "repro"])
    ready(begun)
    begun.kill()
    begun.wait()
    return begun.stdout.readline()


STAGE = [sys.executable, "-c", "CODE"]
WORKER = [
    sys.executable,
    "-c",
    "import subprocess, sys; subprocess.run([sys.executable, *sys.argv[1:]])",
    *STAGE[1:],
]


@pytest.mark.parametrize("command", [STAGE, WORKER], ids=["stage", "worker"])
def test_the_end_of_dvc_is_noticed_also_if_it_was_before_the_first_look(command, start, tmp_path):
    told = begin_late(start, tmp_path / "dvc", command, DVC_STAGE="train@2M-h1")
    assert told == "stopped dvc ended\n"


def test_the_end_of_the_process_that_launched_is_noticed_before_the_first_look(start, tmp_path):
    parent = f"{{{{{stopping.PARENT!r}: str(os.getpid())}}}}"
    text = BEGINS.replace("{variables}", parent)
    path = tmp_path / "launcher.py"
    write(path, text, code=textwrap.dedent(LATE), command=STAGE)
    launcher = start([sys.executable, str(path)])
    ready(launcher)
    launcher.kill()
    launcher.wait()
    assert launcher.stdout.readline() == "stopped parent ended\n"


def test_a_stage_that_was_started_by_hand_outlives_its_shell(start, tmp_path):
    assert begin_late(start, tmp_path / "shell.py", STAGE) == "stopped nothing\n"


def test_a_stage_begun_by_a_program_that_uses_dvc_as_a_library_trains(start, tmp_path):
    text = """
        import os
        from patchscale.runtime.stopping import stop_requests
        with stop_requests() as stopped:
            print("ready", os.getpid(), stopped() == "", flush=True)
    """
    stage = [sys.executable, write(tmp_path / "stage.py", text)]
    variables = {"DVC_STAGE": "train@2M-h1"}
    program = write(tmp_path / "program.py", BEGINS, variables=variables, code="", command=stage)
    assert start([sys.executable, program]).stdout.readline().endswith(" True\n")


BLOCKS = """
    import subprocess, sys
    from patchscale.runtime.stopping import interruptible, stop_requests
    from patchscale.study.errors import Stopped

    class Loses:
        def __del__(self):
            print("ready", self.process.pid, flush=True)
            self.process.wait()  # an exception in a destructor is lost

    try:
        with stop_requests() as stopped, interruptible(stopped):
            loses = Loses()
            loses.process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(120)"])
            {waits}
            while True:
                pass
    except Stopped as error:
        print("ended by", error, flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("waits", ["loses.__del__()", "del loses"])
def test_an_interruptible_block_ends_at_once_with_what_it_started(number, waits, start, tmp_path):
    process = start(
        [sys.executable, write(tmp_path / "block.py", BLOCKS, waits=waits)],
        stderr=subprocess.DEVNULL,
    )
    child = psutil.Process(ready(process))
    process.send_signal(number)
    told = process.stdout.readline()
    assert told.startswith(f"ended by {number.name}: stopped, every step is kept")
    assert not child.is_running()


def test_a_block_that_nobody_interrupts_keeps_its_error_and_its_handler():
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyError), stopping.interruptible(lambda: ""):
        raise KeyError
    assert signal.getsignal(signal.SIGINT) is before


def test_nothing_is_noticed_while_all_live(start, tmp_path):
    text = """
        import os, time
        from patchscale.runtime import stopping
        stopping.ANCESTORS_EVERY = 0
        with stopping.stop_requests() as stopped:
            reasons = {stopped() for _ in range(100)}
            print("ready", len(stopping.ancestors_to_dvc(os.getpid())), reasons == {""}, flush=True)
    """
    dvc = start_dvc(start, tmp_path, [sys.executable, write(tmp_path / "stage.py", text)])
    assert dvc.stdout.readline() == "ready 2 True\n"


def test_a_second_block_knows_which_ancestors_ended_before_it(start, tmp_path):
    text = """
        import os, time, psutil
        from patchscale.runtime.stopping import stop_requests
        parent = psutil.Process(os.getppid())
        with stop_requests():
            pass
        print("ready", os.getpid(), flush=True)
        while parent.is_running():
            time.sleep(0.01)
        with stop_requests() as stopped:
            print("stopped", stopped(), flush=True)
    """
    dvc = start_dvc(start, tmp_path, [sys.executable, write(tmp_path / "stage.py", text)])
    psutil.Process(ready(dvc)).parent().kill()
    assert dvc.stdout.readline() == "stopped parent ended\n"


def test_outside_dvc_a_stage_outlives_its_ancestors():
    assert ancestors_to_dvc(os.getpid()) == {}


@pytest.mark.parametrize(
    ("name", "command", "named"),
    [
        ("dvc", [sys.executable, "{path}", "repro"], True),
        ("dvc", ["{path}", "repro"], True),
        ("dvc.py", [sys.executable, "-u", "-m", "dvc", "repro"], True),
        ("other.py", [sys.executable, "{path}", "dvc"], False),
        ("dvc", ["sh", "-c", f"{sys.executable} {{path}}; true /dvc"], True),
    ],
)
def test_dvc_is_recognised_in_every_form(name, command, named, start, tmp_path, monkeypatch):
    child = [sys.executable, "-c", "import time; time.sleep(120)"]
    text = f"#!{sys.executable}\n" + textwrap.dedent(STARTS).format(command=child)
    path = tmp_path / name
    write(path, text)
    path.chmod(0o755)
    process = start([word.format(path=path) for word in command], cwd=tmp_path)
    pid = ready(process)
    parent = psutil.Process(pid).parent()
    assert ancestors_to_dvc(pid) == {}
    ancestors_to_dvc.cache_clear()
    monkeypatch.setenv("DVC_STAGE", "train@2M-h1")
    assert ancestors_to_dvc(pid) == ({parent: "dvc"} if named else {})
    ancestors_to_dvc.cache_clear()


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["/venv/bin/python", "/venv/bin/dvc", "repro"], True),
        (["dvc.exe", "repro"], True),
        (["python", "-Xdev", "-m", "dvc", "repro"], True),
        (["python", "-m", "pytest", "dvc"], False),
        (["sh", "-c", "python stages/train.py /home/dvc"], False),
        (["python", "stages/train.py", "dvc"], False),
        ([], False),
    ],
)
def test_a_command_is_dvc_or_it_is_not(words, answer):
    class Process:
        def cmdline(self):
            return words

    assert _is_dvc(Process()) is answer
