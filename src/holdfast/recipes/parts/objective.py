"""The parts of an objective as plain typed settings. `holdfast.objective` computes them."""

from dataclasses import dataclass
from typing import Literal

from holdfast.renamed import refuse_moved_names

Divergence = Literal["forward_kl", "reverse_kl", "jsd", "mixed_kl"]
"""forward_kl = KL(teacher‖student), reverse_kl = KL(student‖teacher), jsd = generalized Jensen–Shannon divergence,
mixed_kl = forward_share · forward_kl + (1 − forward_share) · reverse_kl."""

Support = Literal["full", "topk_tail", "topk_renormalized", "sampled"]
"""The vocabulary entries that a divergence sums over; `sampled` is the estimate from the sampled token."""

Side = Literal["student", "teacher"]

Target = Literal["teacher", "geometric", "partial"]
"""What the student is trained toward. teacher: the teacher q. geometric: the mix ∝ a^(1−λ)·q^λ of an anchor a and the
teacher. partial: that mix with the student as the anchor, and λ chosen per token so that the target has a given
fraction of the teacher's improvement (iSDFT)."""

Clip = Literal["none", "entry", "token"]
"""entry: every summand of a token's divergence is capped at `clip_at` before the sum; a capped one has no gradient
(OPSD). token: a token's divergence is scaled down to `clip_at`, value and gradient, so the gradient keeps its
direction."""

Aggregation = Literal["sequence_mean", "token_mean", "constant"]
"""sequence_mean: mean over the tokens of a row, then over rows. token_mean: mean over all tokens. constant: the sum,
divided by rows · maximum length."""

ImportanceLevel = Literal["none", "token", "sequence_mean"]
"""Correction for the mismatch of sampler and trainer: a capped ratio per token (SDPO), or their mean per row (SDFT)."""

RatioLevel = Literal["token", "sequence"]

Surrogate = Literal["clip", "cispo", "sapo", "raw"]

