"""Scripts that make files at the same time lose nothing of each other's."""

import argparse
import json
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from minivdm.commands import make_digits, make_text2image
from minivdm.commands.provenance import making, record_made
from minivdm.files import locked


def test_scripts_that_end_together_all_find_their_entry_in_the_manifest(tmp_path):
    parser = argparse.ArgumentParser()
    parser.add_argument("--out")

    def end(i):
        path = tmp_path / f"model{i}.pt"
        path.write_bytes(b"x")
        record_made(path, torch.nn.Linear(2, i + 1), "make_it", parser, parser.parse_args(["--out", str(path)]), i=i)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(end, range(24)))
    entries = json.loads((tmp_path / "manifest.json").read_text())
    assert {name: (entry["i"], entry["parameters"]) for name, entry in entries.items()} == {
        f"model{i}": (i, 3 * (i + 1)) for i in range(24)
    }
    assert not list(tmp_path.glob("*.lock"))


@pytest.mark.parametrize(
    "script, held",
    [(make_digits, "model.pt"), (make_text2image, "model.pt"), (make_text2image, "stills_classifier.pt")],
)
def test_a_file_is_made_by_one_script_at_a_time(tmp_path, monkeypatch, script, held):
    monkeypatch.setattr(sys, "argv", ["make", "--out", str(tmp_path / "model.pt")])
    with making(tmp_path / held), pytest.raises(BlockingIOError, match=f"{held} is in use by process"):
        script.main()
    with locked(tmp_path / "model.pt.lock", "nothing is held any more"):
        pass
    assert not list(tmp_path.iterdir())
