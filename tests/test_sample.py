"""`python -m minivdm sample`: the files that it writes, and what it knows before it samples."""

import errno
import io
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from minivdm.__main__ import main
from minivdm.commands import sample
from minivdm.console import NOBODY_READS
from minivdm.datasets import gif_files, video_files
from minivdm.models.unet3d import UNet3D
from minivdm.pipelines import text2video
from tests.command_kit import RED, fails

NAME = "a_red_circle_moving_left.gif"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """An empty working folder, so that no run of the developer's own is found."""
    monkeypatch.chdir(tmp_path)


def test_sample_writes_a_gif(capsys, model):
    options = ["-o", "new/x.gif", "--checkpoint", model, "--steps", "2", "--scale", "3", "--fps", "10"]
    assert main(["sample", RED, "the blue ring hops", *options]) == 0
    with Image.open("new/x.gif") as film:
        assert film.n_frames == 4 and film.size == (3 * (16 + 2 + 16), 3 * 16) and film.info["duration"] == 100
    out = capsys.readouterr().out
    assert f"model: {model}\n" in out
    assert "new/x.gif: 4 frames of 16 x 16 pixels, 2 clips in the order of their prompts" in out
    before = Path("new/x.gif").read_bytes()
    assert main(["sample", RED, "the blue ring hops", *options]) == 0 and Path("new/x.gif").read_bytes() == before
    assert main(["sample", RED, "the blue ring hops", *options, "--seed", "1"]) == 0
    assert Path("new/x.gif").read_bytes() != before and [p.name for p in Path("new").iterdir()] == ["x.gif"]


def test_more_than_four_clips_take_several_rows(model):
    assert main(["sample", *[RED] * 6, "-o", "x.gif", "--checkpoint", model, "--steps", "1", "--scale", "1"]) == 0
    with Image.open("x.gif") as film:
        frame = torch.from_numpy(np.array(film.convert("L")))
    assert frame.shape == (2 * 16 + 2, 4 * 16 + 3 * 2)
    assert (frame[16:18] > 250).all() and (frame[:, 16:18] > 250).all(), "a white gap between the clips"
    assert (frame[18:, 36:] > 250).all() and not (frame[18:, 18:34] > 250).all(), "six clips, and two free places"


def test_sample_writes_an_mp4(model):
    pytest.importorskip("av")
    options = ["--checkpoint", model, "--steps", "1", "--fps", "12"]
    assert main(["sample", RED, RED, RED, "-o", "x.mp4", *options]) == 0
    frames, fps = video_files.read_video("x.mp4")
    assert frames.shape == (4, 4 * 16, 4 * (3 * 16 + 2 * 2), 3) and fps == 12


def test_a_folder_gets_one_file_per_prompt(capsys, model):
    prompts = [RED, "", "The blue ring, hopping.", RED]
    assert main(["sample", *prompts, "-o", "many", "--checkpoint", model, "--steps", "2"]) == 0
    names = {
        "a_red_circle_moving_left.gif",
        "a_red_circle_moving_left_2.gif",
        "no_words.gif",
        "the_blue_ring_hopping.gif",
    }
    assert {path.name for path in Path("many").iterdir()} == names
    with Image.open("many/no_words.gif") as film:
        assert film.n_frames == 4 and film.size == (64, 64)


def test_the_newest_run_wins_else_the_shipped_model(capsys, model):
    for age, name in ((30, "cpu"), (10, "gpu"), (20, "smoke")):
        path = Path("runs", "text2video", name, "model.pt")
        path.parent.mkdir(parents=True)
        path.write_bytes(Path(model).read_bytes())
        os.utime(path, (time.time() - age,) * 2)
    assert main(["sample", RED, "-o", "x.gif", "--steps", "1"]) == 0
    assert "model: runs/text2video/gpu/model.pt, the newest of 3 in runs/text2video\n" in capsys.readouterr().out
    for path in Path("runs").rglob("model.pt"):
        path.unlink()
    assert sample.find_model()[1] == "the one that comes with the course, data/text2video.pt"


