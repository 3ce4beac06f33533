"""How large an effect the worlds could have shown. Torch-free."""

import math
from collections.abc import Sequence
from statistics import stdev

from scipy.special import stdtrit

POWER = 0.8


def spread(values: Sequence[float | None]) -> float | None:
    """The standard deviation over worlds. None with fewer than two values."""
    known = [value for value in values if value is not None]
    return stdev(known) if len(known) > 1 else None


def detectable(values: Sequence[float | None], worlds: int | None = None) -> float | None:
    """The effect that a test at the 5% level shows with a probability of about 80%, with the spread of these values.

    It is (t(.975) + t(.8)) · sd / √n, with t quantiles of n − 1 degrees of freedom: the usual approximation of the
    noncentral t distribution. None with fewer than two values.

    Args:
        worlds: n, at least 2. By default the number of values.
    """
    deviation = spread(values)
    if deviation is None:
        return None
    n = worlds or sum(value is not None for value in values)
    return float(stdtrit(n - 1, 0.975) + stdtrit(n - 1, POWER)) * deviation / math.sqrt(n)
