"""Exercise 4.8: singular values near 1, by products of matrices.

What counts is p(s), iterated, of each singular value s: that is what `iterations` promises. So whoever takes a singular
value decomposition apart, and applies p to the values, is right, only slow. U V^T itself has no use for `iterations`,
and is refused, though its values lie in 0.68..1.21.
"""

import torch

from minivdm.course.exercise import close, exercise, holds


def expected(matrices, iterations):
    """By a singular value decomposition in float64, whose values go through the polynomial by themselves."""
    u, s, vh = torch.linalg.svd(matrices.double(), full_matrices=False)
    norm = s.square().sum(dim=-1, keepdim=True).sqrt()
    s = s / torch.where(norm > 0, norm, 1.0)
    for _ in range(iterations):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    return u @ torch.diag_embed(s) @ vh


def with_values(draw, rows, columns, values):
    """A (rows, columns) matrix with these singular values, in random directions."""
    u, v = (torch.linalg.qr(draw.normal(side, len(values)).double())[0] for side in (rows, columns))
    return (u @ torch.diag(torch.tensor(values, dtype=torch.float64)) @ v.T).float()


@exercise("muon.orthogonalized")
def orthogonalized(f, draw):
    like = dict(atol=3e-3, rtol=1e-3, dtype=torch.float32)
    wide, tall = draw.normal(3, 7), draw.normal(6, 2)
    for name, x in {"a wide matrix": wide, "a square one": draw.normal(5, 5), "a tall one": tall}.items():
        yield close(f"{name}, {tuple(x.shape)}, iterations = 1", f(x, 1), expected(x, 1), **like)
    for iterations in (2, 5):
        yield close(f"iterations = {iterations}", f(wide, iterations), expected(wide, iterations), **like)
    yield close("without a number of iterations: 5", f(tall), expected(tall, 5), **like)
    spread = with_values(draw, 6, 9, [1.0, 0.1, 0.03, 0.01, 0.004])
    want = expected(spread, 5)
    yield close("singular values from 1 down to 0.004, and one of 0", f(spread), want, atol=1e-2, dtype=torch.float32)
    sizes = torch.tensor([0.01, 1.0, 100.0])[:, None, None]
    stack = draw.normal(3, 4, 6) * sizes
    yield close("three matrices of sizes 0.01, 1 and 100 in one stack", f(stack), expected(stack, 5), **like)
    stack = draw.normal(2, 3, 5, 4)
    yield close("a stack of (2, 3) tall matrices", f(stack), expected(stack, 5), **like)
    for shape in ((1, 4), (4, 1), (1, 1)):
        x = draw.normal(*shape) + 0.1
        yield close(f"a matrix of {shape[0]} x {shape[1]}", f(x), expected(x, 5), **like)
    stack = draw.normal(3, 3, 4)
    stack[1] = 0
    yield close("a matrix of zeros between two others", f(stack), expected(stack, 5), **like)
    x = draw.normal(2, 4, 8).bfloat16()
    made = f(x)
    yield close("16 bits (bfloat16), roughly", made, expected(x, 5), atol=0.15, dtype=torch.bfloat16)
    zeros = f(torch.zeros(2, 3, dtype=torch.bfloat16))
    yield holds("a matrix of zeros in 16 bits stays one", not zeros.any(), "it does not: is it divided by 0?")


@orthogonalized.promises(
    "samples", "dtype", "layout", "device", gradients="the step of an optimiser; nothing is learnt through it"
)
def a_stack(f, draw):
    return f, dict(matrices=draw.normal(3, 4, 6))


POLYNOMIAL = {
    "gram = x @ x.mT": "pass",
    "powers = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)": "pass",
    "x = torch.baddbmm(x, powers, x, beta=a)": "x = POLYNOMIAL",
}


def polynomial(text):
    """The edit that puts this in the place of one iteration."""
    return {old: new.replace("POLYNOMIAL", text) for old, new in POLYNOMIAL.items()}


