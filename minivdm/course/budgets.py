"""Three budgets for one code path: `smoke` (CI), `cpu` (a laptop) and `gpu` (any CUDA card with 8 GB).

    b = budget(smoke=dict(steps=10), cpu=dict(steps=1500), gpu=dict(steps=6000))
    for step in range(b.steps): ...

The numbers stand in one visible cell at the top of each chapter.
"""

import os
from types import SimpleNamespace

import torch

from ..training.precision import best_device, best_dtype

NAMES = ("smoke", "cpu", "gpu")


def budget(smoke, cpu, gpu):
    """Pick a chapter's numbers by `MINIVDM_BUDGET`, else `gpu` where there is CUDA, else `cpu`; print the choice.

    Args:
        smoke, cpu, gpu: dicts of numbers with the same keys.

    Returns:
        An object with the numbers as attributes, and
        name: "smoke", "cpu" or "gpu";
        device: `torch.device`; the `cpu` budget stays on the CPU, the other two use CUDA where there is any;
        dtype: for autocast, bf16 on CUDA cards that support it, else fp16 there, and float32 on the CPU.

    Raises:
        ValueError: if `MINIVDM_BUDGET` is none of the three, the keys differ, or a key is a name used above.
    """
    choices = dict(zip(NAMES, (smoke, cpu, gpu)))
    for name in NAMES[1:]:
        missing, extra = sorted(set(smoke) - set(choices[name])), sorted(set(choices[name]) - set(smoke))
        if missing or extra:
            wrong = f"{name} lacks {', '.join(missing)}" if missing else f"only {name} has {', '.join(extra)}"
            raise ValueError(f"all three budgets need the same numbers as smoke; {wrong}")
    taken = sorted({"name", "device", "dtype"} & set(smoke))
    if taken:
        raise ValueError(f"a budget's number cannot be called {', '.join(taken)}")

    cuda = torch.cuda.is_available()
    name = os.environ.get("MINIVDM_BUDGET") or ("gpu" if cuda else "cpu")
    if name not in NAMES:
        raise ValueError(f"MINIVDM_BUDGET must be one of {', '.join(NAMES)}; got {name!r}")
    device = best_device() if name != "cpu" else torch.device("cpu")
    machine, dtype = torch.cuda.get_device_name() if device.type == "cuda" else f"{cores()} cores", best_dtype(device)
    if name == "smoke":
        print("smoke shows that every cell runs, and no more: what the text says of results holds for cpu and gpu")
    numbers = ", ".join(f"{key}={value!r}" for key, value in choices[name].items())
    print(f"budget: {name} ({machine}, {str(dtype).removeprefix('torch.')}): {numbers}")
    return SimpleNamespace(**choices[name], name=name, device=device, dtype=dtype)


def cores():
    """How many CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
