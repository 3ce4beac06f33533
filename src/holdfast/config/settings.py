"""The typed configuration: strict, resolved before anything is loaded, importable without torch.

An unknown key, a wrong type or an impossible combination is one clear line that names the key and the fix.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, ValidationError, model_validator

from holdfast.config.problems import first_problem
from holdfast.errors import did_you_mean
from holdfast.guard.settings import GuardSettings
from holdfast.recipes import RECIPES
from holdfast.recipes.base.recipe import Recipe

LAB = "lab"
"""The model path that means the base shipped inside the package."""

SDFT_SUITES = ("hellaswag", "truthfulqa_mc1", "mmlu", "ifeval", "winogrande", "humaneval")
"""What `lm_eval: sdft` stands for: the six benchmarks whose unweighted mean arXiv 2601.19897 calls forgetting."""


class Settings(BaseModel):
    """A block of the configuration: unknown keys and wrong types are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class LoraSettings(Settings):
    """Low-rank adapters by peft; names as in `peft.LoraConfig`. Without dropout, like every forward pass here."""

    r: int = Field(default=16, ge=1)
    lora_alpha: int = Field(default=32, ge=1)
    target_modules: list[str] | Literal["all-linear"] = "all-linear"


class ModelSettings(Settings):
    """Which model is taught, and how its weights are held."""

    path: str = LAB
    """A local folder, a hub id, or one of the [lab](lab.md)'s bases: `lab` or `lab-wide`."""
    revision: str | None = None
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of the weights. To train, bfloat16 needs `lora`, whose own weights are float32: small updates of bfloat16 weights
    would round to nothing."""
    device: str = "auto"
    trust_remote_code: bool = False
    """Run code that comes with the model; off unless the user asks."""
    attn_implementation: Literal["sdpa", "eager", "flash_attention_2"] = "sdpa"
    """With `sdpa` rows of a batch are packed and share their prompts, where the model allows it; with the others they
    are padded."""
    lora: LoraSettings | None = None
    chat_template_kwargs: dict[str, Any] = Field(default_factory=dict)
    """Passed to the chat template of student and teacher alike, e.g. `enable_thinking: false`."""


class Columns(Settings):
    """Where each field of an example stands in the user's data; the defaults are TRL's names."""

    prompt: str = "prompt"
    completion: str = "completion"
    privileged_context: str = "privileged_context"
    solution: str = "solution"
    plan: str = "plan"
    actions: str = "actions"
    translation: str = "translation"
    answer: str = "answer"
    system: str = "system"
    id: str = "id"


class LmEvalSettings(Settings):
    """How lm-evaluation-harness measures a suite."""

    metric: str | None = None
    """One of the task's metrics; by default the one that arXiv 2601.19897 reports for it, else the task's first."""
    num_fewshot: int | None = Field(default=None, ge=0)
    """Worked examples before each question, where it differs from the task's own number."""
    apply_chat_template: bool = False
    """Ask as a user's turn of the model's chat template; by default plain text, as the harness does."""
    batch_size: int = Field(default=8, ge=1)
    run_code: bool = False
    """Let the task run code that the model wrote, unprotected, on this machine; HumanEval does."""


