"""What a training step computes with: precision, recorded kernels and several processes, behind two methods."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..diffusion.schedules import NoiseSchedule
from ..models.kernels import compile_ahead
from .optimizers import MUON_MOMENTUM, build_optimizer
from .parallel import all_reduce_gradients, broadcast, world_size
from .precision import LowPrecisionCopy, layers_with_statistics
from .recording import Recorded

MAX_GRADIENT_NORM = 1.0


class Engine:
    """A model in training, and how its steps are computed.

        engine = Engine(model, loss, schedule, dtype=torch.bfloat16)
        value = engine.add_gradients(x0, cond, generator)       # as often as there are micro-batches
        engine.step(lr=1e-3)

    `model` holds the weights in float32, and the optimiser changes these alone. What computes is `network`: the model
    itself or, if that is to have 16 bits, a `LowPrecisionCopy` of it.

    Args:
        model: `model(x, t, cond)`, on its device; all processes begin with the weights of the first.
        loss: `loss(model, x0, schedule, cond, generator)` returns a scalar tensor.
        schedule: a `NoiseSchedule`, on the model's device.
        dtype: what the network computes in; float16 adds a gradient scaler.
        optimizer, momentum: see `build_optimizer`.
        record: on CUDA, record the kernels of a step once, and launch them as two graphs: the gradients, and the
            optimiser's step (see `Recorded`). Then every batch must have the same size.

    Raises:
        ValueError: if the model's weights have 16 bits, for which the optimiser's steps are too small; if a layer keeps
            running statistics, and there are several processes: they would come from the micro-batches of one of them.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Callable,
        schedule: NoiseSchedule,
        dtype: torch.dtype = torch.float32,
        optimizer: str = "muon",
        record: bool = False,
        momentum: float = MUON_MOMENTUM,
    ):
        device = next(model.parameters()).device
        self.model, self.loss, self.schedule, self.dtype = model, loss, schedule, dtype
        if any(p.dtype in (torch.float16, torch.bfloat16) for p in model.parameters()):
            raise ValueError(
                f"expected a model with float32 weights, got 16 bits: give model.float() and dtype={dtype}"
            )
        with_statistics = layers_with_statistics(model)
        if with_statistics and world_size() > 1:
            kind = type(with_statistics[0]).__name__
            raise ValueError(f"several processes would not share the running statistics of {kind}: use one process")
        broadcast(model.train())
        self.optimizer = build_optimizer(model, optimizer, momentum)
        self.optimizer.zero_grad(set_to_none=True)  # whatever was there before
        self.scaler = torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)
        self.skipped = torch.zeros((), dtype=torch.long, device=device)  # the last steps, as far as they were left out
        self.copy = LowPrecisionCopy(model, dtype) if dtype != torch.float32 else None
        self.network = self.copy.network if self.copy else model
        self.record = record and device.type == "cuda"
        self.compiled = device.type != "cuda"
        self.gradients, self.update = self.gradients_of, self.updated
        if self.record:
            self.gradients = Recorded(self.gradients)
            if not self.scaler.is_enabled():  # whose step is a matter of Python, too
                self.update = Recorded(self.update)

    def forward(self, x: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor:
        """What the model estimates, like x; computed in `dtype`."""
        if self.copy:
            return self.copy(x, t, cond)
        return self.network(x, t) if cond is None else self.network(x, t, cond)

    def add_gradients(self, x0: Tensor, cond: Tensor | None, generator: torch.Generator, share: float = 1.0) -> Tensor:
        """Add `share` times the gradients of the loss on a batch to those of the model's float32 weights.

        Returns:
            `share` times the loss, a detached scalar tensor.
        """
        if not self.compiled:
            self.compile_kernels(x0, cond)
        return self.gradients(x0, cond, generator, share)

    def compile_kernels(self, x0: Tensor, cond: Tensor | None) -> None:
        """Compile the fused kernels of a step, in a dry run on copies of all that it would change."""
        dry, self.compiled = copy.copy(self), True
        dry.network = copy.deepcopy(self.network)
        if self.copy:
            dry.copy = copy.copy(self.copy)
            dry.copy.network = dry.network

        def gradients() -> None:
            self.loss(dry.forward, x0, self.schedule, cond, torch.Generator(x0.device)).backward()

        with torch.random.fork_rng([x0.device]):
            compile_ahead(gradients, dry.network)

    def gradients_of(self, x0: Tensor, cond: Tensor | None, generator: torch.Generator, share: float) -> Tensor:
        """`add_gradients`, as it is recorded."""
        value = self.loss(self.forward, x0, self.schedule, cond, generator) * share
        self.scaler.scale(value).backward()
        if self.copy:
            self.copy.move_gradients()
        return value.detach()

    def step(self, lr: float) -> Tensor:
        """One step of the optimiser at this learning rate, on gradients clipped to the norm `MAX_GRADIENT_NORM`.

        With several processes, the gradients are averaged over them before.

        Returns:
            The norm of the gradients before clipping, a scalar tensor. With float16, a step whose norm is not finite
            was left out, and the scaler scales less from now on; `skipped` counts how many such steps came last.
        """
        for group in self.optimizer.param_groups:
            value, known = lr * group.get("lr_ratio", 1.0), group["lr"]
            if not self.record:
                group["lr"] = value
            elif isinstance(known, Tensor) and known.is_cuda:  # where a recorded step looks for it
                known.fill_(value)
            else:
                group["lr"] = torch.full((), value, device=self.skipped.device)
        all_reduce_gradients(self.model)
        norm = self.update()
        self.skipped = torch.where(norm.isfinite(), 0, self.skipped + 1)
        return norm

    def updated(self) -> Tensor:
        """`step`, as it is recorded: at the present learning rate."""
        self.scaler.unscale_(self.optimizer)
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), MAX_GRADIENT_NORM)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=not self.record)  # what is recorded finds them at the same place
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
