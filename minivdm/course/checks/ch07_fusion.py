"""Exercise 7.4: the weights that do what several adapters do."""

import torch

from minivdm.course.exercise import close, exercise, holds, raises


def least_squares(weight, deltas, inputs, ridge):
    """The minimum of the objective, in float64: one row for each input and output, solved for W - W_0."""
    columns = [x.double() for x in inputs] + [ridge**0.5 * torch.eye(weight.shape[1]).double()]
    targets = [d.double() @ x.double() for d, x in zip(deltas, inputs)] + [0 * weight.double()]
    found = torch.linalg.lstsq(torch.cat(columns, dim=1).T, torch.cat(targets, dim=1).T).solution.T
    return weight.double() + found


@exercise("fusion.fused_weight")
def fused_weight(f, draw):
    def case(d_out, d_in, counts):
        weight, deltas = draw.normal(d_out, d_in), [draw.normal(d_out, d_in) for _ in counts]
        return weight, deltas, [draw.normal(d_in, count) for count in counts]

    def call(weight, deltas, inputs, *ridge):
        return f(weight, deltas, [x @ x.T for x in inputs], *ridge)

    like = dict(atol=2e-3, rtol=2e-3, dtype=torch.float32)
    for name, counts, ridge in (
        ("two concepts, many inputs, ridge 0", (30, 40), 0.0),
        ("three concepts, ridge 0.5", (20, 5, 3), 0.5),
        ("few inputs, ridge 0.2: most directions are free", (2, 1), 0.2),
        ("inputs of very different numbers", (60, 9), 0.05),
        ("a large ridge", (8, 8), 300.0),
    ):
        weight, deltas, inputs = case(4, 7, counts)
        yield close(name, call(weight, deltas, inputs, ridge), least_squares(weight, deltas, inputs, ridge), **like)
    weight, deltas, inputs = case(5, 6, (25, 25))
    yield close("ridge is 0 by default", call(weight, deltas, inputs), least_squares(weight, deltas, inputs, 0), **like)
    one = call(weight, deltas[:1], inputs[:1], 0.0)
    yield close("one concept alone, enough inputs: its own weights", one, weight + deltas[0], **like)
    same = call(weight, [deltas[0]] * 2, inputs, 0.0)
    yield close("two concepts that agree: what both want, once", same, weight + deltas[0], **like)
    still = call(weight, [0 * delta for delta in deltas], inputs, 0.7)
    yield close("no corrections: W_0 stays, whatever the ridge", still, weight, **like)

    axes = torch.linalg.qr(draw.normal(6, 6))[0]
    apart = [axes[:, :2] @ draw.normal(2, 9), axes[:, 2:4] @ draw.normal(2, 9)]
    fused = call(weight, deltas, apart, 1e-2)
    for i, x in enumerate(apart):
        name = f"inputs that do not overlap: concept {i + 1}'s outputs"
        yield close(name, fused @ x, (weight + deltas[i]) @ x, atol=0.1, rtol=0.02)
    free = axes[:, 4:]
    yield close("where no input points, W stays W_0", fused @ free, weight @ free, atol=1e-2, rtol=1e-2)

    sizes = torch.tensor([3.0, 2.0, 5.0, 0.0, 0.0, 0.0]).diag()  # exact, so that singular is singular
    fused = f(weight, deltas, [sizes, 2 * sizes.roll((1, 1), (0, 1))], 0.0)
    kept = fused[:, 4:] - weight[:, 4:]
    yield close("ridge 0, no input along two axes: of all minima the one nearest to W_0", kept, 0 * kept, **like)
    weight, deltas, _ = case(4, 7, (1, 1))
    loud = torch.linalg.qr(draw.normal(7, 7))[0][:, :1].double()
    grams = [(size * loud @ loud.T + 1e-6 * torch.eye(7).double()).float() for size in (1.0, 0.3)]
    wanted = sum(delta.double() @ gram.double() for delta, gram in zip(deltas, grams))
    exact = weight.double() + torch.linalg.solve(sum(gram.double() for gram in grams), wanted.T).T
    name = "inputs a thousand times larger in one direction than in the others, which takes float64"
    yield close(name, f(weight, deltas, grams, 0.0), exact, **like)
    weight, deltas, inputs = case(3, 5, (9, 7))

    def objective(candidate, ridge=0.3):
        fits = sum(((weight + d - candidate) @ x).double().square().sum() for d, x in zip(deltas, inputs))
        return (fits + ridge * (candidate - weight).double().square().sum()).item()

    fused = call(weight, deltas, inputs, 0.3)
    nearby = min(objective(fused + 0.02 * draw.normal(3, 5)) for _ in range(20))
    message = f"the sum to be made small is {objective(fused):.5g} there, and {nearby:.5g} close by"
    yield holds("no weights close by do better", objective(fused) <= nearby, message)
    yield raises("no concepts", ValueError, lambda: f(weight, [], []))
    yield raises("two corrections, one Gram matrix", ValueError, lambda: f(weight, deltas, [torch.eye(5)]))