class SourceSettings(Settings):
    """Where examples come from: files, a Hugging Face dataset, a generator of reasoning-gym, or the lab."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]*$")
    lab: str | None = None
    """Name of a task or suite of the lab."""
    gym: str | None = None
    """Name of a generator of reasoning-gym (extra `gym`)."""
    gym_level: int | None = Field(default=None, ge=0)
    """Difficulty by the generator's curriculum, from 0; where it is absent, the generator's own defaults."""
    gym_settings: dict[str, Any] = Field(default_factory=dict)
    """The generator's own settings, which win over the level's."""
    test_size: int = Field(default=256, ge=1)
    """Test items that a generator makes."""
    seed: int = Field(default=0, ge=0)
    """Of a generator's items; a run's own seed does not enter, so all runs are tested on the same."""
    dataset: str | None = None
    """Hub id or local folder of a Hugging Face dataset."""
    subset: str | None = None
    test: str | None = None
    """Path of a JSON Lines, JSON or Parquet file; with `dataset`, the name of a split."""
    reader: Literal["records", "sciknoweval", "toolalpaca"] = "records"
    """How a record becomes an example: `records` takes the columns named in `columns`."""
    columns: Columns = Columns()
    verifier: str | None = None
    """`module:function` taking (example, completion) and returning a Verdict or a number from 0 to 1."""
    environment_factory: str | None = None
    """`module:function` taking an example and returning an environment: a task of several turns, in which the model's
    every turn is answered until the episode is over. It judges in the verifier's place."""
    max_turns: int = Field(default=8, ge=1)
    """Turns of the model in an episode of `environment_factory`; one that would go on after the last is judged as it
    stands, and counts as truncated."""
    limit: int | None = Field(default=None, ge=1)
    """Use the first so many examples of each split."""

    @model_validator(mode="after")
    def _settings_of_the_source(self) -> Self:
        """Refuse what would be passed over in silence."""
        of_generators = ("gym_level", "gym_settings", "test_size", "train_size", "seed")
        of_episodes = ("max_turns",)
        if self.environment_factory is not None and self.verifier is not None:
            raise ValueError("`environment_factory` judges its episodes itself; leave `verifier` out")
        for source, keys in (
            ("gym", of_generators),
            ("lm_eval", ("lm_eval_settings",)),
            ("environment_factory", of_episodes),
        ):
            fields = {key: field for key, field in type(self).model_fields.items() if key in keys}
            for key, field in fields.items():
                if getattr(self, source, None) is None and getattr(self, key) != field.get_default(
                    call_default_factory=True, validated_data={}
                ):
                    raise ValueError(f"`{key}` is for `{source}: NAME`, which is not given")
        return self


class TaskSettings(SourceSettings):
    """One stage of the stream."""

    train: str | None = None
    """Path of the training file; with `dataset`, the name of a split."""
    train_size: int = Field(default=512, ge=1)
    """Training items that a generator makes; none of them asks what a test item asks."""
    test_fraction: float = Field(default=0.1, gt=0, lt=1)
    """Share of the training examples held out as the test split where `test` names none."""
    steps: int | None = Field(default=None, ge=1)
    """Optimizer steps of this stage, where they differ from `train.steps`."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if self.lab is None and self.gym is None and self.train is None:
            raise ValueError(
                "a task needs `train: FILE`, or `dataset:` and `train: SPLIT`, or `gym: NAME`, or `lab: NAME`"
            )
        return self


class SuiteSettings(SourceSettings):
    """A held-out set that no stage trains on."""

    kind: Literal["retention", "ood"] = "retention"
    lm_eval: str | None = None
    """A task or group of lm-evaluation-harness (extra `eval`): its name, or the path of a task file in its YAML form;
    `sdft` stands for the six suites of arXiv 2601.19897."""
    lm_eval_settings: LmEvalSettings = LmEvalSettings()
    """How the harness measures it."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if self.lab is None and self.gym is None and self.lm_eval is None and self.test is None:
            raise ValueError(
                "a suite needs `test: FILE`, or `dataset:` and `test: SPLIT`, or `gym: NAME`, `lm_eval: NAME` or "
                "`lab: NAME`"
            )
        if self.lm_eval == "humaneval" and not self.lm_eval_settings.run_code:  # known before any data is loaded
            raise ValueError(
                "humaneval runs code that the model wrote, unprotected; allow it with `lm_eval_settings: {run_code: "
                "true}` (at the gate, --run-code), or leave it out"
            )
        return self


