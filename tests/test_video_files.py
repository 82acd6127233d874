"""Video files: what is written can be read back, and what is not whole is refused with its reason."""

import struct
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from minivdm.datasets.gif_files import save_gif
from minivdm.datasets.pixels import frames_of, to_uint8
from minivdm.datasets.sprites import MovingSprites
from minivdm.datasets.video_files import VideoError, cut_short, read_video, write_video


def drawn(frames=12, size=32, motion=1):
    """A drawn clip, and its frames as bytes (F, H, W, 3)."""
    clip = MovingSprites(frames, size).draw(torch.tensor([[0, 0, motion]]), torch.Generator().manual_seed(0))[0]
    return clip, torch.from_numpy(to_uint8(frames_of(clip)))


def noise(frames=12, height=32, width=32):
    """A clip that no codec can make small."""
    return 2 * torch.rand(3, frames, height, width, generator=torch.Generator().manual_seed(0)) - 1


def reason(path):
    with pytest.raises(VideoError) as caught:
        read_video(path)
    assert str(path) in str(caught.value) and caught.value.path == path
    return caught.value.reason


@pytest.mark.parametrize("fps", [8, 12.5, 24, 29.97, 30000 / 1001])
def test_mp4_keeps_frames_and_rate(tmp_path, fps):
    clip, frames = drawn()
    path = write_video(clip, tmp_path / "new" / "clip.mp4", fps)
    found, rate = read_video(path)
    assert found.shape == frames.shape and found.dtype == torch.uint8 and rate == pytest.approx(fps, abs=1e-9)
    error = (found.float() - frames.float()).abs()
    assert error.mean() < 4 and error.flatten(1).mean(dim=1).max() < 6  # of 255
    assert [p.name for p in path.parent.iterdir()] == ["clip.mp4"]


def test_mp4_without_h264(tmp_path, monkeypatch):
    av = pytest.importorskip("av")
    monkeypatch.setattr(av, "codecs_available", {"mpeg4"})
    clip, frames = drawn()
    path = write_video(clip, tmp_path / "clip.mp4", 16)
    with av.open(str(path)) as container:
        assert container.streams.video[0].codec_context.name == "mpeg4"
        assert container.streams.video[0].pix_fmt == "yuv420p"
    found, rate = read_video(path)
    assert rate == 16 and (found.float() - frames.float()).abs().mean() < 6


def test_mp4_is_the_same_each_time(tmp_path):
    for clip in (drawn()[0], noise()):
        assert len({write_video(clip, tmp_path / f"{i}.mp4").read_bytes() for i in range(8)}) == 1


@pytest.mark.parametrize("fps, stored", [(8, 100 / 12), (10, 10), (12.5, 12.5), (16, 100 / 6), (25, 25), (50, 50)])
def test_gif_keeps_frames_and_rounds_the_rate(tmp_path, fps, stored):
    """Few colours: the palette holds them all. The clock of a GIF ticks in hundredths."""
    clip, frames = drawn()
    found, rate = read_video(write_video(clip, tmp_path / "clip.gif", fps))
    assert rate == pytest.approx(stored) and torch.equal(found, frames)


@pytest.mark.parametrize("ending", ["gif", "mp4"])
def test_enlarged(tmp_path, ending):
    if ending == "mp4":
        pytest.importorskip("av")
    clip, frames = drawn()
    found, _ = read_video(write_video(clip, tmp_path / f"clip.{ending}", scale=3))
    assert found.shape[1:3] == (3 * frames.shape[1], 3 * frames.shape[2])
    assert (found[:, 1::3, 1::3].float() - frames.float()).abs().mean() < (3 if ending == "mp4" else 0.01)


def test_gif_of_many_colours(tmp_path):
    clip = noise(6)
    found, _ = read_video(write_video(clip, tmp_path / "clip.gif"))
    error = (found.float() - torch.from_numpy(to_uint8(frames_of(clip))).float()).abs()
    assert 1 < error.mean() < 25  # 256 colours for 1,024 pixels


@pytest.mark.parametrize("motion", [7, None])
def test_gif_of_equal_neighbours(tmp_path, motion):
    """A blinking sprite has 4 different pictures, a still one 1; all frames come back all the same."""
    clip, frames = drawn(32, motion=7) if motion else (torch.zeros(3, 32, 15, 17), torch.full((32, 15, 17, 3), 128))
    path = write_video(clip, tmp_path / "clip.gif", 20)
    assert getattr(Image.open(path), "n_frames", 1) == (4 if motion else 1)
    found, rate = read_video(path)
    assert rate == 20 and torch.equal(found, frames.byte())


def test_gif_from_elsewhere_is_held_by_its_shortest_stay(tmp_path):
    shades = [Image.new("RGB", (9, 7), (40 * i,) * 3) for i in range(4)]
    shades[0].save(tmp_path / "a.gif", save_all=True, append_images=shades[1:], duration=[50, 150, 50, 100])
    found, rate = read_video(tmp_path / "a.gif")
    assert rate == 20 and found[:, 3, 3, 0].tolist() == [0, 40, 40, 40, 80, 120, 120]
    shades[0].save(tmp_path / "b.gif", save_all=True, append_images=shades[1:], duration=[20, 600_000, 600_000, 20])
    assert reason(tmp_path / "b.gif") == "too long"


def test_grey_clips_and_odd_sizes(tmp_path):
    clip = torch.linspace(-1, 1, 5)[None, :, None, None].expand(1, 5, 15, 17)
    found, _ = read_video(write_video(clip, tmp_path / "clip.gif"))
    assert found.shape == (5, 15, 17, 3) and found[:, 0, 0, 1].tolist() == [0, 64, 128, 191, 255]
    with pytest.raises(ValueError, match="even height and width, got 15 x 17"):
        write_video(clip, tmp_path / "clip.mp4")
    assert [p.name for p in tmp_path.iterdir()] == ["clip.gif"]


