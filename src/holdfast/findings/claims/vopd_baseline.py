"""The variance of the sampled-token gradient."""

from holdfast.findings.claim import Claim
from holdfast.findings.precondition import success
from holdfast.findings.quantity import Quantity, measured_apart
from holdfast.findings.variance import gradient_noise

CLAIM = Claim(
    name="vopd-baseline",
    statement="Subtracting the closed-form mean lowers the variance of the sampled-token gradient and does not "
    "change the gradient's mean.",
    source="vOPD, arXiv 2605.07865",
    experiment=gradient_noise,
    preconditions=(success("facts", "demonstration", at_least=0.8),),
    quantities=(
        Quantity("variance of the plain estimator / variance with the baseline, minus 1", "", measured_apart, 0.1),
        Quantity(
            "variance of the plain estimator / variance with a baseline over the top 20, minus 1",
            "",
            measured_apart,
            0.1,
            decides=False,
        ),
        Quantity("−(squared bias with the baseline / squared gradient)", "", measured_apart, 0.05, no_worse=True),
    ),
    against="The baseline leaves the variance as it is, or adds a bias.",
)
