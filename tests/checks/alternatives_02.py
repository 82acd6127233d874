"""Correct solutions of chapter 02, written as differently as people write them."""

import math

import torch
from einops import einsum, rearrange

from minivdm.diffusion.sde import at_time, checked_times, expand_like, probability_flow, value_and_divergence
from tests.checks.collected import alternative


def column(table, t, x):
    """table[t], shaped to broadcast against x."""
    return table[t].reshape((-1,) + (1,) * (x.ndim - 1))


@alternative("predictions.to_score")
def score_by_power(eps, t, schedule):
    return torch.neg(eps * column(1 - schedule.alpha_bar.double(), t, eps) ** -0.5).to(eps.dtype)


@alternative("predictions.to_score")
def score_one_by_one(eps, t, schedule):
    out = torch.empty_like(eps)
    for i, level in enumerate(t.tolist()):
        out[i] = eps[i] / -math.sqrt(1 - schedule.alpha_bar[level].item())
    return out


@alternative("predictions.to_eps")
def eps_by_ratio(x_t, t, x0, schedule):
    snr = schedule.alpha_bar / (1 - schedule.alpha_bar)
    return column((1 + snr).sqrt(), t, x_t) * x_t - column(snr.sqrt(), t, x_t) * x0


@alternative("predictions.to_eps")
def eps_in_place(x_t, t, x0, schedule):
    keep = column(schedule.alpha_bar, t, x_t)
    return x_t.clone().sub_(keep**0.5 * x0).div_((1 - keep) ** 0.5)


@alternative("predictions.to_v")
def v_by_angle(x0, t, eps, schedule):
    angle = column(torch.atan2((1 - schedule.alpha_bar).sqrt(), schedule.alpha_bar.sqrt()), t, x0)
    return torch.cos(angle) * eps - torch.sin(angle) * x0


@alternative("predictions.to_v")
def v_by_einsum(x0, t, eps, schedule):
    keep = schedule.alpha_bar[t]
    a, b = einsum(keep.sqrt(), eps, "b, b ... -> b ..."), einsum((1 - keep).sqrt(), x0, "b, b ... -> b ...")
    return torch.subtract(a, b)


@alternative("predictions.from_v")
def by_a_rotation(x_t, t, v, schedule):
    keep = schedule.alpha_bar[t]
    a, b = keep.sqrt(), (1 - keep).sqrt()
    turn = torch.stack([torch.stack([a, -b]), torch.stack([b, a])])  # (2, 2, B)
    x0, eps = torch.einsum("ijb,jb...->ib...", turn, torch.stack([x_t, v])).unbind(0)
    return x0, eps


@alternative("predictions.from_v")
def as_a_list(x_t, t, v, schedule):
    keep = column(schedule.alpha_bar.double(), t, x_t)
    x0 = keep.sqrt() * x_t - (1 - keep).sqrt() * v
    return [x0.float(), ((1 - keep).sqrt() * x_t + keep.sqrt() * v).float()]


@alternative("sde.VPSDE")
class ByMeanBeta:
    def __init__(self, beta_min=0.1, beta_max=20.0):
        self.beta_min, self.beta_max = beta_min, beta_max

    def beta(self, t):
        return self.beta_min + t * (self.beta_max - self.beta_min)

    def alpha_bar(self, t):
        return (-t * self.beta(t / 2)).exp()

    def drift(self, x, t):
        return torch.einsum("b,b...->b...", -self.beta(t) / 2, x)

    def diffusion(self, t):
        return self.beta(t) ** 0.5


@alternative("sde.VPSDE")
class ByNumbers:
    def __init__(self, beta_min=0.1, beta_max=20.0):
        self.low, self.high = beta_min, beta_max

    def alpha_bar(self, t):
        out = [math.exp(-(self.low * s + 0.5 * (self.high - self.low) * s * s)) for s in t.tolist()]
        return torch.tensor(out, dtype=t.dtype, device=t.device)

    def drift(self, x, t):
        rate = ((1 - t) * self.low + t * self.high).view(-1, *[1] * (x.dim() - 1))
        return x * rate * -0.5

    def diffusion(self, t):
        return torch.lerp(torch.full_like(t, self.low), torch.full_like(t, self.high), t).sqrt()


@alternative("sde.reverse_sde_sample")
def sample_with_zip(score, x, sde, times, generator=None, callback=None):
    times = checked_times(times, falling=True)
    for i, (t, s) in enumerate(zip(times, times[1:])):
        now = torch.ones(len(x), device=x.device, dtype=x.dtype) * t
        g = sde.diffusion(now).view(-1, *[1] * (x.dim() - 1))
        back = -sde.drift(x, now) + g * g * score(x, now)
        noise = torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
        last = i == len(times) - 2
        x = x + back * (t - s) + (0 if last else 1) * (t - s) ** 0.5 * g * noise
        if callback is not None:
            callback(s, x)
    return x


