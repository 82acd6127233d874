"""Features of a network of one's own: a stand-in that notes what it is given, scripted and saved here."""

import math
import warnings

import pytest
import torch

from minivdm.evaluation.metrics import frechet_distance
from minivdm.evaluation.torchscript_features import TorchScriptFeatures

warnings.filterwarnings("ignore", message=".*torch.jit.*deprecated.*")


class Inception(torch.nn.Module):
    """Returns what tells of its input: smallest, largest, mean, rows, columns; or class scores without the option."""

    def forward(self, x: torch.Tensor, return_features: bool = False) -> torch.Tensor:
        if not return_features:
            return x.mean((2, 3)).softmax(1)
        flat = x.flatten(1)
        size = torch.tensor([[float(x.shape[2]), float(x.shape[3])]]).expand(len(x), -1)
        return torch.cat([flat.amin(1, True), flat.amax(1, True), flat.mean(1, True), size], dim=1)


class I3D(torch.nn.Module):
    def forward(
        self, x: torch.Tensor, rescale: bool = True, resize: bool = True, return_features: bool = False
    ) -> torch.Tensor:
        if rescale:
            x = x / 127.5 - 1
        flat = x.flatten(1)
        size = torch.tensor([[float(n) for n in x.shape[2:]]]).expand(len(x), -1)
        return torch.cat([flat.amin(1, True), flat.amax(1, True), x.mean((1, 3, 4))[:, :2], size], dim=1)


def saved(tmp_path, network):
    path = tmp_path / "network.pt"
    torch.jit.script(network).save(path)
    return path


def test_inception_gets_pictures_of_299_pixels_in_0_to_255(tmp_path):
    features = TorchScriptFeatures(saved(tmp_path, Inception()), "inception")
    x = torch.ones(3, 3, 32, 24)
    x[1], x[2, :, :, 12:] = -1, -1
    got = features(x)
    assert got.dtype == torch.float64 and got.shape == (3, 5)
    assert got[0].tolist() == pytest.approx([255, 255, 255, 299, 299]) and got[1, :3].tolist() == [0, 0, 0]
    assert got[2, :2].tolist() == [0, 255] and got[2, 2] == pytest.approx(127.5, abs=1e-4)
    clips = torch.rand(2, 3, 4, 16, 16) * 2 - 1
    assert torch.equal(features(clips, batch=3), features(clips.transpose(1, 2).flatten(0, 1)))
    assert features(1.2 * torch.ones(1, 3, 8, 8)).tolist()[0][:2] == [255, 255], "a little beyond is cut off"


def test_i3d_gets_clips_of_224_pixels_in_minus_1_to_1(tmp_path):
    features = TorchScriptFeatures(saved(tmp_path, I3D()), "i3d")
    clips = torch.linspace(-1, 1, 12)[None, None, :, None, None].expand(2, 3, 12, 32, 32)
    got = features(clips)
    assert got[0].tolist() == pytest.approx([-1, 1, -1, -1 + 2 / 11, 12, 224, 224], abs=1e-6)
    assert features(torch.rand(5, 3, 10, 8, 8), batch=2).shape == (5, 7)
    assert frechet_distance(features(torch.rand(4, 3, 10, 8, 8)), features(torch.rand(4, 3, 10, 8, 8) - 1)) > 0
    rescaled = TorchScriptFeatures(features.path, "i3d", options={"rescale": True})
    assert rescaled(clips)[0, 1] == pytest.approx(1 / 127.5 - 1, abs=1e-6)


def test_files_that_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no TorchScript file at .*gone.pt"):
        TorchScriptFeatures(tmp_path / "gone.pt", "i3d")
    for content in (b"", b"no network" * 100):
        path = tmp_path / "other.pt"
        path.write_bytes(content)
        with pytest.raises(ValueError, match="other.pt is no TorchScript file"):
            TorchScriptFeatures(path, "i3d")
    torch.save({"weights": torch.ones(3)}, path)
    with pytest.raises(ValueError, match="other.pt is no TorchScript file"):
        TorchScriptFeatures(path, "i3d")
    with pytest.raises(ValueError, match="'inception', 'i3d' as the kind, got 'vgg'"):
        TorchScriptFeatures(path, "vgg")


def test_what_does_not_fit_is_refused(tmp_path):
    i3d = TorchScriptFeatures(saved(tmp_path, I3D()), "i3d")
    for bad, message in (
        (torch.zeros(2, 3, 9, 8, 8), "at least 10 frames, got 9"),
        (torch.zeros(2, 3, 8, 8), r"i3d expects clips \(B, 3, F, H, W\), got shape"),
        (torch.zeros(2, 1, 10, 8, 8), "got shape"),
        (255 * torch.ones(2, 3, 10, 8, 8), r"expected values in \[-1, 1\], got 255..255"),
        (torch.zeros(2, 3, 10, 8, 8).byte(), "floats"),
        (torch.full((2, 3, 10, 8, 8), math.nan), "NaN"),
    ):
        with pytest.raises(ValueError, match=message):
            i3d(bad)
    clip = torch.zeros(2, 3, 10, 8, 8)
    with pytest.raises(ValueError, match="cannot be called with the options .*: give `options`"):
        TorchScriptFeatures(i3d.path, "i3d", options={"unknown": 1})(clip)


class Whole(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


class Infinite(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 1 / (x.flatten(1) * 0)


@pytest.mark.parametrize("network, message", [(Whole(), r"expected features \(2, D\)"), (Infinite(), "not finite")])
def test_results_that_are_no_features(tmp_path, network, message):
    features = TorchScriptFeatures(saved(tmp_path, network), "inception", options={})
    with pytest.raises(ValueError, match=message):
        features(torch.zeros(2, 3, 8, 8))
