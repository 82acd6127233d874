"""The learner's own clips: the right frames of the right files, and every bad file counted with its reason."""

import csv
import math
import sys
from fractions import Fraction

import numpy as np
import pytest
import torch
from PIL import Image

from minivdm.commands.make_clips import draw_clips, write_clips
from minivdm.datasets import video_folder
from minivdm.datasets.video_files import write_video
from minivdm.datasets.video_folder import VideoFolder, frame_indices, step_for

COLUMNS = ["videoid", "contentUrl", "duration", "page_dir", "name"]
ROOT = video_folder.Path(__file__).resolve().parents[1]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def counting(frames, height=24, width=24):
    """A clip whose frame k has the brightness 6 * k (of 255)."""
    shade = torch.arange(frames) * 6 / 127.5 - 1
    return shade[None, :, None, None].expand(3, frames, height, width)


def counted(clip):
    """The numbers of the frames that a clip (3, F, H, W) of `counting` is made of."""
    return ((clip.mean(dim=(0, 2, 3)) + 1) * 127.5 / 6).round().long().tolist()


def table(folder, rows, encoding="utf-8", lineterminator="\n"):
    """Write clips.csv; `rows` are (videoid, caption) or (videoid, caption, page_dir)."""
    with open(folder / "clips.csv", "w", encoding=encoding, newline="") as file:
        writer = csv.writer(file, lineterminator=lineterminator)
        writer.writerow(COLUMNS)
        writer.writerows([row[0], "http://x", "PT00H00M02S", row[2] if len(row) > 2 else "a", row[1]] for row in rows)
    return folder / "clips.csv"


@pytest.fixture
def made(tmp_path):
    """Two recordings that count: 30 frames of MP4 at 24, and 20 of GIF at 12.5 frames per second."""
    write_video(counting(30), tmp_path / "videos" / "a" / "1.mp4", 24)
    write_video(counting(20), tmp_path / "videos" / "b" / "2.gif", 12.5)
    return table(tmp_path, [("1", "first"), ("2", "second", "b")])


@pytest.mark.parametrize(
    "available, frames, step, start, expected",
    [
        (4, 4, 1, 0, [0, 1, 2, 3]),
        (8, 4, 2, 1, [1, 3, 5, 7]),
        (8, 4, 1.5, 0, [0, 1, 3, 4]),
        (8, 4, 1.5, 0.5, [0, 2, 3, 5]),
        (9, 3, 2.25, 4, [4, 6, 8]),
        (1, 1, 7, 0, [0]),
    ],
)
def test_frame_indices(available, frames, step, start, expected):
    indices = frame_indices(available, frames, step, start)
    assert indices.dtype == torch.long and indices.tolist() == expected
    if expected[-1] == available - 1:
        with pytest.raises(ValueError, match=f"need {available} frames, the recording has {available - 1}"):
            frame_indices(available - 1, frames, step, start)


def test_frame_indices_never_repeat():
    for step in (1, 1.01, 1.25, 3.7):
        assert (frame_indices(1000, 50, step, 0.9).diff() >= 1).all()


@pytest.mark.parametrize(
    "given, told",
    [
        ({"step": 0.5}, "step must be at least 1"),
        ({"step": float("nan")}, "step must be"),
        ({"frames": 0}, "frames=0"),
        ({"start": -1}, "start must be at least 0"),
        ({"start": 7}, "need 11 frames, the recording has 10"),
    ],
)
def test_frame_indices_refuse(given, told):
    with pytest.raises(ValueError, match=told):
        frame_indices(**{"available": 10, "frames": 4, **given})


def test_clips_and_captions(made):
    folder = VideoFolder(made, frames=8, size=16)
    assert len(folder) == 2 and not folder.skipped and [clip.fps for clip in folder.clips] == [24, 12.5]
    assert folder.summary() == f"2 clips from 2 rows of {made}; skipped: none"
    clip, caption = folder[1]
    assert clip.shape == (3, 8, 16, 16) and clip.dtype == torch.float32 and caption == "second"
    assert [caption for _, caption in folder] == ["first", "second"]
    clips, captions = folder.sample(5, seeded())
    assert clips.shape == (5, 3, 8, 16, 16) and len(captions) == 5 and clips.min() >= -1 and clips.max() <= 1
    again, same = folder.sample(5, seeded())
    assert torch.equal(clips, again) and captions == same


