"""`minivdm list`."""

import json

import torch
from command_kit import SMALL, fails

from minivdm.__main__ import main
from minivdm.commands.listing import list_models
from minivdm.datasets.captions import Tokenizer
from minivdm.models.controlnet import control_for
from minivdm.pipelines.adapters import add_concept, save_concept
from minivdm.pipelines.control_files import save_control
from minivdm.pipelines.pretrained import BUILDERS, load_weights, save_pretrained
from minivdm.pipelines.text2video import build_text2video
from minivdm.training.torch_files import save_torch


def folder_with_everything(folder):
    """A model, an adapter and a ControlNet for it, one for another model, a checkpoint, and a broken file."""
    for name in ("mine", "gone"):
        torch.manual_seed(len(name) + (name == "gone"))
        (folder / name).mkdir()
        save_pretrained(folder / name / "model.pt", build_text2video(**SMALL), SMALL)
    mine, gone = (load_weights(folder / name / "model.pt", BUILDERS["text2video"]) for name in ("mine", "gone"))
    save_control(folder / "path.pt", control_for(mine.net.net), mine, "points")
    save_control(folder / "other.pt", control_for(gone.net.net), gone, "edges")
    concept, _ = add_concept(mine, Tokenizer(), {"moon": ["circle"]}, rank=2)
    save_concept(folder / "moon.pt", mine, concept)
    (folder / "gone" / "model.pt").unlink()
    save_torch(folder / "checkpoint.pt", {"optimizer": {}, "step": 7})
    save_torch(folder / "tensor.pt", torch.zeros(3))
    (folder / "broken.pt").write_bytes(b"no file of PyTorch")
    return folder


def test_each_file_is_named_with_the_model_that_it_is_for(tmp_path, capsys):
    folder = folder_with_everything(tmp_path)
    rows = {row["path"].rsplit("/", 1)[-1]: row for row in list_models(folder) if str(tmp_path.name) in row["path"]}
    model = rows["model.pt"]
    assert model["kind"] == "model" and "4 frames of 16 x 16" in model["about"]
    assert rows["moon.pt"]["kind"] == "adapter" and rows["moon.pt"]["base"] == model["path"]
    assert "moon, " in rows["moon.pt"]["about"] and "of rank 2" in rows["moon.pt"]["about"]
    assert rows["path.pt"]["kind"] == "controlnet" and rows["path.pt"]["base"] == model["path"]
    assert rows["other.pt"]["base"] is None
    assert rows["checkpoint.pt"]["kind"] == "checkpoint" and rows["checkpoint.pt"]["about"].endswith("step 7")
    assert {name for name, row in rows.items() if row["kind"] == "broken"} == {"tensor.pt", "broken.pt"}
    said = capsys.readouterr().out
    assert "moon.pt: adapter, moon, " in said and "for a model that is not here" in said
    assert "data/text2video.pt: model, text2video of 16 frames of 32 x 32" in said


def test_the_command(tmp_path, capsys):
    assert main(["list", str(tmp_path), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {"text2image", "text2video"} <= {row["about"].split()[0].rstrip(",") for row in rows}
    assert "no folder at" in fails(capsys, "list", tmp_path / "nowhere")
    assert "--mine" in fails(capsys, "--mine", "list", tmp_path)
