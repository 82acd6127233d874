"""`minivdm list`: which models, adapters and ControlNets are there, and which belong together.

An adapter or a ControlNet is of use beside the very model that it was trained on. Its file holds the hash of that
model's weights, so the list can say which one it is, or that it is not there.
"""

import os
from pathlib import Path

from torch import Tensor

from ..files import runs_folder
from ..pipelines.adapters import KIND, base_hash, checked_parts
from ..pipelines.control_files import hash_of_weights
from ..pipelines.pretrained import BUILDERS, DATA, load_weights
from ..training.torch_files import load_torch


def list_models(folder: str | Path | None = None) -> list[dict[str, object]]:
    """Print a line for each model, adapter and ControlNet in a folder and below, and for those of the course.

    Args:
        folder: where to look; default: `runs/`.

    Returns:
        For each file a dict with "path", "kind" ("model", "adapter", "controlnet", "checkpoint" or "broken"), "bytes"
        and "about"; for adapters and ControlNets also "base", the path of the model that they are for, or None.

    Raises:
        FileNotFoundError: if the folder was named, and is not there.
    """
    if folder is not None and not Path(folder).is_dir():
        raise FileNotFoundError(f"no folder at {folder}")
    places = [Path(DATA), runs_folder() if folder is None else Path(folder)]
    rows = [described(path) for place in places for path in sorted(place.rglob("*.pt"))]
    needing = [row for row in rows if "base" in row]  # its hash, so far
    if needing:
        paths = [row["path"] for row in reversed(rows) if row["kind"] == "model"]  # the first one counts
        known = {name: path for path in paths for name in hashes_of(path)}
        for row in needing:
            row["base"] = known.get(row["base"])
    for row in rows:
        base = f"; for {row['base'] or 'a model that is not here'}" if "base" in row else ""
        print(f"{row['path']}: {row['kind']}, {row['about']}{base} ({row['bytes']:,} bytes)")
    return rows


def described(path: Path) -> dict[str, object]:
    """A row of the list, with a hash as its "base"."""
    row = {"path": os.path.relpath(path), "kind": "broken", "bytes": path.stat().st_size}
    try:
        saved = load_torch(path)
        return row | contents(path, saved if isinstance(saved, dict) else {})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return row | {"about": " ".join(str(error).split())[:120]}


def contents(path: Path, saved: dict[str, object]) -> dict[str, object]:
    """The kind of what was saved, what there is to know about it, and the hash of what it is for."""
    if saved.get("kind") == KIND:
        adapters, words = checked_parts(saved)
        ranks = ", ".join(str(rank) for rank in sorted({each["rank"] for each in adapters.values()}))
        about = f"{', '.join(words) or 'no new word'}, {len(adapters)} layers of rank {ranks}"
        return {"kind": "adapter", "about": about, "base": saved["base"]}
    if saved.get("kind") == "controlnet":
        return {"kind": "controlnet", "about": f"{saved['hint']}, {saved['model']}", "base": saved["base"]}
    if set(saved) == {"config", "weights"}:
        config, weights = saved["config"], saved["weights"].values()
        numbers = sum(value.numel() for value in weights if isinstance(value, Tensor) and value.is_floating_point())
        clips = f" of {config['frames']} frames of {config['size']} x {config['size']}" if "frames" in config else ""
        return {"kind": "model", "about": f"{name_of(path)}{clips}, {numbers:,} numbers"}
    if "optimizer" in saved:
        return {"kind": "checkpoint", "about": f"a training at step {saved['step']}"}
    raise ValueError("nothing that minivdm has written")


def name_of(path: str | Path) -> str:
    """Which of `BUILDERS` makes the model of a file: its name tells, and a run's model.pt makes clips."""
    return Path(path).stem if Path(path).stem in BUILDERS else "text2video"


def hashes_of(path: str | Path) -> list[str]:
    """What adapters and ControlNets call the model of a file, if it can have any."""
    if name_of(path) not in ("text2image", "text2video"):
        return []
    model = load_weights(path, BUILDERS[name_of(path)])
    return [base_hash(model), hash_of_weights(model.net.net)]
