"""Guidance: against two plain calls, and null-text inversion against models whose right answer is known."""

import pytest
import torch
from torch import nn

from minivdm.diffusion.guidance import ClassifierFreeGuidance, NullTextGuidance, drop_condition, null_text_inversion
from minivdm.diffusion.samplers import ddim_invert, ddim_sample, sampling_levels
from minivdm.diffusion.schedules import NoiseSchedule, cosine_betas, linear_betas


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


class Reader(nn.Module):
    """eps = tanh(W x) + mean over the words of V c: nonlinear in x, linear in the context."""

    def __init__(self, dim=3, context_dim=5):
        super().__init__()
        self.body, self.read = nn.Linear(dim, dim), nn.Linear(context_dim, dim)
        self.words = nn.Embedding(10, context_dim)

    def forward(self, x, t, cond):
        context = cond if cond.is_floating_point() else self.words(cond)
        return torch.tanh(self.body(x)) * (1 + t / 100)[:, None] / 2 + self.read(context).mean(dim=1)


@pytest.fixture
def reader():
    torch.manual_seed(0)
    return Reader()


SCHEDULE = NoiseSchedule(cosine_betas(100))
LEVELS = [80, 60, 40, 20, 0]


def inverted(model, x0, cond, schedule=SCHEDULE, levels=LEVELS):
    """The points of an inversion at guidance 1, by level."""
    path = {0: x0}
    ddim_invert(model, x0, schedule, levels, cond, callback=lambda t, x, guess: path.update({t: x}))
    return path


def drift(model, path, cond, nulls, scale):
    """How far guided sampling with these nulls ends up from where the inversion began, root mean square."""
    guided = NullTextGuidance(model, scale, nulls)
    x = ddim_sample(guided, path[LEVELS[0]], SCHEDULE, LEVELS, cond)
    return (x - path[0]).square().mean().sqrt().item()


# Classifier-free guidance


@pytest.mark.parametrize("scale", [0, 0.5, 1, 3, 7.5])
def test_one_call_on_a_doubled_batch_is_two_calls(reader, scale):
    x, t = torch.randn(4, 3), torch.tensor([5, 20, 60, 100])
    tokens, context, null = torch.randint(1, 10, (4, 2)), torch.randn(4, 2, 5), torch.randn(4, 2, 5)
    for cond, given, used in (
        (tokens, None, torch.zeros(4, 2).long()),
        (tokens, torch.tensor([7, 8]), torch.tensor([[7, 8]] * 4)),
        (context, null, null),
        (context, null[0], null[:1].expand(4, 2, 5)),
        (context, null[:1], null[:1].expand(4, 2, 5)),
    ):
        eps_u, eps_c = reader(x, t, used), reader(x, t, cond)
        got = ClassifierFreeGuidance(reader, scale, given)(x, t, cond)
        assert torch.allclose(got, eps_u + scale * (eps_c - eps_u), atol=1e-5)


def test_guidance_shifts_a_gaussian_by_the_closed_form():
    """Conditions move the mean of unit Gaussians: eps differ by a constant, and guidance s moves the mean s times."""
    schedule, mean = NoiseSchedule(linear_betas(1000)), 2.0

    def model(x, t, cond):
        ab = schedule.alpha_bar[t][:, None]
        return (1 - ab).sqrt() * (x - ab.sqrt() * mean * cond.float())

    x, cond = torch.randn(20_000, 1, generator=seeded()), torch.ones(20_000, 1).long()
    for scale in (0, 1, 2):
        got = ddim_sample(ClassifierFreeGuidance(model, scale), x, schedule, sampling_levels(1000, 200), cond)
        assert abs(got.mean() - scale * mean) < 0.1 and abs(got.std() - 1) < 0.05


def test_no_condition_is_refused(reader):
    for scale in (1, 3.0):
        with pytest.raises(ValueError, match=r"guidance needs a condition: expected \(B, L\) tokens, got None"):
            ClassifierFreeGuidance(reader, scale)(torch.randn(2, 3), torch.tensor([3, 4]))


def test_dropped_conditions_are_repeatable_and_leave_the_original():
    tokens = torch.randint(1, 30, (500, 4))
    kept = tokens.clone()
    first, again = (drop_condition(tokens, 0.5, seeded(3)) for _ in range(2))
    assert torch.equal(first, again) and torch.equal(tokens, kept) and first.dtype == torch.long
    assert not torch.equal(first, drop_condition(tokens, 0.5, seeded(4)))
    assert drop_condition(tokens[:1], 1.0).tolist() == [[0, 0, 0, 0]]


# Null-text inversion


