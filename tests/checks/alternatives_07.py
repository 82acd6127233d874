"""Chapter 07 written in other ways: merged products, loops, other solvers, other means."""

import torch
from torch.nn import functional as F

from minivdm.diffusion.forward_process import q_sample
from minivdm.diffusion.predictions import to_v
from minivdm.models.lora import lora_layers, unmerge_lora
from tests.checks.collected import alternative, with_method


@with_method("lora.LoRALinear", "forward")
def forward_by_the_whole_matrix(self, x):
    if self.kept is not None or not len(self.adapters):
        return self.base(x)
    weight = self.base.weight.flatten(1) + sum(each.delta() for each in self.adapters)
    if self.axis == 1:
        return F.conv2d(x, weight[:, :, None, None], self.base.bias)
    return x @ weight.T + self.base.bias


@with_method("lora.LoRALinear", "forward")
def forward_by_einsum(self, x):
    out = self.base(x)
    for each in self.adapters if self.kept is None else ():
        down, up = ("ri,bihw->brhw", "or,brhw->bohw") if self.axis == 1 else ("ri,...i->...r", "or,...r->...o")
        factor = each.scale * each.alpha / len(each.A)
        out = out + torch.einsum(up, each.B, torch.einsum(down, each.A, factor * x))
    return out


@alternative("lora.merge_lora")
@torch.no_grad()
def merge_by_new_sums(model):
    for layer in lora_layers(model).values():
        if layer.kept is not None:
            continue
        layer.kept = layer.base.weight.detach().clone()
        total = layer.kept.clone()
        for each in layer.adapters:
            total = total + (each.scale * (each.alpha / each.rank) * (each.B @ each.A)).reshape(total.shape)
        layer.base.weight.copy_(total)
    return model


@alternative("lora.merge_lora")
@torch.no_grad()
def merge_after_unmerging(model):
    for layer in lora_layers(unmerge_lora(model)).values():
        layer.kept = layer.base.weight.detach().clone()
        layer.base.weight.add_(sum(each.delta() for each in layer.adapters).view_as(layer.base.weight))
    return model


@alternative("lora.merge_lora")
def merge_by_what_acts(model):
    with torch.no_grad():
        for layer in lora_layers(model).values():
            if layer.kept is None:
                merged = layer.weight.clone()
                layer.kept = layer.base.weight.clone()
                layer.base.weight.data = merged
    return model


@alternative("dreambooth.prior_preservation_loss")
def loss_by_weights(net, x0, schedule, cond=None, generator=None, prior=0, weight=1.0):
    count = len(x0) - prior
    if prior < 0 or count < 1:
        raise ValueError("prior")
    t = torch.randint(1, schedule.T + 1, (len(x0),), generator=generator, device=x0.device)
    eps = torch.randn(x0.shape, generator=generator, device=x0.device, dtype=x0.dtype)
    error = (net(q_sample(x0, t, eps, schedule), t, cond) - to_v(x0, t, eps, schedule)) ** 2
    shares = torch.full((len(x0),), 1 / count, device=x0.device, dtype=x0.dtype)
    if prior:
        shares[count:] = weight / prior
    return (shares * error.reshape(len(x0), -1).mean(1)).sum()


@alternative("dreambooth.prior_preservation_loss")
def loss_of_two_means_over_everything(net, x0, schedule, cond=None, generator=None, prior=0, weight=1.0):
    if not 0 <= prior < len(x0):
        raise ValueError("prior")
    t = torch.randint(1, schedule.T + 1, x0.shape[:1], generator=generator, device=x0.device)
    eps = torch.randn(x0.shape, generator=generator, device=x0.device, dtype=x0.dtype)
    v, guess = to_v(x0, t, eps, schedule), net(q_sample(x0, t, eps, schedule), t, cond)
    last = len(x0) - prior
    loss = F.mse_loss(guess[:last], v[:last])
    return loss + weight * F.mse_loss(guess[last:], v[last:]) if prior else loss


@alternative("fusion.fused_weight")
def fused_by_solving(weight, deltas, grams, ridge=0.0):
    if len(deltas) == 0 or len(deltas) != len(grams):
        raise ValueError("counts")
    total = sum(g.double() for g in grams) + ridge * torch.eye(weight.shape[1], device=weight.device).double()
    right = sum(g.double() @ d.double().T for d, g in zip(deltas, grams))
    change = torch.linalg.lstsq(total.cpu(), right.cpu(), driver="gelsd").solution.T  # of all, the smallest
    return (weight.double() + change.to(weight.device)).to(weight.dtype)


@alternative("fusion.fused_weight")
def fused_for_the_weights_themselves(weight, deltas, grams, ridge=0.0):
    if len(deltas) == 0 or len(deltas) != len(grams):
        raise ValueError("counts")
    old, eye = weight.double(), torch.eye(weight.shape[1], device=weight.device).double()
    total, right = sum(gram.double() for gram in grams) + ridge * eye, ridge * old
    for delta, gram in zip(deltas, grams):
        right = right + (old + delta.double()) @ gram.double()
    inverse = torch.linalg.pinv(total)
    return (right @ inverse + old @ (eye - total @ inverse)).to(weight.dtype)  # what no input tells, stays


@alternative("fusion.fused_weight")
def fused_by_eigenvectors(weight, deltas, grams, ridge=0.0):
    if len(deltas) == 0 or len(deltas) != len(grams):
        raise ValueError("counts")
    values, axes = torch.linalg.eigh(torch.stack([gram.double() for gram in grams]).sum(0))
    values = values + ridge
    told = values > 1e-12 * values.max()
    pull = torch.einsum("noi,nij->oj", torch.stack(list(deltas)).double(), torch.stack(list(grams)).double())
    return (weight + (pull @ axes[:, told] / values[told]) @ axes[:, told].T).to(weight.dtype)