def test_mp4_without_pyav(capsys, model, no_sampling, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    line = fails(capsys, "sample", RED, "-o", "x.mp4", "--checkpoint", model)
    assert line == f"error: {video_files.MISSING}\n"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("place", ["sampling", "writing"])
def test_a_signal_ends_it_with_a_line_and_leaves_nothing_half_written(capsys, model, monkeypatch, place, number, code):
    def killed(*args, **options):
        os.kill(os.getpid(), number)
        time.sleep(5)

    target, name = {"sampling": (text2video, "sample_tokens"), "writing": (gif_files, "in_256_colours")}[place]
    monkeypatch.setattr(target, name, killed)
    before = signal.getsignal(signal.SIGTERM)
    line = fails(capsys, "sample", RED, "-o", "new/x.gif", "--checkpoint", model, "--steps", "1", code=code)
    assert line == "stopped\n" and not list(Path().glob("new/*")) + list(Path().glob("new/.*"))
    assert signal.getsignal(signal.SIGTERM) is before


def test_many_prompts_go_through_the_model_in_parts(model):
    seen = []

    def look(module, arguments):
        if isinstance(module, UNet3D):
            seen.append(len(arguments[0]))

    handle = torch.nn.modules.module.register_module_forward_pre_hook(look)
    try:
        assert main(["sample", *[RED] * 70, "-o", "x.gif", "--checkpoint", model, "--steps", "1", "--scale", "1"]) == 0
    finally:
        handle.remove()
    assert seen == [64, 64, 12], "with guidance, each clip is seen twice"


@pytest.mark.parametrize(("kind", "count", "scale"), [("gif", 240, 64), ("mp4", 200, 19)])
def test_a_picture_that_the_format_cannot_hold_is_refused_before_sampling(
    capsys, model, no_sampling, kind, count, scale
):
    if kind == "mp4":
        pytest.importorskip("av")
    line = fails(capsys, "sample", *[RED] * count, "-o", f"x.{kind}", "--scale", scale, "--checkpoint", model)
    assert f".{kind} has at most" in line and f"x.{kind}" in line


@pytest.mark.parametrize("kind", ["gif", "mp4"])
def test_a_disk_without_room_is_a_line_with_the_files_name(capsys, model, kind):
    resource = pytest.importorskip("resource", reason="limits as of Unix")
    if kind == "mp4":
        pytest.importorskip("av")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    Path(f"x.{kind}").write_bytes(b"old")
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
        line = fails(capsys, "sample", RED, "-o", f"x.{kind}", "--checkpoint", model, "--steps", "1")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert line == f"error: [Errno {errno.EFBIG}] {os.strerror(errno.EFBIG)}: 'x.{kind}'\n"
    assert [path.name for path in Path().iterdir() if path.is_file()] == [f"x.{kind}"]
    assert Path(f"x.{kind}").read_bytes() == b"old"


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="a folder in which even root can make nothing")
def test_a_folder_that_cannot_be_written_is_found_before_sampling(capsys, model, no_sampling):
    for out in ("/proc/x.gif", "/proc/new/x.gif", "/proc/new/"):
        line = fails(capsys, "sample", RED, "-o", out, "--checkpoint", model)
        assert line.startswith("error: [Errno ") and line.endswith(": '/proc'\n")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with names are of Unix")
def test_what_is_there_and_no_file_is_left_alone(capsys, no_sampling):
    os.mkfifo("x.gif")
    assert fails(capsys, "sample", RED, "-o", "x.gif") == "error: x.gif is there, and no file\n"


def test_endings_in_upper_case_and_folders_with_a_dot(model):
    options = ["--checkpoint", model, "--steps", "1"]
    Path("v1.5").mkdir()
    for out, made in (
        ("x.GIF", "x.GIF"),
        ("v1.5", f"v1.5/{NAME}"),
        ("v2.gif/", f"v2.gif/{NAME}"),
        (".hid", f".hid/{NAME}"),
    ):
        assert main(["sample", RED, "-o", out, *options]) == 0
        with Image.open(made) as film:
            assert film.format == "GIF"


def test_any_terminal_takes_any_name(model, monkeypatch):
    for name in ("\u00fc", "\udcfc"):  # the second is a byte that is no UTF-8, as Python reads it
        terminal = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
        monkeypatch.setattr(sys, "stdout", terminal)
        assert main(["sample", RED, "-o", f"{name}.gif", "--checkpoint", model, "--steps", "1"]) == 0
        assert f"\n{ascii(name)[1:-1]}.gif: 4 frames of 16 x 16 pixels\n".encode() in terminal.buffer.getvalue()
        assert Path(f"{name}.gif").exists()


def test_clips_are_written_also_when_nobody_reads_the_lines(model, monkeypatch, capfd):
    reader, writer = os.pipe()

    def sampled(*args, **options):
        os.close(reader)
        return text2video.text_to_video(*args, **options)

    monkeypatch.setattr(sys, "stdout", os.fdopen(writer, "w"))
    monkeypatch.setattr(sample, "text_to_video", sampled)
    assert main(["sample", RED, "a blue ring", "-o", "many", "--checkpoint", model, "--steps", "1"]) == NOBODY_READS
    assert {path.name for path in Path("many").iterdir()} == {NAME, "a_blue_ring.gif"}
    assert capfd.readouterr().err == ""


def test_one_string_is_one_prompt(model):
    (path,) = sample.sample_text2video(RED, "x.gif", steps=1, checkpoint=model, scale=1)
    with Image.open(path) as film:
        assert film.size == (16, 16)
    with pytest.raises(ValueError, match="at least one prompt, got none"):
        sample.sample_text2video([], "y.gif", checkpoint=model)


@pytest.mark.parametrize("n", [1, 2, 4, 5, 9])
def test_the_size_is_known_before_the_clips_are(n):
    assert sample.size_side_by_side(n, 16, 20) == sample.side_by_side(torch.zeros(n, 3, 2, 16, 20)).shape[-2:]
