"""What an objective is made of, as plain typed settings. Importable without torch."""

from dataclasses import dataclass
from typing import Literal

Divergence = Literal["forward_kl", "reverse_kl", "jsd"]
"""forward_kl = KL(teacher‖student), reverse_kl = KL(student‖teacher), jsd = generalized Jensen–Shannon."""

Support = Literal["full", "topk_tail", "topk_renormalized", "sampled"]
"""Vocabulary that a divergence sums over; `sampled` is the single-token surrogate."""

Side = Literal["student", "teacher"]

Target = Literal["teacher", "geometric", "partial"]
"""What the student is drawn toward: the teacher q itself, the mix ∝ a^(1−λ)·q^λ of an anchor a and the teacher, or the
mix with λ chosen for every token such that it is a given part of the way from the student to the teacher (iSDFT)."""

Clip = Literal["none", "entry", "token"]
"""entry: every summand of a token's divergence is cut off above `clip_at` before the sum, and passes no gradient
(OPSD). token: a token's divergence is scaled down to `clip_at`, value and gradient alike, so it keeps its direction."""

Aggregation = Literal["sequence_mean", "token_mean", "constant"]
"""sequence_mean: tokens within a row, then rows. token_mean: all tokens alike. constant: ÷ rows·max length."""

ImportanceLevel = Literal["none", "token", "sequence_mean"]
"""Correction for sampler/trainer mismatch: per token capped ratio (SDPO), or their mean per row (SDFT)."""

RatioLevel = Literal["token", "sequence"]

Surrogate = Literal["clip", "cispo", "sapo", "raw"]