@pytest.mark.parametrize(
    "given, first, second",
    [
        ({}, range(13, 17), range(8, 12)),
        ({"stride": 3}, range(10, 20, 3), range(5, 15, 3)),
        ({"rate": 12}, range(11, 19, 2), range(8, 12)),
        ({"rate": 6.25}, [9, 12, 16, 20], [6, 8, 10, 12]),
    ],
)
def test_the_middle_at_a_stride_or_a_rate(made, given, first, second):
    """24 / 12 = 2; 12.5 / 12 is hardly more than 1; 24 / 6.25 = 3.84: indices 0, 3, 7, 11 from frame 9 on."""
    folder = VideoFolder(made, frames=4, **given)
    assert counted(folder[1][0]) == list(second)
    assert counted(folder[0][0]) == list(first)


@pytest.mark.parametrize(
    "fps, rate",
    [
        (16, 12),
        (12, 9),
        (20, 15),
        (30, 9),
        (24, 9),
        (Fraction(30_000, 1001), 10),
        (24, 12),
        (Fraction(100, 31), 1),
    ],
)
def test_a_rate_gives_the_frames_of_exact_fractions(fps, rate):
    exact = Fraction(fps) / rate
    assert frame_indices(10**6, 600, step_for(float(fps), rate)).tolist() == [math.floor(k * exact) for k in range(600)]


def test_a_recording_of_16_frames_per_second_at_12(tmp_path):
    """Every fourth frame is left out; 16 frames of the clip need 21 of the recording."""
    for frames in (20, 21):
        write_video(counting(frames), tmp_path / "videos" / "a" / f"{frames}.mp4", 16)
    folder = VideoFolder(table(tmp_path, [("20", "short"), ("21", "fits")]), frames=16, rate=12)
    assert folder.skipped == {"too short": ["a/20"]}
    assert counted(folder[0][0]) == [0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, 16, 17, 18, 20]


def test_random_starts_reach_both_ends(made):
    clips, captions = VideoFolder(made, frames=4, stride=5).sample(400, seeded())
    starts = {name: {counted(c)[0] for c, text in zip(clips, captions) if text == name} for name in ("first", "second")}
    assert starts == {"first": set(range(15)), "second": set(range(5))}
    assert all(set(torch.tensor(counted(clip)).diff().tolist()) == {5} for clip in clips)
    assert 150 < captions.count("first") < 250


def test_a_clip_that_just_fits(made):
    assert counted(VideoFolder(made, frames=20)[1][0]) == [*range(20)]
    folder = VideoFolder(made, frames=21)
    assert folder.skipped == {"too short": ["b/2"]} and len(folder) == 1


def test_the_middle_square_is_scaled(tmp_path):
    """White at the left and right ends of a wide frame, a grey ramp in the square between them."""
    wide = torch.ones(1, 6, 32, 64)
    wide[..., 16:48] = torch.linspace(-1, 0, 32)
    write_video(wide, tmp_path / "1.gif", 10)
    write_video(wide.mT, tmp_path / "2.gif", 10)
    path = table(tmp_path, [("1", "wide", ""), ("2", "tall", "")])
    for size in (32, 16, 8):
        folder = VideoFolder(path, tmp_path, frames=6, size=size)
        expected = torch.linspace(-1, 0, 32).reshape(size, -1).mean(dim=1)  # what each pixel covers, on average
        inner = slice(1, -1) if size < 32 else slice(None)
        assert (folder[0][0][:, :, :, inner] - expected[inner]).abs().max() < 0.012
        assert torch.equal(folder[0][0], folder[1][0].mT)


