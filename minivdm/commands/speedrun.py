"""How long does it take from nothing to clips that obey? `python -m minivdm speedrun` measures it by fixed rules.

It trains in a process of its own for each of three seeds, judges what came out, and prints a row for the table of
records in the README. The rules are in docs/speedrun.md; what can be checked here is, and a run that breaks one of them
gets no row.
"""

import dataclasses
import datetime
import hashlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from ..datasets.sprites import all_triples
from ..files import shipped
from .evaluate import evaluate_text2video
from .settings import settings_of

JUDGE = "61caf9c40cfc9e34e30a36f542213629a5da7e1457c05b630c056e2cde6275f7"  # SHA-256 of data/video_classifier.pt
SEEDS = (0, 1, 2)
CLIPS, STEPS, GUIDANCE_SCALE = 768, 20, 2.0
# Where a compiler keeps what it has made, for the next run: each run gets folders of its own, which are empty.
CACHES = ("TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR", "CUDA_CACHE_PATH")


@dataclasses.dataclass(frozen=True)
class Event:
    """What is to be reached, by each of the seeds: shares of clips that do what their prompts say, and the mini-FVD."""

    budget: str
    seen: float
    held_out: float
    mini_fvd: float


EVENTS = {
    "16x32": Event("gpu-quick", seen=0.95, held_out=0.90, mini_fvd=100.0),
    "8x16": Event("gpu-small", seen=0.95, held_out=0.90, mini_fvd=250.0),  # enlarged for the judge, edges are ragged
}


def speedrun(event: str = "16x32", changed: str = "", out: str | Path | None = None) -> dict[str, object]:
    """Train three times from nothing, judge, and print a row for the table of records if the rules were kept.

    Args:
        event: a name in `EVENTS`: frames x height and width of the clips.
        changed: what makes this run faster than the last record, in a few words.
        out: a folder that does not exist yet, for the three models; default: one that is removed afterwards.

    Returns:
        A dict: "event"; "runs", for each seed its "seed", "seconds", and what `evaluate_text2video` measures; "broken",
        the rules that were broken, as sentences; "row", a row of the table, or None if there are any.

    Raises:
        ValueError: if there is no such event. FileExistsError: if `out` is there already.
        RuntimeError: if a training fails.
    """
    if event not in EVENTS:
        raise ValueError(f"event must be one of {', '.join(EVENTS)}; got {event!r}")
    if out is not None and Path(out).exists():
        raise FileExistsError(f"{out} is there already, and a run begins from nothing: choose another --out")
    broken = list(broken_beforehand())
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder if out is None else out)
        runs = [one_run(event, seed, place / f"seed_{seed}", Path(folder)) for seed in SEEDS]
    broken += [reason for run in runs for reason in missed(EVENTS[event], run)]
    row = None if broken else table_row(event, changed, runs)
    print()
    print("\n".join(["no record:", *(f"  - {reason}" for reason in broken)]) if broken else row)
    return {"event": event, "runs": runs, "broken": broken, "row": row}


def one_run(event: str, seed: int, out: Path, caches: Path) -> dict[str, object]:
    """Train with one seed in a process of its own, and judge what it leaves.

    The clock runs from starting Python until the process has ended, when the model is on disk.
    """
    budget = EVENTS[event].budget
    command = [sys.executable, "-m", "minivdm", "train", "text2video", "--budget", budget, "--seed", str(seed)]
    own = {name: str(caches / f"{name}_{seed}") for name in CACHES}
    start = time.perf_counter()
    with subprocess.Popen(
        [*command, "--out", str(out)], env=os.environ | own, stdout=subprocess.PIPE, text=True
    ) as run:
        for line in run.stdout:
            print(line, end="", flush=True)
    seconds = time.perf_counter() - start
    if run.returncode or not (out / "model.pt").exists():
        raise RuntimeError(f"the training with seed {seed} failed with exit code {run.returncode}")
    print(f"seed {seed}: {seconds:.1f} s from starting Python to {out / 'model.pt'}\n", flush=True)
    facts = evaluate_text2video(out / "model.pt", CLIPS // len(all_triples()), STEPS, GUIDANCE_SCALE, seed=0)
    return facts | {"seed": seed, "seconds": round(seconds, 1), "judging_seconds": facts["seconds"]}


def broken_beforehand() -> Iterator[str]:
    """The rules that are broken whatever the runs give, as sentences."""
    judge = hashlib.sha256((shipped("data") / "video_classifier.pt").read_bytes()).hexdigest()
    if judge != JUDGE:
        yield "the judge, data/video_classifier.pt, is another one"
    if not torch.cuda.is_available():
        yield "there is no CUDA card: records are made on one"
    elif torch.cuda.device_count() > 1:
        yield f"{torch.cuda.device_count()} CUDA cards are visible: records are made on one (CUDA_VISIBLE_DEVICES=0)"
    if os.environ.get("MINIVDM_PIECES"):
        yield "MINIVDM_PIECES puts other pieces into the package"
    if commit() is None:
        yield "this is no git checkout whose files are as they were committed, so no commit names what was run"


def missed(event: Event, run: dict[str, object]) -> Iterator[str]:
    """What a run has not reached, as sentences."""
    accuracy, seed = run["prompt_accuracy"], run["seed"]
    for kind, wanted in (("seen", event.seen), ("held_out", event.held_out)):
        if accuracy[kind] < wanted:
            yield f"seed {seed}: {accuracy[kind]:.1%} of the {kind.replace('_', '-')} prompts, not {wanted:.0%}"
    if not run["mini_fvd"] <= event.mini_fvd:
        yield f"seed {seed}: a mini-FVD of {run['mini_fvd']:.1f}, above {event.mini_fvd:g}"


def commit() -> str | None:
    """The commit that is checked out, if the package's files are as they are there."""
    here = Path(__file__).parent
    try:
        changes, name = (
            subprocess.run(["git", *words], cwd=here, capture_output=True, text=True, check=True).stdout.strip()
            for words in (["status", "--porcelain", "--", here.parent], ["rev-parse", "--short", "HEAD"])
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return None if changes else name


def table_row(event: str, changed: str, runs: Sequence[dict[str, object]]) -> str:
    """The row: the slowest of the seeds counts, and of each measure the worst is told."""
    times = sorted(run["seconds"] for run in runs)
    settings = settings_of(EVENTS[event].budget)[1]
    cells = [
        datetime.date.today().isoformat(),
        commit(),
        torch.cuda.get_device_name(),
        changed or f"{settings.optimizer}, {settings.steps:,} steps of {settings.batch}",
        f"**{times[-1]:.1f}** ({', '.join(f'{each:.1f}' for each in times[:-1])})",
        " / ".join(f"{min(run['prompt_accuracy'][kind] for run in runs):.1%}" for kind in ("seen", "held_out")),
        f"{max(run['mini_fvd'] for run in runs):.1f}",
    ]
    return f"| {' | '.join(map(str, cells))} |"