OffPolicy = Literal["own", "ratio", "shaped"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyGradient:
    """The policy-gradient component. `ratio`, `surrogate` and the clips are independent; published variants combine
    them.

    Args:
        epsilon: for `clip`, how far below 1 the ratio may fall.
        epsilon_high: for `clip`, how far above 1 the ratio may rise. For `cispo`, the cap on the ratio itself.
        gate_positive, gate_negative: for `sapo`, how sharply its gate closes around a ratio of 1, for positive and for
            negative advantages.
        dual_clip: for `clip`, the bound of the loss at a negative advantage, in units of −A (arXiv 1912.09729).
        modulation: λ, the share of a token's advantage that the teacher scales by
            clip(exp(sign(A)·(log q − log p)), 1 ± modulation_clip) at the sampled token (RLSD, arXiv 2604.03128). 0
            needs no teacher.
        off_policy: the ratio of rows that the student did not write with this prompt (`Row.source_logprobs`). own: as
            for the student's own rows, so it starts at 1. ratio: p/p_source, with the probability that the row was
            written with. shaped: the ratio is 1 and the advantage is multiplied by ρ/(ρ + off_policy_gamma),
            ρ = p/p_source, detached (LUFFY, arXiv 2504.14945).
    """

    ratio: RatioLevel = "token"
    surrogate: Surrogate = "clip"
    epsilon: float = 0.2
    epsilon_high: float = 0.2
    gate_positive: float = 1.0
    gate_negative: float = 1.05
    dual_clip: float | None = None
    modulation: float = 0.0
    modulation_clip: float = 0.2
    off_policy: OffPolicy = "own"
    off_policy_gamma: float = 0.1

    def __post_init__(self) -> None:
        if self.dual_clip is not None and (self.surrogate != "clip" or self.dual_clip <= 1):
            raise ValueError("dual_clip needs surrogate: clip, and a value above 1")
        if not 0 <= self.modulation <= 1:
            raise ValueError(f"modulation is {self.modulation:g}; it must be from 0 to 1")
        if not 0 <= self.modulation_clip < 1:
            raise ValueError("modulation_clip must be at least 0 and below 1; otherwise advantages change sign")
        if self.off_policy == "shaped" and self.off_policy_gamma <= 0:
            raise ValueError("off_policy_gamma must be above 0; the smaller it is, the weaker the shaping")
        if min(self.gate_positive, self.gate_negative) <= 0:
            raise ValueError("gate_positive and gate_negative must be above 0; they set how sharply the gate closes")
        if self.surrogate == "cispo" and self.epsilon_high < 1:
            raise ValueError(
                f"epsilon_high is {self.epsilon_high:g}; with surrogate: cispo it caps the ratio itself, so set 1 or "
                "more, such as 5"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenWeight:
    """The weight of cross-entropy at a token y: w = sg(max((p(y)^(1−s) · q(y)^s)^(1/τ), least)), p the student and q
    the teacher.

    s = 0 weights by the student's own probability (DFT, arXiv 2508.05629). s = ½ is the geometric mean with a teacher
    that sees more (SORT, arXiv 2605.11505). For rows without a teacher, q is p.

    Args:
        teacher_share: s, from 0 to 1; 0 needs no teacher.
        tau: τ. `median` measures it before every optimizer step: the median over the step's rows of their mean NLL
            (TALR, arXiv 2509.20758). That takes one more forward pass.
        least: the smallest weight.
        rising_only: tokens that the teacher does not find more probable have weight 0.
        normalized: divide by the row's mean weight. Weights then say which tokens count, not how much the row counts.
    """

    teacher_share: float = 0.0
    tau: float | Literal["median"] = 1.0
    least: float = 0.0
    rising_only: bool = False
    normalized: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.teacher_share <= 1:
            raise ValueError(f"teacher_share is {self.teacher_share:g}; it must be from 0 to 1")
        if self.tau != "median" and self.tau <= 0:
            raise ValueError(f"tau is {self.tau:g}; it divides log-probabilities and must be above 0")
        if not 0 <= self.least < 1:
            raise ValueError(f"the least weight is {self.least:g}; it must be from 0 to below 1, where all weights end")

    @property
    def asks_teacher(self) -> bool:
        return self.teacher_share > 0 or self.rising_only


@dataclass(frozen=True, slots=True, kw_only=True)
class EntropyWeight:
    """The weight of cross-entropy at a token: w = sg((H / scale)^exponent), H the entropy of the student's next-token
    distribution, renormalized on its `top_k` most likely entries (EAFT, arXiv 2601.02151).

    A token that contradicts a certain student has a small weight. Weights can be above 1: H is at most log(top_k).

    Args:
        scale: in nats.
    """

    top_k: int = 20
    scale: float = 3.0
    exponent: float = 1.0

    def __post_init__(self) -> None:
        if self.top_k < 2:
            raise ValueError("the entropy of one renormalized entry is always 0; set top_k to 2 or more")
        if self.scale <= 0 or self.exponent <= 0:
            raise ValueError("the scale and the exponent of an entropy weight must be above 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class DivergenceWeight:
    """The weight of a divergence at a token y: w = sg(w_T · w_S), from both sides (MSD, arXiv 2605.02971).

    w_T = 1 − H(q)/log K    q the teacher, renormalized on its K most likely entries: 1 if it is certain
    w_S = 1 − p(y)          p the student: near 1 if its own token was unlikely

    Args:
        top_k: K.
    """

    by_teacher: bool = True
    by_student: bool = True
    top_k: int = 20

    def __post_init__(self) -> None:
        if self.by_teacher and self.top_k < 2:
            raise ValueError("the entropy of one renormalized entry is always 0; set top_k to 2 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """L = Σ_t coef_t · {is_t · [ce·w·CE + div·v·D(target, student) + PG(A)] + reference_kl·base_kl·KL(student, base)}.

    A recipe annotates ce, div, base_kl and the advantages per row. The objective says how they are computed and
    reduced. A combination that is undefined or has no gradient raises `ValueError`.

    Args:
        jsd_beta: weight of the target in the mixture m = (1−beta)·student + beta·target.
        forward_share: for `mixed_kl`, the weight of the forward KL.
        top_k_by: whose most likely entries a top-k support has.
        sampled_baseline: for support `sampled`. `kl` subtracts the mean of the token advantage over all tokens,
            −KL(student‖target) (vOPD). `topk_kl` subtracts the same with both renormalized on the student's `top_k`
            entries. Neither changes the mean of the gradient.
        anchor: for a geometric target, what is mixed with the teacher: the current student, or the base.
        target_weight: for a geometric target, the teacher's exponent λ. 1 is the teacher; above 1 is beyond it.
        target_fraction: for a partial target, the fraction of the teacher's improvement, in (0, 1].
        clip_at: in nats; 0.05 is OPSD's for `entry`.
        token_weight: weight of cross-entropy by the token's probability; None for 1.
        entropy_weight: weight of cross-entropy by the student's entropy, which multiplies `token_weight`; None for 1.
        divergence_weight: weight of the divergence; None for 1.
        importance_cap: cap of each of the two factors of the correction. At least 1: a lower cap would scale down
            every token's loss, corrected or not, once per factor.
        temperature: divides the logits of student and teacher; equals the sampling temperature.
        count_silent_rows: whether rows without signal count in the denominator of the reduction.
        reference_kl: coefficient of the KL to the base.
        reference_kl_form: k3 and k2 estimate KL(student‖base) from sampled tokens: e^d − d − 1 and ½ d², with
            d = log base − log student. forward_kl is KL(base‖student) over the vocabulary.
        reference_temperature: T of `forward_kl`: T² KL(softmax(z_base/T)‖softmax(z/T)), z the logits after the
            temperature (LwF).
        reference_without_token: leave the row's own token out of both distributions of `forward_kl`, and renormalize
            them (TMKL, arXiv 2605.29498). The KL then leaves that token's probability to the other components.
        reference: the model of the KL to the base: the base, or the recipe's teacher with the student's prompt.
    """

    divergence: Divergence = "forward_kl"
    jsd_beta: float = 0.5
    forward_share: float = 0.5
    support: Support = "full"
    top_k: int = 100
    top_k_by: Side = "student"
    sampled_baseline: Literal["none", "kl", "topk_kl"] = "none"
    target: Target = "teacher"
    anchor: Literal["student", "base"] = "student"
    target_weight: float = 1.0
    target_fraction: float = 1.0
    clip: Clip = "none"
    clip_at: float = 0.05
    aggregation: Aggregation = "sequence_mean"
    token_weight: TokenWeight | None = None
    entropy_weight: EntropyWeight | None = None
    divergence_weight: DivergenceWeight | None = None
    policy_gradient: PolicyGradient | None = None
    importance: ImportanceLevel = "none"
    importance_cap: float = 2.0
    temperature: float = 1.0
    count_silent_rows: bool = True
    reference_kl: float = 0.0
    reference_kl_form: Literal["k3", "k2", "forward_kl"] = "k3"
    reference_temperature: float = 1.0
    reference_without_token: bool = False
    reference: Literal["base", "teacher"] = "base"

    def __post_init__(self) -> None:
        self._check_divergence()
        if self.importance_cap < 1:
            raise ValueError(
                f"importance_cap is {self.importance_cap:g}, but tokens that need no correction have the ratio 1; "
                "set 1 or more, and a lower learning_rate to train less on all of them"
            )
        if self.temperature <= 0:
            raise ValueError(f"the temperature is {self.temperature:g}; it divides the logits and must be above 0")
        self._check_support()
        self._check_target()
        self._check_reference()

    def asks_teacher(self, *, ce: float, div: float, advantage: float) -> bool:
        """Whether the loss of a row with these annotations needs the teacher."""
        weighs = self.token_weight is not None and self.token_weight.asks_teacher
        modulates = self.policy_gradient is not None and self.policy_gradient.modulation > 0
        return bool(div or (ce and weighs) or (advantage and modulates))

    @property
    def asks_base(self) -> bool:
        """Whether the loss needs the base itself."""
        return (bool(self.reference_kl) and self.reference == "base") or self.anchor == "base"

    @property
    def reads_teacher_tokens(self) -> bool:
        """Whether weights or advantages need the teacher's probabilities of the sampled tokens."""
        return self.asks_teacher(ce=1.0, div=0.0, advantage=1.0)

    @property
    def reads_teacher_confidence(self) -> bool:
        """Whether the teacher's certainty weights the divergence."""
        return self.divergence_weight is not None and self.divergence_weight.by_teacher

    def _check_divergence(self) -> None:
        if self.support == "sampled" and self.divergence != "reverse_kl":
            raise ValueError(
                f"support: sampled estimates the reverse KL only, not {self.divergence}; "
                "set divergence: reverse_kl, or another support"
            )
        if self.support == "topk_renormalized" and self.top_k < 2:
            raise ValueError("one renormalized entry has probability 1 on both sides and no gradient; raise top_k")
        if self.top_k < 1:
            raise ValueError(f"top_k is {self.top_k}; a support has at least one entry")
        if self.divergence == "jsd" and not 0 < self.jsd_beta < 1:
            raise ValueError(
                f"the JSD is always 0 at jsd_beta {self.jsd_beta:g}; set a value between 0 and 1, or divergence: "
                "forward_kl or reverse_kl"
            )
        if self.divergence == "mixed_kl" and not 0 < self.forward_share < 1:
            raise ValueError(
                f"forward_share is {self.forward_share:g}, so mixed_kl mixes nothing; set a value between 0 and 1, or "
                "divergence: forward_kl or reverse_kl"
            )

    def _check_support(self) -> None:
        if self.top_k_by == "teacher" and not self.support.startswith("topk"):
            raise ValueError(
                f"top_k_by: teacher needs a top-k support, not {self.support}; "
                "set support: topk_tail or topk_renormalized"
            )
        if self.sampled_baseline != "none" and self.support != "sampled":
            raise ValueError(
                f"sampled_baseline: {self.sampled_baseline} needs support: sampled, not {self.support}; "
                "leave it out, or set support: sampled"
            )
        if self.sampled_baseline == "topk_kl" and self.top_k < 2:
            raise ValueError("one renormalized entry has a KL of 0, which is no baseline; raise top_k")
        if self.clip != "none" and self.support == "sampled":
            raise ValueError("support: sampled has no divergence to clip; set clip: none, or another support")
        if self.clip != "none" and self.clip_at <= 0:
            raise ValueError(f"clip_at is {self.clip_at:g}, which clips the whole divergence; it must be above 0")

    def _check_reference(self) -> None:
        if self.reference_temperature <= 0:
            raise ValueError(f"the reference's temperature is {self.reference_temperature:g}; it must be above 0")
        if self.reference_temperature != 1 and self.reference_kl_form != "forward_kl":
            raise ValueError(
                f"reference_temperature needs reference_kl_form: forward_kl, not {self.reference_kl_form}; leave it out"
            )
        if self.reference_without_token and self.reference_kl_form != "forward_kl":
            raise ValueError(
                f"reference_without_token needs reference_kl_form: forward_kl, not {self.reference_kl_form}; "
                "leave it out"
            )
        if self.reference == "teacher" and self.anchor == "base":
            raise ValueError("anchor: base and reference: teacher name two models for the base; set only one of them")

    def _check_target(self) -> None:
        if self.target == "geometric" and self.target_weight <= 0:
            raise ValueError(
                f"target_weight is {self.target_weight:g}, so a geometric target does not move toward the teacher; "
                "set it above 0"
            )
        if self.target != "geometric" and self.target_weight != 1:
            raise ValueError(
                f"target_weight is for target: geometric, not {self.target}; leave it out, or set target: geometric"
            )
        if self.target != "geometric" and self.anchor == "base":
            raise ValueError(
                f"anchor: base is for target: geometric, not {self.target}; leave it out, or set target: geometric"
            )
        if self.target == "partial" and not 0 < self.target_fraction <= 1:
            raise ValueError(f"target_fraction is {self.target_fraction:g}; it must be above 0 and at most 1")
        if self.target != "partial" and self.target_fraction != 1:
            raise ValueError(
                f"target_fraction is for target: partial, not {self.target}; leave it out, or set target: partial"
            )


__getattr__ = refuse_moved_names(__name__)
