"""Progress files and their display on a terminal and in a log."""

import json
import os
import pty
import re
import subprocess
import sys
import textwrap
import threading
import time

import pytest
from repository import wait_for

from patchscale.runtime import progress
from patchscale.runtime.progress import Heartbeat, _bar_texts, _share, display

RUN = """
    import sys, time
    from pathlib import Path
    from patchscale.runtime import progress
    from patchscale.runtime.progress import Heartbeat, display
    folder = Path(sys.argv[1])
    paths = [folder / f"seed{{seed}}" / "progress.json" for seed in range(2)]
    progress.SHOW_EVERY = 0.02
    progress.LINE_EVERY = {line_every}
    read, reads = progress._read, []

    def counted(path):
        reads.append(path)
        return read(path)

    def wait_until_shown():
        # until the display has read both states again and shown them
        goal = len(reads) + 4
        while len(reads) < goal:
            time.sleep(0.005)

    progress._read = counted
    with display(paths, "2M-h1") as report:
        heartbeats = [Heartbeat(paths[0], report), Heartbeat(paths[1])]
        for epoch in range(4):
            for seed, heartbeat in enumerate(heartbeats):
                heartbeat.update(
                    name=f"2M-h1 seed {{seed}}", epoch=epoch, epochs=8, step=0, steps=10,
                    train_log_loss=0.7, val_log_loss=0.69 + epoch / 1000,
                    best_val_log_loss=0.6905, best_epoch=1,
                    samples_per_second=1234.5, seconds_left=75.2 - epoch,
                )
            wait_until_shown()
            if epoch == 1:
                heartbeats[0].report("printed here [red] " + "x" * 80)
                heartbeats[1].report("printed by a worker")
                wait_until_shown()
                print("printed", file=sys.stderr)
        {end}
"""
LAST = r"epoch 3/8  train 0\.7000  val 0\.6930  best 0\.6905 @1  1,23[45] samples/s  0:01:12 left"


def start(tmp_path, stderr, line_every=0, end=""):
    script = tmp_path / "run.py"
    script.write_text(textwrap.dedent(RUN.format(line_every=line_every, end=end)))
    return subprocess.run(
        [sys.executable, script, tmp_path / "resume"],
        stdout=subprocess.PIPE,
        stderr=stderr,
        timeout=120,
        env=os.environ | {"TERM": "xterm", "COLUMNS": "100", "LINES": "40"},
    )


def in_terminal(tmp_path, **options):
    """Run in a pseudo-terminal; return the process and what its terminal received."""
    reader, writer = pty.openpty()
    received = []

    def read():
        while True:
            try:
                received.append(os.read(reader, 65536))
            except OSError:  # the other end is closed
                return

    thread = threading.Thread(target=read)
    thread.start()
    try:
        process = start(tmp_path, writer, **options)
    finally:
        os.close(writer)
        thread.join()
        os.close(reader)
    return process, b"".join(received).decode()


def screen(received: str) -> list[str]:
    """Return the lines that a terminal would show (no wrapping, no scrolling)."""
    lines, row, column = [""], 0, 0
    for part in re.findall(r"\x1b\[[?\d;]*[A-Za-z]|\r|\n|[^\x1b\r\n]+", received):
        if part == "\r":
            column = 0
        elif part == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif part.startswith("\x1b"):
            count = int(part[2:-1]) if part[2:-1].isdigit() else 1
            row -= count if part[-1] == "A" else 0
            lines[row] = "" if part[-1] == "K" else lines[row]
        else:
            lines[row] = lines[row][:column].ljust(column) + part + lines[row][column + len(part) :]
            column += len(part)
    return [line.rstrip() for line in lines if line.strip()]


