"""The text-to-video path: drawn data, text, the judge, and the checkpoint that is shipped."""

import json
import shutil

import pytest
import torch

from minivdm.commands.sample import find_model
from minivdm.datasets import shapes
from minivdm.datasets.captions import Tokenizer, caption_table
from minivdm.datasets.shapes import COLOURS
from minivdm.datasets.sprites import ATTRIBUTES, MovingSprites, all_triples, captions_of, held_out
from minivdm.diffusion.forward_process import q_sample
from minivdm.diffusion.predictions import EpsModel, prediction_loss
from minivdm.diffusion.schedules import NoiseSchedule, cosine_betas, shifted_betas
from minivdm.evaluation.attribute_classifier import correct_attributes, train_classifier
from minivdm.models.layers import CrossAttention
from minivdm.models.text_encoder import TextEncoder
from minivdm.pipelines import pretrained
from minivdm.pipelines.text2video import build_text2video, text_to_video
from tests.helpers import CountOperations, with_random_weights


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def names_of(triple):
    return [kind[i] for kind, i in zip(ATTRIBUTES.values(), triple)]


# Drawn clips


@pytest.mark.parametrize("frames, size", [(8, 16), (16, 32), (16, 64)])
def test_drawing_is_repeatable_and_in_range(frames, size):
    sprites = MovingSprites(frames, size)
    clips, attributes = sprites.sample(4, seeded(1))
    again, same = sprites.sample(4, seeded(1))
    other, _ = sprites.sample(4, seeded(2))
    assert clips.shape == (4, 3, frames, size, size) and attributes.shape == (4, 3) and attributes.dtype == torch.long
    assert torch.equal(clips, again) and torch.equal(attributes, same) and not torch.equal(clips, other)
    assert clips.min() >= -1 and clips.max() <= 1


def test_drawing_is_one_pass():
    counts = []
    for n in (2, 16):
        with CountOperations() as count:
            MovingSprites(8, 16).sample(n, seeded())
        counts.append(count.calls)
    assert counts[0] == counts[1], "the number of operations must not depend on the number of clips"


@pytest.mark.parametrize("frames, size", [(8, 16), (16, 32)])
@pytest.mark.parametrize("which", [0, 1, 2])
def test_every_attribute_is_visible(frames, size, which):
    """Clips that differ in one attribute alone, all chance being equal, differ clearly in at least one frame."""
    count = [len(names) for names in ATTRIBUTES.values()]
    for fixed in range(8):
        attributes = torch.tensor([[fixed % 6, (fixed + 3) % 8, fixed]]).repeat(count[which], 1)
        attributes[:, which] = torch.arange(count[which])
        clips = torch.cat([MovingSprites(frames, size).draw(row[None], seeded(fixed)) for row in attributes])
        difference = (clips[:, None] - clips[None]).abs().amax(dim=2)  # (N, N, F, H, W) largest over colours
        changed = (difference > 0.2).float().sum(dim=(3, 4)).amax(dim=2)  # (N, N) pixels of the most changed frame
        assert changed[~torch.eye(len(clips)).bool()].min() >= 5


def test_sprites_stay_in_the_frame():
    motion = torch.arange(8).repeat(200)
    x, y, radius, visible = MovingSprites(16, 32).paths(motion, seeded())
    assert ((x.abs() + radius).max() <= 1 + 1e-5) and ((y.abs() + radius).max() <= 1 + 1e-5)
    assert visible[motion != 7].min() == 1 and visible[motion == 7].mean() == 0.5
    dx, dy = x[:, -1] - x[:, 0], y[:, -1] - y[:, 0]
    assert dx[motion == 0].max() < -0.4 and dx[motion == 1].min() > 0.4 and (dx[motion > 1] == 0).all()
    assert dy[motion == 2].max() < -0.4 and dy[motion == 3].min() > 0.4


def test_colours_are_apart_and_never_the_ground():
    palette = torch.tensor(list(COLOURS.values()))
    assert torch.cdist(palette, palette)[~torch.eye(8).bool()].min() > 0.35
    grid = torch.linspace(-1, 1, 16)
    ground = shapes.ground(500, grid, seeded()).transpose(1, 3).reshape(-1, 3)
    assert torch.cdist(ground, palette).min() > 0.35


