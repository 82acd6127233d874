"""Training of a cascade: killed at any stage it ends in the same bits; its files say what they fit."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from minivdm.__main__ import main
from minivdm.commands import train_cascade as command
from minivdm.commands.cascade_settings import BUDGETS
from minivdm.datasets.gif_files import save_gif
from minivdm.datasets.sprites import MovingSprites
from minivdm.files import shipped
from minivdm.pipelines import cascade_files
from minivdm.pipelines.cascade import Walk
from minivdm.pipelines.cascade_files import Sizes, load_cascade, load_stage, read_manifest, save_stage
from minivdm.pipelines.cascade_judging import attributes_in, judge_interpolation, judge_upscaling
from minivdm.pipelines.cascade_training import STAGES
from minivdm.pipelines.pretrained import load_pretrained

# A run that is killed, as by the system, as soon as it has saved so many checkpoints.
KILLED = """
import os, signal, sys
from minivdm.training import checkpoint
from minivdm.__main__ import main

save, left = checkpoint.save_checkpoint, int(sys.argv.pop(1))

def save_then_die(path, **state):
    global left
    save(path, **state)
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)

checkpoint.save_checkpoint = save_then_die
sys.exit(main(sys.argv[1:]))
"""
SMOKE = ["--budget", "smoke"]
TRAIN = ["train", "cascade", "--budget", "smoke", "--out"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True, scope="module")
def without_gpu():
    """On a CPU, with one thread, a run gives the same bits each time."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: False)
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of a run that nobody interrupted."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    assert main([*TRAIN, str(out)]) == 0
    return out


@pytest.fixture
def copied(whole):
    """A copy of it, to be spoilt."""
    return Path(shutil.copytree(whole, "copied"))


def run_and_kill(saves, *arguments):
    """Run the program in a process of its own that is killed after so many checkpoints."""
    Path("killed.py").write_text(KILLED)
    root = str(Path(cascade_files.__file__).parents[2])
    env = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "PYTHONPATH": root}
    done = subprocess.run([sys.executable, "killed.py", str(saves), *arguments], env=env, capture_output=True)
    assert done.returncode == -signal.SIGKILL


def refused(capsys, *arguments):
    """The one line that a command is refused with."""
    capsys.readouterr()
    assert main(list(arguments)) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1 and "Traceback" not in line
    return line


def test_a_run_leaves_one_file_for_each_stage_and_a_manifest(whole):
    assert {path.name for path in whole.iterdir()} == {"cascade.json", *(f"{stage}.pt" for stage in STAGES)}
    manifest = read_manifest(whole)
    assert list(manifest["stages"]) == list(STAGES) and Sizes(**manifest["sizes"]) == BUDGETS["smoke"].sizes
    assert manifest["stages"]["prior"]["settings"] == {"steps": 3, "batch": 8, "lr": 1e-3, "seed": 0, "photos": 64}
    assert manifest["stages"]["spatial"]["settings"]["folder"] is None
    cascade = load_cascade(whole)
    assert (cascade.frames, cascade.size) == (8, 32)


@pytest.mark.parametrize("saves, stage, step", [(9, "decoder", 3), (20, "spatial", 2)])
def test_killed_and_started_again_it_ends_in_the_same_bits(whole, capsys, saves, stage, step):
    run_and_kill(saves, *TRAIN, "again")
    assert not Path("again", f"{stage}.pt").exists() and Path("again", f"{stage}.checkpoint.pt").exists()
    assert main([*TRAIN, "again"]) == 0
    lines = capsys.readouterr().out
    assert f"{stage}: going on from step {step}, 3 steps" in lines and f"{stage} step      {step} of" not in lines
    for each in STAGES:
        assert same(whole, "again", each)
    assert {path.name for path in Path("again").iterdir()} == {path.name for path in whole.iterdir()}


def same(one, other, stage):
    """Two runs' stages are equal, bit for bit."""
    weights = [load_stage(folder, stage).state_dict() for folder in (one, other)]
    return all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_stage_by_stage_gives_the_same_as_in_one_go(whole, capsys):
    for stage in STAGES[:3]:
        assert main([*TRAIN, "apart", "--stage", stage]) == 0
        assert same(whole, "apart", stage)
    capsys.readouterr()
    assert main([*TRAIN, "apart"]) == 0
    assert capsys.readouterr().out.count("is finished") == 3 and same(whole, "apart", "interpolation")


