"""The stages of a cascade: what they are told reaches them, and what is new starts as nothing."""

import copy
import math

import pytest
import torch
from torch import nn

from minivdm.datasets.captions import Tokenizer
from minivdm.datasets.degradation import enlarge, guessed_frames, shrink
from minivdm.datasets.photos import SpritePhotos
from minivdm.datasets.sprites import MovingSprites
from minivdm.diffusion.schedules import NoiseSchedule, cosine_betas
from minivdm.models.conditioning import Beside, Told, widen_stem
from minivdm.models.prior_net import drop_embedding
from minivdm.models.unet import UNet
from minivdm.pipelines.cascade import TextToVideo, Walk
from minivdm.pipelines.cascade_data import PhotoPool, QuietClips
from minivdm.pipelines.cascade_files import Sizes, build_stage
from minivdm.pipelines.cascade_judging import attributes_in, judge_interpolation, judge_upscaling
from minivdm.pipelines.cascade_training import (
    STAGES,
    clip_batch,
    decoder_batch,
    interpolation_batch,
    key_frame_batch,
    prior_batch,
    spatial_batch,
    spatiotemporal_batch,
    train_stage,
)
from minivdm.pipelines.decoder import animate, build_decoder, sample_key_frames, sample_pictures_of
from minivdm.pipelines.interpolation import interpolate_frames, interpolator
from minivdm.pipelines.pretrained import load_pretrained
from minivdm.pipelines.prior import build_prior, sample_prior, to_unit_variance
from minivdm.pipelines.stages import sample_stage, told, without_embedding
from minivdm.pipelines.super_resolution import MAX_LEVEL, augmented, build_upscaler, shared_noise, upscale
from tests.helpers import with_random_weights

TINY = Sizes(4, 8, 8, mults=(1, 1), up_mults=(1, 1), clip_width=16, prior_width=64)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=seeded(seed))


@pytest.fixture(scope="module")
def stages():
    torch.manual_seed(0)
    return {stage: with_random_weights(build_stage(stage, TINY)) for stage in STAGES}


@pytest.fixture(scope="module")
def pools():
    return PhotoPool(24, seeded(), 16), QuietClips(MovingSprites(8, 32), 8, seeded())


@pytest.mark.parametrize("patch", [1, 2])
def test_new_channels_change_nothing_and_can_learn(patch):
    net = with_random_weights(UNet(3, 32, (1, 1), 1, (1,), context_dim=16, patch=patch))
    x, t, cond = draw(2, 3, 8, 8), torch.tensor([3, 700]), draw(2, 1, 16, seed=1)
    before = net(x, t, cond)
    wide = widen_stem(copy.deepcopy(net), 4)
    for seed in (2, 3):
        beside = 10 * draw(2, 4, 8, 8, seed=seed)
        after = wide(torch.cat([x, beside], dim=1), t, cond)
        assert after.shape == x.shape and torch.allclose(after, before, atol=1e-5)
    (after - 1).square().mean().backward()
    new = wide.stem[1].weight.grad[:, 3 * patch**2 :]
    assert new.shape[1] == 4 * patch**2 and all((new[:, i] != 0).any() for i in range(new.shape[1]))
    with torch.no_grad():
        wide.stem[1].weight.normal_()
    assert not torch.allclose(wide(torch.cat([x, beside], dim=1), t, cond), before, atol=1e-3)


def test_layers_along_time_change_no_frame_at_first():
    decoder = with_random_weights(build_decoder(32, (1, 1), size=8))
    key_frames = animate(decoder, 5)
    x, t, cond = draw(2, 3, 5, 8, 8), torch.tensor([5, 900]), told(nn.functional.normalize(draw(2, 64)), 2)
    with torch.no_grad():
        clip = key_frames(x, t, cond)
        for f in range(5):
            assert torch.allclose(clip[:, :, f], decoder(x[:, :, f], t, cond), atol=1e-5)
    more = interpolator(key_frames, 5)
    with torch.no_grad():
        beside = draw(2, 4, 5, 8, 8, seed=3)
        assert torch.equal(more.net(torch.cat([x, beside], dim=1), t, cond), beside[:, :3]), "it starts as the guess"
    assert not any(a is b for a in decoder.parameters() for b in key_frames.parameters()), "a copy"