class TrainSettings(Settings):
    """One stage of training; the budget that all recipes of a comparison share."""

    steps: int = Field(default=40, ge=1)
    """Optimizer steps per stage."""
    prompts_per_step: int = Field(default=16, ge=1)
    learning_rate: float = Field(default=1e-4, gt=0)
    lr_scheduler_type: Literal["constant", "linear", "cosine"] = "constant"
    warmup_steps: int = Field(default=5, ge=0)
    weight_decay: float = Field(default=0.0, ge=0)
    adam_beta1: float = Field(default=0.9, ge=0, lt=1)
    adam_beta2: float = Field(default=0.999, ge=0, lt=1)
    max_grad_norm: float = Field(default=1.0, gt=0)
    max_prompt_length: int = Field(default=1024, ge=1)
    """Longest prompt that the student sees, in tokens."""
    max_reprompt_length: int | None = Field(default=None, ge=1)
    """Longest prompt that the teacher sees; by default there is room for a prompt and a completion."""
    max_completion_length: int = Field(default=256, ge=1)
    long_prompts: Literal["refuse", "drop"] = "refuse"
    """A prompt that does not fit is never cut: the run is refused, or the example is dropped and counted."""
    micro_batch_tokens: int = Field(default=16384, ge=1)
    """Tokens in one forward pass; changes memory and speed, never the result."""
    bf16: bool = False
    """Matrix products of training in bfloat16, weights and their averages in float32 (autocast)."""
    engine: Literal["fused", "readable"] = "fused"
    """`readable` computes every loss by its definition, on padded rows and whole logits: slow, to check against."""
    offload_teacher: bool = False
    """Full fine-tuning: keep teacher and base, copies of the model, in host memory while they do not score."""
    save_steps: int = Field(default=20, ge=1)
    """Optimizer steps between checkpoints for `holdfast resume`."""


class EvalSettings(Settings):
    """What is measured before the first and after each stage. Answers are greedy."""

    score: Literal["accuracy", "reward"] = "accuracy"
    """What a set is scored by: the share of answers with the full reward of 1, or the mean reward."""
    max_items: int | None = Field(default=None, ge=1)
    """Use the first so many items of every set."""
    max_completion_length: int | None = Field(default=None, ge=1)
    """Where it differs from `train.max_completion_length`."""
    batch_tokens: int = Field(default=65536, ge=1)
    kl_items: int = Field(default=64, ge=0)
    """Prompts per task for KL to base; 0 leaves it out."""
    probe_steps: int = Field(default=0, ge=0)
    """Within a stage, evaluate the tasks so far and the retention suites every so many steps; 0: never."""
    probe_items: int = Field(default=128, ge=1)
    response_items: int = Field(default=32, ge=0)
    """Prompts per task and retention suite whose answers are compared with the base's: drift of responses, artifacts.
    KL is among it where `kl_items` is not 0, on no more prompts than that; 0 leaves all of it out."""
    embedder: str | None = None
    """Folder of an embedding model; with it the similarity of these answers to the base's is measured too."""
    drift_weights: int = Field(default=300_000_000, ge=0)
    """Weights whose singular values and subspaces are compared with the base's after each stage. Of a larger model this
    is done in layers evenly spread, and of the rest norms are compared; 0 leaves drift out."""
    samples: int = Field(default=4, ge=0)
    """Completions per set that are kept for the report."""


def _recipe(value: Any) -> Any:
    if isinstance(value, Recipe):
        return value
    name, settings = (value, {}) if isinstance(value, str) else _name_of(value)
    if name not in RECIPES:
        raise ValueError(f"unknown recipe {name!r}; {did_you_mean(name, RECIPES)}")
    try:
        return RECIPES[name].model_validate(settings)
    except ValidationError as error:
        raise ValueError(first_problem(error, RECIPES[name])) from None


def _name_of(value: Any) -> tuple[str, dict[str, Any]]:
    if not isinstance(value, Mapping) or "name" not in value:
        raise ValueError("a recipe is a name, or a mapping with `name` and its settings")
    return str(value["name"]), {k: v for k, v in value.items() if k != "name"}


def dump_recipe(recipe: Recipe) -> dict[str, Any]:
    """A recipe as plain data: its name and every setting, defaults included."""
    return {"name": recipe.name, **recipe.model_dump(mode="json")}


AnyRecipe = Annotated[Recipe, BeforeValidator(_recipe), PlainSerializer(dump_recipe)]


