"""How a file in `data/` was made: what the `make_…` scripts write into the manifest, each in the same words.

Scripts that run at the same time write into it one after the other; each holds the files that it makes.
"""

import contextlib
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

from ..files import locked
from ..pipelines.pretrained import record


@contextlib.contextmanager
def making(*paths: str | Path) -> Iterator[None]:
    """Hold the files that a script makes; a BlockingIOError if another one is making one of them."""
    with contextlib.ExitStack() as held:
        for path in paths:
            held.enter_context(locked(f"{path}.lock", path))
        yield


def record_made(
    path: str | Path, model: nn.Module, script: str, parser: ArgumentParser, args: Namespace, **facts: object
) -> None:
    """Record a model's file in the manifest beside it, with the command, the machine and the number of parameters.

    Args:
        path: the file, written by `save_pretrained`.
        model: what is in it, on the device on which it was trained.
        script: the name of the script's module, such as "make_digits".
        parser, args: its command line, as an `ArgumentParser` and what that has parsed.
        facts: whatever else is known, such as how good it was measured to be.
    """
    first, manifest = next(model.parameters()), Path(path).with_name("manifest.json")
    made_by = f"python -m minivdm.commands.{script} --out data/{Path(args.out).name}"
    with locked(f"{manifest}.lock", manifest, wait=True):
        record(
            path,
            command=f"{made_by}{options_given(parser, args)}",
            made_on=torch.cuda.get_device_name() if first.device.type == "cuda" else "CPU",
            parameters=sum(parameter.numel() for parameter in model.parameters()),
            **facts,
        )


def options_given(parser: ArgumentParser, args: Namespace) -> str:
    """The options that were not left at their default, `--out` apart, as they are typed: " --steps 4000 --bfloat16"."""
    given = {name: value for name, value in vars(args).items() if name != "out" and value != parser.get_default(name)}
    typed = {f"--{name.replace('_', '-')}": value for name, value in given.items()}
    return "".join(f" {flag}" if value is True else f" {flag} {value}" for flag, value in typed.items())
