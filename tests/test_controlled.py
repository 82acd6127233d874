"""Models that follow hints: sampling, training, files, and the commands."""

import copy

import pytest
import torch
from command_kit import RED, fails
from PIL import Image

from minivdm.__main__ import main
from minivdm.commands.control import read_hint
from minivdm.datasets.gif_files import save_gif
from minivdm.datasets.picture_folder import read_pictures
from minivdm.models.controlnet import control_for
from minivdm.pipelines.control_files import hash_of_weights, load_control, save_control
from minivdm.pipelines.control_training import train_control
from minivdm.pipelines.controlled import sample_with_hints, with_hints
from minivdm.pipelines.pretrained import BUILDERS, load_pretrained, load_weights, save_pretrained
from minivdm.pipelines.text2image import build_text2image, still_tokenizer, text_to_image
from minivdm.pipelines.text2video import VideoModel, build_text2video, text_to_video
from minivdm.training.torch_files import load_torch, save_torch

PROMPTS = ["a red circle at the top", "a blue ring in the centre", "a green cross at the left"]


def disturbed(module, seed=0):
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    return module.eval()


def pictures():
    model = disturbed(build_text2image(32, (1, 1)))
    return model, disturbed(control_for(model.net.net), 1)


def clips():
    model = disturbed(build_text2video(32, (1, 1), frames=4, size=16))
    return model, disturbed(control_for(model.net.net), 1)


def seeded():
    return torch.Generator().manual_seed(0)


def test_at_strength_0_and_as_new_it_is_the_model_exactly():
    model, control = pictures()
    tokens, hints = still_tokenizer().encode(PROMPTS), torch.rand(3, 1, 16, 16)
    want = text_to_image(PROMPTS, model, 3, size=16, generator=seeded())
    for network, strength in ((control, 0), (control_for(model.net.net), 1)):
        got = sample_with_hints(tokens, model, [network], [hints], [strength], 3, generator=seeded())
        assert torch.equal(got, want)
    assert not torch.allclose(sample_with_hints(tokens, model, [control], [hints], steps=3, generator=seeded()), want)


def test_each_prompt_keeps_its_own_hint_in_parts_and_under_guidance():
    model, control = pictures()
    tokens, hints = still_tokenizer().encode(PROMPTS), torch.rand(3, 1, 16, 16)
    hinted = with_hints(model, [control], [hints])
    x, t = torch.randn(3, 3, 16, 16), torch.full((3,), 500)
    doubled = hinted(torch.cat([x, x]), t.repeat(2), tokens.repeat(2, 1))
    alone = torch.cat(
        [with_hints(model, [control], [hints[i : i + 1]])(x[i : i + 1], t[:1], tokens[i : i + 1]) for i in range(3)]
    )
    assert torch.allclose(doubled, alone.repeat(2, 1, 1, 1), atol=1e-4)
    out = sample_with_hints(tokens, model, [control], [hints], steps=2, generator=seeded(), batch_size=2)
    assert out.shape == (3, 3, 16, 16) and out.isfinite().all()


def test_clips_follow_hints_by_text_to_video_too():
    model, control = clips()
    hinted = with_hints(model, [control], [torch.rand(1, 1, 4, 16, 16)])
    assert isinstance(hinted, VideoModel) and (hinted.frames, hinted.size) == (4, 16)
    out = text_to_video([RED, RED], hinted, 2, generator=seeded())
    assert out.shape == (2, 3, 4, 16, 16)
    assert not torch.allclose(out, text_to_video([RED, RED], model, 2, generator=seeded()), atol=1e-3)


@pytest.mark.parametrize("strengths", [[2.5], [-0.1], [float("nan")], [1, 1]])
def test_strengths_that_make_no_sense(strengths):
    model, control = pictures()
    with pytest.raises(ValueError, match="strength"):
        with_hints(model, [control], [torch.rand(1, 1, 16, 16)], strengths)


def test_training_changes_the_control_net_alone_and_lowers_the_loss():
    model, _ = pictures()
    before, control = copy.deepcopy(model.state_dict()), control_for(model.net.net)
    x0, hint, tokens = torch.rand(4, 3, 16, 16), torch.rand(4, 1, 16, 16), still_tokenizer().encode(PROMPTS[:1] * 4)
    steps = train_control(model, control, lambda generator: (x0, hint, tokens), 120, 3e-3)
    losses = [loss.item() for _, loss in steps]
    assert sum(losses[-10:]) < 0.7 * sum(losses[:10])
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.grad is None and not p.requires_grad for p in model.parameters())
    start = control_for(model.net.net).state_dict()
    assert all(
        not torch.equal(value, start[name]) for name, value in control.state_dict().items() if name.endswith("weight")
    )