def test_an_embedding_and_numbers_reach_the_network_and_no_other_sample():
    model = with_random_weights(Told(UNet(3, 32, (1,), 1, (0,), context_dim=16), 8, 2))
    x, t = draw(3, 3, 4, 4), torch.tensor([5, 6, 7])
    cond = told(nn.functional.normalize(draw(3, 8), dim=1), 2, torch.tensor([1.0, 50.0, 250.0]))
    assert cond.shape == (3, 10) and cond[:, 8].tolist() == [2, 2, 2]
    with torch.no_grad():
        before = model(x, t, cond)
        for column in (0, 7, 8, 9):
            other = cond.clone()
            other[1, column] += 1
            changed = (model(x, t, other) - before).abs().amax(dim=(1, 2, 3))
            assert changed[1] > 1e-3 and changed[0] == changed[2] == 0, column
    for wrong in (None, cond[:, :9], cond[:2], cond.long()):
        with pytest.raises(ValueError, match=r"expected an embedding and numbers, floats of shape \(3, 10\)"):
            model(x, t, wrong)


def test_numbers_survive_16_bits():
    numbers = torch.arange(MAX_LEVEL + 1).float()
    assert torch.equal(numbers.bfloat16().float(), numbers) and torch.equal(numbers.half().float(), numbers)


def test_guidance_keeps_the_frame_rate():
    cond = told(draw(4, 8), torch.tensor([1.0, 2.0, 3.0, 4.0]))
    null = without_embedding(cond, 8)
    assert (null[:, :8] == 0).all() and torch.equal(null[:, 8], cond[:, 8])
    dropped = drop_embedding(cond, 8, 0.5, seeded(1))
    gone = (dropped[:, :8] == 0).all(dim=1)
    assert 0 < gone.sum() < 4 and torch.equal(dropped[~gone], cond[~gone]) and torch.equal(dropped[:, 8], cond[:, 8])
    assert torch.equal(drop_embedding(cond, 8, 0.0, seeded()), cond)
    assert torch.equal(drop_embedding(cond, 8, 1.0, seeded()), null)
    many = drop_embedding(torch.ones(20_000, 3), 2, 0.1, seeded())
    assert (many[:, 0] == 0).float().mean().item() == pytest.approx(0.1, abs=0.01)
    with pytest.raises(ValueError, match="0..1"):
        drop_embedding(cond, 8, 1.5, seeded())


def test_embeddings_get_the_variance_of_the_noise():
    u = 7 * draw(5, 64)
    out = to_unit_variance(u)
    assert out.square().mean(dim=1).tolist() == pytest.approx([1] * 5, rel=1e-5)
    assert torch.allclose(nn.functional.cosine_similarity(out, u), torch.ones(5))


def test_a_perfect_prior_is_followed():
    """A network that knows the answer: for each text, its own direction turned by one place."""

    class Known(nn.Module):
        def forward(self, x, t, cond):
            return cond.roll(1, dims=1)

    model, texts = build_prior(8, 16, 1), nn.functional.normalize(draw(3, 8), dim=1)
    model.net = Known()
    images = sample_prior(model, texts, steps=4, generator=seeded())
    assert torch.allclose(images, texts.roll(1, dims=1), atol=1e-3)


def test_noise_over_a_small_clip_has_the_variance_that_was_asked_for():
    schedule, low = NoiseSchedule(cosine_betas(1000)), draw(3, 2, 4, 6, 6).clamp(-1, 1)
    level, noise = torch.tensor([0, 100, MAX_LEVEL]), draw(3, 2, 4, 6, 6, seed=1)
    out = augmented(low, level, noise, schedule)
    assert out.shape == (3, 2, 4, 12, 12) and torch.allclose(out[0], enlarge(low, 2)[0], atol=1e-5)
    for b in (1, 2):
        kept = math.cos((level[b] / 1000 + 0.008) / 1.008 * math.pi / 2) / math.cos(0.008 / 1.008 * math.pi / 2)
        expected = kept * low[b] + math.sqrt(1 - kept**2) * noise[b]
        assert torch.allclose(out[b], enlarge(expected[None], 2)[0], atol=1e-3)


