"""How Triton programs are run, and compiled before: all at the same time, since one by one it takes seconds."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import triton
from torch import Tensor

THREADS = 8  # that compile

noted: list | None = None  # what would be launched, while it is only noted


def launch(kernel, grid, *args, **sizes):
    """Run a kernel; or, in `compile_ahead`, note what it is to be compiled for."""
    if noted is None:
        kernel[grid](*args, **sizes)
    else:
        kinds = tuple(arg.dtype if isinstance(arg, Tensor) else arg for arg in args)
        noted.append((kernel, kinds, tuple(sizes.items())))


def compile_ahead(function: Callable) -> None:
    """Compile what `function` launches, all at the same time: a dry run, whose results are whatever lies in memory."""
    global noted
    if not hasattr(triton, "AsyncCompileMode"):  # before Triton 3.4
        return
    noted = []
    try:
        function()
        wanted = dict.fromkeys(noted)
    finally:
        noted = None
    with ThreadPoolExecutor(THREADS) as threads, triton.AsyncCompileMode(threads):
        for kernel, kinds, sizes in wanted:
            kernel.warmup(*kinds, grid=(1,), **dict(sizes))
