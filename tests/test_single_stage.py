"""One model of whole clips, trained for a given time."""

import time

import torch

from minivdm.datasets.sprites import MovingSprites
from minivdm.pipelines.cascade_data import QuietClips
from minivdm.pipelines.cascade_files import Sizes, build_stage
from minivdm.pipelines.decoder import sample_key_frames
from minivdm.pipelines.single_stage import build_single, single_batch, train_for

TINY = Sizes(4, 8, 8, mults=(1, 1), up_mults=(1, 1), clip_width=16, prior_width=64)


def test_a_single_stage_is_trained_for_about_the_time_that_it_was_given():
    generator = torch.Generator().manual_seed(0)
    clip, quiet = build_stage("clip", TINY).eval(), QuietClips(MovingSprites(8, 32), 4, generator)
    clips, cond = single_batch(clip, quiet, generator, 3)
    assert clips.shape == (3, 3, 8, 32, 32) and cond.shape == (3, 65) and (cond[:, 64] == 1).all()
    began = time.perf_counter()
    model, steps = train_for(4.0, lambda: build_single(TINY), lambda g: single_batch(clip, quiet, g, 1), warm_up=1)
    assert steps >= 1 and time.perf_counter() - began < 30
    made = sample_key_frames(model, cond[:, :64], 1, 2, 1.0, generator)
    assert made.shape == clips.shape and made.isfinite().all()
