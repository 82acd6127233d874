"""A file is written whole or not at all, where it was asked for and with the permissions it should have."""

import errno
import os
import pickle
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from minivdm import files
from minivdm.files import locked, replacing
from minivdm.training.torch_files import load_torch

# Writes half of a file, says so, and waits.
WRITING = """
import sys, time
from minivdm.files import replacing
with replacing(sys.argv[1]) as file:
    file.write(b"half")
    file.flush()
    print("half", flush=True)
    time.sleep(60)
"""
HOLDING = """
import sys, time
from minivdm.files import locked
with locked(sys.argv[1], "the folder"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def started(script, *arguments):
    """A process that has run to where it waits."""
    process = subprocess.Popen([sys.executable, "-c", script, *arguments], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline().strip() in ("half", "held")
    return process


def kill(process):
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()


def names():
    return sorted(path.name for path in Path().iterdir())


def test_what_a_killed_write_left_is_removed_by_the_next_one_but_not_what_a_living_one_writes():
    dead, living = started(WRITING, "x.pt"), started(WRITING, "x.pt")
    kill(dead)
    assert len(names()) == 2
    with replacing("x.pt") as file:
        file.write(b"whole")
    assert Path("x.pt").read_bytes() == b"whole" and len(names()) == 2
    kill(living)
    for other in (".x.pt.previous", ".x.pt.0123abcd", ".x.pt.01234567.tmp.txt"):
        Path(other).touch()
    with replacing("x.pt") as file:
        assert len(names()) == 5  # the new temporary file, the others, and the old x.pt
        file.write(b"again")
    assert Path("x.pt").read_bytes() == b"again"
    assert names() == [".x.pt.01234567.tmp.txt", ".x.pt.0123abcd", ".x.pt.previous", "x.pt"]


def test_many_threads_write_one_file_and_none_takes_anothers_for_a_leftover():
    def write(text):
        for _ in range(30):
            with replacing("x") as file:
                file.write(text * 1000)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, (b"a", b"b", b"c", b"d")))
    assert Path("x").read_bytes() in (b"a" * 1000, b"b" * 1000, b"c" * 1000, b"d" * 1000) and names() == ["x"]


def test_a_link_stays_a_link_and_its_target_is_replaced():
    Path("far").mkdir()
    Path("far", "target").write_text("old")
    os.symlink("far/target", "link")
    os.symlink("link", "link_to_it")
    os.symlink("far/new", "dangling")
    for link, target in (("link_to_it", "far/target"), ("dangling", "far/new")):
        with replacing(link) as file:
            file.write(b"new")
        assert Path(link).is_symlink() and Path(target).read_text() == "new" and not Path(target).is_symlink()
    os.symlink("loop", "loop")
    with pytest.raises(OSError, match="loop"), replacing("loop") as file:
        file.write(b"new")
    assert Path("loop").is_symlink()


@pytest.mark.parametrize("mask", [0o077, 0o027, 0o002, 0o022])
def test_permissions_are_those_that_open_would_give_and_those_of_an_old_file_are_kept(mask):
    before = os.umask(mask)
    try:
        with replacing("new") as file:
            file.write(b"x")
        assert Path("new").stat().st_mode & 0o777 == 0o666 & ~mask
        for mode in (0o640, 0o604, 0o755):
            os.chmod("new", mode)
            with replacing("new", older="previous") as file:
                file.write(b"x")
            assert Path("new").stat().st_mode & 0o777 == Path("previous").stat().st_mode & 0o777 == mode
    finally:
        os.umask(before)


def test_an_error_names_the_file_and_leaves_nothing():
    Path("there").write_text("old")
    with pytest.raises(OSError, match=r"No space left on device: 'there'"), replacing("there") as file:
        file.write(b"half")
        raise OSError(28, "No space left on device")
    with pytest.raises(FileNotFoundError, match="'other'"), replacing("there"):
        Path("other").read_text()
    assert Path("there").read_text() == "old"


def test_neither_devices_nor_folders_are_replaced():
    os.mkfifo("pipe")
    Path("folder").mkdir()
    for name in ("pipe", "folder"):
        with pytest.raises(OSError, match=f"this is a folder or a device: '{name}'"), replacing(name) as file:
            file.write(b"x")
    assert names() == ["folder", "pipe"]


def test_long_names():
    for name in ("ü" * 125 + ".gif", "x" * 255, "\udcff.gif"):
        with replacing(name) as file:
            file.write(b"x")
        assert os.path.getsize(name) == 1
        os.remove(name)


def test_a_lock_is_refused_to_others_and_ends_with_its_process():
    process = started(HOLDING, "lock")
    with pytest.raises(BlockingIOError, match=rf"the folder is in use by process {process.pid} on \S+ since 20"):
        with locked("lock", "the folder"):
            pass
    kill(process)
    assert Path("lock").exists()
    with locked("lock", "the folder"):
        with pytest.raises(BlockingIOError, match=f"process {os.getpid()} "), locked("lock", "the folder"):
            pass
    assert not Path("lock").exists()


def test_whoever_waits_for_a_lock_gets_it_alone():
    inside = []

    def count(_):
        for _ in range(10):
            with locked("lock", "it", wait=True):
                inside.append(1)
                assert len(inside) == 1
                inside.pop()

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(count, range(3)))
    assert not Path("lock").exists()


def test_a_file_system_without_locks_is_told(monkeypatch):
    def no_locks(file, how):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(files.fcntl, "flock", no_locks)
    Path(".x.01234567.tmp").write_text("nobody knows whether it is in use")
    with replacing("x") as file:
        file.write(b"x")
    assert names() == [".x.01234567.tmp", "x"]
    message = r"lock: no locks on this file system \(Operation not supported\), so make sure that nobody else uses it"
    with pytest.warns(UserWarning, match=message), locked("lock", "it"):
        pass


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_a_plain_pickle_is_one_line(protocol, recwarn):
    Path("x.pt").write_bytes(pickle.dumps({"a": 1}, protocol=protocol))
    with pytest.raises(ValueError, match=r"^x.pt \(\d+ bytes\) is truncated or not a checkpoint$"):
        load_torch("x.pt")
    assert not recwarn.list


def test_a_write_protected_file_is_not_replaced(monkeypatch):
    Path("file").write_text("old")
    os.chmod("file", 0o444)
    opened = os.open

    def asked(path, flags, *more, **named):  # root may write everything
        if Path(path).name == "file" and flags & os.O_WRONLY:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return opened(path, flags, *more, **named)

    monkeypatch.setattr(os, "open", asked)
    with pytest.raises(PermissionError, match="write-protected.*file"), replacing("file") as file:
        file.write(b"new")
    assert Path("file").read_text() == "old" and os.listdir() == ["file"]


def test_leftovers_of_a_name_with_a_newline():
    Path(".a\nb.deadbeef.tmp").touch()
    with replacing("a\nb") as file:
        file.write(b"x")
    assert os.listdir() == ["a\nb"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_does_not_go_on_holding_a_lock():
    ends, go_on = os.pipe()
    with locked("lock", "the folder"):
        child = os.fork()
        if child == 0:
            os.close(go_on)
            os.read(ends, 1)  # until the parent closes its end
            os._exit(0)
        with pytest.raises(BlockingIOError), locked("lock", "the folder"):
            pass  # the parent holds it all the same
    try:
        with locked("lock", "the folder"):
            pass
    finally:
        os.close(go_on)
        os.waitpid(child, 0)


def test_a_lock_in_a_moved_folder_is_told_and_leaves_the_next_ones_alone():
    with locked("run/lock", "the folder") as is_held:
        assert is_held()
        os.rename("run", "moved")
        assert not is_held()
        with locked("run/lock", "the folder") as others:
            assert others() and not is_held()
    with locked("run/lock", "the folder") as second:
        os.rename("run", "again")
        assert not second()


def test_the_first_holder_does_not_remove_the_lock_of_the_next():
    first = locked("run/lock", "the folder")
    first.__enter__()
    os.rename("run", "moved")
    with locked("run/lock", "the folder"):
        first.__exit__(None, None, None)
        with pytest.raises(BlockingIOError), locked("run/lock", "the folder"):
            pass


def test_a_lock_file_with_other_bytes_in_it():
    with open("lock", "wb") as file:
        file.write(b"\xff\xfe")
        file.flush()
        assert files.try_lock(file)
        with pytest.raises(BlockingIOError, match="in use by"), locked("lock", "the folder"):
            pass
