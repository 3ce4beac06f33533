"""The cost of a recipe relative to SFT on the same prompts, counted from its parts.

The unit is a forward pass over a row, which is a prompt with its completion. A backward pass counts as two forward
passes, so training on a row costs three. A sampled completion counts as one forward pass in operations. It takes longer
in seconds, because every token reads all weights.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from holdfast.config.settings import TrainSettings
from holdfast.recipes.base.recipe import Recipe
from holdfast.recipes.parts.controllers import Moment
from holdfast.recipes.parts.penalty import FisherPenalty, MovementPenalty, PenaltySpec
from holdfast.recipes.parts.rollouts import NearFutureSpec
from holdfast.recipes.parts.teacher import TeacherSpec

BACKWARD = 2
"""Cost of a backward pass in forward passes."""

STATE = 4
"""Memory of full fine-tuning, in copies of the weights: weights, gradients and AdamW's two averages."""

PROMPTS_PER_STEP = TrainSettings().prompts_per_step
"""The default. Work between steps is divided by the prompts of a step."""


@dataclass(frozen=True, slots=True)
class Passes:
    """Work over rows.

    Attributes:
        completions: samples.
        forwards: forward passes over a row, of student, teacher and base.
        backwards: backward passes over a row.
    """

    completions: float = 0.0
    forwards: float = 0.0
    backwards: float = 0.0

    @property
    def total(self) -> float:
        """The sum in forward passes, sampling included."""
        return self.completions + self.forwards + BACKWARD * self.backwards

    def __add__(self, other: "Passes") -> "Passes":
        return Passes(
            self.completions + other.completions, self.forwards + other.forwards, self.backwards + other.backwards
        )

    def __mul__(self, times: float) -> "Passes":
        return Passes(self.completions * times, self.forwards * times, self.backwards * times)


@dataclass(frozen=True, slots=True)
class Cost:
    """An upper bound: rows without a signal cost nothing.

    Attributes:
        step: per training prompt and optimizer step.
        stage: once per stage, in addition.
        held: copies of all weights in addition to the student's, with full fine-tuning. With LoRA each is an adapter or
            nothing.
    """

    step: Passes
    stage: Passes = Passes()
    held: tuple[str, ...] = ()

    @property
    def copies(self) -> int:
        """Number of copies of all weights, with full fine-tuning."""
        return len(self.held)

    def relative_to(self, other: "Cost") -> float:
        """The operations of a step divided by those of `other`, at equal lengths of prompts and completions."""
        return self.step.total / other.step.total

    def memory_relative_to(self, other: "Cost") -> float:
        """Memory for weights, gradients, optimizer and copies divided by that of `other`, with full fine-tuning."""
        return (STATE + self.copies) / (STATE + other.copies)

    def held_in_words(self) -> str:
        if not self.held:
            return "no copy of the weights"
        return f"{self.copies} {'copy' if self.copies == 1 else 'copies'} of the weights: {', '.join(self.held)}"


def cost_of(recipe: Recipe, *, is_first: bool = False, prompts_per_step: int = PROMPTS_PER_STEP) -> Cost:
    """The cost of a recipe with its settings.

    Args:
        is_first: in the first stage of a stream, which has no earlier tasks.
        prompts_per_step: training prompts per optimizer step of the stage.
    """
    # A controller can start a stage in another phase than the settings say; the more expensive phase counts.
    first_values = {name: controller.value(Moment(0, 1, 0)) for name, controller in recipe.controllers().items()}
    phases = [_step(each, is_first=is_first) for each in (recipe, recipe.model_copy(update=first_values))]
    step = max(phases, key=lambda passes: (passes.total, passes.completions))
    if (probe := recipe.probe()) is not None:
        rows = probe.prompts * recipe.rollout_spec().num_generations
        probed = Passes(completions=rows, forwards=rows * (1 + _scorers(recipe)[0]))
        step += probed * (1 / (probe.every * prompts_per_step))
    return Cost(step, _stage(recipe, is_first=is_first, prompts_per_step=prompts_per_step), _held(recipe))


def stream_cost(recipe: Recipe, prompts: Sequence[int], *, prompts_per_step: int = PROMPTS_PER_STEP) -> Passes:
    """The work of a whole stream.

    Args:
        prompts: training prompts of each stage; a prompt that comes again counts again.
        prompts_per_step: training prompts per optimizer step.
    """
    passes = Passes()
    for stage, count in enumerate(prompts):
        cost = cost_of(recipe, is_first=stage == 0, prompts_per_step=prompts_per_step)
        passes += cost.step * count + cost.stage
    return passes


def _scorers(recipe: Recipe) -> tuple[int, int]:
    """How many models score a row in addition to the student.

    Returns:
        For samples, or for demonstrations if there are no samples; and for demonstrations that come with samples.
    """
    teacher, objective = recipe.teacher(), recipe.objective()
    # A trust region mixes two models: the frozen teacher and the student with the teacher's prompt.
    teachers = 0 if teacher is None else 2 if teacher.kind == "trust_region" else 1
    if recipe.rollout_spec().replay_source == "teacher":
        teachers = 0  # it only writes
    gradient, weight = objective.policy_gradient, objective.token_weight
    is_rewarded = gradient is not None and gradient.modulation == 0
    if is_rewarded and weight is not None and recipe.rollout_spec().with_demonstration:
        # Samples learn from rewards; the teacher only weights the cross-entropy of demonstrations.
        return int(objective.asks_base), teachers * weight.asks_teacher
    return teachers + objective.asks_base, 0


