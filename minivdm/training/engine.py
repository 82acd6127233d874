"""What a training step computes with: precision, recorded kernels and several processes, behind three methods."""

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from .parallel import broadcast, world_size
from .precision import LowPrecisionCopy, capture_cuda_graph, in_dtype, layers_with_statistics

MAX_GRADIENT_NORM = 1.0


class Engine:
    """A model in training, and how its steps are computed.

        engine = Engine(model, dtype=torch.bfloat16)
        loss = loss_of(engine.forward)
        engine.backward(loss)                   # as often as there are micro-batches
        engine.step(lr=1e-3)

    `model` holds the weights in float32, and the optimiser (AdamW, with PyTorch's weight decay of 0.01) changes these
    alone. What computes is `network`: the model itself; or a `LowPrecisionCopy` of it, if that is to have 16 bits or to
    be recorded (what is recorded cannot be copied any more, so it is never the model itself). With several processes
    it stands inside `DistributedDataParallel`, which averages gradients over the processes.

    Args:
        model: `model(x, t, cond)`, on its device; all processes begin with the weights of the first.
        dtype: what the network computes in; float16 adds a gradient scaler.
        example: None, or a batch (x0, cond) as it will come: on CUDA the kernels for it are recorded and launched as
            one graph (see `capture_cuda_graph`). Then every batch must have the same size, and a loss call `forward`
            once.

    Raises:
        ValueError: if the model's weights have 16 bits, for which the optimiser's steps are too small; if a layer keeps
            running statistics, and there are several processes: they would come from the micro-batches of one of them.
    """

    def __init__(
        self, model: nn.Module, dtype: torch.dtype = torch.float32, example: tuple[Tensor, Tensor | None] | None = None
    ):
        device = next(model.parameters()).device
        cuda = device.type == "cuda"
        self.model, self.dtype = model, dtype
        if any(p.dtype in (torch.float16, torch.bfloat16) for p in model.parameters()):
            raise ValueError(
                f"expected a model with float32 weights, got 16 bits: give model.float() and dtype={dtype}"
            )
        with_statistics = layers_with_statistics(model)
        if with_statistics and world_size() > 1:
            kind = type(with_statistics[0]).__name__
            raise ValueError(f"several processes would not share the running statistics of {kind}: use one process")
        broadcast(model.train())
        self.optimizer = torch.optim.AdamW(model.parameters(), fused=cuda, foreach=not cuda)
        self.optimizer.zero_grad(set_to_none=True)  # whatever was there before
        self.scaler = torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)
        self.skipped = torch.zeros((), dtype=torch.long, device=device)  # the last steps, as far as they were left out
        recorded = cuda and example is not None  # a copy is recorded, never the model itself
        self.copy = LowPrecisionCopy(model, dtype) if dtype != torch.float32 or recorded else None
        self.network = self.copy.network if self.copy else model
        if recorded:
            x0, cond = example
            capture_cuda_graph(self.network, x0.to(dtype), in_dtype(cond, dtype))
            self.copy.refresh()  # recording has changed buffers that count or average
        if world_size() > 1:
            devices = [device.index] if cuda else None
            self.network = DistributedDataParallel(self.network, device_ids=devices)

    def forward(self, x: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor:
        """What the model estimates, like x; computed in `dtype`."""
        if self.copy:
            x, cond = x.to(self.dtype), in_dtype(cond, self.dtype)
        inputs = (x, t) if cond is None else (x, t, cond)  # a recorded graph takes tensors only
        out = self.network(*inputs)
        return out.float() if self.copy else out

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of a scalar loss to those of the model's float32 weights."""
        self.scaler.scale(loss).backward()
        if self.copy:
            self.copy.move_gradients()

    def step(self, lr: float) -> Tensor:
        """One step of the optimiser at this learning rate, on gradients clipped to the norm `MAX_GRADIENT_NORM`.

        Returns:
            The norm of the gradients before clipping, a scalar tensor. With float16, a step whose norm is not finite
            was left out, and the scaler scales less from now on; `skipped` counts how many such steps came last.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.scaler.unscale_(self.optimizer)
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), MAX_GRADIENT_NORM)
        self.skipped = torch.where(norm.isfinite(), 0, self.skipped + 1)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        if self.copy:
            self.copy.move_buffers()
            self.copy.refresh()
        return norm

    def state_dict(self) -> dict[str, object]:
        """The optimiser's and the scaler's state, and how many steps were skipped last, for a checkpoint."""
        optimizer, scaler = self.optimizer.state_dict(), self.scaler.state_dict()
        return {"optimizer": optimizer, "scaler": scaler, "skipped": self.skipped.item()}

    def load_state_dict(self, saved: dict[str, object]) -> None:
        """Take over a state. If the run was not in float16 then, there is none for the scaler, which begins anew."""
        self.optimizer.load_state_dict(saved["optimizer"])
        self.skipped.fill_(saved.get("skipped", 0))  # older checkpoints do not tell
        if saved["scaler"]:
            self.scaler.load_state_dict(saved["scaler"])