def test_held_out_triples_are_a_tenth_and_never_drawn_for_training():
    train, new = all_triples("train"), all_triples("held_out")
    assert len(train) + len(new) == len(all_triples()) == 384 and abs(len(new) / 384 - 0.1) < 0.01
    _, drawn = MovingSprites(4, 16).sample(3000, seeded())
    assert not held_out(drawn).any() and drawn.unique(dim=0).shape[0] > 340
    assert held_out(MovingSprites(4, 16).sample(50, seeded(), "held_out")[1]).all()
    for pair, count in (((0, 1), 48), ((0, 2), 48), ((1, 2), 64)):
        assert len(train[:, pair].unique(dim=0)) == count, "each pair of attributes must occur in training"
    with pytest.raises(ValueError, match="held_out"):
        all_triples("test")


@pytest.mark.parametrize("attributes", [torch.zeros(3).long(), torch.zeros(2, 3), torch.tensor([[6, 0, 0]])])
def test_bad_attributes(attributes):
    with pytest.raises(ValueError, match="attributes"):
        MovingSprites(8, 16).draw(attributes, seeded())


# Text


def test_captions_name_one_triple_each_and_survive_the_tokenizer():
    tokenizer, seen = Tokenizer(), {}
    for triple in all_triples().tolist():
        for caption in captions_of(*names_of(triple)):
            assert seen.setdefault(caption, triple) == triple
    captions = list(seen)
    assert len(captions) == 384 * 24 and tokenizer.decode(tokenizer.encode(captions)) == captions
    assert "a red circle moving left" in seen and "an orange ring gets bigger" in seen
    assert caption_table(Tokenizer()).shape == (6, 8, 8, 24, 12)


def test_random_captions_are_repeatable():
    sprites, attributes = MovingSprites(), all_triples()[:40]
    assert sprites.captions(attributes)[0] == "a red circle moving left"
    assert sprites.captions(attributes, seeded(3)) == sprites.captions(attributes, seeded(3))
    assert sprites.captions(attributes, seeded(3)) != sprites.captions(attributes, seeded(4))


def test_tokenizer():
    tokenizer = Tokenizer(length=6)
    tokens = tokenizer.encode(["A red circle, moving left.", ""])
    assert tokens.shape == (2, 6) and tokens.dtype == torch.long
    assert (tokens[0, :5] > 0).all() and tokens[0, 5] == 0 and (tokens[1] == 0).all()
    with pytest.raises(ValueError, match="'circel'.*'circle'"):
        tokenizer.encode("a red circel")
    with pytest.raises(ValueError, match="'xyzzy'.*known: a, an"):
        tokenizer.encode("xyzzy")
    with pytest.raises(ValueError, match="at most 6 words, got 7"):
        tokenizer.encode("a video of a red circle growing")


def test_text_encoder_knows_word_order_and_its_null_prompt_learns():
    encoder = TextEncoder(20, length=6, dim=32)
    tokens = torch.tensor([[1, 2, 3, 0, 0, 0], [3, 2, 1, 0, 0, 0]])
    context = encoder(tokens)
    assert context.shape == (2, 6, 32) and not torch.allclose(context[0].mean(0), context[1].mean(0))
    encoder(torch.zeros(1, 6).long())[0, 0, 0].backward()
    assert encoder.words.weight.grad[0].abs().max() > 0
    with pytest.raises(ValueError, match="long tokens"):
        encoder(tokens[:, :4])


def test_cross_attention_sees_its_own_prompt_only():
    layer = with_random_weights(CrossAttention(32, 16))
    x, context = torch.randn(2, 32, 2, 4), torch.randn(2, 5, 16)
    other = context.clone()
    other[1] += 1
    moved = (layer(x, context) - layer(x, other)).abs().amax(dim=(1, 2, 3))
    assert moved[0] < 1e-6 and moved[1] > 1e-3


# v-prediction, the classifier, the checkpoint


