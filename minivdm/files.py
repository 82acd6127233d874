"""Files are written whole or not at all, and one writer holds a lock.

Locks are the operating system's (`flock`): they end with the process that holds them, however it ends, so none is left
behind by a crash. Linux passes them on over NFS; where a file system knows no locks, `locked` says so.
"""

import contextlib
import errno
import os
import re
import secrets
import shutil
import socket
import time
import warnings
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, BinaryIO

try:
    import fcntl
except ImportError:  # Windows
    import msvcrt

    fcntl = None

PACKAGE = Path(__file__).resolve().parent
LONGEST_NAME = 200  # bytes of a file's name that its temporary file repeats; file systems allow 255 in all
FAR = 2**30  # Windows lets nobody read a locked byte, so the one that is locked lies far behind the text
SECONDS_BETWEEN_TRIES = 0.05


def shipped(folder: str) -> Path:
    """Where `data`, `chapters` or `solutions` lies: in an installed package inside it, in a checkout beside it."""
    inside = PACKAGE / folder
    return inside if inside.is_dir() else PACKAGE.parent / folder


def course_folder() -> Path | None:
    """The nearest folder of the course, from the working directory upwards: the repository, or one that `minivdm
    start` has laid. Its notebooks, or their sources, lie in `chapters/`. None if there is none.
    """
    here = Path.cwd()
    chapters = (folder / "chapters" for folder in (here, *here.parents))
    return next((each.parent for each in chapters if (each / "source").is_dir() or any(each.glob("*.ipynb"))), None)


def home_folder() -> Path:
    """Where a learner's `my_pieces/` and `runs/` lie: the course folder that is worked in, else the repository that
    holds the package, and for an installed package the working directory.
    """
    repository = shipped("chapters").parent
    return course_folder() or (Path.cwd() if repository == PACKAGE else repository)


def runs_folder() -> Path:
    """Where a command keeps its runs: `runs/` in the course folder, else in the working directory; relative to that."""
    return Path(os.path.relpath(course_folder() or Path.cwd()), "runs")