def shorthand(value: Any) -> Any:
    """A task or suite written as one word, such as `lab:facts`, as a mapping; anything else as it is."""
    if isinstance(value, str):
        kind, _, name = value.partition(":")
        if kind not in (LAB, "gym", "lm_eval") or not name:
            raise ValueError(f"{value!r} is not understood; write lab:NAME, or a mapping with `name` and `train`")
        return {"name": name, kind: name}
    return value


def _presets(value: Any) -> Any:
    """Suites with `lm_eval: sdft` written out as the six that it stands for, all with its settings."""
    suites = []
    for each in value if isinstance(value, list) else ():
        entry = shorthand(each) if each == "lm_eval:sdft" else each
        if isinstance(entry, Mapping) and entry.get("lm_eval") == "sdft":
            suites += [{**entry, "name": name, "lm_eval": name} for name in SDFT_SUITES]
        else:
            suites.append(each)
    return suites if isinstance(value, list) else value


class StreamSettings(Settings):
    """What runs and comparisons share: a model, a stream of tasks, and what is measured."""

    name: str = Field(default="run", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    model: ModelSettings = ModelSettings()
    tasks: list[Annotated[TaskSettings, BeforeValidator(shorthand)]] = Field(min_length=1)
    """The stages, in order."""
    suites: Annotated[list[Annotated[SuiteSettings, BeforeValidator(shorthand)]] | None, BeforeValidator(_presets)] = (
        None
    )
    """Retention and out-of-distribution suites; where it is absent, the lab's for a lab model, else none."""
    train: TrainSettings = TrainSettings()
    eval: EvalSettings = EvalSettings()
    guard: GuardSettings = GuardSettings()
    output_dir: str | None = None
    """Run directory; `runs/NAME` where it is absent."""

    @model_validator(mode="after")
    def _distinct_names(self) -> Self:
        names = [t.name for t in self.tasks] + [s.name for s in self.suites or []]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two tasks or suites are named {name!r}; give each a name of its own")
        return self


class RunConfig(StreamSettings):
    """One recipe over one stream with one seed."""

    recipe: AnyRecipe
    seed: int = Field(default=0, ge=0)


class Arm(Settings):
    """One recipe of a comparison under a label of its own."""

    label: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    recipe: AnyRecipe


def _arm(value: Any) -> Any:
    if isinstance(value, str):
        return {"label": value, "recipe": value}
    if isinstance(value, Mapping) and "recipe" not in value:
        label = value.get("label", value.get("name"))
        return {"label": label, "recipe": {k: v for k, v in value.items() if k != "label"}}
    return value


class CompareConfig(StreamSettings):
    """Recipes × seeds × task orders at equal budget."""

    recipes: list[Annotated[Arm, BeforeValidator(_arm)]] = Field(min_length=1)
    """Names, or mappings of `name`, settings, and a `label` where one recipe is compared in several settings."""
    seeds: list[Annotated[int, Field(ge=0)]] = Field(default=[0, 1, 2], min_length=1)
    orders: list[list[str]] | None = None
    """Each a permutation of the task names; the order of `tasks` where it is absent."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        labels = [arm.label for arm in self.recipes]
        for label in labels:
            if labels.count(label) > 1:
                raise ValueError(f"two recipes are labeled {label!r}; give one a `label` of its own")
        names = sorted(task.name for task in self.tasks)
        for order in self.orders or []:
            if sorted(order) != names:
                raise ValueError(f"order {order} is not a permutation of the tasks {names}")
        return self

    def task_orders(self) -> list[list[str]]:
        return self.orders or [[task.name for task in self.tasks]]

    def run_config(self, arm: Arm, seed: int, order: list[str]) -> RunConfig:
        """The configuration of one of the comparison's runs."""
        by_name = {task.name: task for task in self.tasks}
        shared = {field: getattr(self, field) for field in ("name", "model", "suites", "train", "eval", "guard")}
        return RunConfig(**shared, tasks=[by_name[name] for name in order], recipe=arm.recipe, seed=seed)