def test_odd_sizes_are_read(tmp_path):
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "odd.mp4"), "w") as container:
        stream = container.add_stream("mpeg4" if "libx264" not in av.codecs_available else "libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 33, 21, "yuv444p"
        for _ in range(4):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((21, 33, 3), 99, np.uint8), "rgb24")))
        container.mux(stream.encode())
    found, rate = read_video(tmp_path / "odd.mp4")
    assert found.shape == (4, 21, 33, 3) and rate == 10 and (found.int() - 99).abs().max() <= 2


def test_a_camera_held_sideways(tmp_path):
    """The file says "turn by 90 degrees clockwise", as phones do: what was top left is then top right."""
    clip = -torch.ones(3, 4, 32, 64)
    clip[:, :, :16, :32] = 1
    path = write_video(clip, tmp_path / "clip.mp4")
    content = path.read_bytes()
    upright, turned = ([65536, 0, 0, 0, 65536], [0, 65536, 0, -65536, 0])
    old, new = (struct.pack(">9i", *matrix, 0, 0, 0, 1 << 30) for matrix in (upright, turned))
    track = content.index(b"tkhd")
    path.write_bytes(content[:track] + content[track:].replace(old, new, 1))
    found, _ = read_video(path)
    assert found.shape == (4, 64, 32, 3)
    assert [[int(found[0, y, x, 0] > 128) for x in (8, 24)] for y in (16, 48)] == [[0, 1], [0, 0]]


@pytest.mark.parametrize("ending", ["mp4", "gif"])
def test_every_cut_is_noticed(tmp_path, ending):
    content = write_video(noise(4), tmp_path / f"whole.{ending}").read_bytes()
    path = tmp_path / f"cut.{ending}"
    for share in (0.05, 0.3, 0.5, 0.7, 0.9, 0.99):
        path.write_bytes(content[: int(share * len(content))])
        assert reason(path) == "truncated"
    path.write_bytes(content[:-1])
    assert reason(path) == "truncated"
    path.write_bytes(content)
    assert not cut_short(path) and len(read_video(path)[0]) == 4


def test_damage_is_not_repaired(tmp_path):
    path = write_video(noise(), tmp_path / "clip.mp4")
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 2000] = b"\xff" * 2000  # more than one frame, so that a length is hit
    path.write_bytes(content)
    assert reason(path) == "broken"
    content = write_video(drawn()[0], path).read_bytes()
    path.write_bytes(content.replace(b"avc1", b"zzzz").replace(b"mp4v", b"zzzz"))
    assert reason(path) == "unknown codec"


def test_what_is_no_video(tmp_path):
    path, gif = tmp_path / "clip.mp4", write_video(drawn()[0], tmp_path / "clip.gif").read_bytes()
    for content, expected in (
        (b"", "empty file"),
        (b"I am a text.\n" * 50, "not a video"),
        (np.random.default_rng(0).bytes(4000), "not a video"),
        (gif[:6] + b"\x28\x23" * 2 + gif[10:], "too large"),
        (b"#EXTM3U\n#EXTINF:1,\nother.mp4\n", "not a video"),
    ):
        path.write_bytes(content)
        assert reason(path) == expected
    with pytest.raises(FileNotFoundError):
        read_video(tmp_path / "nowhere.mp4")


def test_sound_alone_is_no_video(tmp_path):
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    assert reason(tmp_path / "sound.mp4") == "not a video"


def test_a_name_in_any_language(tmp_path):
    clip, frames = drawn()
    assert read_video(write_video(clip, tmp_path / "Ünïcode 视频.mp4"))[0].shape == frames.shape


def test_frames_can_be_made_small_while_reading(tmp_path):
    clip, frames = drawn()
    found, _ = read_video(write_video(clip, tmp_path / "clip.gif"), each=lambda frame: frame[::4, ::4])
    assert torch.equal(found, frames[:, ::4, ::4])


def test_bad_clips_rates_and_endings(tmp_path):
    clip, _ = drawn()
    for bad, path, fps, told in (
        (clip[None], "a.gif", 8, "one clip"),
        (clip[:2], "a.gif", 8, "C = 1 or 3"),
        (clip[:, :0], "a.mp4", 8, "C = 1 or 3"),
        (clip, "a.avi", 8, "ends in .mp4 or .gif"),
        (clip, "a.mp4", 0, "fps must be positive"),
        (clip, "a.gif", float("nan"), "fps must"),
        (clip, "a.gif", 90, "at most 50 frames per second"),
    ):
        with pytest.raises(ValueError, match=told):
            write_video(bad, tmp_path / path, fps)
    assert not list(tmp_path.iterdir())


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    clip, _ = drawn()
    before = write_video(clip, tmp_path / "clip.gif").read_bytes()

    def fail(self, file, *args, **kwargs):
        file.write(b"GIF89a")
        raise OSError("disk full")

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        write_video(-clip, tmp_path / "clip.gif")
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [before]


def test_without_pyav(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    clip, _ = drawn()
    gif = write_video(clip, tmp_path / "clip.gif")
    assert Image.open(gif).n_frames == 12
    for call in (lambda: write_video(clip, tmp_path / "clip.mp4"), lambda: read_video(gif)):
        with pytest.raises(ImportError, match=r'pip install "minivdm\[video\]"'):
            call()
    assert [p.name for p in tmp_path.iterdir()] == ["clip.gif"]


def test_gifs_of_viz_are_read(tmp_path):
    clip, frames = drawn()
    found, rate = read_video(save_gif(clip, tmp_path / "clip.gif", fps=10))
    assert rate == 10 and torch.equal(found, frames)