@fused_weight.promises(
    "dtype", "layout", "device", samples="all concepts act on one matrix", gradients="it is solved, never trained"
)
def two_concepts(f, draw):
    inputs = [draw.normal(4, 9) for _ in range(2)]
    deltas = [draw.normal(3, 4) for _ in inputs]
    return f, dict(weight=draw.normal(3, 4), deltas=deltas, grams=[x @ x.T for x in inputs], ridge=0.3)


CHANGE = "change = wanted @ torch.linalg.pinv(total, hermitian=True)"
fused_weight.edit(
    "the corrections added",
    {CHANGE: "change = sum(delta.double() for delta in deltas)"},
    "The corrections are simply added, so each acts on the other's inputs, too. That is the plain sum, which this is "
    "to improve on.",
)
fused_weight.edit(
    "the corrections averaged",
    {CHANGE: "change = sum(delta.double() for delta in deltas) / len(deltas)"},
    "The corrections are averaged, so each is felt at half its strength. Where only concept i's inputs point, its "
    "correction should act fully.",
)
fused_weight.edit(
    "the ridge pulls to zero",
    {
        "delta.double() @ gram.double()": "(weight.double() + delta.double()) @ gram.double()",
        "(weight.double() + change)": "change",
    },
    "With a ridge, W is pulled towards 0. It should be pulled towards W_0: where no input points, W stays W_0. Solve "
    "for the change W - W_0.",
)
fused_weight.edit(
    "the ridge left out",
    {"+ ridge *": "+ 0 * ridge *"},
    "The ridge is not in the sum of the Gram matrices. Its part of the gradient is ridge (W - W_0).",
)
fused_weight.edit(
    "a ridge for each concept",
    {"+ ridge *": "+ len(grams) * ridge *"},
    "The ridge counts once for each concept. It stands outside the sum over concepts.",
)
fused_weight.edit(
    "the ridge halved",
    {"+ ridge *": "+ ridge / 2 *"},
    "The ridge counts half. The derivative of its square has the same factor 2 as the others, which cancels.",
)
fused_weight.edit(
    "only the change",
    {"(weight.double() + change)": "change"},
    "This is the change W - W_0. Add W_0.",
)
fused_weight.edit(
    "the ridge squared",
    {"+ ridge *": "+ ridge**2 *"},
    "The ridge is squared. It stands before the square already.",
)
fused_weight.edit(
    "the ridge twice",
    {"+ ridge *": "+ 2 * ridge *"},
    "The ridge counts twice. The derivative of every square, of the fits and of the ridge, has the same factor 2: it "
    "cancels in all of them.",
)
LEFT = "The unknown stands on the left: D G = R, with G the sum of the Gram matrices (and the ridge). "
fused_weight.edit(
    "solved from the other side",
    {CHANGE: "change = torch.linalg.solve(total, wanted)"},
    LEFT + "`solve(G, R)` answers G D = R. Transpose both sides: G is symmetric.",
)
fused_weight.edit(
    "inverted on the other side",
    {CHANGE: "change = torch.linalg.pinv(total) @ wanted"},
    LEFT + "So the inverse of G is multiplied from the right, and here it stands on the left.",
)
fused_weight.edit(
    "transposed once",
    {CHANGE: "change = torch.linalg.solve(total, wanted.T)"},
    "Both sides were transposed to solve D G = R, so what comes out is the transpose of the change, (d_in, d_out). "
    "Transpose it back.",
)
fused_weight.edit(
    "float64 comes back",
    {".to(weight.dtype)": ""},
    "The result is float64. Compute in float64, and return it in the type of `weight`, as the layer needs it.",
)
SINGULAR = (
    "With ridge 0, and directions in which no input points, the sum of the Gram matrices has no inverse, and many W do "
    "equally well. Of these the one nearest to W_0 is wanted, so the smallest change: "
)
fused_weight.edit(
    "an inverse that there may not be",
    {"torch.linalg.pinv(total, hermitian=True)": "torch.linalg.inv(total)"},
    SINGULAR + "`torch.linalg.pinv` in place of `inv`.",
)
fused_weight.edit(
    "solved where there may be no inverse",
    {CHANGE: "change = torch.linalg.solve(total, wanted.T).T"},
    SINGULAR + "`torch.linalg.pinv` in place of `solve`.",
)
fused_weight.edit(
    "in float32",
    {
        "delta.double() @ gram.double()": "delta @ gram",
        "gram.double() for": "gram for",
        "change).to": "change.double()).to",
    },
    "It is computed in the type of the weights. Where inputs are a thousand times larger in one direction than in "
    "another, the Gram matrix differs by a million, which float32 cannot solve: go to float64 first.",
)


@fused_weight.misconception(
    "each solved by itself",
    "Each concept is solved by itself, and the solutions are added: then each one's change acts on the other's inputs. "
    "Sum D_i G_i and G_i first, and solve once.",
)
def each_by_itself(weight, deltas, grams, ridge=0.0):
    if not deltas or len(deltas) != len(grams):
        raise ValueError("expected as many Gram matrices as corrections")
    change = 0
    for delta, gram in zip(deltas, grams):
        total = gram.double() + ridge * torch.eye(len(gram), dtype=torch.float64, device=gram.device)
        change = change + delta.double() @ gram.double() @ torch.linalg.pinv(total, hermitian=True)
    return (weight.double() + change).to(weight.dtype)
