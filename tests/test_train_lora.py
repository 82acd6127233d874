"""`train lora` on a folder of pictures, and `sample --lora`: what is wrong gets one line, what is right a file."""

import csv

import numpy as np
import pytest
from PIL import Image

from minivdm.__main__ import main
from minivdm.commands.train_lora import train_lora
from minivdm.datasets.picture_folder import read_picture_folder
from minivdm.files import locked
from minivdm.models.controlnet import control_for
from minivdm.pipelines.adapters import base_hash
from minivdm.pipelines.control_files import save_control
from minivdm.pipelines.pretrained import load_weights, save_pretrained
from minivdm.pipelines.text2video import build_text2video
from minivdm.training.torch_files import load_torch
from tests.helpers import with_random_weights

CONFIG = dict(channels=32, mults=[1, 1], context_dim=16, frames=4, size=16, shift=2.0)


@pytest.fixture
def model(tmp_path):
    """A small model of random weights in a file."""
    path = tmp_path / "model.pt"
    save_pretrained(path, with_random_weights(build_text2video(**CONFIG)), CONFIG)
    return path


def folder_of(tmp_path, rows, header=("file", "caption")):
    folder = tmp_path / "mine"
    folder.mkdir(exist_ok=True)
    with open(folder / "captions.csv", "w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return folder


@pytest.fixture
def folder(tmp_path):
    made = folder_of(tmp_path, [("a.png", "a red moon"), ("b.jpg", "the blue moon")])
    pixels = np.zeros((24, 40, 3), dtype=np.uint8)
    pixels[8:16, 16:24] = 255, 0, 0
    Image.fromarray(pixels).save(made / "a.png")
    Image.fromarray(pixels[..., ::-1]).save(made / "b.jpg", quality=95)
    return made


def tuned(folder, model, out, **changes):
    return train_lora(folder, out, **(dict(word=["moon"], steps=3, rank=2, checkpoint=model) | changes))


def test_a_folder_becomes_an_adapter_and_the_adapter_clips(folder, model, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("minivdm.commands.train_lora.PRIOR", 2)
    path = tuned(folder, model, tmp_path / "run")
    assert path == tmp_path / "run" / "adapter.pt" and sorted(p.name for p in path.parent.iterdir()) == ["adapter.pt"]
    saved = load_torch(path)
    assert list(saved["words"]) == ["moon"] and all(each["alpha"] == 32 for each in saved["adapters"].values())
    assert all(each["B"].abs().sum() > 0 for name, each in saved["adapters"].items() if name.endswith("words.kv"))
    assert 'sample "a red moon" --lora' in capsys.readouterr().out
    base = dict(checkpoint=str(model), out=str(tmp_path / "clip.gif"))
    options = [
        "sample",
        "a red moon moving left",
        "--checkpoint",
        base["checkpoint"],
        "-o",
        base["out"],
        "--steps",
        "2",
    ]
    assert main([*options, "--lora", f"{path}:0.5"]) == 0
    told = capsys.readouterr().out
    assert f"with {path} at 0.5 (moon)" in told and (tmp_path / "clip.gif").exists()
    assert main(options) == 2 and "'moon' is not in the vocabulary" in capsys.readouterr().err
    with pytest.raises(ValueError, match="is there already"):
        tuned(folder, model, tmp_path / "run")


def test_a_scale_of_zero_samples_the_base(folder, model, tmp_path, monkeypatch):
    monkeypatch.setattr("minivdm.commands.train_lora.PRIOR", 2)
    path = tuned(folder, model, tmp_path / "run")
    films = []
    for more in ([], ["--lora", f"{path}:0"], ["--lora", f"{path}:40"]):
        out = tmp_path / f"{len(films)}.gif"
        options = ["sample", "a red ring moving left", "--checkpoint", str(model), "-o", str(out), "--steps", "2"]
        assert main([*options, *more]) == 0
        films.append(out.read_bytes())
    assert films[0] == films[1] != films[2]


def test_an_adapter_and_a_hint_steer_at_once(folder, model, tmp_path, monkeypatch):
    """The ControlNet was made for the model without the adapter, and is refused for none with it."""
    monkeypatch.setattr("minivdm.commands.train_lora.PRIOR", 2)
    path, base = tuned(folder, model, tmp_path / "run"), load_weights(model, lambda config: build_text2video(**config))
    control = with_random_weights(control_for(base.net.net))
    save_control(tmp_path / "control.pt", control, base, "mask")
    drawing = np.zeros((base.size, base.size), dtype=np.uint8)
    drawing[4:8, 4:8] = 255
    Image.fromarray(drawing).save(tmp_path / "hint.png")
    films, hint = [], ["--control", str(tmp_path / "control.pt"), "--hint", str(tmp_path / "hint.png")]
    for more in (hint, ["--lora", str(path)], [*hint, "--lora", str(path)]):
        out = tmp_path / f"{len(films)}.gif"
        options = ["sample", "a red ring moving left", "--checkpoint", str(model), "-o", str(out), "--steps", "2"]
        assert main([*options, *more]) == 0
        films.append(out.read_bytes())
    assert len(set(films)) == 3


@pytest.mark.parametrize(
    "edit, message",
    [
        (lambda path: f"{path}:much", "expected FILE or FILE:SCALE"),
        (lambda path: f"{path}:nan", "finite scale"),
        (lambda path: f"{path}x", "no adapter at"),
        (lambda path: path.parent.parent / "model.pt", "holds no adapter"),
    ],
)
def test_adapters_that_sample_refuses(folder, model, tmp_path, monkeypatch, capsys, edit, message):
    monkeypatch.setattr("minivdm.commands.train_lora.PRIOR", 2)
    path = tuned(folder, model, tmp_path / "run")
    options = ["sample", "a red moon", "--checkpoint", str(model), "-o", str(tmp_path / "clip.gif"), "--steps", "2"]
    assert main([*options, "--lora", str(edit(path))]) == 2
    told = capsys.readouterr().err
    assert message in told and told.count("\n") == 1 and not (tmp_path / "clip.gif").exists()


def test_another_base_is_refused(folder, model, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("minivdm.commands.train_lora.PRIOR", 2)
    path = tuned(folder, model, tmp_path / "run")
    other = with_random_weights(build_text2video(**CONFIG), seed=1)
    save_pretrained(tmp_path / "other.pt", other, CONFIG)
    options = ["sample", "a red moon", "--checkpoint", str(tmp_path / "other.pt"), "-o", str(tmp_path / "clip.gif")]
    assert main([*options, "--lora", str(path)]) == 2
    told = capsys.readouterr().err
    assert "was made for another model" in told and told.count("\n") == 1
    assert base_hash(other) != load_torch(path)["base"]


def test_pictures_are_read_as_they_are_meant(folder):
    """The middle square, turned as the camera says; what is transparent is black."""
    pictures, captions = read_picture_folder(folder, 8)
    assert pictures.shape == (2, 3, 8, 8) and captions == ["a red moon", "the blue moon"]
    assert pictures.min() >= -1 and pictures.max() <= 1
    bright = (pictures[0, 0] > 0).nonzero().float().mean(dim=0)
    assert (bright - 3.5).abs().max() <= 0.5 and pictures[0, 1:].max() < -0.9
    assert pictures[1, 2].max() > 0.8 > pictures[1, 0].max()
    turned = Image.fromarray(
        np.array([[[255, 0, 0], [0, 0, 0]], [[0, 0, 0], [0, 0, 0]]], dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    )
    exif = turned.getexif()
    exif[0x0112] = 6  # to be turned right by a quarter
    turned.save(folder / "a.png", exif=exif)
    pictures, _ = read_picture_folder(folder, 2)
    assert pictures[0, 0].argmax() == 1
    Image.new("RGBA", (8, 8), (255, 255, 255, 0)).save(folder / "a.png")
    assert read_picture_folder(folder, 4)[0][0].max() == -1


def write_text(folder, name="a.png", content=b"moon"):
    (folder / name).write_bytes(content)


def halve(folder):
    Image.effect_noise((64, 64), 90).save(folder / "a.png")
    write_text(folder, content=(folder / "a.png").read_bytes()[:900])


BROKEN = {
    "no table": (lambda folder: (folder / "captions.csv").unlink(), "no table of pictures at"),
    "no picture": (lambda folder: (folder / "a.png").unlink(), "no picture at"),
    "text": (write_text, "is no PNG or JPEG picture"),
    "half a picture": (halve, "cannot be used"),
    "a GIF": (lambda folder: Image.new("RGB", (8, 8)).save(folder / "a.png", format="GIF"), "is no PNG or JPEG"),
    "16 bits": (lambda folder: Image.new("I;16", (8, 8)).save(folder / "a.png"), "more than 8 bits"),
    "no caption": (lambda folder: folder_of(folder.parent, [("a.png", "")]), "line 2: no caption"),
    "no file": (lambda folder: folder_of(folder.parent, [("", "moon")]), "line 2: no file"),
    "twice": (lambda folder: folder_of(folder.parent, [("a.png", "a")] * 2), "line 3: a.png is listed twice"),
    "outside": (lambda folder: folder_of(folder.parent, [("../model.pt", "a")]), "lies outside the folder"),
    "absolute": (lambda folder: folder_of(folder.parent, [(str(folder / "a.png"), "a")]), "lies outside the folder"),
    "no rows": (lambda folder: folder_of(folder.parent, []), "no rows"),
    "other columns": (lambda folder: folder_of(folder.parent, [("a", "b")], ("videoid", "name")), "lacks the column"),
    "a comma": (lambda folder: write_text(folder, "captions.csv", b"file,caption\na.png,a red, bold moon\n"), "quotes"),
    "no UTF-8": (lambda folder: write_text(folder, "captions.csv", b"file,caption\na.png,\xff\xfd\n"), "not UTF-8"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_is_wrong_with_a_folder_is_said_in_one_line(folder, model, tmp_path, capsys, what):
    edit, message = BROKEN[what]
    edit(folder)
    options = [
        "train",
        "lora",
        str(folder),
        "--checkpoint",
        str(model),
        "--word",
        "moon",
        "--out",
        str(tmp_path / "run"),
    ]
    assert main(options) == 2
    told = capsys.readouterr().err
    assert message in told and told.count("\n") == 1 and not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "options, message",
    [
        ([], "'moon' is not in the vocabulary; "),
        (["--word", "ring"], "'ring' is in the vocabulary already"),
        (["--word", "moon", "--word", "star"], "no caption has the new word 'star'"),
        (["--word", "moon=crcle"], "did you mean 'circle'"),
        (["--word", "moon", "--rank", "0"], "expected a rank from 1"),
        (["--word", "moon", "--alpha", "nan"], "positive alpha"),
        (["--word", "moon", "--steps", "-1"], "steps must be a whole number"),
        (["--word", "moon", "--lr", "0"], "lr must be a positive number"),
        (["--word", "moon", "--seed", "-1"], "seed must lie in"),
        (["--word", "moon", "--frames", "8"], "--frames is no option of train lora"),
        (["--word", "moon", "--out", ""], "a folder to write to"),
    ],
)
def test_options_that_make_no_sense(folder, model, tmp_path, monkeypatch, capsys, options, message):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "lora", str(folder), "--checkpoint", str(model), *options]) == 2
    told = capsys.readouterr().err
    assert message in told and told.count("\n") == 1


def test_the_folder_belongs_to_lora_alone(capsys):
    assert main(["train", "lora"]) == 2 and "needs a folder" in capsys.readouterr().err
    assert main(["train", "text2video", "mine"]) == 2 and "no use for 'mine'" in capsys.readouterr().err
    assert main(["train", "text2video", "--rank", "3"]) == 2 and "--rank is no option" in capsys.readouterr().err


def test_a_run_is_left_alone_by_another_one(folder, model, tmp_path):
    with locked(tmp_path / "run" / "lock", tmp_path / "run"), pytest.raises(BlockingIOError, match="is in use by"):
        tuned(folder, model, tmp_path / "run")