def test_null_text_inversion_repairs_what_guidance_breaks(reader):
    cond, null = reader.words(torch.tensor([[3, 4], [5, 6]])).detach(), torch.zeros(2, 5)
    path = inverted(reader, torch.randn(2, 3, generator=seeded()), cond)
    plain = {level: null.expand(2, 2, 5) for level in LEVELS}
    nulls = null_text_inversion(reader, path, cond, null, SCHEDULE, scale=5.0, inner_steps=40, lr=0.1)
    assert list(nulls) == LEVELS[:-1] and all(value.shape == (2, 2, 5) for value in nulls.values())
    broken, mended = (drift(reader, path, cond, by, 5.0) for by in (plain, nulls))
    assert mended < 0.02 < 0.5 < broken


def test_each_level_has_a_null_of_its_own(reader):
    cond, null = torch.randn(2, 2, 5, generator=seeded()), torch.zeros(2, 5)
    path = {level: torch.randn(2, 3, generator=seeded(level)) for level in LEVELS}
    nulls = null_text_inversion(reader, path, cond, null, SCHEDULE, inner_steps=3)
    rows = list(nulls.values())
    assert len({row.data_ptr() for row in rows}) == 4
    assert all((a - b).abs().max() > 0.01 for a, b in zip([null, *rows], rows))
    rates = (1 + 2 / 3 + 1 / 3) * 0.05  # Adam's steps are never much longer than the rate
    assert all((a - b).abs().max() < 1.1 * rates for a, b in zip([null, *rows], rows))


def test_the_known_right_null_is_found():
    """With eps = read(c) alone, a path at guidance 1 asks for a null that reads like the prompt."""
    torch.manual_seed(0)
    model = Reader()
    with torch.no_grad():
        model.body.weight.zero_(), model.body.bias.zero_()
    cond, null = torch.randn(1, 2, 5), torch.zeros(2, 5)
    path = inverted(model, torch.randn(1, 3), cond)
    nulls = null_text_inversion(model, path, cond, null, SCHEDULE, scale=4.0, inner_steps=100, lr=0.1)
    for found in nulls.values():
        assert torch.allclose(model.read(found).mean(1), model.read(cond).mean(1), atol=0.02)


def test_a_path_that_guided_sampling_walks_anyway_leaves_the_null_alone(reader):
    cond, null, path = torch.randn(2, 2, 5), torch.randn(2, 5), {80: torch.randn(2, 3)}
    guided = ClassifierFreeGuidance(reader, 3.0, null)
    ddim_sample(guided, path[80], SCHEDULE, LEVELS, cond, callback=lambda s, x, x0: path.update({s: x}))
    nulls = null_text_inversion(reader, path, cond, null, SCHEDULE, scale=3.0, inner_steps=50)
    assert all(torch.equal(found, null.expand(2, 2, 5)) for found in nulls.values())


def test_samples_do_not_see_each_other_and_float64_stays(reader):
    reader = reader.double()
    x0, cond = torch.randn(3, 3, dtype=torch.float64), torch.randn(3, 2, 5, dtype=torch.float64)
    null = torch.randn(3, 2, 5, dtype=torch.float64)
    path = inverted(reader, x0, cond)
    together = null_text_inversion(reader, path, cond, null, SCHEDULE, inner_steps=4)
    for i in range(3):
        own = {level: x[i : i + 1] for level, x in path.items()}
        alone = null_text_inversion(reader, own, cond[i : i + 1], null[i], SCHEDULE, inner_steps=4)
        for level in LEVELS[:-1]:
            assert together[level].dtype == torch.float64
            assert torch.allclose(together[level][i : i + 1], alone[level], atol=1e-7)


def test_nothing_but_the_nulls_changes(reader):
    for parameter in reader.parameters():
        parameter.grad = torch.ones_like(parameter)
    before = {name: value.clone() for name, value in reader.state_dict().items()}
    tokens, null = torch.tensor([[3, 4]]), torch.zeros(1, 2, 5)
    path = inverted(reader, torch.randn(1, 3), tokens)
    kept = {level: x.clone() for level, x in path.items()}
    nulls = null_text_inversion(reader, path, tokens, null, SCHEDULE, inner_steps=3)
    assert all(torch.equal(value, before[name]) for name, value in reader.state_dict().items())
    assert all(p.requires_grad and torch.equal(p.grad, torch.ones_like(p)) for p in reader.parameters())
    assert all(torch.equal(path[level], kept[level]) for level in path) and not null.any() and not null.requires_grad
    assert not any(found.requires_grad for found in nulls.values())


@pytest.mark.parametrize("levels", [[80, 40], [0], [120, 50, 0]])
def test_bad_paths(reader, levels):
    path = {level: torch.randn(1, 3) for level in levels}
    with pytest.raises(ValueError, match="levels must fall strictly from at most 100 to 0"):
        null_text_inversion(reader, path, torch.randn(1, 2, 5), torch.zeros(2, 5), SCHEDULE)