def _step(recipe: Recipe, *, is_first: bool) -> Passes:
    """Per training prompt, without the probe."""
    rollouts, near_future, hints = recipe.rollout_spec(), recipe.near_future(), recipe.hints()
    scorers, demonstration_scorers = _scorers(recipe)
    own = rollouts.num_generations if rollouts.is_sampled else 1
    # Replayed prompts are sampled, scored and trained on like the stage's own.
    prompts = 1 + rollouts.replayed(is_first=is_first)
    rows = own * prompts
    # Samples and scores of teacher and base are reused by all optimizer steps on one rollout batch.
    share = 1 / rollouts.num_iterations
    imitated = prompts * rollouts.demonstration_share if rollouts.with_demonstration else 0
    # A run that rolls back after a stall repeats at most a whole stage, each time.
    times, ahead = 1, 0
    if near_future is not None:
        times, ahead = 1 + near_future.rounds * (near_future.kind == "stalled"), _answers(near_future)
    hinted = 0 if hints is None else prompts * (own + hints.probes * hints.most_probe_steps)
    if rollouts.is_sampled:
        # Each answer has a revision, and only the revision is trained on.
        sampled = times * (rows * (1 + (rollouts.revision is not None)) + hinted) * share + ahead
    else:
        sampled = (rows - own) * (rollouts.replay_source != "own") * rollouts.replay_generations
        if rollouts.rewriting is not None:
            # Once per example. A prompt that comes again has been rewritten, so this is the bound for a single epoch.
            sampled += own * rollouts.rewriting.tries
    weight = recipe.objective().token_weight
    measured = weight is not None and weight.tau == "median"  # a forward pass before the step
    return Passes(
        completions=sampled,
        forwards=times * (rows * (1 + measured + scorers * share) + imitated * (1 + demonstration_scorers * share)),
        backwards=times * (rows + imitated),
    )


def _answers(spec: NearFutureSpec) -> int:
    """Maximum number of near-future answers per prompt of a stage."""
    return spec.samples * (spec.rounds if spec.kind == "stalled" else 1)


def _stage(recipe: Recipe, *, is_first: bool, prompts_per_step: int) -> Passes:
    """Once per stage: Fisher information, and the steps and measurements of a run that rolls back."""
    passes, penalty = Passes(), recipe.penalty()
    if isinstance(penalty, FisherPenalty):
        is_sampled = penalty.sequences == "samples"
        # The first stage has no demonstrations of an earlier task.
        has_sequences = is_sampled or not is_first
        passes += Passes(completions=is_sampled, forwards=has_sequences, backwards=has_sequences) * penalty.count
    if (near_future := recipe.near_future()) is not None:
        passes += _choice(near_future)
        if near_future.kind == "ahead":
            # The steps ahead are repeated after the run has gone back; the first time they have no such answers.
            plain = _step(recipe, is_first=is_first) + Passes(completions=-_answers(near_future))
            passes += plain * (near_future.steps * prompts_per_step)
    return passes


def _choice(spec: NearFutureSpec) -> Passes:
    """Measuring quality and variance.

    After a stall each candidate but the first answers the failed prompts, and each but the last scores the right
    answers of the later ones. A run that goes ahead has no candidates to choose from; it only scores the answers.
    """
    answers = spec.failures * spec.samples
    if spec.kind == "ahead":
        return Passes(forwards=answers)
    later = spec.candidates - 1
    return Passes(completions=later * answers, forwards=later * spec.candidates / 2 * answers) * spec.rounds


def _held(recipe: Recipe) -> tuple[str, ...]:
    """The copies: a teacher with its own weights, the base if it is needed, and what a penalty stores."""
    teacher = recipe.teacher()
    teachers = () if teacher is None or teacher.kind == "live" or _is_base(teacher) else (_name(teacher),)
    base = ("the base",) if recipe.uses_base() else ()
    return teachers + base + _held_by_penalty(recipe.penalty())


def _held_by_penalty(penalty: PenaltySpec | None) -> tuple[str, ...]:
    at_start = "the weights at the stage's start"
    if isinstance(penalty, FisherPenalty):
        return "Fisher information", at_start
    # Which weights are protected takes a quarter as much as the weights, and is not counted.
    return (at_start,) if isinstance(penalty, MovementPenalty) else ()


def _is_base(teacher: TeacherSpec) -> bool:
    return teacher.kind in ("frozen", "trust_region") and teacher.stage_start == "base"


def _name(teacher: TeacherSpec) -> str:
    return "the EMA teacher" if teacher.kind == "ema" else f"the {teacher.kind.replace('_', '-')} teacher"
