"""Kernels recorded once and launched as one graph: small networks spend most of a step on launching them one by one."""

import warnings
from collections.abc import Callable

import torch
from torch import Tensor


class Recorded:
    """A function that computes on a CUDA card, recorded as a graph and launched all at once.

    The first call runs it as it is, which makes what it keeps between its calls, and compiles what is compiled at first
    use. The second call records it, and from then on nothing of its Python runs again: it must always do the same with
    tensors of the same shapes, and find what it reads and changes at the same places in memory. What it draws comes
    from the generators that it is given, as they are at each call. If it cannot be recorded, say since it reads a
    value, a warning says so once, and it runs as it is.

    Args:
        function: takes tensors, numbers, `torch.Generator`s or None, and returns a tensor.
    """

    def __init__(self, function: Callable[..., Tensor]):
        self.function, self.calls, self.graph, self.stream = function, 0, None, None

    def __call__(self, *inputs: Tensor | torch.Generator | float | None) -> Tensor:
        self.calls += 1
        if self.calls == 1:
            return self.first_call(inputs)
        if self.calls == 2:
            self.record(inputs)
        if self.graph is None:
            return self.function(*inputs)
        pairs = list(zip(self.inputs, inputs, strict=True))
        for mine, given in pairs:
            if isinstance(mine, Tensor):
                if mine.shape != given.shape:
                    came = f"{tuple(mine.shape)}, got {tuple(given.shape)}"
                    raise ValueError(f"what was recorded holds for one shape: expected {came}")
                mine.copy_(given)
            elif isinstance(mine, torch.Generator):
                mine.manual_seed(given.initial_seed())
                mine.set_offset(given.get_offset())
            elif mine != given:
                raise ValueError(f"what was recorded holds for {mine}, got {given}")
        self.graph.replay()
        for mine, given in pairs:
            if isinstance(mine, torch.Generator):
                given.set_offset(mine.get_offset())
        return self.result.clone()

    def first_call(self, inputs: tuple) -> Tensor:
        """Run the function on the stream on which it will be recorded: libraries make their workspace for a stream."""
        self.stream, main = torch.cuda.Stream(), torch.cuda.current_stream()
        self.stream.wait_stream(main)
        with torch.cuda.stream(self.stream):
            result = self.function(*inputs)
        main.wait_stream(self.stream)
        return result

    def record(self, inputs: tuple) -> None:
        """Record the function on inputs of its own: a generator that was recorded with is of no other use."""
        graph, mine = torch.cuda.CUDAGraph(), []
        for given in inputs:
            if isinstance(given, Tensor):
                mine.append(given.clone())
            elif isinstance(given, torch.Generator):
                mine.append(torch.Generator(given.device))
                graph.register_generator_state(mine[-1])
            else:
                mine.append(given)
        try:
            with torch.cuda.graph(graph, stream=self.stream):
                result = self.function(*mine)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[0]
            warnings.warn(f"runs step by step, as it cannot be recorded as a CUDA graph: {reason}", stacklevel=4)
            return
        self.graph, self.inputs, self.result = graph, mine, result