@pytest.mark.parametrize("make", [pictures, clips])
def test_a_file_holds_the_control_net_and_nothing_else(make, tmp_path):
    model, control = make()
    save_control(tmp_path / "c.pt", control, model, "mask")
    loaded, hint = load_control(tmp_path / "c.pt", model)
    assert hint == "mask" and not any(p.requires_grad for p in loaded.parameters())
    for name, value in loaded.state_dict().items():
        assert torch.equal(value, control.state_dict()[name].half().float())
    weights = 2 * sum(value.numel() for value in control.state_dict().values())
    assert (tmp_path / "c.pt").stat().st_size < weights + 50_000


def test_a_model_and_its_file_have_one_hash(tmp_path):
    model, control = pictures()
    config = {"channels": 32, "mults": (1, 1)}
    save_pretrained(tmp_path / "base.pt", model, config)
    again = load_weights(tmp_path / "base.pt", BUILDERS["text2image"])
    assert hash_of_weights(again.net.net) == hash_of_weights(model.net.net)
    save_control(tmp_path / "c.pt", control, model, "edges")
    load_control(tmp_path / "c.pt", again)


def changed(path, **changes):
    """The file with other contents beside it."""
    other = path.with_name("other.pt")
    save_torch(other, {**load_torch(path), **changes})
    return other


def test_what_is_no_control_net_of_this_model_is_refused_in_one_line(tmp_path):
    model, control = pictures()
    path = tmp_path / "c.pt"
    save_control(path, control, model, "edges")
    weights = load_torch(path)["weights"]
    first = next(iter(weights))
    for changes, message in (
        (dict(kind="lora"), "holds no ControlNet"),
        (dict(hint="depth"), "one of edges, mask, points; got 'depth'"),
        (dict(base="0" * 64), "another model .text2image, 000000000000"),
        (dict(channels=3), "other shapes: hint.layers.0.weight is .16, 1, 3, 3., not .16, 3, 3, 3."),
        (dict(weights={**weights, first: weights[first] / 0}), f"not finite, the first in {first}"),
        (dict(weights={**weights, "extra": weights[first]}), "extra is .* not known"),
        (dict(weights={"a": 1}), "a weight is missing"),
    ):
        with pytest.raises(ValueError, match=message) as caught:
            load_control(changed(path, **changes), model)
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="another model"):
        load_control(path, disturbed(model, 5))
    save_torch(tmp_path / "list.pt", [1])
    with pytest.raises(ValueError, match="holds no ControlNet"):
        load_control(tmp_path / "list.pt", model)
    with torch.no_grad():
        control.middle.bias[0] = 1e6
    with pytest.raises(ValueError, match="not finite"):
        save_control(tmp_path / "n.pt", control, model, "edges")
    assert not (tmp_path / "n.pt").exists()


def test_a_hint_is_read_from_a_picture_or_a_clip(tmp_path):
    drawn = torch.zeros(1, 4, 16, 16)
    drawn[:, 2:, 4:8] = 1  # frames 0 and 1 are equal: a GIF merges them
    save_gif(2 * drawn.expand(3, -1, -1, -1) - 1, tmp_path / "hint.gif", scale=2)
    assert torch.equal(read_hint(tmp_path / "hint.gif", 4, 16)[0], drawn)
    Image.fromarray((255 * drawn[0, 3]).byte().numpy()).save(tmp_path / "hint.png")
    assert torch.equal(read_hint(tmp_path / "hint.png", 4, 16)[0, 0], drawn[0, 3].expand(4, -1, -1))
    with pytest.raises(ValueError, match="has 4 frames; expected 8"):
        read_hint(tmp_path / "hint.gif", 8, 16)
    with pytest.raises(ValueError, match="16 x 16 pixels; expected 32 x 32"):
        read_hint(tmp_path / "hint.png", 4, 32)
    (tmp_path / "broken.gif").write_bytes(b"GIF89a nothing")
    with pytest.raises((ValueError, OSError)):
        read_hint(tmp_path / "broken.gif", 4, 16)


def folder_of_pictures(folder):
    """Two pictures of other sizes, and a table."""
    (folder / "in").mkdir(parents=True)
    Image.effect_noise((50, 40), 90).save(folder / "a.png")
    Image.new("RGB", (20, 60), (200, 30, 30)).save(folder / "in" / "b.JPG")
    (folder / "captions.csv").write_text("file,caption\na.png,a red circle at the top\nin/b.JPG,a photo of my dog\n")
    return folder


