"""Run the worked notebooks, store their outputs, and measure seconds and memory.

    python tests/benchmarks/notebooks.py [--only 01_ddpm] [--save] [--out times.json]
    python tests/benchmarks/notebooks.py --only 06_latent --seed 100
    python tests/benchmarks/notebooks.py --pack [--only 01_ddpm]
    python tests/benchmarks/notebooks.py --readme times-cpu.json times-gpu.json

Each notebook runs in a fresh kernel at the budget that `MINIVDM_BUDGET` or the machine chooses. `--save` writes the
outputs into `solutions/`. `--seed` adds a number to every seed that a notebook's cells name, and to those of `train`:
do the claims at its end hold for other draws, too? Then it prints what the cells print. `--pack` makes the pictures in
`solutions/` smaller, every pixel kept (`pip install pyoxipng`); `--readme` puts the measured table into README.md.
"""

import argparse
import base64
import json
import os
import platform
import re
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from minivdm.course.build import build, text_of
from minivdm.files import replacing

ROOT = Path(__file__).resolve().parents[2]
PROBE = """
import json, resource, torch
print("MEASURED" + json.dumps({
    "ram": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    "gpu": torch.cuda.max_memory_allocated() / 2**30 if torch.cuda.is_available() else None,
}))
"""


def machine():
    """What the numbers were measured on, in a line."""
    import torch

    cores = f"{len(os.sched_getaffinity(0))} cores"
    if torch.cuda.is_available():
        return f"{torch.cuda.get_device_name(0)}, {cores}, PyTorch {torch.__version__}"
    names = re.findall(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return f"{names[0] if names else platform.machine()}, {cores}, PyTorch {torch.__version__}"


RESEEDED = """
from minivdm.training import loop
as_named = loop.mixed_seed
loop.mixed_seed = lambda seed, *purpose: as_named(seed + {by}, *purpose)
"""


def reseed(notebook, by):
    """Add a number to the seeds that cells name, and to those with which `train` draws its batches and noise."""
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.source = re.sub(
                r"((?:manual_seed\(|\bseed=)\s*)(\d+)", lambda found: f"{found[1]}{int(found[2]) + by}", cell.source
            )
    notebook.cells.insert(0, nbformat.v4.new_code_cell(RESEEDED.format(by=by)))


def printed(notebook):
    """What the cells of an executed notebook print, progress bars apart."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return "\n".join(o["text"].rstrip() for o in outputs if o["output_type"] == "stream" and o["name"] == "stdout")


def measure(path, save, by=0):
    """Seconds and peak memory (GiB) of one notebook; it stops at the first error."""
    notebook = nbformat.read(path, as_version=4)
    if by:
        reseed(notebook, by)
    extra = nbformat.v4.new_code_cell(PROBE)
    notebook.cells.append(extra)
    began = time.perf_counter()
    where = {"metadata": {"path": path.parent}}
    try:
        NotebookClient(notebook, timeout=1800, kernel_name="python3", resources=where).execute()
    finally:
        if by:
            print(printed(notebook), flush=True)
    seconds = time.perf_counter() - began
    measured = json.loads(extra.outputs[-1]["text"].split("MEASURED")[1])
    notebook.cells.pop()
    if save:
        write(notebook, path)
    return {"seconds": seconds, **measured}


def write(notebook, path):
    """Write a notebook, whole or not at all: its outputs took minutes of a GPU."""
    with replacing(path) as file:
        file.write(text_of(notebook).encode())


def pack(path):
    """Store the PNG pictures of a notebook in fewer bytes, every pixel kept; how many bytes before and after."""
    import oxipng

    before = path.stat().st_size
    notebook = nbformat.read(path, as_version=4)
    for output in [output for cell in notebook.cells for output in cell.get("outputs", [])]:
        png = output.get("data", {}).get("image/png")
        if png:
            small = oxipng.optimize_from_memory(base64.b64decode(png), level=6)
            output.data["image/png"] = base64.b64encode(small).decode()
    write(notebook, path)
    return before, path.stat().st_size


def table(reports):
    """The measurements as a Markdown table, one column a machine."""
    lines = ["| chapter | " + " | ".join(f"`{r['budget']}`" for r in reports) + " |", "|---|" + "---|" * len(reports)]
    for name in reports[0]["notebooks"]:
        cells = []
        for report in reports:
            m = report["notebooks"][name]
            memory = f"{m['gpu']:.1f} GiB of GPU memory" if m["gpu"] is not None else f"{m['ram']:.1f} GiB"
            cells.append(f"{m['seconds']:.0f} s, {memory}")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    for report in reports:
        lines.append(
            f"\n`{report['budget']}`: {report['machine']}."
            if report is reports[0]
            else f"`{report['budget']}`: {report['machine']}."
        )
    return "\n".join(lines)


def main():
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="run this notebook alone")
    parser.add_argument("--seed", type=int, default=0, help="add this to all seeds, and print what the cells print")
    parser.add_argument("--save", action="store_true", help="store the outputs in solutions/")
    parser.add_argument("--pack", action="store_true", help="store the pictures in solutions/ in fewer bytes")
    parser.add_argument("--out", type=Path, help="write the measurements to this JSON file")
    parser.add_argument("--readme", nargs="+", type=Path, metavar="JSON", help="put measurements into README.md")
    args = parser.parse_args()
    if args.save and args.seed:
        sys.exit("what is stored has the seeds of the source: --save goes with no --seed")
    if args.readme:
        path = ROOT / "README.md"
        new = table([json.loads(file.read_text()) for file in args.readme])
        text, found = re.subn(
            r"<!-- times -->.*?<!-- end of times -->",
            lambda _: f"<!-- times -->\n{new}\n<!-- end of times -->",
            path.read_text(encoding="utf-8"),
            flags=re.S,
        )
        if not found:
            sys.exit("README.md has no <!-- times --> ... <!-- end of times -->")
        with replacing(path) as file:
            file.write(text.encode())
        return
    chosen = [path for path in sorted((ROOT / "solutions").glob("*.ipynb")) if args.only in (None, path.stem)]
    if args.pack:
        for path in chosen:
            print(f"{path.stem}: {' -> '.join(f'{size:,}' for size in pack(path))} bytes", flush=True)
        build(ROOT)
        return
    import torch

    budget = os.environ.get("MINIVDM_BUDGET") or ("gpu" if torch.cuda.is_available() else "cpu")
    os.environ["MINIVDM_STRICT"] = "1"
    report = {"machine": machine(), "budget": budget, "notebooks": {}}
    failed = []
    for path in chosen:
        try:
            report["notebooks"][path.stem] = m = measure(path, args.save, args.seed)
        except CellExecutionError as error:
            failed.append(path.stem)
            print(f"{path.stem}: {error}", flush=True)
            continue
        print(f"{path.stem}: {m['seconds']:.1f} s, {m['ram']:.2f} GiB RAM, {m['gpu']} GiB GPU", flush=True)
        if args.out:
            args.out.write_text(json.dumps(report, indent=1))
    if args.save:
        build(ROOT)  # tidies what was stored
    if failed:
        sys.exit(f"stopped at an error: {', '.join(failed)}")


if __name__ == "__main__":
    main()
