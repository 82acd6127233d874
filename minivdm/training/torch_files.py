"""Tensors in files: what is written can be read again, and code in a file is never run."""

import hashlib
import io
import re
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ..files import replacing


def save_torch(path: str | Path, value: object, older: str | Path | None = None) -> None:
    """Write `value` by `torch.save`, whole or not at all; `older` as in `replacing`.

    The bytes are made in memory first: a full disk, or Ctrl-C, in the middle of `torch.save` itself would end in an
    error of its own that hides the cause.

    Raises:
        ValueError: from `torch_bytes`; nothing is written then.
        OSError: from `replacing`.
    """
    content = torch_bytes(value, path)
    with replacing(path, older) as file:
        file.write(content)


def torch_bytes(value: object, path: str | Path) -> bytes:
    """What `save_torch` writes into `path`.

    Raises:
        ValueError: if `load_torch` could not read it again, as with a NumPy number or a `Path` in it.
    """
    buffer = io.BytesIO()
    torch.save(value, buffer)
    try:
        torch.load(io.BytesIO(buffer.getvalue()), map_location="cpu", weights_only=True)
    except Exception as error:  # whatever an unpickler may raise
        refused = re.search(r"GLOBAL (\S+)", str(error))
        what = refused[1] if refused else str(error).splitlines()[0]
        reason = f"expected tensors and Python's own numbers, strings, lists and dicts, got {what}"
        raise ValueError(f"{path} was not written, since it could not be read again: {reason}") from error
    return buffer.getvalue()


def load_torch(path: str | Path) -> object:
    """What `torch.save` wrote, on the CPU; code in the file is never run.

    Raises:
        OSError: if the file is not there or cannot be read; it may be sound all the same.
        ValueError: if it was read and is truncated, or nothing of the kind.
    """
    content = Path(path).read_bytes()
    try:
        with warnings.catch_warnings(action="ignore"):  # torch warns of a plain pickle, which is refused below
            return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # whatever bytes may lead an unpickler to
        raise ValueError(f"{path} ({len(content):,} bytes) is truncated or not a checkpoint") from error


def hash_of_tensors(tensors: Mapping[str, Tensor]) -> str:
    """The SHA-256 of tensors, with their names, types and shapes; in the order of the names."""
    digest = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