def test_an_interrupted_run_says_what_is_saved(whole, capsys, monkeypatch):
    real = command.train_stage

    def stopped(stage, *arguments, **options):
        for step, loss in real(stage, *arguments, **options):
            if (stage, step) == ("prior", 2):
                raise KeyboardInterrupt
            yield step, loss

    with monkeypatch.context() as patch:
        patch.setattr(command, "train_stage", stopped)
        assert main([*TRAIN, "again"]) == 130
    line = capsys.readouterr().err
    assert "stopped: again holds clip finished; prior at step 2, and the same command goes on from there" in line
    assert main([*TRAIN, "again", "--stage", "prior"]) == 0 and same(whole, "again", "prior")


def test_own_clips_are_learnt_from_without_their_captions(whole, capsys):
    Path("mine", "videos", "a").mkdir(parents=True)
    clips, _ = MovingSprites(10, 32).sample(3, torch.Generator().manual_seed(5))
    rows = ["videoid,contentUrl,duration,page_dir,name"]
    for i, clip in enumerate(clips):
        save_gif(clip, Path("mine", "videos", "a", f"{i}.gif"), scale=1)
        rows.append(f"{i},,,a,a caption of words that nobody knows")
    Path("mine", "clips.csv").write_text("\n".join(rows))
    pytest.importorskip("av")
    shutil.copytree(whole, "again")
    manifest = read_manifest("again")
    del manifest["stages"]["spatial"]
    Path("again", "cascade.json").write_text(json.dumps(manifest))
    command_line = ["train", "cascade", "mine", *TRAIN[2:], "again", "--stage", "spatial"]
    assert main(command_line) == 0
    assert "3 clips from 3 rows" in capsys.readouterr().out and not same(whole, "again", "spatial")
    told = read_manifest("again")["stages"]["spatial"]["settings"]
    assert told["folder"] == str(Path("mine").resolve())
    assert "holds a spatial made with folder=" in refused(capsys, *TRAIN, "again", "--stage", "spatial")


def test_clips_by_the_cascade(whole, capsys):
    prompts = ["a red circle moving left", "a blue ring growing"]
    assert main(["sample", *prompts, "-o", "two.gif", "--cascade", str(whole), "--steps", "2"]) == 0
    assert "two.gif: 8 frames of 32 x 32 pixels, 2 clips" in capsys.readouterr().out
    with Image.open("two.gif") as film:
        assert film.n_frames == 8 and film.size == (4 * (2 * 32 + 2), 4 * 32)
    one = ["sample", prompts[0], "--cascade", str(whole / "cascade.json"), "--steps", "2", "--scale", "1"]
    for name in ("one.gif", "again.gif"):
        assert main([*one, "--all-stages", "-o", name]) == 0
    assert Path("one.gif").read_bytes() == Path("again.gif").read_bytes()
    with Image.open("one.gif") as film:
        assert film.size == (4 * 32 + 3 * 2, 32)
    assert main([*one, "--all-stages", "-o", "folder/"]) == 0
    assert [path.name for path in Path("folder").iterdir()] == ["a_red_circle_moving_left.gif"]


def test_the_newest_whole_cascade_is_the_default(whole, capsys):
    Path("chapters", "source").mkdir(parents=True)
    monkey = ["sample", "a red circle moving left", "--steps", "1", "-o", "x.gif", "--cascade"]
    if not (shipped("data") / "cascade").exists():
        assert "there is no cascade yet: make one with `minivdm train cascade`" in refused(capsys, *monkey)
    shutil.copytree(whole, "runs/cascade/smoke")
    shutil.copytree(whole, "runs/cascade/unfinished")
    Path("runs/cascade/unfinished/spatial.pt").unlink()
    assert main(monkey) == 0
    assert "cascade: runs/cascade/smoke, the newest of 1 in runs/cascade" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["--steps", "3"], "steps differs from stage to stage: give --stage, too"),
        (["--stage", "upscaler"], f"a stage is one of {', '.join(STAGES)}; got 'upscaler'"),
        (["--stage", "prior", "--lr", "0"], "lr must be a positive number, got 0.0"),
        (["--stage", "prior", "--batch", "0"], "batch must be a whole number, at least 1, got 0"),
        (["--stage", "interpolation"], "interpolation needs clip, which is not in out: train that stage first"),
        (["--seed", "-1"], "seed must lie in 0..2^32 - 1, got -1"),
        (["--budget", "large"], "budget must be one of smoke, cpu, gpu, gpu-small for a cascade; got 'large'"),
        (["--frames", "8"], "--frames is no option of train cascade"),
        (["nowhere"], "no table of clips at nowhere: expected a folder with a clips.csv"),
    ],
)
def test_training_refuses_in_one_line(capsys, arguments, said):
    assert said in refused(
        capsys, "train", "cascade", *arguments, "--out", "out", *SMOKE[: 2 * ("--budget" not in arguments)]
    )
    assert not Path("out").exists()


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["a red circel moving left"], "did you mean 'circle'"),
        (["--lora", "x.pt"], "--lora is no option of sample --cascade"),
        (["--checkpoint", "x.pt"], "--checkpoint is no option of sample --cascade"),
        (["--steps", "0"], "steps must lie in 1..1000, got 0"),
        (["a blue ring growing", "--all-stages"], "--all-stages shows one prompt in a file, got 2"),
        (["--cascade", "nowhere"], "no cascade at nowhere: expected a folder with a cascade.json"),
    ],
)
def test_sampling_refuses_in_one_line(whole, capsys, arguments, said):
    basis = ["sample", "a red circle moving left", "-o", "x.gif", "--cascade", str(whole)]
    words = [each for each in arguments if not each.startswith("-") and " " in each]
    rest = [each for each in arguments if each not in words]
    assert said in refused(capsys, *basis[:2], *words, *basis[2:], *rest)
    assert not Path("x.gif").exists()
    assert "--all-stages is for --cascade" in refused(capsys, *basis[:4], "--all-stages")


