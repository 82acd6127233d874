"""The shared probes: each exercise names those that apply, the reference keeps them, and who breaks one is refused."""

import pytest
import torch
from torch import nn

from minivdm.course import sources
from minivdm.course.checks import find
from minivdm.course.exercise import Draw, Exercise
from minivdm.course.originals import made_again
from minivdm.course.other_device import OtherDevice
from minivdm.course.shared_probes import PROMISES, fresh_generators, is_generator, promised

NAMES = list(sources.exercises())
GENERATOR = torch.Generator()
APPLIED = [(name, promise) for name in NAMES for promise in find(name).applied]


class Spoiled(nn.Module):
    """Something to call whose result, or whose arguments, are spoiled."""

    def __init__(self, call, promise):
        super().__init__()
        self.call, self.promise = call, promise

    def forward(self, **given):
        if self.promise == "generator":
            given = {key: torch.Generator().manual_seed(0) if is_generator(v) else v for key, v in given.items()}
        moved = any(not v.is_contiguous() for v in given.values() if torch.is_tensor(v))
        result = self.call(**given)
        many = isinstance(result, (tuple, list))
        if self.promise == "device" and not any(map(torch.is_tensor, result if many else [result])):
            _ = [v * torch.ones(v.shape or (1,)) for v in given.values() if torch.is_tensor(v)]  # numbers lie nowhere
        return type(result)(self.spoil(one, moved) for one in result) if many else self.spoil(result, moved)

    def spoil(self, out, moved):
        if not torch.is_tensor(out):
            return out
        return {
            "samples": lambda: out.flip(0),
            "dtype": lambda: out.float() if out.is_floating_point() else out.int(),
            "layout": lambda: out + 1 if moved else out,
            "device": lambda: out * torch.ones(out.shape or (1,)),
            "gradients": lambda: out.detach(),
            "generator": lambda: out,
            "noise": lambda: out[..., :1].expand(out.shape),
        }[self.promise]()


def failures(exercise, promise, spoiled):
    call, inputs = exercise.ordinary(made_again(exercise.name), draw := Draw(3))
    if spoiled:
        call = Spoiled(call, promise)
    return [each.what for each in PROMISES[promise](call, inputs, draw, **exercise.applied[promise]) if not each.ok]


@pytest.mark.parametrize("name", NAMES)
def test_each_exercise_names_or_excuses_every_promise(name):
    exercise = find(name)
    assert {*exercise.applied, *exercise.excused} == promised(made_again(name))
    assert exercise.ordinary or not exercise.applied
    assert all(len(why.split()) >= 2 for why in exercise.excused.values())


@pytest.mark.parametrize("name, promise", APPLIED)
def test_who_breaks_a_promise_is_refused(name, promise):
    assert not failures(find(name), promise, spoiled=False)
    assert failures(find(name), promise, spoiled=True)


def test_a_promise_that_is_forgotten_or_unknown_raises():
    made = Exercise("forward_process.q_sample", None)
    with pytest.raises(ValueError, match="q_sample: promises to name or to excuse are .* got .'samples'"):
        made.promises("samples")
    with pytest.raises(ValueError, match="'politeness'"):
        made.promises("samples", "dtype", "layout", "device", "gradients", politeness="who knows")


@pytest.mark.parametrize(
    "code, fine",
    [
        (lambda x, i: x + torch.zeros(3, 4), False),
        (lambda x, i: x + torch.zeros(3, 4, device=x.device), True),
        (lambda x, i: x + torch.zeros(3, 4).to(x), True),
        (lambda x, i: x + torch.tensor(2.0), True),
        (lambda x, i: x[torch.arange(3)], True),
        (lambda x, i: torch.arange(5)[i], False),
        (lambda x, i: torch.cat([x, torch.zeros(1, 4)]), False),
        (lambda x, i: x * (torch.ones(4) / 2).exp(), False),
        (lambda x, i: torch.where(torch.ones(3, 1) > 0, x, x), False),
        (lambda x, i: x + torch.randn(x.shape, generator=torch.Generator()), False),
        (lambda x, i: x + torch.randn_like(x) + x.new_zeros(4), True),
        (lambda x, i: x + torch.randn(x.shape, generator=GENERATOR).to(x), False),
        (lambda x, i: x + torch.randn(x.shape, generator=GENERATOR, device=x.device), True),
        (lambda x, i: x.cpu() + torch.zeros(4), True),
        (lambda x, i: x + x.cpu(), False),
        (lambda x, i: torch.func.grad(lambda z: (z * torch.ones(2).to(z.device)[0] * z).sum())(x), True),
        (lambda x, i: torch.func.grad(lambda z: (z * torch.ones(4)).sum())(x), False),
    ],
)
def test_the_pretended_device_refuses_what_a_gpu_refuses(code, fine):
    x, i = torch.randn(3, 4), torch.tensor([0, 2])
    with OtherDevice() as mode:
        mode.mark(x, i, GENERATOR)
        result = code(x, i)
    assert bool(mode.met) != fine
    assert torch.is_tensor(result) and result.device.type == "cpu"


def test_generators_begin_where_they_began():
    generator = torch.Generator().manual_seed(5)
    torch.randn(3, generator=generator)
    fresh = fresh_generators(dict(generator=generator, x=1))["generator"]
    assert torch.equal(torch.randn(3, generator=fresh), torch.randn(3, generator=torch.Generator().manual_seed(5)))
