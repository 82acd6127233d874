"""Make clips by the cascade: `python -m minivdm sample "a red circle moving left" --cascade -o clip.gif`."""

import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from ..datasets.captions import Tokenizer
from ..datasets.video_files import require_fits, write_video
from ..files import runs_folder, shipped
from ..pipelines.cascade import TextToVideo, Walk
from ..pipelines.cascade_files import MANIFEST, load_cascade
from ..training.precision import best_device
from .sample import check_playing, check_sampling, output_paths, side_by_side, size_side_by_side

CLIPS_AT_A_TIME = 8  # a clip of the last stage has eight times the pixels of one of chapter 10
SHOWN = "key_frames", "interpolation", "spatiotemporal", "spatial"


def sample_cascade(
    prompts: Sequence[str],
    out: str | Path,
    cascade: str | Path = "",
    steps: int = 20,
    guidance_scale: float = 2.0,
    seed: int = 0,
    fps: float = 8,
    scale: int = 4,
    all_stages: bool = False,
) -> list[Path]:
    """Sample one clip per prompt by a cascade and write them.

    Args:
        prompts: a list of strings.
        out: a file (.gif or .mp4), in which several clips stand side by side, or a folder, for one .gif per prompt.
        cascade: the cascade's folder, or its cascade.json; "" means the default of `find_cascade`.
        steps: DDIM steps of the prior and of the key frames; the other stages take fewer (see `Walk`).
        guidance_scale: of the key frames.
        seed: of the noise.
        fps, scale: as for `sample_text2video`.
        all_stages: show what each stage has made, side by side; one prompt in a file, then.

    Returns:
        The paths of the files written.

    Raises:
        ValueError, OSError, ImportError: as for `sample_text2video` and `load_cascade`.
    """
    Tokenizer().encode(prompts)
    paths = output_paths(out, prompts)
    check_sampling(steps, guidance_scale, seed)
    check_playing(fps, scale)
    if all_stages and len(paths) < len(prompts):
        raise ValueError(f"--all-stages shows one prompt in a file, got {len(prompts)}: give a folder as --out")
    model, source = find_cascade(cascade)
    together = len(paths) < len(prompts)
    n = len(SHOWN) if all_stages else len(prompts) if together else 1
    require_fits(paths[0], model.frames, *size_side_by_side(n, model.size, model.size), scale, fps)
    device = best_device()
    model.to(device)
    print(f"cascade: {source}", flush=True)

    start, generator = time.perf_counter(), torch.Generator(device).manual_seed(seed)
    walk, films = Walk(prior_steps=steps, key_frame_steps=steps, guidance=guidance_scale), []
    for i in range(0, len(prompts), CLIPS_AT_A_TIME):
        made = model.stages(prompts[i : i + CLIPS_AT_A_TIME], walk, generator)
        films += list(stages_side_by_side(made, model)) if all_stages else list(made["spatial"].cpu())
    seconds, written = time.perf_counter() - start, []
    try:
        for path, film in zip(paths, [side_by_side(torch.stack(films))] if together else films):
            written.append(write_video(film, path, fps, scale))
    finally:
        for path in written:
            beside = f", {len(prompts)} clips in the order of their prompts" if together else ""
            beside += f", beside what came before: {', '.join(SHOWN[:-1])}" if all_stages else ""
            print(f"{path}: {model.frames} frames of {model.size} x {model.size} pixels{beside}")
    print(f"{len(prompts)} clips in {seconds:.1f} s on {device.type}")
    return paths


def stages_side_by_side(made: dict[str, Tensor], model: TextToVideo) -> list[Tensor]:
    """For each prompt, the clips of `SHOWN` beside each other, (3, F, H, W'), with pixels and frames repeated."""
    shape = (model.frames, model.size, model.size)
    clips = [F.interpolate(made[stage].cpu(), shape, mode="nearest") for stage in SHOWN]
    return [side_by_side(torch.stack(of_one)) for of_one in zip(*clips)]


def find_cascade(folder: str | Path = "") -> tuple[TextToVideo, str]:
    """A cascade on the CPU, and where it comes from.

    Args:
        folder: its folder, or the cascade.json in it; default: the newest whole one in `runs/cascade`, else the one
            that comes with the course.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if something of it is broken, or does not belong to the rest.
    """
    if str(folder):
        path = Path(folder)
        path = path.parent if path.name == MANIFEST else path
        if not (path / MANIFEST).exists():
            raise FileNotFoundError(f"no cascade at {folder}: expected a folder with a {MANIFEST}")
        return load_cascade(path), str(path)
    runs = sorted(runs_folder().glob(f"cascade/*/{MANIFEST}"), key=lambda path: path.stat().st_mtime)
    whole = [path.parent for path in runs if (path.parent / "spatial.pt").exists()]
    if whole:
        return load_cascade(whole[-1]), f"{whole[-1]}, the newest of {len(whole)} in {runs_folder() / 'cascade'}"
    folder = shipped("data") / "cascade"
    if not (folder / MANIFEST).exists():
        raise FileNotFoundError("there is no cascade yet: make one with `minivdm train cascade`")
    return load_cascade(folder), f"the one that comes with the course, {folder}"
