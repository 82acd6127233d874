"""How much work a piece of code starts, counted in tensor operations."""

from torch.utils._python_dispatch import TorchDispatchMode


class Count(TorchDispatchMode):
    """Counts tensor operations while it is active: `with Count() as count: ...; count.calls`."""

    calls = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.calls += 1
        return function(*args, **(kwargs or {}))