@contextlib.contextmanager
def replacing(path: str | Path, older: str | Path | None = None) -> Iterator[BinaryIO]:
    """A binary file to write; it takes the place of `path` when the block ends, and is dropped if the block raises.

        with replacing("model.pt") as file:
            file.write(...)

    A link stays a link, and what it points to is replaced. A new file gets the permissions that `open` would give it,
    an old one keeps its own. Temporary files of killed processes are removed by the next one that writes this file.

    Args:
        path: the file to write; its folder is made if need be.
        older: where to move the file that is there now, instead of overwriting it.

    Raises:
        OSError: if it cannot be written, or is there and write-protected; the message names `path`.
    """
    target = followed(path)
    with naming(path):
        if target.exists() and not target.is_file():
            number = errno.EISDIR if target.is_dir() else errno.EEXIST
            raise OSError(number, "expected a name for a file, but this is a folder or a device")
        require_unprotected(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(target)
        file = new_temporary(target)
        try:
            with file:
                yield file
                file.flush()
                os.fsync(file.fileno())
                with contextlib.suppress(FileNotFoundError):
                    shutil.copymode(target, file.name)
                if not fcntl:
                    file.close()  # Windows renames no open file
                if older is not None:
                    with contextlib.suppress(FileNotFoundError):
                        os.replace(target, older)
                os.replace(file.name, target)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise


def require_unprotected(target: Path) -> None:
    """A PermissionError if a file is there and write-protected: renaming another one over it would not ask.

    It is opened, and not asked about: another process may be replacing it, and there is none for a moment.
    """
    try:
        os.close(os.open(target, os.O_WRONLY))
    except FileNotFoundError:
        pass
    except PermissionError as error:
        raise PermissionError(errno.EACCES, "this file is write-protected") from error


def followed(path: str | Path) -> Path:
    """The file that a path means: what it points to if it is a link, which need not be there yet, else itself."""
    return Path(os.path.realpath(path) if os.path.islink(path) else path)


@contextlib.contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """Give an OSError of this block, such as that of a full disk, the file's name if it has none or a temporary one."""
    try:
        yield
    except OSError as error:
        temporary = os.path.basename(os.fsdecode(error.filename or "")).endswith(".tmp")
        if error.errno is None or (error.filename is not None and not temporary):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def temporary_name(target: Path, middle: str) -> str:
    """The name of a temporary file beside `target`."""
    return f".{os.fsdecode(os.fsencode(target.name)[:LONGEST_NAME])}.{middle}.tmp"


def new_temporary(target: Path) -> BinaryIO:
    """An open temporary file beside `target`, locked as long as it is open: so others can see that it is in use."""
    while True:
        file = open(target.with_name(temporary_name(target, secrets.token_hex(4))), "xb")
        try:
            mine = try_lock(file)
        except OSError:  # no locks here, so nobody will take it for a leftover
            mine = True
        if mine and os.path.exists(file.name):
            return file
        file.close()  # another process took it for a leftover before it was locked
        Path(file.name).unlink(missing_ok=True)


def remove_leftovers(target: Path) -> None:
    """Remove the temporary files of `target` that no process is writing any more, where this can be known."""
    before, after = map(re.escape, temporary_name(target, "/").split("/"))  # no name has a slash
    pattern = re.compile(f"{before}[0-9a-f]{{8}}{after}")
    for path in target.parent.iterdir():
        if pattern.fullmatch(path.name):
            with contextlib.suppress(OSError), open(path, "r+b") as file:
                if try_lock(file):
                    path.unlink()


def try_lock(file: IO) -> bool:
    """Lock an open file until it is closed, or its process ends in any way; False if somebody else has it locked.

    Raises:
        OSError: if the file system knows no locks.
    """
    try:
        if fcntl:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            os.lseek(file.fileno(), FAR, os.SEEK_SET)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    except (BlockingIOError, PermissionError):
        return False
    return True


@contextlib.contextmanager
def locked(path: str | Path, what: str | Path, wait: bool = False) -> Iterator[Callable]:
    """Hold a lock file, made for this block and removed after it; others read in it who holds it.

    A child that this process forks does not hold it. The block gets a function: whether the lock file is still where
    it was made. If it is not, somebody has moved or removed it, perhaps with its folder, and others may come in.

    Args:
        path: the lock file; its folder is made if need be.
        what: what it stands for, in the message to others.
        wait: wait until it is free, instead of raising.

    Raises:
        BlockingIOError: if it is held, on this machine or another one; the message says by which process, and where.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with naming(path):
        file = hold(path, what, wait)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()} since {time.strftime('%Y-%m-%d %H:%M:%S')}\n")
        file.flush()
    HELD.add(file)
    with file:
        try:
            yield lambda: is_at(file, path)
        finally:
            with contextlib.suppress(OSError):  # Windows removes no open file; without its lock it means nothing
                if is_at(file, path):  # and not that of somebody else, who has come in since
                    path.unlink()


HELD = weakref.WeakSet()  # the open lock files of this process


def let_go_in_child() -> None:
    """Close the lock files in a forked child: it would go on holding them after the end of its parent."""
    for file in HELD:
        file.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=let_go_in_child)


def is_at(file: IO, path: Path) -> bool:
    """Whether an open file is the one at `path`, and not closed, removed or moved by now."""
    with contextlib.suppress(OSError):
        return not file.closed and os.path.samestat(os.stat(path), os.fstat(file.fileno()))
    return False


def hold(path: Path, what: str | Path, wait: bool) -> IO:
    """The lock file, open and locked; see `locked`."""
    while True:
        file = open(path, "a+", encoding="utf-8", errors="replace")  # its text is for people
        try:
            mine = try_lock(file)
        except OSError as error:
            text = f"{path}: no locks on this file system ({error.strerror}), so make sure that nobody else uses {what}"
            warnings.warn(text, stacklevel=4)
            return file
        if mine:
            if is_at(file, path):  # whoever had it may have removed it just now
                return file
        file.seek(0)
        holder = file.read().strip() or "another process"
        file.close()
        if not mine and not wait:
            raise BlockingIOError(f"{what} is in use by {holder}")
        if not mine:
            time.sleep(SECONDS_BETWEEN_TRIES)
