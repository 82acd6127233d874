"""The program: `minivdm start | train | sample | list | evaluate | speedrun`, the same as `python -m minivdm ...`.

It is the program, not the library: it alone may use `minivdm.course`, to lay out the course (`start`) and to run a
learner's own pieces (`--mine`).
"""

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from . import share_cores
from .console import run_program


class Parser(argparse.ArgumentParser):
    """An `ArgumentParser` that says in one line what is wrong."""

    def error(self, message: str) -> NoReturn:
        """Print the message to stderr and exit with 2."""
        self.exit(2, f"error: {message} (see {self.prog} --help)\n")


def parser() -> Parser:
    """The command line as an `ArgumentParser`."""
    called = Path(sys.argv[0]).name
    top = Parser(
        prog="python -m minivdm" if called == "__main__.py" else "minivdm",
        description="Learn how a text-to-video model is made; train one, sample from it, and measure it.",
    )
    top.add_argument("--mine", action="store_true", help="run with your own pieces, as kept in my_pieces/")
    commands = top.add_subparsers(
        dest="command", required=True, metavar="start | train | sample | list | evaluate | speedrun"
    )

    starting = commands.add_parser(
        "start",
        help="lay the course's notebooks into a folder and open JupyterLab there",
        epilog="What follows -- goes to JupyterLab: %(prog)s my-course -- --ip=0.0.0.0",
    )
    starting.add_argument(
        "folder",
        nargs="?",
        metavar="DIR",
        help="the folder; your own changes in it are never written over (default: the checkout or the folder of an "
        "earlier start around here, else a new folder minivdm-course)",
    )
    starting.add_argument(
        "--no-browser",
        dest="browser",
        action="store_false",
        help="run JupyterLab's server, but open no browser",
    )
    starting.add_argument("--port", type=int, help="the server's port (default: JupyterLab's)")

    training = commands.add_parser("train", help="train from nothing; the same command goes on after an interruption")
    training.add_argument("model", choices=["text2video", "lora", "controlnet", "cascade"], help="what to train")
    training.add_argument(
        "folder",
        nargs="?",
        help="for lora and controlnet: your own pictures (PNG, JPEG), with a captions.csv; for cascade, your own "
        "clips, with a clips.csv (default: drawn ones)",
    )
    training.add_argument(
        "--stage",
        help="for cascade: clip, prior, decoder, key_frames, interpolation, spatiotemporal or spatial (default: all, "
        "one after the other)",
    )
    training.add_argument("--hint", help="for controlnet: edges, mask or points of the pictures (default: edges)")
    training.add_argument(
        "--budget", help="smoke, cpu, gpu, gpu-quick or gpu-small (default: MINIVDM_BUDGET, or what the machine allows)"
    )
    training.add_argument("--out", help="folder of the run (default: runs/MODEL/BUDGET)")
    training.add_argument("--steps", type=int, help="optimiser steps in all")
    training.add_argument("--image-steps", "--stills", type=int, help="steps on single frames before them")
    training.add_argument("--batch", type=int, help="clips per step")
    training.add_argument(
        "--micro-batches",
        "--parts",
        type=int,
        help="cut each batch into so many micro-batches, one after the other, to save "
        "memory; torchrun's processes share them, so use a multiple of their number (the default "
        "there). With as many micro-batches the losses are the same for any number of processes",
    )
    training.add_argument("--frames", type=int, help="frames per clip, at least 4")
    training.add_argument("--size", type=int, help="height and width in pixels, at least 16")
    training.add_argument("--channels", type=int, help="width of the network, a multiple of 32")
    training.add_argument("--optimizer", help="muon, adamw or adam")
    training.add_argument("--lr", type=float, help="learning rate at its highest")
    training.add_argument("--seed", type=int, help="the same seed gives the same run (default: 0)")
    training.add_argument(
        "--word", action="append", help="for lora: a new word, or WORD=KNOWN,KNOWN to start from these"
    )
    training.add_argument("--rank", type=int, help="for lora: columns of its matrices (default: 16)")
    training.add_argument(
        "--alpha", type=float, help="for lora: how much they count, divided by the rank (default: 32)"
    )
    training.add_argument("--checkpoint", help="for lora: the model.pt to tune (default: as for sample)")

    sampling = commands.add_parser("sample", help="make clips from prompts")
    sampling.add_argument("prompts", nargs="+", metavar="prompt", help='for instance "a red circle moving left"')
    sampling.add_argument(
        "-o",
        "--out",
        required=True,
        help="a .gif or .mp4 file (several prompts stand side by side in it), or a folder (one .gif per prompt)",
    )
    add_sampling_options(sampling, steps=20)
    sampling.add_argument(
        "--fps",
        type=float,
        default=8,
        help="frames per second, 0.1 to 50; in a GIF each frame stays for 1/fps, rounded to 1/100 s (default: 8)",
    )
    sampling.add_argument(
        "--lora",
        action="append",
        default=[],
        metavar="FILE[:SCALE]",
        help="use this adapter; may be given several times",
    )
    sampling.add_argument("--scale", type=int, default=4, help="enlarge each pixel so many times (default: 4)")
    sampling.add_argument("--control", help="the file of a ControlNet, as chapter 08 or `train controlnet` makes it")
    sampling.add_argument("--hint", help="what it follows: a picture or GIF, white on black, with 1 frame or as many")
    sampling.add_argument(
        "--cascade",
        nargs="?",
        const="",
        metavar="FOLDER",
        help="by a cascade, as `train cascade` makes it (default: the newest in runs/cascade)",
    )
    sampling.add_argument("--all-stages", action="store_true", help="for --cascade: show what each stage has made")
    sampling.add_argument("--strength", type=float, default=1.0, help="how closely, 0 to 2 (default: 1)")

    listing = commands.add_parser("list", help="which models, adapters and ControlNets are there")
    listing.add_argument("folder", nargs="?", help="where to look, beside the models of the course (default: runs)")
    listing.add_argument("--json", action="store_true", help="print the list as JSON, and nothing else")

    judging = commands.add_parser("evaluate", help="measure how well clips do what their prompts say")
    judging.add_argument(
        "--copies",
        type=int,
        help="clips for each of the 384 prompts (default: 2 on a GPU; on a CPU one clip for each of 96 of them)",
    )
    add_sampling_options(judging, steps=20)
    judging.add_argument(
        "--all",
        dest="everything",
        action="store_true",
        help="each model of the course, under every metric of chapter 13",
    )
    judging.add_argument(
        "--clips", type=int, help="for --all: clips in each draw (default: 384 in three draws on a GPU, else 32 in one)"
    )
    judging.add_argument("--json", action="store_true", help="print the results as JSON, and all else to stderr")

    racing = commands.add_parser("speedrun", help="measure the time from nothing to clips that obey, by fixed rules")
    racing.add_argument("event", nargs="?", default="16x32", help="16x32 or 8x16: frames x size (default: 16x32)")
    racing.add_argument("--changed", default="", help="what makes it faster, in a few words, for the table")
    racing.add_argument("--out", help="a new folder for the three models (default: they are not kept)")
    racing.add_argument("--json", action="store_true", help="print the results as JSON, and all else to stderr")
    return top


