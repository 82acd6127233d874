"""Every model under every metric."""

import json

import pytest
import torch

from minivdm.__main__ import main
from minivdm.commands import evaluate_all as module
from minivdm.datasets.sprites import MovingSprites, all_triples
from minivdm.pipelines.pretrained import load_pretrained


def test_the_table(capsys, monkeypatch):
    """A model that draws is as good as drawn clips, one of noise is not, and all columns are there."""
    calls = []

    def drawing(device):
        def make(prompts, generator):
            calls.append(prompts)
            asked = [module_triple(prompt) for prompt in prompts]
            return MovingSprites().draw(torch.tensor(asked), generator)

        return make

    def noise(device):
        return lambda prompts, generator: torch.rand(len(prompts), 3, 16, 32, 32, generator=generator) * 2 - 1

    monkeypatch.setattr(module, "MODELS", {"drawing": drawing, "noise": noise})
    monkeypatch.setattr(module, "DRAWS", {"cpu": 2, "cuda": 2})
    monkeypatch.setattr(module, "stages_compared", lambda *args: {"between": {"PSNR, dB": 30.0, "SSIM": 0.9}})
    monkeypatch.setattr(MovingSprites, "captions", lambda self, triples, *more: [str(t.tolist()) for t in triples])
    monkeypatch.setattr(module.Tokenizer, "encode", lambda self, prompts: torch.ones(len(prompts), 12).long())
    assert main(["evaluate", "--all", "--clips", "24", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    models, rows = told["models"], told["markdown"].splitlines()
    assert list(models) == ["drawn", "drawing", "noise"] and len(calls) == 2
    for name in ("drawn", "drawing"):
        assert models[name]["prompt accuracy, %"][0] > 95 and models[name]["grain"][0] < 0.01
    assert models["noise"]["prompt accuracy, %"][0] < 50 and models["noise"]["grain"][0] > 0.3
    assert models["noise"]["mini-FVD"][0] > 2 * models["drawing"]["mini-FVD"][0]
    assert all(set(each) == set(module.COLUMNS) for each in models.values())
    assert all(error is not None for each in models.values() for _, error in each.values())
    assert [row.split(" | ")[0][2:].rstrip(" ↑↓") for row in rows[4 : 4 + len(module.COLUMNS)]] == list(module.COLUMNS)
    assert "24 clips, mean ± standard error of 2 draws" in rows[0] and rows[-1] == "| between | 30.0 | 0.9000 |"


def module_triple(prompt):
    """A triple from its text."""
    return json.loads(prompt)


def test_what_is_known_of_clips_agrees_with_the_judge():
    judge, clip = load_pretrained("video_classifier"), load_pretrained("clip")
    triples = all_triples()[:6]
    clips = module.drawn(triples, 0, torch.device("cpu"))
    seen = module.looked_at(clips, triples, judge, clip)
    with torch.no_grad():
        assert torch.allclose(seen["clips"], judge.features(clips), atol=1e-5)
    assert seen["frames"].shape == (96, 128) and seen["embedded"].shape[:2] == (6, 16)
    assert seen["right"].all() and seen["grain"] < 0.01
    again = module.compared(seen, seen)
    assert abs(again["mini-FVD"]) < 1e-3 * seen["clips"].var(0).sum() and again["prompt accuracy, %"] == 100


@pytest.mark.parametrize(
    "options, told",
    [
        (["--all", "--copies", "2"], "--copies is for one model"),
        (["--all", "--checkpoint", "x.pt"], "--checkpoint is for one model"),
        (["--all", "--steps", "5"], "takes no --steps or --guidance-scale"),
        (["--all", "--clips", "1"], "clips must lie in 2..10000, got 1"),
        (["--clips", "8"], "--clips is for --all; use --copies"),
    ],
)
def test_bad_options(capsys, options, told):
    assert main(["evaluate", *options]) == 2
    assert told in capsys.readouterr().err
