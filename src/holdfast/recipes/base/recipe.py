"""What a recipe is: typed settings, and a wiring of the shared parts that the engine executes blindly.

A recipe says where rows come from (`rollouts`), who supervises (`teacher`), how the loss is computed and reduced
(`objective`), and writes on every row what it counts for (`annotate`). It never touches a tensor: this package
imports without torch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from pydantic import BaseModel, ConfigDict, model_validator

from holdfast.data.rows import Group
from holdfast.recipes.parts.controllers import Controller, LearningProbe, Moment
from holdfast.recipes.parts.objective import Objective
from holdfast.recipes.parts.penalty import PenaltySpec
from holdfast.recipes.parts.rollouts import GuidanceSpec, GuideSpec, RolloutSpec
from holdfast.recipes.parts.teacher import TeacherSpec


@dataclass(frozen=True, slots=True)
class Above:
    """All numbers above one."""

    bound: float

    def __contains__(self, value: object) -> bool:
        return isinstance(value, int | float) and value > self.bound

    def __str__(self) -> str:
        return f"above {self.bound:g}"


SettingValues = tuple[object, ...] | Above

Condition = Mapping[str, SettingValues]
"""Values of settings, of each of which the recipe has one."""


class Recipe(BaseModel):
    """Base of all recipes. A subclass's fields are its settings; the class docstring is its method box.

    Class attributes:
        name: the name in configurations and reports.
        needs: privileges that every training example must carry; 'reward' asks for a verifier.
        summary: one line for `holdfast methods`.
        source: where the method comes from.
        cost: cost of one optimizer step in words: generations, forwards and backwards, and what comes once in a stage;
            what is held beside the weights is counted from the wiring (`holdfast.advise.cost`), and named with it.
        when: when to choose it, and what it costs in skills, in words.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    name: ClassVar[str]
    needs: ClassVar[frozenset[str]]
    summary: ClassVar[str]
    source: ClassVar[str]
    cost: ClassVar[str]
    when: ClassVar[str]
    context_is_known: ClassVar[bool] = False
    """Whether the teacher's prompts follow from the examples alone, so that they can be checked before training."""

    read_where: ClassVar[Mapping[str, tuple[Condition, ...]]] = {}
    """Of settings that are not always read: where they are, any one of some conditions. What a class says about a
    setting takes the place of what its bases say about it."""

    takes_one_turn: ClassVar[bool] = False
    """Whether it works on answers of one turn alone, so that a task with an environment is refused."""

    @model_validator(mode="after")
    def _settings_are_read(self) -> Self:
        """A setting that was changed and that nothing reads is a mistake, and what was meant is not what would run."""
        for setting, conditions in type(self)._all_read_where().items():
            changed = getattr(self, setting) != type(self).model_fields[setting].default
            if changed and not any(all(getattr(self, n) in v for n, v in each.items()) for each in conditions):
                wanted = " or ".join(" and ".join(_in_words(n, v) for n, v in each.items()) for each in conditions)
                names = dict.fromkeys(name for each in conditions for name in each)
                found = " and ".join(_in_words(n if len(names) > 1 else "", (getattr(self, n),)) for n in names)
                raise ValueError(f"{setting} is for {wanted}, not {found}; leave it out")
        return self

    @classmethod
    def _all_read_where(cls) -> dict[str, tuple[Condition, ...]]:
        found: dict[str, tuple[Condition, ...]] = {}
        for base in reversed(cls.__mro__):
            found |= vars(base).get("read_where", {})
        return found

    @model_validator(mode="after")
    def _wiring_is_possible(self) -> Self:
        """Settings that do not fit together are refused when the configuration is read, not in the first step."""
        rollouts, objective = self.rollouts(), self.objective()
        if controllers := self.controllers():
            first = {name: controller.value(Moment(0, 1, 0)) for name, controller in controllers.items()}
            self.model_copy(update=first).objective()
        self.teacher()
        self.penalty()
        if rollouts.source == "student" and rollouts.temperature != objective.temperature:
            raise ValueError("rollouts and objective must have the same temperature, or their ratios are off")
        has_ratios = objective.importance != "none" or objective.policy_gradient is not None
        if (self.guide() is not None or self.guidance() is not None) and rollouts.source != "student":
            raise ValueError("guides stand beside the student's own samples, and there are none")
        if has_ratios and rollouts.prompt == "teacher":
            raise ValueError("ratios of student to sampler are for what the student says to its own prompt")
        if rollouts.prompt == "teacher" and not self.context_is_known:
            raise ValueError("the teacher's prompt is known only when answers are, and cannot be asked for them")
        if has_ratios and rollouts.source == "base":
            raise ValueError("ratios of student to sampler are for the student's own samples; the base's have none")
        if has_ratios and rollouts.is_sampled and rollouts.truncates:
            raise ValueError("with top_k or top_p the sampler's probabilities are not those that ratios are made of")
        anchored = objective.reference_kl > 0 and objective.reference_kl_form != "forward_kl"
        if rollouts.source == "student" and rollouts.truncates and (anchored or objective.support == "sampled"):
            raise ValueError(
                "with top_k or top_p samples are not the student's own draws, and estimates from them are off: "
                "support `sampled`, or KL to the base"
            )
        return self

    def rollouts(self) -> RolloutSpec:
        """Where the trained-on tokens come from."""
        raise NotImplementedError

    def teacher(self) -> TeacherSpec | None:
        """Who supervises; None where no teacher is asked."""
        return None

    def objective(self) -> Objective:
        """How the loss is computed and reduced."""
        raise NotImplementedError

    def controllers(self) -> dict[str, Controller]:
        """What sets a setting anew at every optimizer step, by the setting's name; none by default.

        The step's `objective` and the rollout batch's `annotate` are then those of a recipe with that setting; where
        rows come from, whether samples are revised apart, and who the teacher is must not depend on it.
        """
        return {}

    def guide(self) -> GuideSpec | None:
        """Answers of the run's own near future that groups bring along as a last row with `source_logprobs`; or None.

        `annotate` decides which of them count. The objective's ratios are for the student's own samples, so this is for
        recipes whose rows the student samples.
        """
        return None

    def guidance(self) -> GuidanceSpec | None:
        """Hints for prompts that fail: their groups then have rows sampled with one, with `source_logprobs`; or None.

        `annotate` decides which rows count; a row's prompt is the student's own, without the hint.
        """
        return None

    def penalty(self) -> PenaltySpec | None:
        """What holds the weights themselves, beside the loss on rows; None for nothing."""
        return None

    def probe(self) -> LearningProbe | None:
        """What a controller wants measured between steps; None for nothing."""
        return None

    def uses_base(self) -> bool:
        """Whether the base, the model before the stream, is asked: to restart a teacher from, to anchor, to sample."""
        teacher, objective, rollouts = self.teacher(), self.objective(), self.rollouts()
        restarts = teacher is not None and teacher.kind != "live" and teacher.stage_start == "base"
        anchors = objective.asks_base
        return restarts or anchors or "base" in (rollouts.source, rollouts.replay_source)

    def required(self) -> frozenset[str]:
        """`needs`, and what these settings need beyond."""
        return self.needs

    def annotate(self, groups: Sequence[Group]) -> Mapping[str, float]:
        """Write on every row what it counts for; returns metrics about the annotation."""
        raise NotImplementedError

    def wiring(self) -> dict[str, str]:
        """The parts that this recipe is made of, for `holdfast methods`."""
        rollouts, teacher, objective = self.rollouts(), self.teacher(), self.objective()
        source = (
            "demonstrations"
            if not rollouts.is_sampled
            else f"{rollouts.source}, {rollouts.num_generations} per prompt, temperature {rollouts.temperature:g}"
        )
        if rollouts.top_k > 0:
            source += f", top-k {rollouts.top_k}"
        if rollouts.top_p < 1:
            source += f", top-p {rollouts.top_p:g}"
        if rollouts.prompt == "teacher":
            source += ", asked the teacher's prompt"
        if teacher is None:
            who = "none"
        elif teacher.kind == "ema":
            who = f"EMA {teacher.rate:g} per {teacher.cadence.replace('_', ' ')}, stage start: {teacher.stage_start}"
        elif teacher.kind == "live":
            who = "live"
        else:
            how = {
                "periodic": f", refreshed {_clock(teacher)} by {teacher.share:g}",
                "gated": f", refreshed by {teacher.share:g} by a gate that is asked every {teacher.every}",
                "trust_region": f" with {teacher.mix:g} of the student",
            }
            kind = teacher.kind.replace("_", " ")
            who = f"{kind}{how.get(teacher.kind, '')}, stage start: {teacher.stage_start}"
        found = {"rollouts": source, "teacher": who, "signal": self.signal(), "reduction": objective.aggregation}
        if (guide := self.guide()) is not None:
            when = f"from {guide.steps} steps ahead" if guide.kind == "ahead" else "from a checkpoint, where it stalls"
            found["guide"] = f"{guide.samples} answers per prompt {when}"
        if (guidance := self.guidance()) is not None:
            found["guidance"] = f"the fewest actions that help, where all fail; {guidance.probes} probes of each"
        if (penalty := self.penalty()) is not None:
            found["penalty"] = penalty.in_words()
        controlled = ", ".join(f"{name} by {type(each).__name__}" for name, each in self.controllers().items())
        return found | ({"controllers": controlled} if controlled else {})

    def signal(self) -> str:
        """The token-level signal in words."""
        objective = self.objective()
        if self.teacher() is None:
            return "cross-entropy" if objective.policy_gradient is None else "policy gradient"
        name = {"forward_kl": "forward KL", "reverse_kl": "reverse KL", "jsd": f"JSD({objective.jsd_beta:g})"}
        support = {
            "full": "full vocabulary",
            "topk_tail": f"{objective.top_k_by}'s top {objective.top_k} and tail",
            "topk_renormalized": f"{objective.top_k_by}'s top {objective.top_k}, renormalized",
            "sampled": "sampled token",
        }
        return f"{name[objective.divergence]}, {support[objective.support]}"


def _in_words(setting: str, values: SettingValues) -> str:
    if isinstance(values, Above):
        return f"{setting} {values}"
    names = {None: "unset", True: "true", False: "false"}
    said = [names[value] if value is None or isinstance(value, bool) else str(value) for value in values]
    return f"{setting} {' or '.join(said)}".strip()


def _clock(teacher: TeacherSpec) -> str:
    """When a periodic teacher is refreshed, in words."""
    every = f"every {teacher.every} rollout batches" if teacher.every else ""
    first = f"after {teacher.first} rollout batches" if teacher.first else ""
    return ", then ".join(part for part in (first, every) if part)