def add_sampling_options(command: Parser, steps: int) -> None:
    """The options that `sample` and `evaluate` share."""
    command.add_argument(
        "--checkpoint",
        help="a model.pt (default: the newest in runs/text2video, else the one that comes with the course)",
    )
    command.add_argument("--steps", type=int, default=steps, help=f"DDIM steps (default: {steps})")
    command.add_argument("--guidance-scale", type=float, default=2.0, help="1 = off (default: 2)")
    command.add_argument("--seed", type=int, default=0, help="another seed, another clip (default: 0)")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code, as `console` lists them. `start` ends with JupyterLab's."""
    share_cores()
    arguments, more = split(sys.argv[1:] if arguments is None else arguments)
    command = next((each for each in arguments if not each.startswith("-")), None)
    advice = ": try more --micro-batches, or a smaller --batch" if command == "train" else ""
    return run_program(lambda: obey(parser().parse_args(arguments), more), advice)


def obey(options: argparse.Namespace, more: Sequence[str]) -> int:
    """Do what the command line says; the exit code."""
    if options.command == "start":
        return start(**vars(options), more=more)
    as_json = vars(options).pop("json", False)
    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
        result = run(**vars(options))
    if as_json:
        print(json.dumps(result, indent=2))
    return 0


def split(arguments: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    """The arguments, and those behind `--` if the command is `start`."""
    words = [each for each in arguments if not each.startswith("-")]
    at = arguments.index("--") if words[:1] == ["start"] and "--" in arguments else len(arguments)
    return arguments[:at], arguments[at + 1 :]


def start(command: str, mine: bool, **options: object) -> int:
    """Open the course; the exit code."""
    if mine:
        raise ValueError("--mine is for train, sample and evaluate; notebooks always run on your pieces")
    from .course.workspace import start_jupyter

    return start_jupyter(**options)


def run(command: str, mine: bool, **options: object) -> object:
    """Run a command, with the learner's pieces if `mine`; returns what it returns."""
    if command == "list":
        from .commands.listing import list_models

        if mine:
            raise ValueError("--mine is for train, sample and evaluate; a list needs no pieces")
        return list_models(**options)
    if mine:
        install_mine()
    if command == "train":
        model, options = options_of_training(**options)
        if model == "lora":
            from .commands.train_lora import train_lora as train
        elif model == "cascade":
            from .commands.train_cascade import train_cascade as train
        elif model == "controlnet":
            from .commands.control import train_controlnet as train
        else:
            from .commands.train import train_text2video as train

        return train(progress=sys.stderr.isatty(), **options)
    if command == "sample":
        if options["cascade"] is not None:
            from .commands.sample_cascade import sample_cascade

            return sample_cascade(**options_of_cascade(**options))
        from .commands.sample import sample_text2video

        if options.pop("all_stages"):
            raise ValueError("--all-stages is for --cascade")
        del options["cascade"]
        return sample_text2video(**options)
    if command == "speedrun":
        from .commands.speedrun import speedrun

        if mine:
            raise ValueError("--mine is for train, sample and evaluate; a speedrun is of the package as it is")
        return speedrun(**options)
    if options.pop("everything"):
        from .commands.evaluate_all import evaluate_all

        return evaluate_all(**options_of_all(**options))
    from .commands.evaluate import evaluate_text2video

    if options.pop("clips") is not None:
        raise ValueError("--clips is for --all; use --copies")
    return evaluate_text2video(**options)


def options_of_all(
    clips: int | None, seed: int, copies: int | None, checkpoint: str | None, steps: int, guidance_scale: float
) -> dict[str, object]:
    """The options of `evaluate --all`; a ValueError about the others, which belong to one model."""
    for name, given in (("copies", copies), ("checkpoint", checkpoint)):
        if given is not None:
            raise ValueError(f"--{name} is for one model, --all measures those that come with the course")
    if (steps, guidance_scale) != (20, 2.0):
        raise ValueError("--all samples each model as it is meant to be, and takes no --steps or --guidance-scale")
    return {"clips": clips, "seed": seed}


OWN_OPTIONS = {  # of `train`, beside those that all models have
    "text2video": {"budget", "image_steps", "batch", "micro_batches", "frames", "size", "channels", "optimizer"},
    "lora": {"word", "rank", "alpha", "checkpoint"},
    "controlnet": {"hint", "batch"},
    "cascade": {"stage", "budget", "batch"},
}
FOR_ALL = {"out", "steps", "lr", "seed"}


def options_of_training(model: str, folder: str | None, **options: object) -> tuple[str, dict[str, object]]:
    """What is to be trained, and the options that were given; a ValueError that names the first of another model's."""
    if model == "text2video" and folder is not None:
        raise ValueError(f"train {model} draws its own data, and has no use for {folder!r}")
    if model in ("lora", "controlnet") and folder is None:
        raise ValueError(f"train {model} needs a folder of pictures")
    given = {name: value for name, value in options.items() if value is not None}
    foreign = [name for name in given if name not in FOR_ALL | OWN_OPTIONS[model]]
    if foreign:
        raise ValueError(f"--{foreign[0].replace('_', '-')} is no option of train {model}")
    return model, given if folder is None else {"folder": folder, **given}


def options_of_cascade(**options: object) -> dict[str, object]:
    """The options of `sample --cascade`; a ValueError that names the first that is for another model."""
    foreign = {"checkpoint": None, "lora": [], "control": None, "hint": None, "strength": 1.0}
    given = [name for name, default in foreign.items() if options[name] != default]
    if given:
        raise ValueError(f"--{given[0]} is no option of sample --cascade")
    return {name: value for name, value in options.items() if name not in foreign}


def install_mine() -> None:
    """Put the pieces in `my_pieces/` into the running package, and say how many there are."""
    from .course.kept_pieces import how_many, install_kept
    from .course.sources import pieces_folder

    first = os.environ.get("RANK", "0") == "0"  # under torchrun, one voice is enough
    with contextlib.nullcontext() if first else contextlib.redirect_stdout(None):
        print(f"{how_many(install_kept())}, from {pieces_folder()}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
