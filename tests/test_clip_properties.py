"""What holds for any table of clips, and for any damage to a video file."""

import csv
import io
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from minivdm.datasets.clip_table import read_rows
from minivdm.datasets.decoding import read_film
from minivdm.datasets.gif_files import gif_bytes
from minivdm.datasets.video_files import VideoError, read_video, write_video
from minivdm.datasets.video_folder import VideoFolder

av = pytest.importorskip("av")
FAST = dict(derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))
NAMES = ["1", "2", "gone", "a/1", "../1", "/1", "C:\\1", "1.gif", "a:1", "", " ", "1\n2", "ü", "x" * 300]
WORDS = st.text(st.sampled_from('ab ,;"\n\t\\ü猫'), max_size=12)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with two short videos."""
    folder = tmp_path_factory.mktemp("clips")
    for name in ("1", "2"):
        write_video(torch.zeros(1, 2, 8, 8), folder / f"{name}.gif")
    return folder


def outcome(folder):
    """The captions that are read, how many rows are refused, or why all are."""
    try:
        found = VideoFolder(folder / "clips.csv", frames=1, size=4)
    except ValueError as error:
        assert str(error)
        return None
    assert all(found.skipped) and "\n" not in found.summary()
    return [clip.caption for clip in found.clips], sum(map(len, found.skipped.values()))


@settings(max_examples=60, **FAST)
@given(
    rows=st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(NAMES), WORDS), min_size=1, max_size=6),
    delimiter=st.sampled_from(",;\t"),
    end=st.sampled_from(["\n", "\r\n"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
def test_rows_read_and_rows_refused_are_all_rows(place, rows, delimiter, end, encoding):
    """What a program writes is read: each row becomes a clip with its own caption, or is refused with a reason."""
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, lineterminator=end)
    writer.writerows([("videoid", "page_dir", "name"), ("1", "", "the first"), *rows])
    (place / "clips.csv").write_bytes(text.getvalue().encode(encoding))
    captions, refused = outcome(place)
    assert len(captions) + refused == len(rows) + 1
    assert captions[0] == "the first" and set(captions[1:]) <= {row[2].strip() for row in rows}


@settings(max_examples=60, **FAST)
@given(
    st.lists(
        st.sampled_from(["a red, ball", '"a, ball"', '"open', 'close"', '""', '\\"hi\\"', "", "x", 'say "hi"']),
        max_size=8,
    )
)
def test_captions_by_hand_are_read_whole_or_refused(place, captions):
    """Lines as somebody types them: no caption is cut at a comma, and none takes in a later row."""
    lines = [f"{k % 2 + 1},,http,0,{caption}" for k, caption in enumerate(captions)]
    (place / "clips.csv").write_text("\n".join(["videoid,page_dir,contentUrl,duration,name", *lines]) + "\n")
    try:
        rows = read_rows(place / "clips.csv")
    except ValueError as error:
        assert "line" in str(error) or "no rows" in str(error)
        return
    for row in rows:
        typed = captions[row.line - 2]
        assert row.fault or row.caption == (typed[1:-1] if typed[:1] == '"' else typed)
        assert not ("," in typed and typed[0] != '"' and not row.fault)


def made(ending, codec):
    """The bytes of a video of 8 frames of 32 x 48 pixels."""
    y, x = np.mgrid[:32, :48]
    frames = [np.stack([(x * 5 + k * 9) % 256, y * 7, (x * y + k) % 256], axis=-1).astype(np.uint8) for k in range(8)]
    if codec == "gif":
        return gif_bytes(torch.from_numpy(np.stack(frames)).movedim(-1, 0) / 127.5 - 1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"a.{ending}")
        with av.open(str(path), "w") as container:
            stream = container.add_stream(codec, rate=8, options={"g": "4"})
            stream.height, stream.width, stream.pix_fmt = 32, 48, "yuv420p"
            for frame in frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
            container.mux(stream.encode())
        return path.read_bytes()


FORMATS = (("mp4", "libx264"), ("mp4", "mpeg4"), ("mkv", "libx264"), ("webm", "libvpx"), ("gif", "gif"))
WHOLE = [(ending, made(ending, codec)) for ending, codec in FORMATS if codec in av.codecs_available]


def alone(content):
    """The pictures that PyAV gives by itself, until its first error."""
    pictures = []
    try:
        with av.open(io.BytesIO(content), metadata_errors="replace") as container:
            for frame in container.decode(video=0):
                pictures.append(frame.to_ndarray(format="rgb24"))
    except (av.FFmpegError, IndexError):
        pass
    return pictures


@settings(max_examples=120, **FAST)
@given(data=st.data(), which=st.sampled_from(WHOLE), kind=st.sampled_from(["cut", "flipped", "zeroed", "appended"]))
def test_a_damaged_file_gives_the_frames_of_pyav_or_a_reason(place, data, which, kind):
    """A cut is always noticed; bytes behind the end do no harm; nothing else makes a file shorter in silence."""
    ending, content = which
    damaged, at = bytearray(content), data.draw(st.integers(0, len(content) - 2))
    if kind == "cut":
        del damaged[max(at, 1) :]
    elif kind == "flipped":
        for place_in in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=4)):
            damaged[place_in] ^= 1 << place_in % 8
    elif kind == "zeroed":
        damaged[at : at + 50] = bytes(len(damaged[at : at + 50]))
    else:
        damaged += data.draw(st.binary(min_size=1, max_size=40))
    right = content if kind == "appended" else bytes(damaged)
    path = place / f"damaged.{ending}"
    path.write_bytes(damaged)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            read_video(path)
    except VideoError as error:
        assert error.reason and str(path) in str(error) and kind != "appended"
        return
    found, expected = read_film(path).pictures, alone(right)
    assert kind != "cut" or ending == "gif"  # a GIF has no length, and may end after any of its pictures
    assert len(found) >= len(expected) if ending == "gif" else len(found) == len(expected)
    for ours, theirs in zip(found, expected):
        assert ours.shape != theirs.shape or np.array_equal(ours.numpy(), theirs)
