"""All claims. Each states what counts as evidence before anything is measured. Torch-free.

One file per family of claims. An arm that several claims need is defined once, so its runs are made once.
"""

from holdfast.findings.claim import Claim
from holdfast.findings.claims.action_guidance import ACTION_GUIDANCE
from holdfast.findings.claims.artifacts import ARTIFACTS
from holdfast.findings.claims.exposure import EXPOSURE
from holdfast.findings.claims.keeping import KEEPING
from holdfast.findings.claims.later import LATER
from holdfast.findings.claims.near_future import NEAR_FUTURE
from holdfast.findings.claims.own import OWN
from holdfast.findings.claims.two_stages import TWO_STAGES
from holdfast.findings.claims.wide import WIDE

CLAIMS: tuple[Claim, ...] = (
    *OWN,
    *TWO_STAGES,
    *KEEPING,
    *ARTIFACTS,
    *NEAR_FUTURE,
    *ACTION_GUIDANCE,
    *WIDE,
    *EXPOSURE,
    *LATER,
)
