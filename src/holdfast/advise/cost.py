"""What a recipe costs beside SFT on the same prompts, counted from its wiring. Torch-free.

Counted in forward passes over a row, a prompt with its completion: a backward pass is worth two forward passes, and so
is what training takes at least per row (one forward, one backward: three). A sampled completion is worth one forward
pass in operations; in seconds it takes longer, because every token reads all weights.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from holdfast.config.settings import TrainSettings
from holdfast.recipes.base.recipe import Recipe
from holdfast.recipes.parts.controllers import Moment
from holdfast.recipes.parts.penalty import FisherPenalty
from holdfast.recipes.parts.rollouts import NearFutureSpec, RolloutSpec
from holdfast.recipes.parts.teacher import TeacherSpec

BACKWARD = 2
"""Forward passes that a backward pass is worth."""

STATE = 4
"""Weights, gradients and AdamW's two averages: what full fine-tuning holds of each weight, in units of the weights."""

PROMPTS_PER_STEP = TrainSettings().prompts_per_step
"""By default: what is done between steps is shared out over the prompts of these."""


@dataclass(frozen=True, slots=True)
class Passes:
    """Work over rows.

    Attributes:
        completions: sampled.
        forwards: passes over a row, the student's own and those of teacher and base.
        backwards: passes over a row.
    """

    completions: float = 0.0
    forwards: float = 0.0
    backwards: float = 0.0

    @property
    def total(self) -> float:
        """In forward passes, sampling included."""
        return self.completions + self.forwards + BACKWARD * self.backwards

    def __add__(self, other: "Passes") -> "Passes":
        return Passes(
            self.completions + other.completions, self.forwards + other.forwards, self.backwards + other.backwards
        )

    def __mul__(self, times: float) -> "Passes":
        return Passes(self.completions * times, self.forwards * times, self.backwards * times)


@dataclass(frozen=True, slots=True)
class Cost:
    """At most: rows without a signal cost nothing.

    Attributes:
        step: per training prompt and optimizer step.
        stage: what comes on top once in a stage.
        held: what has the size of all weights and stands beside the student's, under full fine-tuning; under LoRA it is
            an adapter or nothing.
    """

    step: Passes
    stage: Passes = Passes()
    held: tuple[str, ...] = ()

    @property
    def copies(self) -> int:
        """Of all weights, under full fine-tuning."""
        return len(self.held)

    def relative_to(self, other: "Cost") -> float:
        """How many times what a step of `other` costs, in operations, at equal lengths of prompts and completions."""
        return self.step.total / other.step.total

    def memory_relative_to(self, other: "Cost") -> float:
        """Weights, gradients, optimizer and copies beside those of `other`, under full fine-tuning."""
        return (STATE + self.copies) / (STATE + other.copies)

    def held_in_words(self) -> str:
        if not self.held:
            return "no copy of the weights"
        return f"{self.copies} {'copy' if self.copies == 1 else 'copies'} of the weights: {', '.join(self.held)}"


def cost_of(recipe: Recipe, *, is_first: bool = False, prompts_per_step: int = PROMPTS_PER_STEP) -> Cost:
    """The cost of a recipe as it is set.

    Args:
        is_first: in a stream's first stage, which has no earlier tasks.
        prompts_per_step: of the stage.
    """
    # Controllers may begin with another phase than the settings say; the dearer one counts.
    begun = {name: controller.value(Moment(0, 1, 0)) for name, controller in recipe.controllers().items()}
    phases = [_step(each, is_first=is_first) for each in (recipe, recipe.model_copy(update=begun))]
    step = max(phases, key=lambda passes: (passes.total, passes.completions))
    if (probe := recipe.probe()) is not None:
        rows = probe.prompts * recipe.rollouts().num_generations
        measured = Passes(completions=rows, forwards=rows * (1 + _asked(recipe)[0]))
        step += measured * (1 / (probe.every * prompts_per_step))
    return Cost(step, _stage(recipe, is_first=is_first, prompts_per_step=prompts_per_step), _held(recipe))


def stream_cost(recipe: Recipe, prompts: Sequence[int], *, prompts_per_step: int = PROMPTS_PER_STEP) -> Passes:
    """All the work of a stream.

    Args:
        prompts: training prompts of each stage, each step's counted anew.
        prompts_per_step: of all stages.
    """
    found = Passes()
    for stage, count in enumerate(prompts):
        cost = cost_of(recipe, is_first=stage == 0, prompts_per_step=prompts_per_step)
        found += cost.step * count + cost.stage
    return found


def replayed(rollouts: RolloutSpec, *, is_first: bool) -> float:
    """Replayed prompts per prompt of a stage; the first has no earlier tasks, but for a file that stands for them."""
    return 0.0 if is_first and rollouts.replay_prompts is None else rollouts.replay_ratio