orthogonalized.edit(
    "entry by entry",
    polynomial("a * x + b * x**3 + c * x**5"),
    "The polynomial is applied to each entry of the matrix: x**3 is a power entry by entry. The power that acts on "
    "singular values is a product of matrices, X Xᵀ X.",
)
orthogonalized.edit(
    "A squared entry by entry",
    polynomial("a * x + (b * (x @ x.mT) + c * (x @ x.mT) ** 2) @ x"),
    "A² is taken entry by entry (** 2). It is the matrix A times itself: A @ A.",
)
orthogonalized.edit(
    "no normalisation",
    {"x = x / (x.norm(dim=(1, 2), keepdim=True) + EPS)": "pass"},
    "The matrix is not divided by its norm. The polynomial needs singular values of at most 1; larger ones explode.",
)
orthogonalized.edit(
    "the norm of the whole stack",
    {"x.norm(dim=(1, 2), keepdim=True)": "x.norm()"},
    "All matrices of a stack are divided by one norm, so a small one begins much too small. Each has a norm of "
    "its own: give it the two axes of a matrix, and keepdim=True.",
)
orthogonalized.edit(
    "row by row",
    {"x.norm(dim=(1, 2), keepdim=True)": "x.norm(dim=2, keepdim=True)"},
    "Each row is divided by its own length, which turns the singular vectors. A matrix is divided by one number.",
)
orthogonalized.edit(
    "the largest singular value",
    {"x.norm(dim=(1, 2), keepdim=True)": "torch.linalg.matrix_norm(x.float(), 2, keepdim=True).to(x.dtype)"},
    "The matrix is divided by its largest singular value, which takes a decomposition to find. Here it is divided by "
    "its Frobenius norm, the root of the sum of all squares.",
)
orthogonalized.edit(
    "normalised again and again",
    {"gram = x @ x.mT": "x = x / (x.norm(dim=(1, 2), keepdim=True) + EPS)\n        gram = x @ x.mT"},
    "The matrix is divided by its norm in every iteration, which undoes what the iteration before has done. Once, "
    "before the first, is enough.",
)
orthogonalized.edit(
    "coefficients from the other end",
    {"a, b, c = COEFFICIENTS": "c, b, a = COEFFICIENTS"},
    "a and c are exchanged: COEFFICIENTS holds those of s, s³ and s⁵, in this order.",
)
orthogonalized.edit(
    "A and its square exchanged",
    {"beta=b, alpha=c": "beta=c, alpha=b"},
    "b and c are exchanged: b belongs to A X, which is the third power, and c to A² X, the fifth.",
)
orthogonalized.edit(
    "no fifth power",
    {"alpha=c": "alpha=0"},
    "The fifth power, c A² X, is missing.",
)
orthogonalized.edit(
    "A once in both terms",
    polynomial("a * x + (b + c) * (x @ x.mT) @ x"),
    "c stands before A X, the third power, like b. The fifth power is A² X.",
)
orthogonalized.edit(
    "the classic iteration",
    polynomial("1.5 * x - 0.5 * x @ x.mT @ x"),
    "This is the classic iteration, 1.5 s - 0.5 s³. The one that is asked for has three terms, with COEFFICIENTS.",
)
orthogonalized.edit(
    "X transposed first",
    polynomial("a * x + (b * (x.mT @ x) + c * (x.mT @ x) @ (x.mT @ x)) @ x"),
    "Xᵀ X stands on the left of X, which fits square matrices alone and turns their vectors. On the left belongs X Xᵀ; "
    "Xᵀ X would stand on the right.",
)
orthogonalized.edit(
    "iterations ignored",
    {"range(iterations)": "range(5)"},
    "There are 5 iterations, whatever `iterations` says.",
)
orthogonalized.edit(
    "a single iteration",
    {"range(iterations)": "range(1)"},
    "There is one iteration only: repeat it `iterations` times, each time on the result of the one before.",
)
orthogonalized.edit(
    "not turned back",
    {"(x.mT if rows > columns else x)": "x"},
    "A tall matrix is turned to compute with it, and not turned back: reshape gives it the shape alone.",
)
orthogonalized.edit(
    "divided by zero",
    {" + EPS": ""},
    "A matrix of zeros is divided by its norm, 0, which gives NaN: add EPS to the norm.",
)


@orthogonalized.misconception(
    "a decomposition",
    "All singular values are exactly 1, as with U Vᵀ from a decomposition. That is what the iteration comes near to, "
    "but `iterations` has no say in it. Apply the polynomial `iterations` times, by products of matrices.",
)
def a_decomposition(matrices, iterations=5):
    u, s, vh = torch.linalg.svd(matrices.float(), full_matrices=False)
    return (u @ torch.diag_embed((s > 0).float()) @ vh).to(matrices.dtype)
