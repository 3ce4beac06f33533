"""How large an effect the worlds could have shown. Torch-free."""

import math
from collections.abc import Sequence

from scipy.special import stdtrit

POWER = 0.8


def detectable(values: Sequence[float | None]) -> float | None:
    """The effect that a test at the 5% level shows with a probability of about 80%, with the spread of these values.

    It is (t(.975) + t(.8)) · sd / √n, with t quantiles of n − 1 degrees of freedom: the usual approximation of the
    noncentral t distribution. None with fewer than two values.
    """
    known = [value for value in values if value is not None]
    n = len(known)
    if n < 2:
        return None
    average = math.fsum(known) / n
    spread = math.sqrt(math.fsum((value - average) ** 2 for value in known) / (n - 1))
    return float(stdtrit(n - 1, 0.975) + stdtrit(n - 1, POWER)) * spread / math.sqrt(n)