def _asked(recipe: Recipe) -> tuple[int, int]:
    """Models that score a row beside the student: of samples, or demonstrations alone; and of those beside samples."""
    teacher, objective = recipe.teacher(), recipe.objective()
    # A trust region asks two models.
    teachers = 0 if teacher is None else 2 if teacher.kind == "trust_region" else 1
    gradient, weight = objective.policy_gradient, objective.token_weight
    is_rewarded = gradient is not None and gradient.modulation == 0
    if is_rewarded and weight is not None and recipe.rollouts().with_demonstration:
        # Samples learn from rewards, and what a teacher weighs is the cross-entropy of demonstrations.
        return int(objective.asks_base), teachers * weight.asks_teacher
    return teachers + objective.asks_base, 0


def _step(recipe: Recipe, *, is_first: bool) -> Passes:
    """Per training prompt, but for what a probe measures."""
    rollouts, guide, guidance = recipe.rollouts(), recipe.near_future(), recipe.hints()
    asked, asked_of_demonstrations = _asked(recipe)
    own = rollouts.num_generations if rollouts.is_sampled else 1
    # Replayed prompts are answered, scored and trained on like the stage's own.
    rows = own * (1 + replayed(rollouts, is_first=is_first))
    # What sampler, teacher and base say serves all optimizer steps on one rollout batch.
    share = 1 / rollouts.num_iterations
    imitated = rollouts.demonstration_share if rollouts.with_demonstration else 0
    # A run that goes back where it has stalled takes at most a whole stage again, each time.
    times, ahead = (1, 0) if guide is None else (1 + guide.rounds * (guide.kind == "stalled"), _guides(guide))
    hinted = 0 if guidance is None else own + guidance.probes * guidance.most_probe_steps
    if rollouts.is_sampled:
        # A revision is sampled beside each answer, and trained on in its place.
        sampled = times * (rows * (1 + (rollouts.revision is not None)) + hinted) * share + ahead
    else:
        sampled = (rows - own) * (rollouts.replay_source == "base")
    return Passes(
        completions=sampled,
        forwards=times * (rows * (1 + asked * share) + imitated * (1 + asked_of_demonstrations * share)),
        backwards=times * (rows + imitated),
    )


def _guides(guide: NearFutureSpec) -> int:
    """Answers of the near future to each prompt of a stage, at most."""
    return guide.samples * (guide.rounds if guide.kind == "stalled" else 1)


def _stage(recipe: Recipe, *, is_first: bool, prompts_per_step: int) -> Passes:
    """Once in a stage: Fisher information, and what a run that goes back for guides takes ahead and measures."""
    found, penalty = Passes(), recipe.penalty()
    if isinstance(penalty, FisherPenalty):
        is_sampled = penalty.sequences == "samples"
        known = is_sampled or not is_first
        found += Passes(completions=is_sampled, forwards=known, backwards=known) * penalty.count
    if (guide := recipe.near_future()) is not None:
        found += _measured(guide)
        if guide.kind == "ahead":
            # The steps ahead are taken once more, with guides then.
            plain = _step(recipe, is_first=is_first) + Passes(completions=-_guides(guide))
            found += plain * (guide.steps * prompts_per_step)
    return found


def _measured(guide: NearFutureSpec) -> Passes:
    """Of quality and variance: a stalled run has each candidate but the first answer the prompts that failed, and each
    but the last score the right answers of those after it; where there is no choice, guides alone are scored."""
    answers = guide.failures * guide.samples
    if guide.kind == "ahead":
        return Passes(forwards=answers)
    later = guide.candidates - 1
    return Passes(completions=later * answers, forwards=later * guide.candidates / 2 * answers) * guide.rounds


def _held(recipe: Recipe) -> tuple[str, ...]:
    """A teacher that moves or waits, the base where it is asked or a teacher restarts from it, what a penalty holds."""
    teacher = recipe.teacher()
    own = () if teacher is None or teacher.kind == "live" or _is_base(teacher) else (_name(teacher),)
    base = ("the base",) if recipe.uses_base() else ()
    has_fisher = isinstance(recipe.penalty(), FisherPenalty)
    return own + base + (("Fisher information", "the weights at the stage's start") if has_fisher else ())


def _is_base(teacher: TeacherSpec) -> bool:
    return teacher.kind in ("frozen", "trust_region") and teacher.stage_start == "base"


def _name(teacher: TeacherSpec) -> str:
    return "the EMA teacher" if teacher.kind == "ema" else f"the {teacher.kind.replace('_', '-')} teacher"
