"""How programs end: one line, the right exit code, and no word of Python's own, whatever happens to their streams."""

import io
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from minivdm.console import NOBODY_READS, report, run_program
from minivdm.course.__main__ import main as course

posix = pytest.mark.skipif(os.name != "posix", reason="as on Unix")
full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is always full")


def program(*lines, redirect="", **environment):
    """Run a program whose work is these lines; what happened."""
    work = "".join(f"    {line}\n" for line in lines)
    text = f"import os, signal, sys, time\nfrom minivdm.console import run_program\ndef work():\n{work}    return 0\n"
    command = ["sh", "-c", f'"$0" -c "$1" {redirect}', sys.executable, f"{text}sys.exit(run_program(work))"]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment}, timeout=60)


def told(done):
    return done.returncode, done.stdout, done.stderr


@posix
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("line", ["print('x')", "print('x', flush=True)", "print('x' * 10**6)"])
@full
def test_an_output_without_room_is_named(line, unbuffered):
    done = program(line, redirect=">/dev/full", PYTHONUNBUFFERED=unbuffered)
    assert told(done) == (2, "", "error: stdout: No space left on device\n")


@posix
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("line", ["print('x')", "print('x', flush=True)", "print('x' * 10**6)"])
def test_a_reader_that_has_gone_is_no_error(line, unbuffered):
    reader, writer = os.pipe()
    os.close(reader)
    text = f"from minivdm.console import run_program\nraise SystemExit(run_program(lambda: {line} or 0))"
    done = subprocess.run(
        [sys.executable, "-c", text],
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (NOBODY_READS, "")


@posix
@full
def test_streams_that_are_closed_or_full_change_no_exit_code():
    assert told(program("print('x', flush=True)", "print('y', file=sys.stderr)", redirect=">&- 2>&-")) == (0, "", "")
    assert told(program("raise ValueError('no')", redirect=">&-")) == (2, "", "error: no\n")
    assert told(program("raise ValueError('no')", redirect="2>/dev/full")) == (2, "", "")
    late = program("print('x'); raise ValueError('no')", redirect=">/dev/full", PYTHONUNBUFFERED="")
    assert told(late) == (2, "", "error: no\n"), "the first thing that went wrong"


@posix
def test_a_closed_output_gets_into_no_file(tmp_path):
    lines = ["file = open('file', 'wb')", "os.write(1, b'words')", "os.write(2, b'words')"]
    done = program(f"os.chdir({str(tmp_path)!r})", *lines, redirect=">&- 2>&-")
    assert done.returncode == 0 and (tmp_path / "file").read_bytes() == b""


@posix
def test_signals_are_one_line_each():
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        assert told(program(f"os.kill(os.getpid(), {int(number)})", "time.sleep(9)")) == (code, "", "stopped\n")
    stop = program("raise KeyboardInterrupt('stopped: step 3\\nis saved')")
    assert told(stop) == (130, "", "stopped: step 3 is saved\n")
    kill = f"os.kill(os.getpid(), {int(signal.SIGTERM)}); time.sleep(9)"
    twice = program("try:", f"    {kill}", "finally:", f"    {kill}")
    assert twice.returncode == 143 and "stopped" not in twice.stderr, "the second one is obeyed at once"


def test_any_text_in_any_terminal():
    done = program("print('\\xfc \\udcfc \\u6f22')", "raise ValueError('\\xfc')", PYTHONIOENCODING="ascii")
    assert told(done) == (2, "\\xfc \\udcfc \\u6f22\n", "error: \\xfc\n")


def test_bugs_keep_their_traceback_and_other_threads_may_run_programs():
    with pytest.raises(KeyError):
        run_program(lambda: {}["missing"])
    codes = []
    thread = threading.Thread(target=lambda: codes.append(run_program(lambda: 7)))
    thread.start()
    thread.join()
    assert codes == [7]


def test_the_courses_commands_end_in_the_same_way(capsys, monkeypatch):
    assert course(["paint"]) == 2 and "invalid choice" in capsys.readouterr().err

    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("minivdm.course.grade.grade", interrupted)
    assert course(["check", "x.ipynb"]) == 130 and capsys.readouterr().err == "stopped\n"


@pytest.mark.parametrize("rank", [None, "1"])
def test_a_line_and_its_end_are_written_in_one_piece(monkeypatch, rank):
    """Else the lines of two processes can get into each other where Python holds nothing back."""
    pieces = []

    class Raw(io.RawIOBase):
        def writable(self):
            return True

        def write(self, data):
            pieces.append(bytes(data))
            return len(data)

    monkeypatch.delenv("RANK", raising=False)
    if rank:
        monkeypatch.setenv("RANK", rank)
        monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(Raw(), write_through=True))
    assert report("error: no", 2) == 2
    assert pieces == ([b"process 1: error: no\n"] if rank else [b"error: no\n"])
