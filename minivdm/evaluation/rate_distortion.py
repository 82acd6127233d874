r"""How much must be said to lose how little? The best code for Gaussian data, in closed form.

Rate-distortion theory (Shannon, 1959; Cover and Thomas, "Elements of Information Theory", 2nd edition, section 10.3.3).
It is what a linear autoencoder can reach at best, and so the line that a trained one has to beat.

    R nats of one Gaussian number of variance v leave the squared error  D = v exp(-2 R),  so  R = 1/2 ln(v / D)
"""

from torch import Tensor


def linear_code(variances: Tensor, kl_weight: float) -> tuple[float, float]:
    """What the best linear autoencoder says and loses at a price.

    It minimises distortion + kl_weight rate, one direction at a time: D = min(v, kl_weight / 2).

    Args:
        variances: (D,) of the data along independent directions, such as the eigenvalues of its covariance.
        kl_weight: squared error that one nat may cost, above 0.

    Returns:
        (rate, distortion): nats and squared error of a sample, sums over all directions.
    """
    left = variances.double().clamp(max=kl_weight / 2)  # (D,) what each direction loses
    said = variances > kl_weight / 2
    rate = (variances.double() / left)[said].log().sum() / 2
    return rate.item(), left.sum().item()


def design_code(variances: Tensor, distortion: float) -> tuple[float, int]:
    """The cheapest linear code whose squared error is what you allow: its price, and how
    many directions it keeps.

    Args:
        variances: (D,) variances of the data along independent directions, above 0, in any order.
        distortion: the squared error of a sample, summed over all directions, that is allowed:
            above 0, and below the sum of the variances, which is lost by saying nothing.

    Returns:
        (kl_weight, kept), a float and an int: the price at which `linear_code` loses just so
        much, and the number of directions that it then says anything about.

    Raises:
        ValueError: if the distortion is not between 0 and the sum of the variances.
    """
    v = variances.double().sort(descending=True).values  # (D,)
    if not 0 < distortion < v.sum():
        wanted = f"above 0 and below the sum of the variances, {v.sum():.4g}"
        raise ValueError(f"the distortion must lie {wanted}; got {distortion}")
    for kept in range(1, len(v) + 1):
        # the directions left out lose their variance, the others share the rest evenly
        level = (distortion - v[kept:].sum().item()) / kept
        if level > 0 and (kept == len(v) or level >= v[kept]):
            return 2 * level, kept
    raise AssertionError("some number of directions always fits")