def test_v_prediction_is_exact_for_exact_v():
    schedule = NoiseSchedule(cosine_betas(1000))
    x0, noise, t = torch.randn(4, 3), torch.randn(4, 3), torch.tensor([1, 200, 800, 1000])
    ab = schedule.alpha_bar[t][:, None]
    v = ab.sqrt() * noise - (1 - ab).sqrt() * x0
    eps = EpsModel(lambda x, t, cond: v, "v", schedule)(q_sample(x0, t, noise, schedule), t)
    assert torch.allclose(eps, noise, atol=1e-5)

    def net(x, t, cond):  # knows x0, so it can solve for v
        ab = schedule.alpha_bar[t][:, None]
        return (ab.sqrt() * x - x0) / (1 - ab).sqrt()

    assert prediction_loss(net, x0, schedule, generator=seeded()) < 1e-6
    assert 0.5 < prediction_loss(lambda x, t, cond: torch.zeros_like(x), x0, schedule, generator=seeded()) < 3


def test_probe_learns():
    sprites, generator = MovingSprites(4, 16), seeded()
    classifier = train_classifier(sprites, generator, steps=25, batch=32)
    clips, attributes = sprites.sample(128, generator, "all")
    right = correct_attributes(classifier, clips, attributes)
    assert right.shape == (128, 3) and right.dtype == torch.bool
    assert right[:, 1].float().mean() > 0.3, "colours come first; chance is 1 in 8"
    assert classifier.features(clips).shape == (128, 256)


@pytest.fixture(scope="module")
def shipped():
    return pretrained.load_pretrained("text2video")


def test_shipped_checkpoint_is_small_and_as_described(shipped):
    entry = json.loads((pretrained.DATA / "manifest.json").read_text())["text2video"]
    described = pretrained.describe(pretrained.DATA / "text2video.pt")
    assert {**entry, **described} == entry and entry["bytes"] <= 5_000_000
    assert entry["prompt_accuracy"]["seen"] >= 0.95 and entry["prompt_accuracy"]["held_out"] >= 0.85
    assert min(entry["classifier_accuracy"].values()) >= 0.99
    assert torch.equal(shipped.schedule.alpha_bar, NoiseSchedule(shifted_betas(cosine_betas(1000), 2)).alpha_bar)
    assert sum(p.numel() for p in shipped.parameters()) == entry["parameters"] <= 2_500_000


def test_shipped_checkpoint_does_what_the_prompt_says(shipped):
    """Judged here by hand: how the share of red and of blue in the picture moves over time."""
    prompts = ["a red circle moving left", "the blue square gets bigger", "a red cross that is blinking"]
    clips = text_to_video(prompts, shipped, steps=6, generator=seeded())
    assert clips.shape == (3, 3, 16, 32, 32) and clips.isfinite().all() and clips.abs().max() <= 1
    red, _, blue = ((clips + 1) / 2).unbind(1)  # (3, F, H, W) each
    red, blue = (red - blue).clamp(min=0), (blue - red).clamp(min=0)
    columns = torch.arange(32).float()
    place = (red[0] * columns).sum(dim=(1, 2)) / red[0].sum(dim=(1, 2))  # (F,)
    assert place[0] - place[-1] > 5 and (place.diff() < 0.5).all()
    assert blue[1, -1].sum() > 2.5 * blue[1, 0].sum() > 0
    share = red[2].sum(dim=(1, 2))  # (F,)
    assert share[:4].min() > 4 * share[4:8].max() and share[8:12].min() > 4 * share[12:].max()


def test_text_to_video_is_repeatable_and_checks_the_prompt(shipped):
    first, again = (text_to_video("a green ring", shipped, steps=1, generator=seeded(7)) for _ in range(2))
    assert torch.equal(first, again)
    with pytest.raises(ValueError, match="'teapot'"):
        text_to_video("a green teapot", shipped)