def test_all_frames_get_the_same_noise_and_each_clip_another():
    noise = shared_noise((2, 3, 5, 8, 8), seeded())
    assert noise.shape == (2, 3, 5, 8, 8)
    assert all(torch.equal(noise[:, :, f], noise[:, :, 0]) for f in range(5))
    assert not torch.equal(noise[0], noise[1])
    many = shared_noise((1, 1, 2, 200, 200), seeded())[:, :, 0]
    assert abs(many.mean()) < 0.02 and many.std().item() == pytest.approx(1, abs=0.02)
    assert torch.equal(shared_noise((2, 3, 5, 8, 8), seeded()), noise)


def test_a_still_stays_still_with_one_noise_and_trembles_with_many(stages):
    model, low = stages["spatial"], draw(2, 3, 1, 16, 16).clamp(-1, 1).expand(-1, -1, 4, -1, -1)
    still = upscale(model, low, 50, 2, seeded())
    assert still.shape == (2, 3, 4, 32, 32) and torch.allclose(still, still[:, :, :1].expand_as(still), atol=1e-5)
    trembling = upscale(model, low, 50, 2, seeded(), same_noise=False)
    assert (trembling.diff(dim=2).abs().amax(dim=(1, 3, 4)) > 0.01).all()


@pytest.mark.parametrize("stage", ["spatiotemporal", "spatial"])
def test_the_level_is_fed_to_the_network_at_sampling_too(stages, stage):
    model, heard = stages[stage], []
    low = draw(2, 3, 8, 16, 16) if stage == "spatial" else draw(2, 3, 8, 8, 8)
    hook = model.net.register_forward_pre_hook(lambda net, inputs: heard.append(inputs[2]))
    upscale(model, low.clamp(-1, 1), 70, 1, seeded())
    upscale(model, low.clamp(-1, 1), 70, 1, seeded(), told_level=0)
    hook.remove()
    rows = 16 if stage == "spatial" else 2
    assert torch.equal(heard[0], torch.full((rows, 1), 70.0)) and torch.equal(heard[1], torch.zeros(rows, 1))
    for wrong in (-1, MAX_LEVEL + 1):
        with pytest.raises(ValueError, match=f"must lie in 0..250, got {wrong}"):
            upscale(model, low, wrong)
    with pytest.raises(ValueError, match="expected clips"):
        upscale(model, low[..., :4, :4])


def test_known_frames_come_back_and_the_others_depend_on_them(stages):
    model, known = stages["interpolation"], draw(2, 3, 4, 8, 8).clamp(-1, 1)
    clip = interpolate_frames(model, known, 2, 2, seeded())
    assert clip.shape == (2, 3, 8, 8, 8) and torch.equal(clip[:, :, ::2], known)
    other = interpolate_frames(model, -known, 2, 2, seeded())
    assert not torch.allclose(other[:, :, 1], clip[:, :, 1], atol=1e-3)
    skip_3 = interpolate_frames(model, known[:, :, :3], 3, 2, seeded())
    assert torch.equal(skip_3[:, :, ::3], known[:, :, :3])
    with pytest.raises(ValueError, match="every frame in 3 of 8 are 3 frames"):
        interpolate_frames(model, known, 3, 2)


def test_the_frame_rate_and_the_embedding_change_key_frames(stages):
    model, u = stages["key_frames"], nn.functional.normalize(draw(2, 64), dim=1)
    base = sample_key_frames(model, u, 2, 2, 1.5, seeded())
    assert base.shape == (2, 3, 4, 8, 8) and base.abs().max() <= 1
    assert torch.equal(sample_key_frames(model, u, 2, 2, 1.5, seeded()), base)
    assert not torch.allclose(sample_key_frames(model, u, 1, 2, 1.5, seeded()), base, atol=1e-3)
    assert not torch.allclose(sample_key_frames(model, -u, 2, 2, 1.5, seeded()), base, atol=1e-3)
    assert sample_pictures_of(stages["decoder"], u, 2, 1.5, seeded()).shape == (2, 3, 8, 8)


def test_what_stands_beside_x_is_doubled_with_it():
    class Sum(nn.Module):
        def forward(self, x, t, cond):
            return x[:, :1] + x[:, 1:]

    x, beside = draw(6, 1, 2), draw(3, 1, 2, seed=1)
    assert torch.equal(Beside(Sum(), beside)(x, None, None), x + torch.cat([beside, beside]))


