"""What surrounds a run of a learner's code: a time limit, its printing, and the global random state."""

import _thread
import contextlib
import io
import os
import random
import signal
import sys
import threading

import numpy
import torch


class TimeUp(KeyboardInterrupt):
    """The time limit of a check was reached."""


@contextlib.contextmanager
def time_limit(seconds):
    """Raise `TimeUp` in the main thread if the block takes longer; a no-op in any other thread.

    A watchdog thread sends the interrupt signal, again each second in case the code swallows it. While the block runs,
    the signal is handled here; a signal that comes after the block's end is dropped, so none leaks into what follows.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    late = threading.Event()
    over = threading.Event()

    def on_interrupt(number, frame):
        if not over.is_set():
            raise TimeUp if late.is_set() else KeyboardInterrupt

    def watch():
        wait = seconds
        while not over.wait(wait):
            late.set()
            interrupt_main_thread()
            wait = 1

    watchdog = threading.Thread(target=watch, daemon=True)
    before = signal.signal(signal.SIGINT, on_interrupt)
    try:
        watchdog.start()
        try:
            yield
        finally:
            over.set()
    finally:
        over.set()
        watchdog.join()
        signal.signal(signal.SIGINT, before or signal.default_int_handler)


def interrupt_main_thread():
    """Send SIGINT to the main thread, so that it also wakes from a sleep."""
    if os.name == "posix":
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
    else:
        _thread.interrupt_main()


class Printed(io.TextIOBase):
    """Collects what is printed, but only its first lines: a loop may print for a minute."""

    def __init__(self, lines=5, width=400):
        self.limit, self.width = lines, width
        self.kept, self.count = [""], 0  # kept[-1] is the line being written

    def write(self, text):
        for index, part in enumerate(text.split("\n")):
            if index:
                self.count += 1
                if self.count <= self.limit:
                    self.kept.append("")
            if self.count < self.limit and len(self.kept[-1]) < self.width:
                self.kept[-1] += part[: self.width]
        return len(text)

    def writable(self):
        return True

    @property
    def text(self):
        """The first lines, and how many more there were."""
        more = self.count - self.limit
        lines = self.kept[: self.limit] + ([f"… {more:,} more line{'s' * (more != 1)}"] if more > 0 else [])
        return "\n".join(lines).rstrip()


@contextlib.contextmanager
def captured():
    """Collect what the block prints to either stream."""
    printed = Printed()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        yield printed


@contextlib.contextmanager
def random_state_kept():
    """Leave the global random states of torch, NumPy and `random`, and torch's own settings, as they were."""
    states = torch.get_rng_state(), numpy.random.get_state(), random.getstate()
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    grad, dtype = torch.is_grad_enabled(), torch.get_default_dtype()
    try:
        yield
    finally:
        torch.set_rng_state(states[0])
        numpy.random.set_state(states[1])
        random.setstate(states[2])
        torch.set_grad_enabled(grad)
        torch.set_default_dtype(dtype)
        if cuda:
            torch.cuda.set_rng_state_all(cuda)


def seed_everything(seed):
    """Seed the global random states, without waking CUDA up."""
    torch.default_generator.manual_seed(seed)
    numpy.random.seed(seed % 2**32)
    random.seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)


def flush():
    """Push out what was printed before a card is shown, so that the order stays right."""
    sys.stdout.flush()