def test_a_terminal_shows_a_bar_for_each_replicate_below_whole_lines(tmp_path):
    process, received = in_terminal(tmp_path)
    assert process.returncode == 0
    assert process.stdout == b""
    here, worker, printed, *bars = screen(received)
    assert here == "printed here [red] " + "x" * 80
    assert worker == "printed by a worker"
    assert printed == "printed"
    assert len(bars) == 2
    for seed, bar in enumerate(bars):
        name, share, rest = re.split(r"\s*(━.*━)\s*", bar)
        assert name == f"2M-h1 seed {seed}"
        assert len(share) > 10
        assert rest == "3/8 val 0.6930 best 0.6905 @1 1,234/s 0:01:12"


@pytest.mark.parametrize(("end", "code"), [("", 0), ("raise SystemExit(75)", 75), ("1 / 0", 1)])
def test_the_cursor_is_restored_however_it_ends(end, code, tmp_path):
    process, received = in_terminal(tmp_path, end=end)
    assert process.returncode == code
    assert received.count("\x1b[?25l") == received.count("\x1b[?25h") == 1
    bars, _, after = received.partition("\x1b[?25h")
    assert "3/8" in bars[-400:]
    assert ("ZeroDivisionError" in after) == (code == 1)


@pytest.mark.parametrize("end", ["", "raise SystemExit(75)"])
def test_a_log_gets_plain_lines(end, tmp_path):
    process = start(tmp_path, subprocess.PIPE, end=end)
    assert process.stdout == b""
    lines = process.stderr.decode().splitlines()
    assert b"\x1b" not in process.stderr
    assert b"\r" not in process.stderr
    assert "\u2501" not in process.stderr.decode()
    assert "printed here [red] " + "x" * 80 in lines
    assert "printed by a worker" in lines
    for seed in range(2):
        of_seed = [line for line in lines if line.startswith(f"2M-h1 seed {seed}  ")]
        assert [line.split()[4] for line in of_seed] == ["1/8", "2/8", "3/8"]
        assert re.fullmatch(f"2M-h1 seed {seed}  {LAST}", of_seed[-1])


def test_a_log_gets_few_lines_of_a_replicate_and_its_last_one(tmp_path):
    process = start(tmp_path, subprocess.PIPE, line_every=60)
    lines = process.stderr.decode().splitlines()
    for seed in range(2):
        of_seed = [line for line in lines if line.startswith(f"2M-h1 seed {seed}  ")]
        assert [line.split()[4] for line in of_seed] == ["1/8", "3/8"]


def test_a_bar_shows_the_training_loss_until_there_is_a_validation_loss():
    first = {"epoch": 0, "epochs": 9, "train_log_loss": 0.71}
    assert _bar_texts(first) == ["0/9", "train 0.7100", "", "", ""]
    assert _bar_texts({**first, "val_log_loss": 0.7})[1] == "val 0.7000"


def test_a_bar_is_as_long_as_the_finished_share_of_all_epochs():
    assert _share({"epoch": 2, "epochs": 8, "step": 5, "steps": 10}) == 2.5 / 8
    assert _share({"epoch": 2, "epochs": 0, "step": 0, "steps": 10}) == 0
    assert _share({"epoch": 2}) == 0


def test_a_dumb_terminal_is_treated_as_a_log(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr(progress, "_bars", None)
    with display([tmp_path / "a.json"], "2M-h1"):
        pass


def test_missing_and_damaged_states_are_ignored(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(progress, "SHOW_EVERY", 0.01)
    paths = [tmp_path / name for name in ("absent.json", "damaged.json", "odd.json", "good.json")]
    read, reads = progress._read, []
    monkeypatch.setattr(progress, "_read", lambda path: reads.append(path) or read(path))
    with display(paths, "2M-h1"):
        Heartbeat(paths[3]).update(
            name="2M-h1 seed 3", epoch=2, epochs=5, seconds_left=float("nan")
        )
        paths[1].write_bytes(b'{"name": 1, "epo\xff')
        paths[2].write_text("[1, 2]")
        goal = len(reads) + 2 * len(paths)
        wait_for(lambda: len(reads) >= goal, seconds=120)
        paths[3].write_text('{"name": 3, "epoch"')
    assert capsys.readouterr().err == "2M-h1 seed 3  epoch 2/5\n"


def test_states_of_an_earlier_run_are_not_shown(tmp_path, capsys):
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"name": "old", "epoch": 7, "epochs": 9, "notes": ["old"]}))
    with display([path], "2M-h1"):
        assert not path.exists()
    assert capsys.readouterr().err == ""