def test_pictures_show_the_sprite_and_hold_no_more_than_a_moment():
    photos = SpritePhotos(16)
    blinking = torch.tensor([[0, 7, 7]] * 32)
    pictures = photos.draw(blinking, seeded())
    assert pictures.shape == (32, 3, 16, 16) and (pictures.amax(dim=(1, 2, 3)) > 0.8).all(), "white, and never away"
    assert photos.captions(blinking)[0] == "a white circle blinking"
    left, right = (photos.draw(torch.tensor([[0, 7, m]] * 400), seeded(m)).mean(dim=(0, 1, 2)) for m in (0, 1))
    assert (left - right).abs().max() < 0.12, "where it is does not tell where it goes"


def test_clips_are_stretches_of_the_pool(pools):
    quiet = pools[1]
    for skip, last in ((1, 4), (2, 1)):
        skips = torch.full((64,), skip)
        clips = quiet.stretches(seeded(), 64, 4, skips)
        assert clips.shape == (64, 3, 4, 32, 32)
        pool = quiet.drawn.float() / 127.5 - 1  # (N, F, 3, H, W)
        starts = set()
        for clip in clips:
            found = [
                (i, s)
                for i in range(len(pool))
                for s in range(8 - 3 * skip)
                if torch.equal(pool[i, s : s + 3 * skip + 1 : skip].transpose(0, 1), clip)
            ]
            assert found
            starts |= {s for _, s in found}
        assert starts == set(range(last + 1)), "from the first to the last possible start"


def batches(stages, pools, n=4):
    clip, (photos, quiet) = stages["clip"], pools
    return {
        "clip": lambda g: clip_batch(photos, g, n),
        "prior": lambda g: prior_batch(clip, photos, g, n),
        "decoder": lambda g: decoder_batch(clip, photos, g, n),
        "key_frames": lambda g: key_frame_batch(clip, quiet, g, n, 4),
        "interpolation": lambda g: interpolation_batch(quiet, g, n, 8),
        "spatiotemporal": lambda g: spatiotemporal_batch(stages["spatiotemporal"], quiet, g, n),
        "spatial": lambda g: spatial_batch(stages["spatial"], quiet, g, n),
    }


def test_each_stage_is_given_what_it_will_get(stages, pools):
    made = {stage: draw_one(seeded()) for stage, draw_one in batches(stages, pools).items()}
    shapes = {stage: (tuple(x0.shape), tuple(cond.shape)) for stage, (x0, cond) in made.items()}
    assert shapes == {
        "clip": ((4, 3, 16, 16), (4, Tokenizer().length)),
        "prior": ((4, 64), (4, 64)),
        "decoder": ((4, 3, 8, 8), (4, 65)),
        "key_frames": ((4, 3, 4, 8, 8), (4, 65)),
        "interpolation": ((4, 7, 8, 8, 8), (4, 65)),
        "spatiotemporal": ((4, 6, 8, 16, 16), (4, 1)),
        "spatial": ((4, 6, 32, 32), (4, 1)),
    }
    x0, cond = made["interpolation"]
    assert set(cond[:, 64].tolist()) <= {2, 3, 4} and (cond[:, :64] == 0).all()
    for row, skip in zip(x0, cond[:, 64].int()):
        assert torch.equal(row[3:], guessed_frames(row[None, :3], skip[None].long())[0])
        assert row[6, :, 0, 0].tolist() == [float(f % skip == 0) for f in range(8)]
    assert set(made["key_frames"][1][:, 64].tolist()) <= {1, 2} and (made["decoder"][1][:, 64] == 0).all()
    levels = torch.cat([batches(stages, pools)["spatial"](seeded(i))[1] for i in range(40)])
    assert levels.min() >= 0 and levels.max() <= MAX_LEVEL and levels.std() > 50


def test_the_small_clip_is_the_real_one_shrunk(stages, pools):
    x0, level = batches(stages, pools, 16)["spatial"](seeded(3))
    error = (x0[:, 3:] - enlarge(shrink(x0[:, :3], 2), 2)).square().mean(dim=(1, 2, 3)).sqrt()
    order = level[:, 0].argsort()
    assert error[order[0]] < error[order[-1]] and torch.corrcoef(torch.stack([error, level[:, 0]]))[0, 1] > 0.9


