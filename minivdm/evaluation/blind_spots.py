"""What does a metric not see? An experiment that tells a change from chance."""

import math
from collections.abc import Callable
from statistics import mean, variance

import torch


def notices(
    metric: Callable,
    draw: Callable,
    damage: Callable,
    generator: torch.Generator,
    rounds: int = 8,
) -> float:
    r"""By how many standard errors a damage changes what a metric says.

    It is the difference of two means, over its standard error. Each is a mean of `rounds` values of
    the metric, all of them independent: every round draws four fresh batches, two for a value of
    either kind. Beyond 4, up or down, a damage counts as noticed; one that changes nothing goes
    unnoticed, whatever the metric.

    Equation:
        intact: the metric of drawn clips and other drawn ones
        damaged: the metric of drawn clips and other drawn ones that are damaged
        z = ( mean(damaged) - mean(intact) ) / sqrt( var(damaged) / rounds + var(intact) / rounds )

    With variances of `rounds` - 1. Where nothing varies, z is 0 if the means agree, else infinite.

    Args:
        metric: `metric(drawn, judged)` returns a float; both are batches of clips.
        draw: `draw(generator)` returns a batch of clips.
        damage: `damage(clips, generator)` returns the clips, damaged.
        generator: the source of all chance; the same one in the same state gives the same z.
        rounds: 2 or more.

    Returns:
        z, a float: positive if the damage makes the metric larger.

    Raises:
        ValueError: if there are fewer than 2 rounds.
    """
    if rounds < 2:
        raise ValueError(f"expected at least 2 rounds, to know what varies; got {rounds}")
    intact = [metric(draw(generator), draw(generator)) for _ in range(rounds)]
    damaged = [metric(draw(generator), damage(draw(generator), generator)) for _ in range(rounds)]
    difference = mean(damaged) - mean(intact)
    error = math.sqrt((variance(damaged) + variance(intact)) / rounds)
    if error == 0:
        return math.copysign(math.inf, difference) if difference else 0.0
    return difference / error
