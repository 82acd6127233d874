"""How a file in `data/` was made: what the `make_…` scripts write into the manifest, each in the same words."""

from pathlib import Path

import torch

from ..pipelines.pretrained import record


def record_made(path, model, script, parser, args, **facts):
    """Record a model's file in the manifest beside it, with the command, the machine and the number of parameters.

    Args:
        path: the file, written by `save_pretrained`.
        model: what is in it, on the device on which it was trained.
        script: the name of the script's module, such as "make_digits".
        parser, args: its command line, as an `ArgumentParser` and what that has parsed.
        facts: whatever else is known, such as how good it was measured to be.
    """
    first = next(model.parameters())
    record(
        path,
        command=f"python -m minivdm.commands.{script} --out data/{Path(args.out).name}{options_given(parser, args)}",
        made_on=torch.cuda.get_device_name() if first.device.type == "cuda" else "CPU",
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        **facts,
    )


def options_given(parser, args):
    """The options that were not left at their default, `--out` apart, as they are typed: " --steps 4000 --bfloat16"."""
    given = {name: value for name, value in vars(args).items() if name != "out" and value != parser.get_default(name)}
    typed = {f"--{name.replace('_', '-')}": value for name, value in given.items()}
    return "".join(f" {flag}" if value is True else f" {flag} {value}" for flag, value in typed.items())
