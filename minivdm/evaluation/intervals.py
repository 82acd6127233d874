r"""How far can a share be trusted? Wilson's interval (Journal of the American Statistical Association, 1927)."""

from statistics import NormalDist


def wilson_interval(hits: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    r"""The shares p for which `hits` of n would be no surprise: |hits / n - p| <= z sqrt( p (1 - p) / n ).

    Solved for p, with q = hits / n:

        p = ( q + z^2 / 2n  +-  z sqrt( q (1 - q) / n + z^2 / 4n^2 ) ) / ( 1 + z^2 / n )

    Unlike q +- z sqrt( q (1 - q) / n ), it has a width where q is 0 or 1, and stays in 0..1.

    Args:
        hits: 0..n.
        n: number of trials, at least 1.
        confidence: 0..1, in between; z is the standard normal's quantile at (1 + confidence) / 2.

    Returns:
        (low, high), shares in 0..1.

    Raises:
        ValueError: if a number makes no sense.
    """
    if n < 1 or not 0 <= hits <= n:
        raise ValueError(f"expected 0 to n hits of n >= 1 trials, got {hits} of {n}")
    if not 0 < confidence < 1:
        raise ValueError(f"expected a confidence between 0 and 1, got {confidence}")
    z, q = NormalDist().inv_cdf((1 + confidence) / 2), hits / n
    middle, half = q + z * z / (2 * n), z * (q * (1 - q) / n + z * z / (4 * n * n)) ** 0.5
    low, high = ((middle + sign * half) / (1 + z * z / n) for sign in (-1, 1))
    return (0.0 if hits == 0 else low), (1.0 if hits == n else high)