@pytest.mark.parametrize("stage", STAGES)
def test_the_loss_of_each_stage_falls(stages, pools, stage):
    """A tiny problem: the same few samples, again and again."""
    torch.manual_seed(0)
    model = build_stage(stage, TINY)
    clips = stage in ("key_frames", "interpolation", "spatiotemporal")
    fixed, steps = batches(stages, pools, 4 if clips else 8)[stage](seeded(5)), 50 if clips else 80
    losses = [loss.item() for _, loss in train_stage(stage, model, lambda g: fixed, steps, lr=2e-3, warm_up=5)]
    first, last = (sum(part) / 5 for part in (losses[:5], losses[-5:]))
    assert last < 0.75 * first, (first, last)


def test_from_a_prompt_to_a_clip(stages):
    parts = [stages[stage] for stage in STAGES if stage != "decoder"]
    cascade, walk = TextToVideo(*parts), Walk(2, 2, 2, 2)
    prompts = ["a red circle moving left", "a blue ring growing"]
    made = cascade.stages(prompts, walk, seeded())
    shapes = {name: tuple(value.shape[1:]) for name, value in made.items()}
    assert shapes == {
        "text": (64,),
        "image": (64,),
        "key_frames": (3, 4, 8, 8),
        "interpolation": (3, 8, 8, 8),
        "spatiotemporal": (3, 8, 16, 16),
        "spatial": (3, 8, 32, 32),
    }
    assert all(value.isfinite().all() for value in made.values())
    assert torch.equal(made["interpolation"][:, :, ::2], made["key_frames"])
    assert torch.allclose(made["image"].norm(dim=1), torch.ones(2), atol=1e-5)
    assert torch.equal(cascade(prompts, walk, seeded()), made["spatial"])
    with pytest.raises(ValueError, match="did you mean 'circle'"):
        cascade("a red circel moving left")
    with pytest.raises(ValueError, match="4 key frames reach through 8 frames if skip is 2 or more, got 1"):
        cascade(prompts, Walk(2, 2, 2, 2, skip=1))
    with pytest.raises(ValueError, match=r"expected sizes h, h, 2 h, 4 h"):
        TextToVideo(*parts[:4], parts[5], parts[4])


def test_a_stage_walks_to_what_its_network_knows():
    """The network estimates that x_0 is what stands beside x, so that is where the walk must end."""

    class Known(nn.Module):
        def forward(self, x, t, cond):
            return x[:, 3:]

    model = build_upscaler(1, 8, 32, (1,), 1, 16)
    model.net, model.prediction_type = Known(), "x0"
    model.around = lambda net: copy_with(model, net)
    beside = draw(2, 3, 8, 8).clamp(-1, 1)
    made = sample_stage(model, draw(2, 3, 8, 8, seed=1), torch.zeros(2, 1), 3, beside=beside)
    assert torch.allclose(made, beside, atol=1e-3)


def copy_with(model, net):
    other = copy.copy(model)
    other._modules = {**model._modules, "net": net}
    return other


def test_judging_finds_what_is_there():
    judge = load_pretrained("video_classifier")
    clips, attributes = MovingSprites(16, 64).sample(24, seeded(), "all")
    assert (attributes_in(clips, judge) == attributes).float().mean() > 0.97
    small = shrink(clips[:, :, ::2], 4)
    assert (attributes_in(small, judge)[:, 1] == attributes[:, 1]).float().mean() > 0.9
    torch.manual_seed(0)
    facts = judge_upscaling(build_upscaler(1, 32, 32, (1,), 4, 16).eval(), clips[:2, :, :4], judge, 0, 1)
    assert (
        facts["psnr_plain"] > 20
        and facts["perceptual_plain"] > 0
        and set(facts) == {f"{what}{which}" for what in ("psnr", "perceptual", "flicker") for which in ("", "_plain")}
    )
    model = interpolator(animate(build_decoder(32, (1, 1)), 8), 16).eval()
    facts = judge_interpolation(model, clips[:2], judge, 2, 1)
    assert facts["psnr_plain"] > 15


@pytest.mark.parametrize("stage", ["spatiotemporal", "spatial"])
def test_super_resolution_starts_as_bicubic_enlargement(stage):
    torch.manual_seed(0)
    model, low = build_stage(stage, TINY).eval(), draw(2, 3, 8, 8, 8)
    low = enlarge(low, 2) if stage == "spatial" else low
    low = low.clamp(-1, 1)
    assert torch.allclose(upscale(model, low, 0, 2, seeded()), enlarge(low, 2).clamp(-1, 1), atol=1e-3)