@alternative("sde.reverse_sde_sample")
@torch.no_grad()
def sample_in_place(score, x, sde, times, generator=None, callback=None):
    times = torch.tensor(list(times), dtype=torch.float64)
    if times.min() <= 0 or times.max() > 1 or (times.diff() >= 0).any():
        raise ValueError("times")
    x, last = x.clone(), len(times) - 2
    for i in range(last + 1):
        t, h = at_time(times[i].item(), x), (times[i] - times[i + 1]).item()
        variance = expand_like(sde.diffusion(t) ** 2, x)
        x += h * (variance * score(x, t) - sde.drift(x, t))
        if i < last:
            x += torch.empty_like(x).normal_(generator=generator) * (h * variance).sqrt()
        if callback:
            callback(times[i + 1].item(), x.clone())
    return x


@alternative("sde.probability_flow")
def flow_by_beta(score, x, t, sde):
    g = sde.diffusion(t).reshape(-1, *[1] * (x.ndim - 1))
    return sde.drift(x, t).sub(0.5 * g.square() * score(x, t))


@alternative("sde.probability_flow")
def flow_one_by_one(score, x, t, sde):
    f, s, g = sde.drift(x, t), score(x, t), sde.diffusion(t)
    return torch.stack([f[i] - g[i] ** 2 * s[i] / 2 for i in range(len(x))])


@alternative("sde.probability_flow_ode")
def heun_corrected(score, x, sde, times, callback=None):
    times = checked_times(times)
    for i in range(1, len(times)):
        h = times[i] - times[i - 1]
        k_1 = probability_flow(score, x, torch.full((len(x),), times[i - 1], dtype=x.dtype), sde)
        ahead = x + k_1 * h
        k_2 = probability_flow(score, ahead, torch.full((len(x),), times[i], dtype=x.dtype), sde)
        x = ahead + (k_2 - k_1) * (h / 2)
        if callback:
            callback(times[i], x)
    return x


@alternative("sde.probability_flow_ode")
def heun_recursive(score, x, sde, times, callback=None):
    now, then, *rest = checked_times(times)

    def slope(x, t):
        t = at_time(t, x)
        return sde.drift(x, t) - 0.5 * expand_like(sde.diffusion(t), x).pow(2) * score(x, t)

    first = slope(x, now)
    x = x + (then - now) * torch.stack([first, slope(x + (then - now) * first, then)]).mean(0)
    if callback:
        callback(then, x)
    return heun_recursive(score, x, sde, [then, *rest], callback) if rest else x


@alternative("sde.value_and_divergence")
def by_one_hot_rows(field, x, noise=None):
    with torch.enable_grad():
        x = x.detach().clone().requires_grad_(True)
        y = field(x)
        if noise is None:
            eye = torch.eye(x[0].numel(), dtype=x.dtype).reshape(-1, *x.shape[1:])
            probes = [e.expand_as(x) for e in eye]
        else:
            probes = [noise]
        total = 0
        for e in probes:
            (product,) = torch.autograd.grad(y, x, grad_outputs=e, retain_graph=True)
            total = total + rearrange(product * e, "b ... -> b (...)").sum(-1)
    return y.detach(), total.detach()


@alternative("sde.value_and_divergence")
def by_vmap(field, x, noise=None):
    def alone(point):
        return field(point[None])[0]

    with torch.enable_grad():
        x = x.detach()
        jacobian = torch.func.vmap(torch.func.jacrev(alone))(x)  # (B, ..., ...)
        size = x[0].numel()
        jacobian = jacobian.reshape(len(x), size, size).detach()
        if noise is None:
            divergence = jacobian.diagonal(dim1=1, dim2=2).sum(1)
        else:
            divergence = einsum(noise.flatten(1), jacobian, noise.flatten(1), "b i, b i j, b j -> b")
        return field(x).detach(), divergence


@alternative("sde.ode_log_likelihood")
def with_distributions(score, x, sde, times, noise=None):
    times, total = checked_times(times, falling=False), torch.zeros(len(x), dtype=x.dtype)
    for i in range(len(times) - 1):

        def slope(y, time=times[i]):
            return probability_flow(score, y, at_time(time, y), sde)

        def slope_after(y, time=times[i + 1]):
            return probability_flow(score, y, at_time(time, y), sde)

        h = times[i + 1] - times[i]
        k_1, d_1 = value_and_divergence(slope, x, noise)
        k_2, d_2 = value_and_divergence(slope_after, x + h * k_1, noise)
        x, total = x + h * 0.5 * (k_1 + k_2), total + h * 0.5 * (d_1 + d_2)
    return total + torch.distributions.Normal(0.0, 1.0).log_prob(x).flatten(1).sum(1)


@alternative("sde.ode_log_likelihood")
def with_one_state(score, x, sde, times, noise=None):
    times = checked_times(times, falling=False)
    shape, state = x.shape, torch.cat([x.flatten(1), x.new_zeros(len(x), 1)], dim=1)  # points, and their integral

    def slope(state, time):
        points = state[:, :-1].reshape(shape)
        value, divergence = value_and_divergence(
            lambda y: probability_flow(score, y, at_time(time, y), sde), points, noise
        )
        return torch.cat([value.flatten(1), divergence[:, None]], dim=1)

    while len(times) > 1:
        t, s = times[:2]
        k = slope(state, t)
        state = state + (s - t) * (k + slope(state + (s - t) * k, s)) / 2
        times = times[1:]
    end = state[:, :-1]
    return state[:, -1] - (end * end).sum(1) / 2 - end.shape[1] * math.log(math.sqrt(2 * math.pi))
