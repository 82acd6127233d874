"""A copy of what somebody wrote, made before a file is written over."""

import itertools
import os
from pathlib import Path


def keep_copy(path, mark=".mine", folder=None):
    """Copy a file under a name that is still free: "01_ddpm.mine.ipynb", then "01_ddpm.mine-2.ipynb", and so on.

    Args:
        path: the file.
        mark: what the copy's name has before the suffix.
        folder: where the copy goes; by default beside the file.

    Returns:
        The copy's path. If an earlier copy holds the same bytes, that one's.

    Raises:
        OSError: if it cannot be written; there is no half copy then, and no earlier one has changed.
    """
    path, content = Path(path), Path(path).read_bytes()
    folder = path.parent if folder is None else Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for number in itertools.count(1):
        count = "" if number == 1 else f"-{number}"
        copy = folder / f"{path.stem}{mark}{count}{path.suffix}"
        try:
            write_new(copy, content)
        except FileExistsError:
            if not copy.is_file() or copy.read_bytes() != content:
                continue
        return copy


def write_new(path, content):
    """Write a file that must not be there yet, whole or not at all; of two programs that try, one fails."""
    file = open(path, "xb")
    try:
        with file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        path.unlink(missing_ok=True)
        raise
