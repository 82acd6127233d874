"""Exercise 7.6: the thinnest adapter that does what a correction does."""

import math

import torch

from minivdm.course.exercise import close, equal, exercise, holds, raises, reaches

DRAWS, PARTS = 2000, 6


def inputs_of(draw, d_in, directions, loud=1.5):
    """(d_in, directions): inputs are this matrix times white noise; some directions e^loud times stronger or weaker."""
    axes = torch.linalg.qr(draw.normal(d_in, d_in).double())[0][:, :directions]
    return axes * draw.uniform(directions, low=-loud, high=loud).exp().double()


def energies(delta, spread):
    """(n,): how much of the output lies along each of its axes, the most first; from the outputs themselves."""
    return torch.linalg.svdvals(delta.double() @ spread).square()


def least_rank(delta, spread, share):
    """The least rank, counted down from the whole; the share that it loses, and the one that a rank less would lose."""
    found = energies(delta, spread)
    rank = len(found)
    while rank > 1 and found[rank - 1 :].sum() <= share * found.sum():
        rank -= 1
    return rank, (found[rank:].sum() / found.sum()).item(), (found[rank - 1 :].sum() / found.sum()).item()


@exercise("fusion.thin_adapter")
def thin_adapter(f, draw):
    for d_out, d_in, directions, share in (
        (6, 9, 9, 0.1),
        (9, 6, 6, 0.02),
        (12, 12, 12, 0.3),
        (8, 20, 5, 0.05),
        (10, 7, 7, 0.001),
    ):
        delta, spread = draw.normal(d_out, d_in), inputs_of(draw, d_in, directions)
        gram = spread @ spread.T
        _, lost, more = least_rank(delta, spread, share)
        share = (lost * more) ** 0.5 if lost > share / 10 else share  # not at the edge, where rounding decides
        rank, lost, _ = least_rank(delta, spread, share)
        made = f(delta, gram.float(), share)
        pair = isinstance(made, (tuple, list)) and len(made) == 2 and all(torch.is_tensor(each) for each in made)
        yield holds(
            "A and B, two tensors", pair, f"expected a pair of tensors, got {type(made).__name__}", usable=False
        )
        A, B = made
        fits = A.ndim == B.ndim == 2 and (len(B), A.shape[1]) == (d_out, d_in) and len(A) == B.shape[1] >= 1
        came = f"A {tuple(A.shape)} and B {tuple(B.shape)} for a correction {d_out, d_in}"
        yield holds("A is (r, d_in) and B is (d_out, r), with r of 1 or more", fits, f"got {came}", usable=False)
        if not (pair and fits):
            return
        x = draw.normal(PARTS, directions, DRAWS).double()
        wrong, whole = (matrix @ spread @ x for matrix in (delta - B.double() @ A.double(), delta.double()))
        shares = wrong.square().sum((1, 2)) / whole.square().sum((1, 2))  # (PARTS,)
        name = f"{d_out} x {d_in}, inputs in {directions} directions, {share:.2g} may be lost"
        yield reaches(f"{name}: the share lost on new inputs", shares, at_most=1.01 * share + 1e-9)
        yield equal(f"{name}: the rank, the least possible", len(A), rank)

    delta, spread = draw.normal(5, 8), inputs_of(draw, 8, 8)
    some = [f(delta, (scale * spread @ spread.T).float(), 0.1) for scale in (1.0, 1000.0)]
    products = [B @ A for A, B in some]
    yield close("a multiple of the Gram matrix changes nothing", *products, atol=2e-3, rtol=2e-3)
    quiet = torch.diag(torch.tensor([1.0, 1.0, 0.0, 0.0]))  # the last two directions have no input
    delta = torch.diag(torch.tensor([2.0, 1.0, 9.0, 5.0])) @ torch.eye(4)
    A, B = f(delta, quiet, 0.1)
    yield equal("the largest numbers of D act where no input points: rank", len(A), 2)
    yield close("and what it gives out where inputs point", B @ A @ quiet, delta @ quiet, atol=1e-4)
    A, B = f(torch.zeros(4, 3), torch.eye(3), 0.5)
    yield equal("a correction that is 0: rank", len(A), 1)
    yield close("a correction that is 0: B A", B @ A, torch.zeros(4, 3))
    for wrong in (0.0, 1.0, -0.1, math.nan):
        yield raises(f"a share of {wrong} may be lost", ValueError, lambda share=wrong: f(delta, quiet, share))


@thin_adapter.promises(
    "dtype",
    "layout",
    "device",
    samples="one correction, for all inputs",
    gradients="it is no training: a rank has none",
)
def product_of_an_adapter(f, draw):
    def product(delta, gram, at_most):
        A, B = f(delta, gram, at_most)
        return B @ A

    spread = inputs_of(draw, 5, 5).float()
    return product, dict(delta=draw.normal(4, 5), gram=spread @ spread.T, at_most=0.1)


