"""Video files: what is written can be read back, and what is not whole is refused with its reason."""

import io
import math
import struct
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from minivdm.datasets import decoding, video_files
from minivdm.datasets.gif_files import save_gif, steady_clock
from minivdm.datasets.pixels import frames_of, to_uint8
from minivdm.datasets.sprites import MovingSprites
from minivdm.datasets.video_files import VideoError, cut_short, read_video, require_fits, write_video

DATA = Path(__file__).parent / "data"


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


@pytest.mark.parametrize(
    "a, b, c, d",
    [
        (1, 0, 0, 1),
        (-1, 0, 0, 1),
        (1, 0, 0, -1),
        (-1, 0, 0, -1),
        (0, 1, -1, 0),
        (0, -1, 1, 0),
        (0, 1, 1, 0),
        (0, -1, -1, 0),
    ],
)
def test_cameras_turned_and_mirrored(tmp_path, a, b, c, d):
    """The point (x, y) is shown at (a x + c y, b x + d y), from the middle; phones write all eight of these."""
    clip = -torch.ones(3, 4, 32, 64)
    clip[:, :, :16, :32] = 1  # one quarter is white: that at (-1, -1)
    clip[0, :, :16, 32:] = 1  # and the one beside it red
    path = write_video(clip, tmp_path / "clip.mp4")
    content = path.read_bytes()
    old, new = (
        struct.pack(">9i", *(65536 * x for x in m), 0, 0, 0, 1 << 30) for m in ((1, 0, 0, 0, 1), (a, b, 0, c, d))
    )
    track = content.index(b"tkhd")
    path.write_bytes(content[:track] + content[track:].replace(old, new, 1))
    found, _ = read_video(path)
    assert found.shape == ((4, 64, 32, 3) if b else (4, 32, 64, 3))
    height, width = found.shape[1:3]

    def seen(x, y):  # the colour of the quarter that was at (x, y)
        x, y = a * x + c * y, b * x + d * y
        return (found[-1, height * (2 + y) // 4, width * (2 + x) // 4] > 128).tolist()

    assert seen(-1, -1) == [True] * 3 and seen(1, -1) == [True, False, False] and seen(1, 1) == [False] * 3


def encode(path, frames, codec="libx264", rate=10, times=None, options=None, ratio=None, title=None, pixels="yuv420p"):
    """Write frames (F, H, W, 3) with PyAV alone; `times` in 1/1000 s."""
    av = pytest.importorskip("av")
    if codec not in av.codecs_available:
        pytest.skip(f"PyAV without {codec}")
    with av.open(str(path), "w", metadata_encoding="latin-1") as container:
        if title:
            container.metadata["title"] = title
        stream = container.add_stream(codec, rate=rate, options=options or {})
        stream.height, stream.width, stream.pix_fmt = *frames[0].shape[:2], pixels
        if ratio:
            stream.codec_context.sample_aspect_ratio = ratio
        if times:
            stream.codec_context.time_base = Fraction(1, 1000)
        for k, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), "rgb24")
            if times:
                picture.pts, picture.time_base = times[k], Fraction(1, 1000)
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize(
    "ratio, size", [(Fraction(3, 2), (90, 90)), (Fraction(2, 3), (136, 60)), (Fraction(1), (90, 60))]
)
@pytest.mark.parametrize("ending", ["mp4", "mkv"])
def test_pixels_that_are_not_square(tmp_path, ending, ratio, size):
    """A disc is as wide as it is high; the smaller side is enlarged."""
    y, x = np.mgrid[:90, :60]
    disc = ((x - 30) * float(ratio)) ** 2 + (y - 45) ** 2 < 25**2 * float(min(ratio, 1)) ** 2
    frames = [np.repeat(255 * disc[..., None], 3, axis=2).astype(np.uint8)] * 3
    found, _ = read_video(encode(tmp_path / f"clip.{ending}", frames, ratio=ratio))
    assert abs(found.shape[1] - size[0]) <= 1 and found.shape[2] == size[1]
    white = found[1, ..., 0] > 128
    assert abs(white.any(dim=0).sum() - white.any(dim=1).sum()) <= 2 or ratio == 1


