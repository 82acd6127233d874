"""The folder of a run of `minivdm train text2video`: whose it is, how far the run has come, and with which settings.

What counts is `checkpoint.pt`, which holds the settings that it was made with. `settings.json` tells people the same; a
run from before reads them there.
"""

import contextlib
import dataclasses
import json
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

from ..files import locked, replacing
from ..training.checkpoint import find_checkpoint
from ..training.parallel import all_gather, rank
from .settings import FORMER_NAMES, Settings

CHECKPOINT, FORMER_CHECKPOINT, LOCK = "checkpoint.pt", "stills.pt", "lock"
# A run's checkpoint says in which of its phases it is; what a step of that phase is called.
PHASES = {"images": "image step", "clips": "step"}


# Settings that older runs do not tell, since all had the same.
BEFORE_THERE_WAS_A_CHOICE = {
    "image_steps": 0,
    "image_batch": 96,
    "optimizer": "adamw",
    "momentum": 0.9,
    "warm_up": 100,
    "decay": "cosine",
}


class Terminated(KeyboardInterrupt):
    """SIGTERM came, as from a batch system whose time is up."""

    exit_code = 128 + signal.SIGTERM


@contextlib.contextmanager
def telling_what_is_saved(out: Path) -> Iterator[None]:
    """Let SIGTERM raise `Terminated` in this block; that and Ctrl-C then say what the run in `out` has saved."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Terminated

    hears = threading.current_thread() is threading.main_thread()  # the only one that can hear signals
    before = signal.signal(signal.SIGTERM, stop) if hears else None
    try:
        yield
    except KeyboardInterrupt as interrupt:
        if hears:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # torchrun sends it after Ctrl-C; one answer is enough
        raise type(interrupt)(f"stopped: {what_is_saved(out)}") from None
    finally:
        if hears:
            signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


@contextlib.contextmanager
def claimed(out: Path) -> Iterator[Callable]:
    """Hold a run's folder: of several processes the first one holds it for all.

    The block gets `still_there()`, which raises a ValueError if somebody has moved or removed the folder or its lock.

    Raises:
        BlockingIOError: if another run holds it, in every process; the message says where that one runs.
        OSError: if nothing can be written there.
    """
    with contextlib.ExitStack() as held:
        refused, is_held = None, lambda: True
        if rank() == 0:
            try:
                is_held = held.enter_context(locked(out / LOCK, out))
            except BlockingIOError as error:
                refused = BlockingIOError(f"{error}: choose another --out, or wait until that run has ended")
            except OSError as error:
                refused = error
        refused = all_gather(refused)[0]
        if refused:
            raise refused

        def still_there() -> None:
            if not is_held():
                raise ValueError(
                    f"{out / LOCK} is not there any more: somebody has moved or removed it, and another run may begin "
                    f"in {out}, so this one stops; {CHECKPOINT}, where it is now, holds what was saved"
                )

        yield still_there
    with contextlib.suppress(OSError):  # a folder in which nothing was written
        out.rmdir()


def find_run(out: Path) -> dict[str, object] | None:
    """The checkpoint of the run in a folder, with its "phase"; None if there is none.

    Raises:
        ValueError: if it is broken, something else, or from before a run had a single one.
    """
    saved = find_checkpoint(out / CHECKPOINT)
    if saved is None:
        if (out / FORMER_CHECKPOINT).exists():
            raise ValueError(
                f"{out / FORMER_CHECKPOINT} was made by an earlier version, whose runs on single frames this one "
                f"cannot go on with: choose another --out, or delete that folder to start again"
            )
        return None
    saved = {"phase": "clips"} | saved  # before there were phases, this file was for clips
    if saved["phase"] not in PHASES:
        raise ValueError(f"{saved['path']} is no checkpoint of a text-to-video run: choose another --out")
    return saved


def what_is_saved(out: Path) -> str:
    """From where the run in a folder will go on, in words."""
    saved = find_run(out)
    if not saved:
        return "nothing is saved yet, and the same command begins again"
    return f"{out} holds {PHASES[saved['phase']]} {saved['step']}, and the same command goes on from there"


def write_settings(out: Path, settings: Settings) -> bool:
    """Write `settings.json`, unless it says the same already; whether it said something else."""
    path, content = out / "settings.json", (json.dumps(dataclasses.asdict(settings), indent=2) + "\n").encode()
    before = path.read_bytes() if path.exists() else None
    if before != content:
        with replacing(path) as file:
            file.write(content)
    return before not in (None, content)


def saved_settings(out: Path, saved: dict[str, object]) -> Settings:
    """The `Settings` that a run was begun with; a ValueError if they cannot be read.

    Args:
        out: the run's folder.
        saved: its checkpoint. An older one does not hold them, so they are read from `settings.json`.
    """
    path = saved["path"] if saved.get("settings") else out / "settings.json"
    try:
        told = saved.get("settings") or json.loads(path.read_text())
        told = {FORMER_NAMES.get(name, name): value for name, value in told.items()}
        told = BEFORE_THERE_WAS_A_CHOICE | told
        return Settings(**{field.name: told[field.name] for field in dataclasses.fields(Settings)})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} does not tell what the run in {out} was begun with: choose another --out, or delete "
            f"that folder to start again"
        ) from error


def require_same(out: Path, begun_with: Settings, asked: Settings) -> None:
    """A ValueError that names the first setting in which the run in `out` differs."""
    for name, value in dataclasses.asdict(begun_with).items():
        if value != getattr(asked, name):
            raise ValueError(
                f"{out} holds a run with {name}={value}, not {name}={getattr(asked, name)}: choose another --out, "
                f"or delete that folder to start again"
            )