def test_bad_files_are_counted(tmp_path):
    videos = tmp_path / "videos" / "a"
    good = write_video(counting(12), videos / "good.mp4", 10).read_bytes()
    gif = write_video(counting(12), videos / "gif.gif", 10).read_bytes()
    write_video(counting(4), videos / "short.mp4", 10)
    for name, content in (
        ("half.mp4", good[: len(good) // 2]),
        ("halfgif.gif", gif[: len(gif) // 2]),
        ("random.mp4", torch.randint(256, (5000,), generator=seeded()).byte().numpy().tobytes()),
        ("text.mp4", b"not a film\n" * 99),
        ("empty.mp4", b""),
    ):
        (videos / name).write_bytes(content)
    (videos / "directory.mp4").mkdir()
    write_video(counting(12), tmp_path / "outside.mp4", 10)
    names = ["good", "gif", "short", "half", "halfgif", "random", "text", "empty", "directory", "missing", "x" * 300]
    rows = [(name, f"the {name}") for name in names]
    rows += [
        ("../../outside", "out"),
        ("outside", "out", "../"),
        ("outside", "out", str(tmp_path)),
        ("..\\x", "out"),
        ("good", "once more"),
        ("", "no name"),
        ("gif", " ", "c"),
        ("a\0b", "zero"),
    ]
    folder = VideoFolder(table(tmp_path, rows), frames=8)
    assert [caption for _, caption in folder] == ["the good", "the gif"]
    assert folder.skipped == {
        "too short": ["a/short"],
        "truncated": ["a/half", "a/halfgif"],
        "not a video": ["a/random", "a/text"],
        "empty file": ["a/empty"],
        "not there": ["a/directory", "a/missing", "a/" + "x" * 300, "a/a\0b"],
        "path leaves the folder": ["a/../../outside", "..//outside", f"{tmp_path}/outside", "a/..\\x"],
        "listed twice": ["a/good"],
        "no videoid or caption": ["row 17", "c/gif"],
    }
    assert folder.summary().startswith("2 clips from 19 rows") and "\n" not in folder.summary()
    assert "4 not there" in folder.summary() and "2 truncated" in folder.summary()
    assert counted(folder[0][0]) == [*range(2, 10)] and (folder[0][0][:, 0] > -1).any()  # nothing black in its place


def test_no_usable_clip(tmp_path, made):
    with pytest.raises(ValueError, match="no usable clip: 0 clips from 2 rows .*skipped: 2 too short"):
        VideoFolder(made, frames=50)
    with pytest.raises(ValueError, match="2 not there"):
        VideoFolder(made, folder=tmp_path / "elsewhere")
    assert VideoFolder(made, frames=4, rate=20).skipped == {"too few frames per second": ["b/2"]}


@pytest.mark.parametrize("encoding, lineterminator", [("utf-8", "\n"), ("utf-8-sig", "\r\n"), ("utf-8", "\r\n")])
def test_captions_as_people_write_them(tmp_path, encoding, lineterminator):
    captions = ['a cat, a dog and "Bob"', "Füße im Sand – 猫が走る", "two\nlines"]
    for i in range(3):
        write_video(counting(8), tmp_path / "videos" / "a" / f"{i}é.gif", 10)
    path = table(tmp_path, [(f"{i}é", text) for i, text in enumerate(captions)], encoding, lineterminator)
    assert [caption for _, caption in VideoFolder(path, frames=4)] == captions


@pytest.mark.parametrize(
    "content, told",
    [
        (b"", "is empty: expected a line of column names"),
        (b"videoid,page_dir,name\r\n", "no rows"),
        (b"videoid,contentUrl,name\n1,x,y\n", "lacks the column page_dir; it has videoid, contentUrl, name"),
        (b"videoid|page_dir|name\n1|x|y\n", "lacks the column videoid, page_dir, name; it has videoid.page_dir.name"),
        (b"videoid,page_dir,name,name\n1,x,y,z\n", "has twice the column name; it has videoid, page_dir, name, name"),
        ("videoid,page_dir,name\n1,x,y\n1,x,ü\n".encode("latin-1"), "not UTF-8: line 3"),
        ("videoid,page_dir,name\n1,x,y\n".encode("utf-16-le"), "not UTF-8: null bytes"),
        (b'videoid,page_dir,name\n1,x,y\n2,x,"open\n3,x,z\n', "the row of line 3, unexpected end of data"),
        (b'videoid,page_dir,name\n1,x,"open\n2,x,y\n3,x,"a ball"\n', "the row of line 2, ',' expected after"),
        (b'videoid,page_dir,name\n1,x,y\n2,x,"he said \\"hi\\""\n', "the row of line 3, ',' expected after"),
    ],
)
def test_bad_tables(tmp_path, content, told):
    (tmp_path / "clips.csv").write_bytes(content)
    with pytest.raises(ValueError, match=told):
        VideoFolder(tmp_path / "clips.csv")
    with pytest.raises(FileNotFoundError, match="no table of clips at .*other.csv"):
        VideoFolder(tmp_path / "other.csv")


@pytest.mark.parametrize(
    "content",
    [
        "videoid;page_dir;name\n1;;a red, round ball\n",
        "videoid\tpage_dir\tname\n1\t\ta red, round ball\n",
        '\n\n  \nvideoid,page_dir,name\n\n1,,"a red, round ball"\n\n',
        '\r\nname,page_dir,videoid\r\n"a red, round ball",,1\r\n',
        'videoid,page_dir,name,\n1,,"a red, round ball",,,\n',
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_tables_as_programs_write_them(tmp_path, content, encoding):
    write_video(counting(8), tmp_path / "1.gif", 10)
    (tmp_path / "clips.csv").write_bytes(content.encode(encoding))
    folder = VideoFolder(tmp_path / "clips.csv", frames=4)
    assert [caption for _, caption in folder] == ["a red, round ball"] and not folder.skipped


def test_a_caption_that_loses_its_end_is_refused(tmp_path):
    """At a comma without quotes, or by a quote that swallows rows; the lines are named."""
    for i in range(1, 6):
        write_video(counting(8), tmp_path / f"{i}.gif", 10)
    rows = ["1,,a red, round ball rolls", '2,,"a red, round ball"', '3,,"two', 'lines"']
    rows += ['4,,"swallows', '5,,the next"', '4,,"and', '5,,a red, round ball"']
    (tmp_path / "clips.csv").write_text("\n".join(["videoid,page_dir,name", *rows]) + "\n")
    folder = VideoFolder(tmp_path / "clips.csv", frames=4)
    assert [caption for _, caption in folder] == ["a red, round ball", "two\nlines"]
    assert folder.skipped == {
        "more cells than columns": ["/1 (line 2)"],
        "a quote spans rows": ["/4 (line 6)", "/4 (line 8)"],
    }
    assert "1 more cells than columns (first /1 (line 2))" in folder.summary()


@pytest.mark.parametrize(
    "file, page_dir, videoid",
    [
        ("a/1.MP4", "a", "1"),
        ("a/1.Gif", "a", "1"),
        ("a/1.mp4", "a", "1.MP4"),
        ("a/v1.2.mp4", "a", "v1.2"),
        ("a/b:1.mp4", "a", "b:1"),
        ("a:1.mp4", "", "a:1"),
        ("x/a/1.mov", "x/a", "1"),
        ("x/a/1.mkv", "x", "a/1"),
        ("a/file:1%03d.mp4", "a", "file:1%03d"),
    ],
)
def test_names_as_people_give_them(tmp_path, monkeypatch, file, page_dir, videoid):
    made = write_video(counting(8), tmp_path / f"made{'.gif' if 'Gif' in file else '.mp4'}", 10)
    for place in ("videos", "."):  # in the folder beside the table, or just beside it
        path = tmp_path / place / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(made.read_bytes())
        monkeypatch.chdir(tmp_path)
        folder = VideoFolder(table(video_folder.Path("."), [(videoid, "found", page_dir)]), frames=4)
        assert len(folder) == 1 and folder.clips[0].path == video_folder.Path(place, file)
        path.unlink()


def test_a_file_counts_once_however_it_is_written(tmp_path):
    write_video(counting(4), tmp_path / "a" / "1.gif", 10)
    rows = [("1", "x", "a"), ("1", "y", "a/"), ("1.gif", "z", "./a"), ("a/1", "u", ""), ("./1", "v", "a")]
    folder = VideoFolder(table(tmp_path, rows), frames=2, size=4)
    assert [clip.caption for clip in folder.clips] == ["x"] and list(folder.skipped) == ["listed twice"]


def test_what_is_not_there_says_where_was_looked(tmp_path):
    path = table(tmp_path, [("1", "one"), ("2", "two")])
    with pytest.raises(ValueError, match="no usable clip: .*2 not there .first a/1.; looked in ") as caught:
        VideoFolder(path)
    assert f"looked in {tmp_path / 'videos'} and {tmp_path} for .mp4, .gif" in str(caught.value)
    with pytest.raises(ValueError, match="looked in elsewhere for .mp4"):
        VideoFolder(path, "elsewhere")


@pytest.mark.parametrize(
    "page_dir, videoid", [("/etc", "a:1"), ("..", "a:1"), ("a", "/1"), ("C:\\x", "1"), ("a/../b", "1")]
)
def test_no_row_reaches_outside(tmp_path, page_dir, videoid):
    with pytest.raises(ValueError, match="1 path leaves the folder"):
        VideoFolder(table(tmp_path, [(videoid, "out", page_dir)]))


@pytest.mark.parametrize(
    "fps, rate, expected",
    [
        (30000 / 1001, 30, [*range(8)]),
        (30, 29.97, [*range(8)]),
        (30000 / 1001, 15, [*range(0, 16, 2)]),
        (24000 / 1001, 8, [*range(0, 24, 3)]),
        (25, 24, [math.floor(k * 25 / 24) for k in range(8)]),
    ],
)
def test_within_one_percent_is_the_same_rate(tmp_path, fps, rate, expected):
    write_video(counting(expected[-1] + 1), tmp_path / "1.mp4", fps)
    folder = VideoFolder(table(tmp_path, [("1", "one", "")]), frames=8, rate=rate)
    assert counted(folder[0][0]) == expected


def test_a_gif_at_15_gives_all_frames_at_15(tmp_path):
    pictures = [Image.new("RGB", (24, 24), (6 * k,) * 3) for k in range(30)]
    stays = [70, 60, 70] * 10
    pictures[0].save(tmp_path / "1.gif", save_all=True, append_images=pictures[1:], duration=stays)
    assert counted(VideoFolder(table(tmp_path, [("1", "one", "")]), frames=30, rate=15)[0][0]) == [*range(30)]


@pytest.mark.parametrize("ending", ["mp4", "mkv"])
def test_irregular_times(tmp_path, ending):
    """What is seen at each multiple of 1 / rate; at a stride, frames as they are stored."""
    av = pytest.importorskip("av")
    times = [0, 100, 200, 300, 400, 500, 900, 1000, 2200, 2250, 2300, 2500, 2600, 2700, 2800, 2900]  # 1/1000 s
    with av.open(str(tmp_path / f"1.{ending}"), "w") as container:
        stream = container.add_stream("mpeg4", rate=10, options={"qscale": "2"})
        stream.width, stream.height, stream.pix_fmt = 24, 24, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for k, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(np.full((24, 24, 3), 6 * k, np.uint8), "rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    path = table(tmp_path, [("1", "one", "")])
    for rate in (2, 4, 5):
        seen = [max(k for k, time in enumerate(times) if time <= 1000 * i / rate) for i in range(int(2.9 * rate) + 1)]
        folder = VideoFolder(path, frames=len(seen), rate=rate)
        assert counted(folder[0][0]) == seen
    assert counted(VideoFolder(path, frames=16)[0][0]) == [*range(16)]
    with pytest.raises(ValueError, match="1 too few frames per second"):
        VideoFolder(path, frames=2, rate=20)


def test_what_is_noted_stands_in_the_summary(tmp_path):
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "1.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"x264-params": "tff=1"})
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for k in range(8):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((32, 32, 3), 6 * k, np.uint8), "rgb24")))
        container.mux(stream.encode())
    folder = VideoFolder(table(tmp_path, [("1", "one", "")]), frames=4)
    assert len(folder) == 1 and "noted: 1 interlaced" in folder.summary() and "(first /1)" in folder.summary()


def test_settings_that_no_memory_holds(tmp_path):
    """Refused before anything of the kind is made."""
    shades = [Image.new("RGB", (12, 8), (99 * i,) * 3) for i in range(3)]
    shades[0].save(tmp_path / "1.gif", save_all=True, append_images=shades[1:], duration=[20, 599_000, 20])
    path = table(tmp_path, [("1", "ten minutes", "")])
    folder = VideoFolder(path, frames=16)
    assert folder.clips[0].pictures.nbytes == 3 * 3 * 32 * 32 and folder.sample(2, seeded())[0].shape[0] == 2
    for bad in ({"size": 10**5}, {"frames": 10**12}, {"frames": 10**12, "size": 1}):
        with pytest.raises(ValueError, match="takes more than 2 GiB"):
            VideoFolder(path, **bad)
    for bad in ({"stride": 1e300}, {"rate": 1e-300}, {"rate": 5e-324}, {"stride": 1e18}):
        with pytest.raises(ValueError, match="1 too short"):
            VideoFolder(path, frames=4, **bad)
    for bad in ({"stride": math.inf}, {"rate": math.inf}, {"frames": 2.5}, {"frames": math.nan}, {"size": math.inf}):
        with pytest.raises(ValueError, match="whole numbers from 1 on, stride at least 1 and rate above 0"):
            VideoFolder(path, **bad)


def test_short_rows_and_columns_in_any_order(tmp_path):
    write_video(counting(8), tmp_path / "1.gif", 10)
    (tmp_path / "clips.csv").write_text("name, videoid ,page_dir\nfirst,1,\nonly a caption\n,,,,,\n")
    folder = VideoFolder(str(tmp_path / "clips.csv"), tmp_path, frames=4)
    assert folder[0][1] == "first" and folder.skipped == {"no videoid or caption": ["row 2", "row 3"]}


def test_a_row_that_is_of_no_use_does_not_stand_for_a_later_one(tmp_path):
    write_video(counting(8), tmp_path / "1.gif", 10)
    folder = VideoFolder(table(tmp_path, [("1", "", ""), ("1", "first", ""), ("1", "again", "")]), tmp_path, frames=4)
    assert [caption for _, caption in folder] == ["first"]
    assert folder.skipped == {"no videoid or caption": ["/1"], "listed twice": ["/1"]}


def test_settings_and_memory(made, monkeypatch):
    with pytest.raises(ValueError, match="not both: got stride=2 and rate=8"):
        VideoFolder(made, stride=2, rate=8)
    for bad in ({"frames": 0}, {"size": 0}, {"stride": 0.5}, {"rate": 0}, {"rate": float("nan")}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            VideoFolder(made, **bad)
    monkeypatch.setattr(video_folder, "MAX_BYTES", 40 * 3 * 32 * 32)  # the first file fits, the second does not
    with pytest.raises(ValueError, match="after 1 usable files .* at 32 x 32 pixels: ask for a smaller size"):
        VideoFolder(made, frames=4)
    assert len(VideoFolder(made, frames=4, size=16)) == 2


def test_without_pyav(made, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ImportError, match=r'pip install "minivdm\[video\]"'):
        VideoFolder(made)


def test_the_clips_of_the_course(tmp_path):
    """All are usable, and they are what `make_clips` draws."""
    path = ROOT / "data" / "clips" / "clips.csv"
    folder = VideoFolder(path, frames=32, size=64)
    assert len(folder) == 40 and not folder.skipped and {clip.fps for clip in folder.clips} == {12.5, 16, 24}
    drawn, captions = draw_clips()
    assert [clip.caption for clip in folder.clips] == captions and torch.equal(draw_clips()[0], drawn)
    for i, clip in enumerate(drawn):
        assert (folder[i][0] - clip).abs().mean() < 0.04
    assert sum(file.stat().st_size for file in path.parent.rglob("*") if file.is_file()) < 1.5e6
    again = write_clips(tmp_path, drawn[:4], captions[:4])
    lines = path.read_text(encoding="utf-8").splitlines()
    assert again.read_text(encoding="utf-8").splitlines() == lines[:5] and lines[0] == ",".join(COLUMNS)
    assert len(list((tmp_path / "videos").rglob("100?.*"))) == 4
