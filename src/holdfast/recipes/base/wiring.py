"""A recipe's parts in words, for `holdfast methods` and the documentation."""

from collections.abc import Mapping

from holdfast.recipes.parts.controllers import Controller
from holdfast.recipes.parts.objective import Objective
from holdfast.recipes.parts.rollouts import HintSpec, NearFutureSpec, RolloutSpec
from holdfast.recipes.parts.teacher import TeacherSpec


def rollouts_in_words(rollouts: RolloutSpec) -> str:
    words = _own_rollouts_in_words(rollouts)
    if not rollouts.replay_ratio:
        return words
    prompts = "earlier tasks" if rollouts.replay_prompts is None else "a file"
    words += f"; {rollouts.replay_ratio:g} replayed per prompt, of {prompts}"
    writers = {"own": "", "base": ", answered by the base", "teacher": ", answered by the teacher"}
    return words + writers[rollouts.replay_source]


def _own_rollouts_in_words(rollouts: RolloutSpec) -> str:
    """The rows of the stage's own prompts."""
    if not rollouts.is_sampled:
        rewriting = rollouts.rewriting
        return "demonstrations" if rewriting is None else f"demonstrations, rewritten by the {rewriting.writer}"
    words = f"{rollouts.source}, {rollouts.num_generations} per prompt, temperature {rollouts.temperature:g}"
    if rollouts.top_k > 0:
        words += f", top-k {rollouts.top_k}"
    if rollouts.top_p < 1:
        words += f", top-p {rollouts.top_p:g}"
    if rollouts.prompt == "teacher":
        words += ", with the teacher's prompt"
    return words


def teacher_in_words(teacher: TeacherSpec | None) -> str:
    if teacher is None:
        return "none"
    if teacher.kind == "live":
        return "live"
    if teacher.kind == "ema":
        kind = f"EMA {teacher.rate:g} per {teacher.cadence.replace('_', ' ')}"
    elif teacher.kind == "periodic":
        kind = f"periodic, refreshed {_clock(teacher)} by {teacher.share:g}"
    elif teacher.kind == "gated":
        kind = f"gated, checked every {teacher.every} rollout batches, refreshed by {teacher.share:g}"
    elif teacher.kind == "trust_region":
        kind = f"trust region with {teacher.mix:g} of the student"
    else:
        kind = teacher.kind
    return f"{kind}, stage start: {teacher.stage_start}"


def signal_in_words(teacher: TeacherSpec | None, objective: Objective) -> str:
    """The signal of every token."""
    if teacher is None:
        return "cross-entropy" if objective.policy_gradient is None else "policy gradient"
    divergence = {
        "forward_kl": "forward KL",
        "reverse_kl": "reverse KL",
        "jsd": f"JSD({objective.jsd_beta:g})",
        "mixed_kl": f"{objective.forward_share:g} forward KL + {1 - objective.forward_share:g} reverse KL",
    }
    support = {
        "full": "full vocabulary",
        "topk_tail": f"{objective.top_k_by}'s top {objective.top_k} and tail",
        "topk_renormalized": f"{objective.top_k_by}'s top {objective.top_k}, renormalized",
        "sampled": "sampled token",
    }
    return f"{divergence[objective.divergence]}, {support[objective.support]}"


def near_future_in_words(spec: NearFutureSpec) -> str:
    when = f"from {spec.steps} steps ahead" if spec.kind == "ahead" else "from a later checkpoint, after a stall"
    return f"{spec.samples} answers per prompt {when}"


def hints_in_words(spec: HintSpec) -> str:
    return f"the fewest actions that help, if all samples fail; {spec.probes} probes per number of actions"


def controllers_in_words(controllers: Mapping[str, Controller]) -> str:
    return ", ".join(f"{name} by {type(each).__name__}" for name, each in controllers.items())


def _clock(teacher: TeacherSpec) -> str:
    """When a periodic teacher is refreshed."""
    first = f"after {teacher.first} rollout batches" if teacher.first else ""
    every = f"every {teacher.every} rollout batches" if teacher.every else ""
    return ", then ".join(part for part in (first, every) if part)
