"""Correct solutions of chapter 02, written as differently as people write them."""

from minivdm.course.exercise import edited
from minivdm.diffusion.sde import at_time, checked_times, probability_flow
from tests.checks.collected import alternative


def versions(name, *edits):
    """Register the reference with some of its text exchanged: for each version a dict from old text to new."""
    for changes in edits:
        alternative(name)(edited(name, changes))


SCORE = "-eps / (1 - per_sample(schedule.alpha_bar, t, eps)).sqrt()"
versions(
    "predictions.to_score",
    {SCORE: "torch.stack([e / -((1 - schedule.alpha_bar[level].item()) ** 0.5) for e, level in zip(eps, t)])"},
    {SCORE: "(-eps.double() * (1 - per_sample(schedule.alpha_bar, t, eps.double())).rsqrt()).to(eps)"},
)
EPS = "(x_t - alpha_bar.sqrt() * x0) / (1 - alpha_bar).sqrt()"
versions(
    "predictions.to_eps",
    {EPS: "x_t.clone().sub_(alpha_bar**0.5 * x0).div_((1 - alpha_bar) ** 0.5)"},
    {EPS: "(x_t / alpha_bar.sqrt() - x0) * (alpha_bar / (1 - alpha_bar)).sqrt()"},
)
V = "alpha_bar.sqrt() * eps - (1 - alpha_bar).sqrt() * x0"
versions(
    "predictions.to_v",
    {"alpha_bar = per": "angle = per", "_bar,": "_bar.sqrt().acos(),", V: "angle.cos() * eps - angle.sin() * x0"},
    {V: "(eps - (1 - alpha_bar).sqrt() * q_sample(x0, t, eps, schedule)) / alpha_bar.sqrt()"},
)
X0, BOTH = "keep * x_t - noise * v", "keep * x_t - noise * v, keep * v + noise * x_t"
versions(
    "predictions.from_v",
    {BOTH: "torch.view_as_real(torch.complex(keep, noise) * torch.complex(x_t, v)).unbind(-1)"},
    {BOTH: f"[{X0}, (v + noise * ({X0})) / keep]"},
)
EXPONENT = "-(self.beta_min * t + (self.beta_max - self.beta_min) * t**2 / 2)"
DRIFT = "-expand_like(self.beta(t), x) * x / 2"
versions(
    "sde.VPSDE",
    {EXPONENT: "-t * self.beta(t / 2)", DRIFT: "torch.einsum('b,b...->b...', self.beta(t) / -2, x)"},
    {
        DRIFT: "torch.stack([-0.5 * y * b for y, b in zip(x, self.beta(t))])",
        "torch.exp": "math.e ** ",
        ".sqrt()": "**0.5",
    },
)
DRAW = "torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)"
versions(
    "sde.reverse_sde_sample",
    {"    for": "    x = x.clone()\n    for", "x = x + ": "x += ", "callback(then, x)": "callback(then, x.clone())"},
    {DRAW: "torch.empty_like(x).normal_(generator=generator)", "g * math.sqrt(-dt)": "(g**2 * -dt).sqrt()"},
)
FLOW = "sde.drift(x, t) - expand_like(sde.diffusion(t), x) ** 2 * checked_like(score(x, t), x) / 2"
versions(
    "sde.probability_flow",
    {FLOW: "torch.stack([f - g**2 * s / 2 for f, g, s in zip(sde.drift(x, t), sde.diffusion(t), score(x, t))])"},
    {FLOW: "sde.drift(x, t) - torch.einsum('b,b...->b...', sde.diffusion(t).square() / 2, score(x, t))"},
)
versions(
    "sde.probability_flow_ode",
    {"dt * first,": "first * dt,", "dt * (first + second) / 2": "(dt * first).lerp(dt * second, 0.5)"},
)
ROW = "torch.autograd.grad(part.sum(), x, retain_graph=True)[0]"
PRODUCT = "torch.autograd.grad((value * noise).sum(), x)[0]"
ONE_HOT = "torch.eye(x[0].numel(), dtype=x.dtype, device=x.device)[i].expand(len(x), -1).reshape(x.shape)"
versions(
    "sde.value_and_divergence",
    {"(value * noise).sum(), x": "value, x, noise", "part.sum(), x": "part, x, torch.ones_like(part)"},
    {
        PRODUCT: "torch.func.jvp(field, (x,), (noise,))[1].detach()",
        ROW: f"torch.func.jvp(field, (x,), ({ONE_HOT},))[1]",
    },
)
LOG_NORMAL = "-(x**2 + math.log(2 * math.pi)).flatten(1).sum(dim=1) / 2"
versions(
    "sde.ode_log_likelihood",
    {LOG_NORMAL: "torch.distributions.Normal(0.0, 1.0).log_prob(x).flatten(1).sum(1)", "x.new_zeros(len(x))": "0"},
    {"dt * (first + second) / 2": "dt / 2 * second + (there - x) / 2", "total = total +": "total +=", "x**2": "x * x"},
)


@alternative("sde.probability_flow_ode")
def heun_recursive(score, x, sde, times, callback=None):
    now, then, *rest = checked_times(times)
    first = probability_flow(score, x, at_time(now, x), sde)
    ahead = x + (then - now) * first
    x = (x + ahead + (then - now) * probability_flow(score, ahead, at_time(then, x), sde)) / 2
    if callback:
        callback(then, x)
    return heun_recursive(score, x, sde, [then, *rest], callback) if rest else x