def test_files_that_do_not_fit_are_refused(whole, copied, capsys):
    sample = ["sample", "a red circle moving left", "-o", "x.gif", "--cascade", "copied"]
    prior = copied / "prior.pt"
    content = prior.read_bytes()
    prior.write_bytes(content[:-100])
    assert "prior.pt is broken or another file" in refused(capsys, *sample)
    assert "prior.pt is broken or another file" in refused(capsys, *TRAIN, "copied")
    prior.unlink()
    assert "prior.pt is gone: train it with" in refused(capsys, *sample)
    prior.write_bytes(content)

    assert "holds a prior made with steps=3, not steps=5" in refused(
        capsys, *TRAIN, "copied", "--stage", "prior", "--steps", "5"
    )
    assert "copied holds a cascade with key_frames=4, not key_frames=8" in refused(
        capsys, "train", "cascade", "--budget", "cpu", "--out", "copied"
    )
    clip, sizes = load_stage(copied, "clip"), BUDGETS["smoke"].sizes
    with torch.no_grad():
        clip.project.weight += 1
    save_stage(copied, "clip", clip, sizes, clip)
    assert "was trained with another CLIP" in refused(capsys, *sample)
    with pytest.raises(ValueError, match="copied holds a cascade with size=8, not size=16"):
        save_stage(copied, "clip", clip, Sizes(4, 8, 16), clip)

    (copied / "cascade.json").write_text('{"sizes": {}, "stages": {"poem": {}}}')
    assert "cascade.json is no manifest of a cascade" in refused(capsys, *sample)
    shutil.copy(whole / "cascade.json", copied)
    manifest = json.loads((copied / "cascade.json").read_text())
    del manifest["stages"]["key_frames"]
    (copied / "cascade.json").write_text(json.dumps(manifest))
    assert "copied holds no whole cascade: key_frames missing; train cascade goes on" in refused(capsys, *sample)


def test_weights_that_are_not_finite_are_not_written(copied):
    spatial = load_stage(copied, "spatial")
    before = (copied / "spatial.pt").read_bytes()
    with torch.no_grad():
        spatial.net.net.net.stem[1].weight[0] = 1e6
    with pytest.raises(ValueError, match="was not written: in float16 the spatial has weights that are not finite"):
        save_stage(copied, "spatial", spatial, BUDGETS["smoke"].sizes, load_stage(copied, "clip"))
    assert (copied / "spatial.pt").read_bytes() == before


def test_the_cascade_that_comes_with_the_course_is_as_described_and_good_enough():
    folder = shipped("data") / "cascade"
    manifest = read_manifest(folder)
    assert set(manifest["stages"]) == set(STAGES)
    assert all((folder / f"{stage}.pt").stat().st_size < 5_000_000 for stage in STAGES)
    cascade, judge = load_cascade(folder), load_pretrained("video_classifier")
    generator = torch.Generator().manual_seed(0)
    real = MovingSprites(16, 64).sample(4, generator)[0]
    facts = [
        judge_interpolation(cascade.interpolation, real, judge, 2, 4, generator),
        judge_upscaling(cascade.spatiotemporal, real, judge, 0, 2, generator),
        judge_upscaling(cascade.spatial, real[:, :, :2], judge, 0, 2, generator),
    ]
    for each in facts:
        assert each["psnr"] > each["psnr_plain"] + 2 and each["perceptual"] < each["perceptual_plain"] / 1.5
    triples = torch.tensor([[0, 0, 0], [4, 7, 4], [2, 3, 2], [5, 5, 1]])
    clips = cascade(MovingSprites().captions(triples), Walk(10, 10, 4, 2), generator)
    assert clips.shape == (4, 3, 16, 64, 64)
    right = attributes_in(clips, judge)[:, :2] == triples[:, :2]
    assert right.float().mean() >= 0.75