ENERGIES = "D @ gram.double() @ D.T"
thin_adapter.edit(
    "the inputs left out",
    {ENERGIES: "D @ D.T"},
    "This is the thinnest matrix near D itself: the inputs are left out. What D does in a direction in which no input "
    "points costs nothing, and what it does to loud inputs costs much: look at the outputs D X.",
)
thin_adapter.edit(
    "the Gram matrix squared",
    {ENERGIES: "D @ gram.double() @ gram.double() @ D.T"},
    "The Gram matrix is used twice, as if the inputs were G. They are X, and only X X^T is known: what is "
    "(D X) (D X)^T?",
)
thin_adapter.edit(
    "lengths in place of squares",
    {"values.clamp(min=0).cumsum(0)": "values.clamp(min=0).sqrt().cumsum(0)"},
    "Lengths are added up, not squares. What is lost along several axes is the sum of their *squared* lengths, the "
    "eigenvalues as they are.",
)
thin_adapter.edit(
    "each axis by itself",
    {"values.clamp(min=0).cumsum(0)": "values.clamp(min=0)", "lost[-1]": "values.clamp(min=0).sum()"},
    "Each axis is compared with what may be lost by itself. But the axes that are left out lose together: add them up.",
)
thin_adapter.edit(
    "compared with the largest",
    {"at_most * lost[-1]": "at_most * values[-1]"},
    "What may be lost is a share of the *whole* output, of all axes, and not of the strongest axis alone.",
)
thin_adapter.edit(
    "as much kept as may be lost",
    {"int((lost > at_most * lost[-1]).sum())": "int((lost > (1 - at_most) * lost[-1]).sum())"},
    "At most so much may be *lost*; here so much is kept.",
)
thin_adapter.edit(
    "the weakest axes kept",
    {"axes[:, -kept:]": "axes[:, :kept]"},
    "The weakest axes are kept. `eigh` gives the smallest eigenvalue first.",
)
thin_adapter.edit(
    "one rank too many",
    {"max(int((lost > at_most * lost[-1]).sum()), 1)": "min(int((lost > at_most * lost[-1]).sum()) + 1, len(D))"},
    "One rank more than is needed. Count the axes that may *not* be left out.",
)
thin_adapter.edit(
    "one rank too few",
    {"max(int((lost > at_most * lost[-1]).sum()), 1)": "max(int((lost > at_most * lost[-1]).sum()) - 1, 1)"},
    "One rank less than is needed: more is lost than may be.",
)
thin_adapter.edit(
    "the energies twice",
    {"(B.T @ D)": "(values[-kept:, None].sqrt() * (B.T @ D))"},
    "A holds the strength of each axis twice. B^T D is the whole coordinate along it: B (B^T D) is D, seen along those "
    "axes alone.",
)
thin_adapter.edit(
    "rank 0 for nothing",
    {"max(int((lost > at_most * lost[-1]).sum()), 1)": "int((lost > at_most * lost[-1]).sum())"},
    "A correction that is 0 gets no rank at all. The least rank is 1.",
)


@thin_adapter.misconception(
    "the main directions of the inputs",
    "It keeps the directions in which most of the *input* lies. But a loud input may be one that D hardly looks at: "
    "what counts is what comes out, D X.",
)
def by_the_inputs(delta, gram, at_most):
    if not 0 < at_most < 1:
        raise ValueError("share")
    axes = torch.linalg.eigh(gram.double())[1].flip(1)  # (d_in, d_in), the loudest first
    D, whole = delta.double(), (delta.double() @ gram.double() @ delta.double().T).trace()
    for rank in range(1, len(axes) + 1):
        A = axes[:, :rank].T
        rest = D - D @ A.T @ A
        if (rest @ gram.double() @ rest.T).trace() <= at_most * whole:
            break
    return A.to(delta.dtype), (D @ A.T).to(delta.dtype)


@thin_adapter.misconception(
    "the thinnest D that loses no more of D X",
    "The right quantity is measured, what is lost of D X, but along the axes of D itself. Others lose less at the same "
    "rank: those along which the *outputs* D X lie.",
)
def by_the_axes_of_d(delta, gram, at_most):
    if not 0 < at_most < 1:
        raise ValueError("share")
    G, D = gram.double(), delta.double()
    U, S, V = torch.linalg.svd(D, full_matrices=False)
    for rank in range(1, len(S) + 1):
        rest = D - (U[:, :rank] * S[:rank]) @ V[:rank]
        if (rest @ G @ rest.T).trace() <= at_most * (D @ G @ D.T).trace():
            break
    return (S[:rank, None] * V[:rank]).to(delta.dtype), U[:, :rank].to(delta.dtype)