OffPolicy = Literal["own", "ratio", "shaped"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyGradient:
    """The policy-gradient component: `ratio` × `surrogate` × clips, orthogonal, for every published variant."""

    ratio: RatioLevel = "token"
    surrogate: Surrogate = "clip"
    epsilon: float = 0.2
    epsilon_high: float = 0.2
    """Of `clip`: how far above 1 the ratio may rise. Of `cispo`: the cap on the ratio itself."""
    gate_positive: float = 1.0
    gate_negative: float = 1.05
    """Of `sapo`: how sharply the gate closes around a ratio of 1, for positive and for negative advantages."""
    dual_clip: float | None = None
    """Of `clip`: with a negative advantage, the loss is bounded at this many times −A (arXiv 1912.09729)."""
    modulation: float = 0.0
    """λ: how much of a token's advantage the teacher scales, by clip(exp(sign(A)·(log q − log p)), 1 ± modulation_clip)
    at the sampled token (RLSD, arXiv 2604.03128); 0 asks no teacher."""
    modulation_clip: float = 0.2
    off_policy: OffPolicy = "own"
    """Of rows that were written otherwise than by the student with this prompt (`Row.source_logprobs`). own: as the
    student's own, so that their ratio begins at 1. ratio: p/p_source, the denominator being the probability that they
    were written with. shaped: the ratio is 1, and the advantage times ρ/(ρ + off_policy_gamma), with ρ = p/p_source,
    detached (LUFFY, arXiv 2504.14945)."""
    off_policy_gamma: float = 0.1

    def __post_init__(self) -> None:
        if self.dual_clip is not None and (self.surrogate != "clip" or self.dual_clip <= 1):
            raise ValueError("dual_clip is for surrogate `clip`, and a ratio above 1 from which on losses are bounded")
        if not 0 <= self.modulation <= 1 or not 0 <= self.modulation_clip < 1:
            raise ValueError("modulation is a share from 0 to 1; modulation_clip is below 1, or advantages change sign")
        if self.off_policy == "shaped" and self.off_policy_gamma <= 0:
            raise ValueError("off_policy_gamma must be above 0; the smaller it is, the less the advantage is shaped")
        if min(self.gate_positive, self.gate_negative) <= 0:
            raise ValueError("gate_positive and gate_negative say how sharply a gate closes; they must be above 0")
        if self.surrogate == "cispo" and self.epsilon_high < 1:
            raise ValueError(
                "with surrogate `cispo`, epsilon_high is the cap on the ratio; 1 or more is meant, such as 5"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenWeight:
    """What cross-entropy counts for at a token y: w = sg(p(y)^(1−s) · q(y)^s), p the student and q the teacher.

    s = 0 weighs by the student's own probability (DFT, arXiv 2508.05629); s = ½ by its geometric mean with that of the
    teacher, who sees more (SORT, arXiv 2605.11505). Where no teacher was asked, q is p.
    """

    teacher_share: float = 0.0
    """s, from 0 to 1; 0 asks no teacher."""
    rising_only: bool = False
    """Tokens that the teacher does not find more probable weigh 0."""
    normalized: bool = False
    """Divide by the row's mean weight, so that weights say which tokens count and not how much the row does."""

    def __post_init__(self) -> None:
        if not 0 <= self.teacher_share <= 1:
            raise ValueError(f"teacher_share is {self.teacher_share:g}; it is a share from 0 to 1")

    @property
    def asks_teacher(self) -> bool:
        return self.teacher_share > 0 or self.rising_only


@dataclass(frozen=True, slots=True, kw_only=True)
class DivergenceWeight:
    """What a divergence counts for at a token y: w = sg(w_T · w_S), seen from both sides (MSD, arXiv 2605.02971).

    w_T = 1 − H(q)/log K    q the teacher, renormalized on its K most likely entries: 1 where it is sure
    w_S = 1 − p(y)          p the student: near 1 where it finds its own token unlikely
    """

    by_teacher: bool = True
    by_student: bool = True
    top_k: int = 20
    """K."""

    def __post_init__(self) -> None:
        if self.by_teacher and self.top_k < 2:
            raise ValueError("one renormalized entry has no entropy, whatever the teacher says; raise top_k")


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """L = Σ_t coef_t · {is_t · [ce·w·CE + div·v·D(target, student) + PG(A)] + reference_kl·base_kl·KL(student, base)}.

    ce, div, base_kl and the advantages are annotated per row by a recipe; this says how they are computed and reduced.
    A combination that is not defined or can give no signal raises `ValueError`.
    """

    divergence: Divergence = "forward_kl"
    jsd_beta: float = 0.5
    """Weight of the target in the mixture m = (1−beta)·student + beta·target."""
    support: Support = "full"
    top_k: int = 100
    top_k_by: Side = "student"
    """Whose most likely entries a top-k support has."""
    sampled_baseline: Literal["none", "kl", "topk_kl"] = "none"
    """Of support `sampled`: `kl` subtracts the token advantage's mean over all tokens, −KL(student‖target) (vOPD), and
    `topk_kl` the same of both renormalized on the student's `top_k` entries, which leaves the gradient's mean too."""
    target: Target = "teacher"
    anchor: Literal["student", "base"] = "student"
    """Of a geometric target: what is mixed with the teacher; the student as it is now, or the base."""
    target_weight: float = 1.0
    """Of a geometric target: the teacher's exponent λ. 1 is the teacher itself, and above 1 lies beyond it."""
    target_fraction: float = 1.0
    """Of a partial target: how much of the teacher's improvement on the student is asked for, in (0, 1]."""
    clip: Clip = "none"
    clip_at: float = 0.05
    """In nats; OPSD's default for `entry`."""
    aggregation: Aggregation = "sequence_mean"
    token_weight: TokenWeight | None = None
    """Of cross-entropy; None for 1."""
    divergence_weight: DivergenceWeight | None = None
    """Of the divergence; None for 1."""
    policy_gradient: PolicyGradient | None = None
    importance: ImportanceLevel = "none"
    importance_cap: float = 2.0
    """Of each of its two factors, at least 1: below, it would scale every token's loss, those that need no correction
    too, by the cap once for each factor."""
    temperature: float = 1.0
    """Divides student and teacher logits alike; equals the sampling temperature."""
    count_silent_rows: bool = True
    """Whether rows without signal count in the denominator of the reduction."""
    reference_kl: float = 0.0
    """Coefficient of KL to the base."""
    reference_kl_form: Literal["k3", "k2", "forward_kl"] = "k3"
    """k3 and k2: estimates of KL(student‖base) from sampled tokens, e^d − d − 1 and ½ d², d = log base − log student;
    forward_kl: KL(base‖student) over the vocabulary."""
    reference_temperature: float = 1.0
    """T of `forward_kl`: T² KL(softmax(z_base/T)‖softmax(z/T)), z logits with the temperature applied (LwF)."""
    reference: Literal["base", "teacher"] = "base"
    """Who stands for the base in KL to it: the base, or the recipe's teacher with the student's own prompt."""

    def __post_init__(self) -> None:
        if self.support == "sampled" and self.divergence != "reverse_kl":
            raise ValueError(
                f"support `sampled` estimates the reverse KL alone, not {self.divergence}; "
                "set divergence: reverse_kl, or another support"
            )
        if self.support == "topk_renormalized" and self.top_k < 2:
            raise ValueError("one renormalized entry has probability 1 on both sides and gives no signal; raise top_k")
        if self.top_k < 1:
            raise ValueError(f"top_k is {self.top_k}; a support has at least one entry")
        if self.divergence == "jsd" and not 0 < self.jsd_beta < 1:
            raise ValueError(
                f"the JSD is 0 at jsd_beta {self.jsd_beta:g}; choose one between 0 and 1, or a divergence of its own: "
                "forward_kl or reverse_kl"
            )
        if self.importance_cap < 1:
            raise ValueError(
                f"importance_cap is {self.importance_cap:g}, and tokens that need no correction have the ratio 1; "
                "set 1 or more, and a lower learning_rate to train less on all of them"
            )
        if self.temperature <= 0:
            raise ValueError(f"the temperature is {self.temperature:g}; it divides the logits and must be above 0")
        self._check_support()
        self._check_target()
        self._check_reference()

    def asks_teacher(self, *, ce: float, div: float, advantage: float) -> bool:
        """Whether a row so annotated reads what its teacher says."""
        weighs = self.token_weight is not None and self.token_weight.asks_teacher
        modulates = self.policy_gradient is not None and self.policy_gradient.modulation > 0
        return bool(div or (ce and weighs) or (advantage and modulates))

    @property
    def asks_base(self) -> bool:
        """Whether anything is held to the base itself."""
        return (bool(self.reference_kl) and self.reference == "base") or self.anchor == "base"

    @property
    def reads_teacher_tokens(self) -> bool:
        """Whether weights or advantages follow from the teacher's probabilities of the sampled tokens."""
        return self.asks_teacher(ce=1.0, div=0.0, advantage=1.0)

    @property
    def reads_teacher_confidence(self) -> bool:
        """Whether the divergence is weighed by how sure the teacher is."""
        return self.divergence_weight is not None and self.divergence_weight.by_teacher

    def _check_support(self) -> None:
        if self.top_k_by == "teacher" and not self.support.startswith("topk"):
            raise ValueError(
                f"top_k_by: teacher chooses the entries of a top-k support, and support `{self.support}` has none; "
                "set support: topk_tail or topk_renormalized"
            )
        if self.sampled_baseline != "none" and self.support != "sampled":
            raise ValueError(
                f"sampled_baseline: {self.sampled_baseline} lowers the variance of support `sampled`, and "
                f"`{self.support}` has none; leave it out, or set support: sampled"
            )
        if self.sampled_baseline == "topk_kl" and self.top_k < 2:
            raise ValueError("one renormalized entry has a KL of 0 and is no baseline; raise top_k")
        if self.clip != "none" and self.support == "sampled":
            raise ValueError("support `sampled` has no divergence to clip; set clip: none, or another support")
        if self.clip != "none" and self.clip_at <= 0:
            raise ValueError(f"clip_at is {self.clip_at:g}, which clips all of the divergence; it must be above 0")

    def _check_reference(self) -> None:
        if self.reference_temperature <= 0:
            raise ValueError(f"the reference's temperature is {self.reference_temperature:g}; it must be above 0")
        if self.reference_temperature != 1 and self.reference_kl_form != "forward_kl":
            raise ValueError(
                f"reference_temperature is for reference_kl_form: forward_kl, not {self.reference_kl_form}; "
                "leave it out"
            )
        if self.reference == "teacher" and self.anchor == "base":
            raise ValueError("the target is anchored to the base, and the teacher stands for it elsewhere; choose one")

    def _check_target(self) -> None:
        if self.target == "geometric" and self.target_weight <= 0:
            raise ValueError(
                f"a geometric target of weight {self.target_weight:g} does not lie toward the teacher; "
                "raise target_weight"
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
            raise ValueError(f"target_fraction is {self.target_fraction:g}; it is a share above 0 and up to 1")
        if self.target != "partial" and self.target_fraction != 1:
            raise ValueError(
                f"target_fraction is for target: partial, not {self.target}; leave it out, or set target: partial"
            )