def test_pictures_that_need_no_captions(tmp_path):
    folder = folder_of_pictures(tmp_path / "mine")
    got, captions = read_pictures(folder, 32)
    assert got.shape == (2, 3, 32, 32) and captions == ["a red circle at the top", "a photo of my dog"]
    (folder / "captions.csv").unlink()
    got, captions = read_pictures(folder, 32)
    assert got.shape == (1, 3, 32, 32) and captions == [""], "without a table, what lies in the folder itself"
    (folder / "c.jpeg").write_bytes(b"no picture")
    with pytest.raises(ValueError, match="c.jpeg is no PNG or JPEG picture"):
        read_pictures(folder, 32)
    with pytest.raises(FileNotFoundError, match="no folder at"):
        read_pictures(tmp_path / "nowhere", 32)
    (folder / "empty").mkdir()
    with pytest.raises(ValueError, match="expected 1 to 1000 pictures .* got 0"):
        read_pictures(folder / "empty", 32)


def test_train_on_a_folder_then_sample_with_its_file(tmp_path, capsys):
    folder, file = folder_of_pictures(tmp_path / "mine"), tmp_path / "c.pt"
    assert (
        main(
            ["train", "controlnet", str(folder), "--hint", "edges", "--out", str(file), "--steps", "2", "--batch", "2"]
        )
        == 0
    )
    said = capsys.readouterr().out
    assert "2 pictures" in said and "1 with words that the model does not know" in said
    Image.new("L", (64, 64), 255).save(tmp_path / "hint.png")
    sample = ["sample", "a red circle at the top", "-o", str(tmp_path / "out.png"), "--steps", "2"]
    assert main([*sample, "--control", str(file), "--hint", str(tmp_path / "hint.png"), "--strength", "0.5"]) == 0
    assert Image.open(tmp_path / "out.png").size == (128, 128)
    assert "give --hint" in fails(capsys, *sample, "--control", file)
    assert "ends in .png" in fails(
        capsys, "sample", RED, "-o", tmp_path / "a.gif", "--control", file, "--hint", "x.png"
    )
    assert "give --control" in fails(capsys, "sample", RED, "-o", tmp_path / "a.gif", "--hint", "x.png")
    assert "--frames is no option of train controlnet" in fails(capsys, "train", "controlnet", folder, "--frames", "4")
    assert "draws its own data" in fails(capsys, "train", "text2video", folder)
    assert "--hint is no option of train lora" in fails(capsys, "train", "lora", folder, "--hint", "edges")


def test_a_clip_is_steered_from_the_command_line(tmp_path, capsys):
    model = load_pretrained("text2video")
    save_control(tmp_path / "c.pt", disturbed(control_for(model.net.net)), model, "points")
    save_gif(torch.zeros(3, 16, 32, 32), tmp_path / "hint.gif")
    arguments = ["sample", RED, "-o", str(tmp_path / "clip.gif"), "--steps", "1", "--control", str(tmp_path / "c.pt")]
    data = ["--checkpoint", "data/text2video.pt"]
    assert main([*arguments, *data, "--hint", str(tmp_path / "hint.gif")]) == 0
    assert "steered by" in capsys.readouterr().out and (tmp_path / "clip.gif").exists()
    assert "strengths must lie in 0..2" in fails(
        capsys, *arguments, *data, "--hint", tmp_path / "hint.gif", "--strength", "3"
    )


def test_training_that_was_stopped_goes_on_to_the_same_bits(tmp_path):
    model, _ = pictures()
    x0, hint, tokens = torch.rand(4, 3, 16, 16), torch.rand(4, 1, 16, 16), still_tokenizer().encode(PROMPTS[:1] * 4)
    options = dict(checkpoint=tmp_path / "run", save_every=2, settings=dict(hint="edges"))

    def trained(control, stop=None, **more):
        for step, _ in train_control(model, control, lambda generator: (x0, hint, tokens), 6, **more):
            if step == stop:
                break
        return control.state_dict()

    torch.manual_seed(3)
    whole = trained(control_for(model.net.net))
    torch.manual_seed(3)
    trained(control_for(model.net.net), 4, **options)
    again = trained(control_for(model.net.net), **options)
    assert all(torch.equal(value, again[name]) for name, value in whole.items())


def test_a_stopped_training_does_not_go_on_with_other_pictures(tmp_path, capsys, monkeypatch):
    folder, file = folder_of_pictures(tmp_path / "mine"), tmp_path / "c.pt"
    train = ["train", "controlnet", str(folder), "--out", str(file), "--steps", "2", "--batch", "2"]
    with monkeypatch.context() as stopped:
        stopped.setattr("minivdm.commands.control.save_control", lambda *_: 1 / 0)
        assert main(train) != 0
    capsys.readouterr()
    Image.new("RGB", (50, 40), (0, 0, 250)).save(folder / "a.png")
    assert "was made with settings=" in fails(capsys, *train) and not file.exists()
    for left in tmp_path.glob("c.pt.unfinished*"):
        left.unlink()
    assert main(train) == 0 and file.exists() and not list(tmp_path.glob("c.pt.unfinished*"))
