"""Files are written whole or not at all, and what cannot be read says why."""

import contextlib
import io
import os
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

PACKAGE = Path(__file__).resolve().parent


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

    Args:
        path: the file to write; its folder is made if need be.
        older: where to move the file that is there now, instead of overwriting it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        if older is not None:
            with contextlib.suppress(FileNotFoundError):
                os.replace(path, older)
        os.replace(temporary, path)
    except BaseException as error:
        Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(path)
        raise


def save_torch(path: str | Path, value: object, older: str | Path | None = None) -> None:
    """Write `value` by `torch.save`, whole or not at all; `older` as in `replacing`.

    The bytes are made in memory first: a full disk, or Ctrl-C, in the middle of `torch.save` itself would end in an
    error of its own that hides the cause.
    """
    import torch  # here, since the command line reads files' names before it needs torch

    buffer = io.BytesIO()
    torch.save(value, buffer)
    with replacing(path, older) as file:
        file.write(buffer.getbuffer())


def load_torch(path: str | Path) -> object:
    """What `torch.save` wrote, on the CPU; code in the file is never run.

    Raises:
        OSError: if the file is not there or cannot be read; it may be sound all the same.
        ValueError: if it was read and is truncated, or nothing of the kind.
    """
    import torch

    content = Path(path).read_bytes()
    try:
        with warnings.catch_warnings(action="ignore"):  # torch warns of a plain pickle, which is refused below
            return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # whatever bytes may lead an unpickler to
        raise ValueError(f"{path} ({len(content):,} bytes) is truncated or not a checkpoint") from error