def test_a_heartbeat_writes_at_most_twice_a_second_and_at_every_epoch(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    path = tmp_path / "seed0" / "progress.json"
    heartbeat = Heartbeat(path)

    def written(**values):
        path.unlink(missing_ok=True)
        heartbeat.update(**values)
        return json.loads(path.read_text()) if path.exists() else None

    assert written(name="a", epoch=0, step=1) == {"name": "a", "epoch": 0, "step": 1}
    assert written(step=2) is None
    now[0] += 0.49
    assert written(step=3) is None
    now[0] += 0.01
    assert written() == {"name": "a", "epoch": 0, "step": 3}
    assert written(epoch=1, step=0) == {"name": "a", "epoch": 1, "step": 0}
    assert written(step=1) is None
    assert written(epoch=1, step=2) is None
    now[0] += 0.49
    assert written(step=3) is None


def test_an_update_between_two_writes_is_cheap(tmp_path):
    heartbeat = Heartbeat(tmp_path / "a.json")
    heartbeat.update(step=0)
    started = time.thread_time()
    for step in range(1000):
        heartbeat.update(step=step)
    assert time.thread_time() - started < 0.1


def test_a_file_problem_does_not_end_a_training(tmp_path):
    (tmp_path / "file").write_text("")
    heartbeat = Heartbeat(tmp_path / "file" / "a.json")
    heartbeat.update(epoch=1)
    heartbeat.report("a line")


def test_a_line_is_reported_or_else_written_into_the_state(tmp_path):
    lines = []
    Heartbeat(tmp_path / "here.json", lines.append).report("here")
    assert lines == ["here"]
    assert not (tmp_path / "here.json").exists()
    Heartbeat(tmp_path / "worker.json").report("there")
    assert json.loads((tmp_path / "worker.json").read_text()) == {"notes": ["there"]}


def test_lines_of_workers_are_printed_in_order_and_once_where_several_are_equal(tmp_path, capsys):
    paths = [tmp_path / name for name in ("a.json", "b.json")]
    with display(paths, "2M-h1"):
        for path in paths:
            heartbeat = Heartbeat(path)
            heartbeat.report("the plan")
            heartbeat.report(f"the pace of {path.stem}")
    assert capsys.readouterr().err == "the plan\nthe pace of a\nthe pace of b\n"


@pytest.mark.parametrize("lines", ["", "a line\n"])
def test_a_closed_terminal_does_not_end_a_training(lines, tmp_path):
    text = """
        import os, sys
        from pathlib import Path
        from patchscale.runtime.progress import Heartbeat, display
        path = Path(sys.argv[1])
        with display([path], "2M-h1") as report:
            for line in sys.stdin:
                report(line)
            Heartbeat(path).update(epoch=1)
        print("trained")
    """
    (tmp_path / "run.py").write_text(textwrap.dedent(text))
    reader, writer = pty.openpty()
    command = [sys.executable, tmp_path / "run.py", tmp_path / "a.json"]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=writer, text=True)
    os.close(writer)
    assert os.read(reader, 1024)
    os.close(reader)
    assert process.communicate(lines, timeout=120)[0] == "trained\n"
    assert process.returncode == 0


def test_a_reported_line_contains_no_password(tmp_path):
    told = []
    for report in (told.append, None):
        Heartbeat(tmp_path / "state.json", report).report("http://me:hunter2@host?key=hunter2")
    assert told == ["http://host"]
    assert "hunter2" not in (tmp_path / "state.json").read_text()
