"""Files are written whole or not at all."""

import contextlib
import os
import tempfile
from pathlib import Path


@contextlib.contextmanager
def replacing(path, older=None):
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
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
