"""The base class of all recipes: typed settings, and methods that say how a step is built from shared parts.

A recipe says where rows come from (`rollouts`), who supervises (`teacher`) and how the loss is computed (`objective`).
Then it writes weights on every row (`annotate`). It never touches a tensor; this package imports without torch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from holdfast.data.rows import Group
from holdfast.recipes.base import wiring
from holdfast.recipes.base.checks import check_wiring
from holdfast.recipes.base.conditions import Above, Condition, holds, in_words
from holdfast.recipes.parts.controllers import Controller, LearningProbe, Moment
from holdfast.recipes.parts.objective import Objective
from holdfast.recipes.parts.penalty import PenaltySpec
from holdfast.recipes.parts.rollouts import HintSpec, NearFutureSpec, RolloutSpec
from holdfast.recipes.parts.teacher import TeacherSpec
from holdfast.renamed import ATTRIBUTES


class Recipe(BaseModel):
    """Base of all recipes. A subclass's fields are its settings; its docstring is its method box.

    Class attributes:
        name: the name in configurations and reports.
        needs: what every training example must have; 'reward' needs a verifier.
        summary: one line for `holdfast methods`.
        source: the paper.
        cost: the cost of one optimizer step in words: generations, forward and backward passes, and what comes once
            per stage. Copies of the weights are counted from the parts (`holdfast.advise.cost`) and added.
        when: when to choose it, and what it costs in old skills.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    name: ClassVar[str]
    needs: ClassVar[frozenset[str]]
    summary: ClassVar[str]
    source: ClassVar[str]
    cost: ClassVar[str]
    when: ClassVar[str]

    context_from_example: ClassVar[bool] = False
    """Whether the teacher's prompts follow from the examples alone. Their length is then checked before training."""

    single_turn: ClassVar[bool] = False
    """Whether it needs answers of a single turn. A task with an environment is then refused."""

    used_if: ClassVar[Mapping[str, tuple[Condition, ...]]] = {"buffer_size": ({"replay_ratio": Above(0)},)}
    """For settings that are not always used: the conditions, any of which is enough. An entry of a class replaces the
    entries of its bases for the same setting."""

    replay_ratio: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """Prompts of earlier tasks per prompt of the stage, from the second stage on; 0 for none. The recipe treats them as
    its own: demonstrations, samples, verdicts and teacher's contexts are those of the earlier task."""
    buffer_size: int | None = Field(default=None, ge=1)
    """Examples kept of each earlier task for replay, chosen by the run's seed; none keeps all."""
    blend_share: float = Field(default=1.0, gt=0, le=1)
    """Share of the trained weights in the model after each stage; the rest is the base's (WiSE-FT, arXiv 2109.01903).
    1 for the trained weights alone. The evaluation after the stage, the next stage and the saved model have the blended
    weights; evaluations within a stage do not."""

    def rollouts(self) -> RolloutSpec:
        """Where the tokens to train on come from, apart from the replay that the settings ask for.

        Recipes define this; whoever makes rows asks `rollout_spec`.
        """
        raise NotImplementedError

    def rollout_spec(self) -> RolloutSpec:
        """Where the tokens to train on come from: `rollouts`, with the replay that the settings ask for."""
        rollouts = self.rollouts()
        if not self.replay_ratio:
            return rollouts
        return replace(rollouts, replay_ratio=self.replay_ratio, replay_buffer_size=self.buffer_size)

    def teacher(self) -> TeacherSpec | None:
        """Who supervises; None for no teacher."""
        return None

    def objective(self) -> Objective:
        """How the loss is computed and reduced."""
        raise NotImplementedError

    def annotate(self, groups: Sequence[Group]) -> Mapping[str, float]:
        """Write weights and teacher prompts on every row; returns metrics for `metrics.jsonl`."""
        raise NotImplementedError

    def controllers(self) -> dict[str, Controller]:
        """What changes a setting between optimizer steps, by the setting's name; none by default.

        `objective` and `annotate` then see the new value. Rollouts, revisions and the teacher must not depend on it:
        they are set up once per stage.
        """
        return {}

    def probe(self) -> LearningProbe | None:
        """What a controller needs measured between steps; None for nothing."""
        return None

    def near_future(self) -> NearFutureSpec | None:
        """How groups get answers of the run's near future; None for none.

        Such an answer is the group's last row and has `source_logprobs`; `annotate` decides whether it counts. Only
        for recipes that sample from the student.
        """
        return None

    def hints(self) -> HintSpec | None:
        """How prompts on which all samples fail get hints; None for none.

        Such a group then also has rows sampled with a hint. They have `source_logprobs`, and their prompt is the
        student's own, without the hint. `annotate` decides which rows count.
        """
        return None

    def penalty(self) -> PenaltySpec | None:
        """A penalty on the weights, in addition to the loss on rows; None for nothing."""
        return None

    def required(self) -> frozenset[str]:
        """`needs`, plus what these settings need."""
        return self.needs

    def shows_strangers(self) -> bool:
        """Whether the teacher sees another example of the task, `Group.stranger`."""
        return False

    def uses_base(self) -> bool:
        """Whether the model before the stream is needed: to restart a teacher, as an anchor, to sample or to blend."""
        teacher, rollouts = self.teacher(), self.rollout_spec()
        restarts = teacher is not None and teacher.kind != "live" and teacher.stage_start == "base"
        writes = rollouts.rewriting is not None and rollouts.rewriting.writer == "base"
        samples = "base" in (rollouts.source, rollouts.replay_source)
        return restarts or self.objective().asks_base or samples or writes or self.blend_share < 1

    def is_taught(self) -> bool:
        """Whether there is a teacher that supervises: not one that only anchors, scores samples or writes replays."""
        rollouts = self.rollout_spec()
        only_helps = rollouts.replay_source == "teacher" or rollouts.scored_from_stage > 0
        return self.teacher() is not None and self.objective().reference == "base" and not only_helps

    def signal(self) -> str:
        """The signal of every token in words."""
        return wiring.signal_in_words(self.teacher(), self.objective())

    def wiring(self) -> dict[str, str]:
        """The parts of this recipe in words, for `holdfast methods` and summary.json, which fixes the keys."""
        parts = {
            "rollouts": wiring.rollouts_in_words(self.rollout_spec()),
            "teacher": wiring.teacher_in_words(self.teacher()),
            "signal": self.signal(),
            "reduction": self.objective().aggregation,
        }
        if (near_future := self.near_future()) is not None:
            parts["guide"] = wiring.near_future_in_words(near_future)
        if (hints := self.hints()) is not None:
            parts["guidance"] = wiring.hints_in_words(hints)
        if (penalty := self.penalty()) is not None:
            parts["penalty"] = penalty.in_words()
        if controllers := self.controllers():
            parts["controllers"] = wiring.controllers_in_words(controllers)
        return parts

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Refuse attributes by their old names: they would have no effect."""
        for name in ATTRIBUTES.keys() & vars(cls).keys():
            raise TypeError(f"recipe {cls.__name__}: {name} is called {ATTRIBUTES[name]} now")

    @model_validator(mode="after")
    def _settings_are_used(self) -> Self:
        """Refuse a changed setting that has no effect: the run would not be what its author meant."""
        conditions_of: dict[str, tuple[Condition, ...]] = {}
        for base in reversed(type(self).__mro__):
            conditions_of |= vars(base).get("used_if", {})
        for setting, conditions in conditions_of.items():
            changed = getattr(self, setting) != type(self).model_fields[setting].default
            if changed and not any(holds(each, self) for each in conditions):
                needed = " or ".join(" and ".join(in_words(n, v) for n, v in each.items()) for each in conditions)
                names = dict.fromkeys(name for each in conditions for name in each)
                actual = " and ".join(in_words(name, (getattr(self, name),)) for name in names)
                raise ValueError(f"{setting} is used only if {needed}, but {actual}; leave {setting} out")
        return self

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        """Refuse settings that do not fit together now, not in the first step."""
        rollouts, objective = self.rollout_spec(), self.objective()
        if controllers := self.controllers():
            first_values = {name: controller.value(Moment(0, 1, 0)) for name, controller in controllers.items()}
            self.model_copy(update=first_values).objective()
        # Both check themselves when they are made.
        self.teacher()
        self.penalty()
        check_wiring(
            rollouts,
            objective,
            adds_rows=self.near_future() is not None or self.hints() is not None,
            context_from_example=self.context_from_example,
        )
        return self
