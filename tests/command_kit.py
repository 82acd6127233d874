"""What tests of the commands share: a prompt, an untrained model, and a command that must fail."""

import torch

from minivdm.__main__ import main
from minivdm.pipelines.pretrained import save_pretrained
from minivdm.pipelines.text2video import build_text2video

RED = "a red circle moving left"
SMALL = {"channels": 32, "mults": [1, 1], "frames": 4, "size": 16}


def untrained(folder):
    """An untrained model as a file, for clips of 4 frames of 16 x 16 pixels."""
    torch.manual_seed(0)
    path = folder / "untrained" / "model.pt"
    save_pretrained(path, build_text2video(**SMALL), SMALL)
    return str(path)


def fails(capsys, *arguments, code=2):
    """Run a command that must fail; its only line on stderr."""
    assert main([str(each) for each in arguments]) == code
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1 and "Traceback" not in captured.err
    return captured.err