@pytest.mark.parametrize(
    "codec, pixels, ending", [("png", "rgba", "mov"), ("qtrle", "argb", "mov"), ("ffv1", "bgra", "mkv")]
)
def test_white_shows_where_a_picture_is_transparent(tmp_path, codec, pixels, ending):
    """As in a GIF; the colour that lies hidden there, here green, may be anything."""
    av = pytest.importorskip("av")
    picture = np.full((16, 24, 4), (200, 30, 60, 255), np.uint8)
    picture[:, 8:16], picture[:, 16:] = (0, 255, 0, 0), (0, 100, 0, 128)
    with av.open(str(tmp_path / f"a.{ending}"), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.height, stream.width, stream.pix_fmt = 16, 24, pixels
        for packet in [*stream.encode(av.VideoFrame.from_ndarray(picture, "rgba")), *stream.encode()]:
            container.mux(packet)
    found, _ = read_video(tmp_path / f"a.{ending}")
    assert found[0, 8, [4, 12, 20]].tolist() == [[200, 30, 60], [255, 255, 255], [127, 177, 127]]


def test_colours_that_come_otherwise_than_players_show_them_are_told(tmp_path):
    """High dynamic range, and the transparency of WebM, which FFmpeg's own decoder leaves out."""
    frames = to_uint8(frames_of(noise(2)))
    for curve, told in (("smpte2084", 1), ("arib-std-b67", 1), ("bt709", 0)):
        path = encode(tmp_path / f"{curve}.mp4", frames, options={"x264-params": f"transfer={curve}"})
        assert ["high dynamic range" in note for note in decoding.read_film(path).notes] == [True] * told
    path = encode(tmp_path / "a.webm", frames, "libvpx-vp9", pixels="yuva420p")
    with pytest.warns(UserWarning, match="transparent in places"):
        read_video(path)


@pytest.mark.parametrize("ending", ["mkv", "mp4"])
def test_the_rate_of_irregular_frames_is_their_mean(tmp_path, ending):
    """Matroska calls 10 the rate, whatever the frames' times are."""
    times = [0, 100, 200, 1900, 2000, 2100]
    film = decoding.read_film(encode(tmp_path / f"a.{ending}", to_uint8(frames_of(noise(6))), times=times))
    assert film.times.tolist() == pytest.approx([*np.divide(times, 1000), 2.2], abs=0.002)
    assert film.fps == pytest.approx(6 / 2.2, rel=0.001)


@pytest.mark.parametrize(
    "stays, fps, counts",
    [
        ([7, 6, 7] * 5, 15, [1] * 15),
        ([3, 4, 3, 3, 4, 3, 3, 4, 100], 100 / 3.375, [1] * 8 + [30]),  # the last: as the program likes
        ([10], 10, [1]),
        ([0] * 4, 10, [1] * 4),
        ([1] * 4, 10, [1] * 4),
        ([2] * 4, 50, [1] * 4),
        ([5, 15, 5, 10], 20, [1, 3, 1, 2]),
        ([7, 7, 13, 7, 20, 6], 15, [1, 1, 2, 1, 3, 1]),  # 15 per second, equal neighbours merged
        ([5, 12, 31, 5, 8], 20, [1, 2, 7, 1, 1]),  # no clock: by the time, so that the whole is as long
    ],
)
def test_the_clock_of_a_gif(tmp_path, stays, fps, counts):
    """Hundredths of a second; 0 and 1 are played as 10."""
    shades = [Image.new("RGB", (9, 7), (12 * i,) * 3) for i in range(len(stays))]
    shades[0].save(tmp_path / "a.gif", save_all=True, append_images=shades[1:], duration=[10 * stay for stay in stays])
    found, rate = read_video(tmp_path / "a.gif")
    assert rate == pytest.approx(fps, rel=0.02)
    assert found[:, 3, 3, 0].tolist() == [12 * i for i, count in enumerate(counts) for _ in range(count)]


def test_no_picture_of_a_gif_is_lost():
    for seed in range(200):
        stays = np.random.default_rng(seed).integers(2, [4, 9, 200][seed % 3], size=1 + seed % 40)
        tick, counts = steady_clock(stays.tolist())
        assert tick > 0 and len(counts) == len(stays) and counts.min() >= 1
        assert abs(counts[:-1].sum() * tick - stays[:-1].sum()) <= max(1, tick / 2)


def gif_of(tmp_path, **options):
    shades = [Image.new("RGB", (12, 8), (40 * i, 0, 0)) for i in range(5)]
    shades[0].save(tmp_path / "a.gif", save_all=True, append_images=shades[1:], duration=100, **options)
    return (tmp_path / "a.gif").read_bytes()


def without_control_blocks(gif):
    while b"!\xf9\4" in gif:
        at = gif.index(b"!\xf9\4")
        gif = gif[:at] + gif[at + 8 :]
    return gif


@pytest.mark.parametrize(
    "change",
    [
        lambda gif: gif[:-1],
        lambda gif: gif + b"<html>not found</html>",
        lambda gif: gif + gif[:40],
        without_control_blocks,
        lambda gif: without_control_blocks(gif)[:-1],
    ],
    ids=["no end", "a text behind it", "another one behind it", "no control blocks", "neither"],
)
def test_gifs_with_something_missing_or_more(tmp_path, change):
    (tmp_path / "a.gif").write_bytes(change(gif_of(tmp_path)))
    found, rate = read_video(tmp_path / "a.gif")
    assert rate == 10 and found[:, 3, 3, 0].tolist() == [0, 40, 80, 120, 160]


def test_a_gif_that_was_never_filled_is_truncated(tmp_path):
    gif = gif_of(tmp_path)
    for content in (gif[:-200] + bytes(200), gif[:13] + bytes(500), gif[:-1] + bytes(50)):
        (tmp_path / "a.gif").write_bytes(content)
        assert reason(tmp_path / "a.gif") in ("truncated", "broken")


def test_titles_in_other_encodings(tmp_path):
    gif_of(tmp_path, comment=b"\xa9 2003 Caf\xe9")
    assert len(read_video(tmp_path / "a.gif")[0]) == 5
    path = encode(tmp_path / "a.mp4", [np.zeros((32, 32, 3), np.uint8)] * 3, title="Café © 2003")
    assert b"Caf\xe9" in path.read_bytes() and len(read_video(path)[0]) == 3


def test_covers_are_no_videos(tmp_path):
    """Wherever the cover stands; a song that has one is no clip."""
    av = pytest.importorskip("av")
    assert read_video(DATA / "cover_first.mp4")[0].shape == (30, 64, 96, 3)
    grey = av.VideoFrame.from_ndarray(np.full((40, 40, 3), 99, np.uint8), "rgb24").reformat(format="yuvj420p")
    for name in ("cover.mkv", "cover.mp4", "song.mp4"):
        with av.open(str(tmp_path / name), "w") as container:
            cover = container.add_stream("mjpeg", rate=1)
            cover.width, cover.height, cover.pix_fmt = 40, 40, "yuvj420p"
            cover.disposition = av.stream.Disposition.attached_pic
            if name == "song.mp4":
                other = container.add_stream("aac", rate=16000, layout="mono")
                frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
                frame.sample_rate, frames = 16000, [frame]
            else:
                other = container.add_stream("mpeg4", rate=10)
                other.width, other.height, other.pix_fmt = 32, 32, "yuv420p"
                frames = [av.VideoFrame.from_ndarray(np.full((32, 32, 3), 9 * k, np.uint8), "rgb24") for k in range(12)]
            for stream, pictures in ((cover, [grey]), (other, frames)):
                for picture in [*pictures, None]:
                    container.mux(stream.encode(picture))
        if name == "song.mp4":
            assert reason(tmp_path / name) == "not a video"
        else:
            assert read_video(tmp_path / name)[0].shape == (12, 32, 32, 3)


def several_streams(path, counts, codec="mpeg4"):
    """Video streams beside each other, the first the largest; stream k has counts[k] frames of brightness 60 k."""
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as container:
        streams = [container.add_stream(codec, rate=10) for _ in counts]
        for k, stream in enumerate(streams):
            stream.width, stream.height, stream.pix_fmt = 48 - 16 * k, 32, "yuv420p"
        for k, stream in enumerate(streams):
            grey = av.VideoFrame.from_ndarray(np.full((32, 48 - 16 * k, 3), 60 * k, np.uint8), "rgb24")
            for picture in [grey] * counts[k]:
                picture.pts = None
                container.mux(stream.encode(picture))
            container.mux(stream.encode())
    return path


@pytest.mark.parametrize("ending", ["mkv", "mp4", "mov", "avi"])
def test_of_several_streams_the_longest_is_read(tmp_path, ending):
    """Also in Matroska, which announces no number of frames."""
    assert read_video(several_streams(tmp_path / f"a.{ending}", [1, 9]))[0].shape == (9, 32, 32, 3)
    assert read_video(several_streams(tmp_path / f"b.{ending}", [9, 4]))[0].shape == (9, 32, 48, 3)


OPEN_GOP = {"x264-params": "open-gop=1:keyint=12:min-keyint=12:bframes=3:scenecut=0:b-adapt=0"}


@pytest.mark.parametrize(
    "codec, options",
    [("libx264", OPEN_GOP), ("libx264", {"x264-params": "intra-refresh=1:keyint=12"}), ("mpeg2video", {"bf": "2"})],
)
@pytest.mark.parametrize("ending", ["mkv", "mp4"])
def test_cut_out_of_a_longer_one(tmp_path, ending, codec, options):
    """Packets from the second key frame on: what needs an earlier frame is left out and told, the rest is exact."""
    av = pytest.importorskip("av")
    clip, _ = drawn(40)
    frames = to_uint8(frames_of(clip))
    whole, cut = encode(tmp_path / f"whole.{ending}", frames, codec, options=options), tmp_path / f"cut.{ending}"
    with av.open(str(whole)) as old, av.open(str(cut), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        keys = 0
        for packet in old.demux(old.streams.video[0]):
            keys += packet.is_keyframe and packet.pts is not None
            if keys >= 2 and packet.pts is not None:
                packet.stream = stream
                new.mux(packet)
    expected, _ = read_video(whole)
    film = decoding.read_film(cut)
    found = torch.stack(film.pictures)
    assert 8 <= len(found) < 40 and torch.equal(found, expected[-len(found) :])
    if ending == "mkv":
        assert ["need an earlier one" in note for note in film.notes] == [True]
        with pytest.warns(UserWarning, match="frames need an earlier one, and are left out"):
            read_video(cut)


def test_interlaced_is_told_and_another_size_refused(tmp_path):
    path = encode(tmp_path / "a.mp4", to_uint8(frames_of(drawn()[0])), options={"x264-params": "tff=1"})
    with pytest.warns(UserWarning, match="interlaced"):
        assert len(read_video(path)[0]) == 12
    for each in (None, lambda frame: frame[:8, :8]):
        with pytest.raises(VideoError, match="several sizes") as caught:
            read_video(DATA / "changes_size.mp4", each)
        assert caught.value.reason == "several sizes"


@pytest.mark.parametrize("ending", ["mp4", "gif"])
def test_every_cut_is_noticed(tmp_path, ending):
    content = write_video(noise(4), tmp_path / f"whole.{ending}").read_bytes()
    path = tmp_path / f"cut.{ending}"
    for share in (0.05, 0.3, 0.5, 0.7, 0.9, 0.99):
        path.write_bytes(content[: int(share * len(content))])
        assert reason(path) == "truncated"
    path.write_bytes(content[:-1])
    if ending == "mp4":
        assert reason(path) == "truncated"
    path.write_bytes(content)
    assert not cut_short(path) and len(read_video(path)[0]) == 4


@pytest.mark.parametrize(
    "ending, codec", [("webm", "libvpx"), ("mkv", "libx264"), ("avi", "mpeg4"), ("mov", "mpeg4"), ("mp4", "libx264")]
)
def test_the_length_that_a_file_states(tmp_path, ending, codec):
    """Cut short anywhere it is truncated, also under another ending; a text behind the end does no harm."""
    frames = to_uint8(frames_of(noise(6)))
    content = encode(tmp_path / f"whole.{ending}", frames, codec).read_bytes()
    path = tmp_path / "clip.mp4"
    for share in (0.1, 0.4, 0.7, 0.95):
        path.write_bytes(content[: int(share * len(content))])
        assert reason(path) == "truncated"
    for more in (b"<html>not found</html>", b"\0" * 99, content[:500], b"\0\0"):
        path.write_bytes(content + more)
        found, rate = read_video(path)
        assert len(found) == 6 and rate == 10


@pytest.mark.parametrize("ending, codec", [("webm", "libvpx"), ("mkv", "libx264")])
@pytest.mark.parametrize("clusters", ["stated", "open"])
def test_a_live_recording_that_was_cut_short(tmp_path, ending, codec, clusters):
    """As browsers write them: the length of the segment, perhaps of clusters, too, is left open."""
    av = pytest.importorskip("av")
    frames = to_uint8(frames_of(noise(6)))
    whole = encode(tmp_path / f"whole.{ending}", frames, codec)
    live = io.BytesIO()
    stream_only = type("Pipe", (), {"write": lambda self, data: live.write(data)})()  # nowhere to seek
    with (
        av.open(str(whole)) as old,
        av.open(stream_only, "w", format="webm" if ending == "webm" else "matroska") as new,
    ):
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(old.streams.video[0]):
            if packet.size:
                packet.stream = stream
                new.mux(packet)
    content = live.getvalue()
    assert content[content.index(b"\x18\x53\x80\x67") + 4 :][:8] == b"\x01" + b"\xff" * 7
    if clusters == "open":
        at = content.index(b"\x1f\x43\xb6\x75") + 4
        size = 9 - content[at].bit_length()
        content = content[:at] + b"\x01" + b"\xff" * 7 + content[at + size :]
    path = tmp_path / f"clip.{ending}"
    for more in (b"", b"<html>not found</html>", b"\0\0"):
        path.write_bytes(content + more)
        assert len(read_video(path)[0]) == 6
    last = content.rindex(b"\xa3")  # the kind of a block
    for end in (10, 300, len(content) // 2, last + 1, last + 3, len(content) - 1):
        path.write_bytes(content[:end])
        assert reason(path) == "truncated"


def test_an_index_that_points_behind_the_end(tmp_path):
    """FFmpeg stops there and says nothing."""
    content = write_video(noise(6), tmp_path / "a.mp4").read_bytes()
    at = content.index(b"stsz") + 12  # sizes of the frames: 4 bytes for their number, then 4 for each
    path = tmp_path / "b.mp4"
    path.write_bytes(content[: at + 16] + b"\0\xff\xff\xff" + content[at + 20 :])
    assert reason(path) in ("truncated", "broken")


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


def test_limits_hold_before_memory_is_taken(tmp_path, monkeypatch):
    """A picture of 12 x 8 that stays for ten minutes, many frames, and pixels that are not square."""
    shades = [Image.new("RGB", (12, 8), (99 * i,) * 3) for i in range(3)]
    shades[0].save(tmp_path / "a.gif", save_all=True, append_images=shades[1:], duration=[20, 599_000, 20])
    film = decoding.read_film(tmp_path / "a.gif")
    assert len(film.pictures) == 3 and len(film.shown) > 29_000
    monkeypatch.setattr(video_files, "MAX_BYTES", 1000 * 12 * 8 * 3)
    assert reason(tmp_path / "a.gif") == "too large"
    path = encode(tmp_path / "a.mp4", to_uint8(frames_of(noise(12))))
    monkeypatch.setattr(decoding, "MAX_BYTES", 10 * 32 * 32 * 3)
    assert reason(path) == "too large"
    assert len(read_video(path, each=lambda frame: frame[::2, ::2])[0]) == 12
    monkeypatch.undo()
    monkeypatch.setattr(decoding, "MAX_FRAMES", 11)
    assert reason(path) == "too long"
    monkeypatch.setattr(decoding, "MAX_PIXELS", 2000)
    encode(tmp_path / "b.mp4", [np.zeros((40, 40, 3), np.uint8)] * 3, ratio=Fraction(3, 2))  # 40 x 60 once square
    assert reason(tmp_path / "b.mp4") == "too large"


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


@pytest.mark.parametrize(
    "name, frames, height, width, scale, told",
    [
        ("a.gif", 2, 1100, 4, 64, "at most 65,535 pixels on a side, got 70,400 x 256 for a.gif"),
        ("a.mp4", 2, 32, 1026, 16, "at most 16,384 pixels on a side, got 512 x 16,416"),
        ("a.MP4", 2, 1700, 136, 19, "at most 16,384 pixels on a side, got 32,300 x 2,584"),
        ("a.mp4", 2, 15, 16, 1, "even height and width"),
        ("a.gif", 2, 9000, 9000, 1, "35,389,440 pixels in each"),
        ("a.gif", 40_000, 8, 8, 1, "at most 36,000 frames"),
        ("a.mp4", 1000, 1000, 1000, 1, "2 GiB in all"),
        ("a.webm", 2, 32, 32, 1, "ends in .mp4 or .gif"),
        ("a", 2, 32, 32, 1, "ends in .mp4 or .gif"),
        ("a.gif", 2, 32, 32, 0, "scale must be a whole number from 1 on, got 0"),
        ("a.gif", 2, 32, 32, 1.5, "scale must be"),
        ("a.gif", 2, 32, 32, float("inf"), "scale must be"),
    ],
)
def test_what_a_format_cannot_hold_is_known_before(tmp_path, name, frames, height, width, scale, told):
    pytest.importorskip("av")
    with pytest.raises(ValueError, match=told):
        require_fits(tmp_path / name, frames, height, width, scale)
    with pytest.raises(ValueError, match=told):
        write_video(torch.zeros(1).expand(3, frames, height, width), tmp_path / name, scale=scale)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_the_largest_sides_can_be_written(tmp_path, monkeypatch, codec):
    av = pytest.importorskip("av")
    monkeypatch.setattr(av, "codecs_available", {codec})
    side = {"libx264": 16_384, "mpeg4": 8_190}[codec]
    assert read_video(write_video(torch.zeros(1, 2, 2, side // 2), tmp_path / "a.mp4", scale=2))[0].shape[2] == side
    with pytest.raises(ValueError, match=f"at most {side:,}"):
        write_video(torch.zeros(1, 2, 2, side + 2), tmp_path / "b.mp4")


@pytest.mark.parametrize("ending, low, high", [("gif", 0.01, 50), ("mp4", 0.01, 1000)])
def test_slow_and_fast(tmp_path, ending, low, high):
    clip = torch.zeros(1, 2, 8, 8)
    for fps in (low, 1, high):
        assert read_video(write_video(clip, tmp_path / f"a.{ending}", fps))[1] == pytest.approx(fps)
    for fps in (low / 2, 2 * high, 1e-9, 1e12):
        with pytest.raises(ValueError, match="frames per second, got"):
            require_fits(f"a.{ending}", 2, 8, 8, fps=fps)


@pytest.mark.parametrize("ending", ["gif", "mp4"])
def test_clips_that_hold_no_pictures(tmp_path, ending):
    """Bytes would be all white, and NaN black or white."""
    for bad in (torch.zeros(3, 2, 8, 8, dtype=kind) for kind in (torch.uint8, torch.long, torch.bool, torch.cfloat)):
        with pytest.raises(ValueError, match=r"expected pictures as floats in \[-1, 1\], got torch\."):
            write_video(bad, tmp_path / f"a.{ending}")
    with pytest.raises(ValueError, match="NaN"):
        write_video(torch.full((3, 2, 8, 8), math.nan), tmp_path / f"a.{ending}")
    assert not list(tmp_path.iterdir())
    clip = noise(2).half()
    for kind in (clip, clip.bfloat16(), clip.double(), clip.transpose(2, 3), clip.clone().requires_grad_(), 9 * clip):
        assert len(read_video(write_video(kind, tmp_path / f"a.{ending}", scale=2.0))[0]) == 2


def test_a_picture_that_stays_too_long_for_a_gif(tmp_path):
    """Pillow makes one picture of equal neighbours, whose stay has two bytes."""
    still = torch.zeros(1, 8, 2, 2)
    assert len(read_video(write_video(still[:, :6], tmp_path / "a.gif", 0.01))[0]) == 6
    before = (tmp_path / "a.gif").read_bytes()
    with pytest.raises(ValueError, match="stays for at most 655 s: more frames per second than fps=0.01, or an MP4"):
        write_video(still, tmp_path / "a.gif", 0.01)
    assert (tmp_path / "a.gif").read_bytes() == before and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("ending", ["gif", "mp4"])
def test_a_disk_that_fills(tmp_path, ending):
    """No file may grow beyond 4 kB here: one error, nothing left behind, and the older file as it was."""
    resource = pytest.importorskip("resource")
    path = write_video(torch.zeros(3, 4, 32, 32), tmp_path / f"clip.{ending}")
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            write_video(noise(), path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert type(caught.value) is OSError and [p.read_bytes() for p in tmp_path.iterdir()] == [before]


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