def test_load_pretrained_refuses_what_it_does_not_know(tmp_path):
    with pytest.raises(ValueError, match="choose from .*text2image, text2video"):
        pretrained.load_pretrained("text2movie")
    with pytest.raises(FileNotFoundError, match="manifest"):
        pretrained.load_pretrained("text2video", tmp_path)
    shutil.copy(pretrained.DATA / "manifest.json", tmp_path)
    with pytest.raises(FileNotFoundError, match="make it with: python -m minivdm.commands.make_text2video"):
        pretrained.load_pretrained("text2video", tmp_path)
    content = bytearray((pretrained.DATA / "text2video.pt").read_bytes())
    content[1000] ^= 1
    (tmp_path / "text2video.pt").write_bytes(content)
    with pytest.raises(ValueError, match="SHA-256"):
        pretrained.load_pretrained("text2video", tmp_path)


def test_a_model_from_before_the_shift_keeps_its_schedule(tmp_path):
    config = dict(channels=32, mults=[1], frames=4, size=16)
    pretrained.save_pretrained(tmp_path / "x.pt", build_text2video(**config, shift=1.0), config)
    schedule = pretrained.load_weights(tmp_path / "x.pt", pretrained.BUILDERS["text2video"]).schedule
    assert torch.equal(schedule.alpha_bar, NoiseSchedule(cosine_betas(1000)).alpha_bar)


def test_save_pretrained_comes_back_rounded_to_half(tmp_path):
    config = {"channels": 32, "mults": (1,), "frames": 4}
    model = with_random_weights(build_text2video(**config))
    pretrained.save_pretrained(tmp_path / "x.pt", model, config)
    loaded = pretrained.load_weights(tmp_path / "x.pt", pretrained.BUILDERS["text2video"])
    assert [p.name for p in tmp_path.iterdir()] == ["x.pt"] and not loaded.training and loaded.frames == 4
    for a, b in zip(model.parameters(), loaded.parameters()):
        assert torch.equal(a.half().float(), b)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 7e4])
def test_a_model_whose_training_went_wrong_is_refused(tmp_path, bad):
    """Neither written nor read: NaN, infinity, and what is finite in 32 bits but not in 16."""
    config = {"channels": 32, "mults": (1,), "frames": 4}
    model, path = build_text2video(**config), tmp_path / "new" / "x.pt"
    model.net.net.image.stem[1].weight.data[0, 0, 0, 0] = bad
    told = r"weights that are not finite, the first in net\.net\.image\.stem\.1\.weight"
    with pytest.raises(ValueError, match=f"x.pt was not written: in float16 the model has {told}"):
        pretrained.save_pretrained(path, model, config)
    assert not path.parent.exists()
    weights = {name: value.half() for name, value in model.state_dict().items()}
    torch.save({"config": config, "weights": weights}, tmp_path / "x.pt")
    for load in (lambda path: pretrained.load_weights(path, pretrained.BUILDERS["text2video"]), find_model):
        with pytest.raises(ValueError, match=f"x.pt holds {told}"):
            load(tmp_path / "x.pt")


def test_a_generator_gives_the_same_clips_in_parts_of_any_size():
    model = with_random_weights(build_text2video(mults=(1,), frames=4, size=8)).eval()
    prompts = ["a red circle moving left"] * 5
    parts = [text_to_video(prompts, model, 2, generator=seeded(), batch_size=size) for size in (2, 32)]
    assert parts[0].shape == (5, 3, 4, 8, 8) and torch.allclose(*parts, atol=1e-4)
    assert not torch.allclose(parts[0][0], parts[0][2], atol=0.1), "each clip has noise of its own"


@pytest.mark.parametrize("changes", [dict(frames=0), dict(size=0), dict(batch_size=0)])
def test_no_frame_is_not_the_default(changes):
    with pytest.raises(ValueError, match="expected at least one prompt, one sample at a time and one pixel"):
        text_to_video("a red circle moving left", build_text2video(mults=(1,), frames=4, size=8), **changes)


def test_a_model_loaded_in_inference_mode_can_be_differentiated(tmp_path):
    config = dict(mults=(1,), frames=4, size=8, shift=2.0)
    pretrained.save_pretrained(tmp_path / "model.pt", build_text2video(**config), config)
    with torch.inference_mode():
        model = pretrained.load_weights(tmp_path / "model.pt", pretrained.BUILDERS["text2video"])
    assert not any(p.is_inference() for p in model.parameters())
