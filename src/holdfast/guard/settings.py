"""Settings of the guard: the bounds of each rule, and its actions. Importable without torch."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

Action = Literal[
    "warn", "freeze_teacher", "refresh_teacher", "lower_rate", "mask_tokens", "roll_back", "end_stage", "stop"
]


class _Block(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class RuleSettings(_Block):
    """What a rule does when it fires. An empty list of actions turns the rule off."""

    action: list[Action]

    @field_validator("action")
    @classmethod
    def _makes_sense(cls, action: list[Action]) -> list[Action]:
        if "refresh_teacher" in action and "roll_back" not in action:
            raise ValueError("refresh_teacher without roll_back would copy the collapsed student; add roll_back")
        if {"end_stage", "stop"} <= set(action):
            raise ValueError("end_stage and stop exclude each other; choose one")
        return action


class AgreementSettings(RuleSettings):
    """Bounds of `agreement_without_success`."""

    action: list[Action] = ["roll_back", "freeze_teacher", "lower_rate"]
    kl_ratio: float = Field(default=0.5, gt=0, lt=1)
    """KL(student‖teacher) is at most this share of its value at the stage's start."""
    reward_fall: float = Field(default=0.2, gt=0)
    """How far the reward is below its best in the stage, in units of the reward."""


class RewardSettings(RuleSettings):
    """Bounds of `reward_collapse`."""

    action: list[Action] = ["roll_back", "freeze_teacher", "lower_rate"]
    reward_fall: float = Field(default=0.3, gt=0)
    """How far the reward is below its best in the stage, in units of the reward."""


class EntropySettings(RuleSettings):
    """Bounds of `entropy_collapse`."""

    action: list[Action] = ["roll_back", "freeze_teacher", "lower_rate"]
    ratio: float = Field(default=0.25, gt=0, lt=1)
    """The entropy is at most this share of its value at the stage's start."""


class DistinctSettings(RuleSettings):
    """Bounds of `distinct_collapse`."""

    action: list[Action] = ["roll_back", "freeze_teacher", "lower_rate"]
    ratio: float = Field(default=0.5, gt=0, lt=1)
    """`distinct_2` is at most this share of its value at the stage's start."""


class RepetitionSettings(RuleSettings):
    """Bounds of `repetition`."""

    action: list[Action] = ["roll_back", "freeze_teacher", "lower_rate", "mask_tokens"]
    at_least: float = Field(default=0.3, gt=0, le=1)
    """Share of bigrams that repeat within their completion."""
    rise: float = Field(default=0.2, gt=0, le=1)
    """How far the share is above its value at the stage's start."""


class TruncationSettings(RuleSettings):
    """Bounds of `truncation`."""

    action: list[Action] = ["roll_back", "freeze_teacher", "lower_rate"]
    at_least: float = Field(default=0.5, gt=0, le=1)
    """Share of completions that reach `max_completion_length`."""
    rise: float = Field(default=0.3, gt=0, le=1)
    """How far the share is above its value at the stage's start."""


class StallSettings(RuleSettings):
    """Bounds of `silent_stall`."""

    action: list[Action] = ["warn"]
    solved: float = 0.9
    """At this reward or above, no signal means that the task is solved, so the rule does not fire."""


class SamplerSettings(RuleSettings):
    """Bounds of `stale_sampler`."""

    action: list[Action] = ["stop"]
    deviation: float = Field(default=0.2, gt=0)
    """The mean ratio is above 1 + deviation, or below 1/(1 + deviation)."""


class BudgetSettings(RuleSettings):
    """Bounds of `kl_budget`."""

    action: list[Action] = ["end_stage"]
    budget: float | None = Field(default=None, gt=0)
    """Nats per token. None turns the rule off: how much KL is too much depends on what must be retained."""


class FiniteSettings(RuleSettings):
    """Actions of `not_finite`."""

    action: list[Action] = ["roll_back", "lower_rate"]


class RetentionSettings(RuleSettings):
    """Bounds of `retention`."""

    action: list[Action] = ["roll_back", "lower_rate"]
    fall: float = Field(default=0.1, gt=0)
    """How far the score is below the base's, as a fraction of the score's range."""


class Rules(_Block):
    """The settings of every rule, by name."""

    agreement_without_success: AgreementSettings = AgreementSettings()
    reward_collapse: RewardSettings = RewardSettings()
    entropy_collapse: EntropySettings = EntropySettings()
    distinct_collapse: DistinctSettings = DistinctSettings()
    repetition: RepetitionSettings = RepetitionSettings()
    truncation: TruncationSettings = TruncationSettings()
    silent_stall: StallSettings = StallSettings()
    stale_sampler: SamplerSettings = SamplerSettings()
    kl_budget: BudgetSettings = BudgetSettings()
    not_finite: FiniteSettings = FiniteSettings()
    retention: RetentionSettings = RetentionSettings()


def _yaml_off(value: Any) -> Any:
    """YAML reads `off` without quotes as false."""
    return "off" if value is False else value


class GuardSettings(_Block):
    """The collapse guard: rules over live metrics, and the actions when a rule fires."""

    mode: Annotated[Literal["warn", "act", "off"], BeforeValidator(_yaml_off)] = "warn"
    """`warn` logs decisions and changes nothing. `act` carries them out."""
    window: int = Field(default=4, ge=2)
    """Steps in an average; for the reward, twice as many. Rules compare the latest average with the first or best."""
    max_roll_backs: int = Field(default=3, ge=0)
    """How many roll-backs a stage may have and continue. The next roll-back also ends the stage."""
    rate_factor: float = Field(default=0.5, gt=0, lt=1)
    """`lower_rate` multiplies the learning rate by this, until the end of the stage."""
    rules: Rules = Rules()

    @model_validator(mode="after")
    def _budget_has_an_action(self) -> "GuardSettings":
        if self.rules.kl_budget.budget is not None and not self.rules.kl_budget.action:
            raise ValueError("rules.kl_budget has a budget but no action; add one, such as [end_stage]")
        return self