def test_null_text_guidance_takes_the_null_of_the_level(reader):
    x, cond, nulls = torch.randn(2, 3), torch.randn(2, 2, 5), {80: torch.randn(2, 2, 5), 20: torch.zeros(2, 2, 5)}
    guided = NullTextGuidance(reader, 3.0, nulls)
    for level, null in nulls.items():
        t = torch.full((2,), level)
        eps_u, eps_c = reader(x, t, null), reader(x, t, cond)
        assert torch.allclose(guided(x, t, cond), eps_u + 3 * (eps_c - eps_u), atol=1e-5)
    with pytest.raises(KeyError):
        guided(x, torch.tensor([40, 40]), cond)


# What cannot be guided


def test_a_ready_context_needs_its_null(reader):
    """Zeros are no null that a model was trained with: with a trained model, accuracy fell from 100% to 96%."""
    x, t, context = torch.randn(4, 3), torch.tensor([5, 20, 60, 100]), torch.randn(4, 2, 5)
    with pytest.raises(ValueError, match=r"needs the context of the null prompt, got a context of shape \(4, 2, 5\)"):
        ClassifierFreeGuidance(reader, 3.0)(x, t, context)
    assert torch.equal(ClassifierFreeGuidance(reader, 1.0)(x, t, context), reader(x, t, context)), "1 is off"


@pytest.mark.parametrize(
    "tokens, null",
    [(False, torch.zeros(5)), (False, torch.zeros(())), (False, torch.zeros(2, 1)), (False, torch.zeros(3, 2, 5)),
     (False, torch.zeros(4, 2).long()), (True, torch.tensor(0)), (True, torch.zeros(4, 1).long()),
     (True, torch.zeros(4, 2)), (True, torch.zeros(2, 5))],
)  # fmt: skip
@pytest.mark.parametrize("scale", [0.0, 3.0])
def test_a_null_of_another_shape_or_kind_is_refused(reader, tokens, null, scale):
    x, t = torch.randn(4, 3), torch.tensor([5, 20, 60, 100])
    cond = torch.ones(4, 2).long() if tokens else torch.randn(4, 2, 5)
    with pytest.raises(ValueError, match="the null condition must be like the condition, or one row of it; got"):
        ClassifierFreeGuidance(reader, scale, null)(x, t, cond)
    with pytest.raises(ValueError, match="the null condition must be like the condition"):
        NullTextGuidance(reader, scale, {5: null})(x, torch.full((4,), 5), cond)


@pytest.mark.parametrize("null", [torch.zeros(5), torch.zeros(3, 2, 5), torch.zeros(2, 5).long()])
def test_null_text_inversion_refuses_what_is_no_context(reader, null):
    path = {level: torch.randn(2, 3) for level in LEVELS}
    with pytest.raises(ValueError, match=r"expected the null prompt's context, \(L, D\) or \(2, L, D\) floats"):
        null_text_inversion(reader, path, torch.randn(2, 2, 5), null, SCHEDULE)


@pytest.mark.parametrize("scale", [float("nan"), float("inf"), -float("inf")])
def test_a_scale_is_a_finite_number(reader, scale):
    with pytest.raises(ValueError, match="the guidance scale must be a finite number"):
        ClassifierFreeGuidance(reader, scale)


def test_only_tokens_are_dropped():
    """With as many words as samples, coins (B, 1) would fall on the words of a context (B, B, D)."""
    with pytest.raises(ValueError, match=r"expected \(B, L\) long tokens, got torch.float32 of shape \(3, 3, 5\)"):
        drop_condition(torch.randn(3, 3, 5), 0.5)
    for probability in (-0.1, 1.5, float("nan")):
        with pytest.raises(ValueError, match=r"the probability must lie in 0\.\.1"):
            drop_condition(torch.ones(3, 2).long(), probability)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_null_text_inversion_works_where_gradients_are_off(reader, mode):
    tokens, null = torch.tensor([[3, 4]]), torch.zeros(2, 5)
    path = inverted(reader, torch.randn(1, 3, generator=seeded()), tokens)
    want = null_text_inversion(reader, path, tokens, null, SCHEDULE, inner_steps=3)
    with mode():
        tokens, null = tokens.clone(), null.clone()  # made in this mode, as the path is
        path = inverted(reader, torch.randn(1, 3, generator=seeded()), tokens)
        got = null_text_inversion(reader, path, tokens, null, SCHEDULE, inner_steps=3)
        assert torch.is_inference_mode_enabled() == (mode is torch.inference_mode) and not torch.is_grad_enabled()
    assert all(torch.equal(got[level], want[level]) and not got[level].requires_grad for level in want)
    assert all((got[level] - null).abs().max() > 0.01 for level in got), "they have learnt"


def test_null_text_guidance_has_one_level_for_the_whole_batch(reader):
    guided = NullTextGuidance(reader, 3.0, {80: torch.zeros(2, 2, 5), 20: torch.zeros(2, 2, 5)})
    with pytest.raises(ValueError, match="one level for the whole batch"):
        guided(torch.randn(2, 3), torch.tensor([80, 20]), torch.randn(2, 2, 5))
