"""The typed configuration: strict, resolved before anything is loaded, importable without torch.

An unknown key, a wrong type or an impossible combination is one clear line that names the key and the mend.
"""

import re
from collections.abc import Hashable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar, get_args

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, ValidationError, model_validator

from holdfast.errors import ConfigError, did_you_mean
from holdfast.guard.settings import GuardSettings
from holdfast.lab.bases import BASES
from holdfast.methods import RECIPES
from holdfast.methods.base import Recipe
from holdfast.overrides import apply_overrides

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
    """Optimiser steps of this stage, where they differ from `train.steps`."""

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
    """Optimiser steps per stage."""
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
    """Optimiser steps between checkpoints for `holdfast resume`."""


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
        raise ValueError(_first_problem(error, RECIPES[name])) from None


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
                raise ValueError(f"two recipes are labelled {label!r}; give one a `label` of its own")
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


AnyConfig = TypeVar("AnyConfig", bound=StreamSettings)


class _Loader(yaml.SafeLoader):
    """Safe YAML that reads 1e-4 as the number it is (YAML 1.1 wants 1.0e-4) and refuses a key given twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                continue  # refused by the base class
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is given twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def load_config(path: str | Path, kind: type[AnyConfig], overrides: Mapping[str, Any] | None = None) -> AnyConfig:
    """Read a YAML file as a configuration of the given kind, with settings replaced as in `apply_overrides`.

    Relative paths of task files are taken from the configuration file's folder.

    Raises:
        ConfigError: the file is missing, is not YAML, or does not describe a valid configuration.
    """
    path = Path(path)
    data = apply_overrides(read_config(path), overrides or {})
    return parse_config(data, kind, where=str(path), base_dir=path.parent)


def read_config(path: Path) -> dict[str, Any]:
    """The plain data of a configuration file.

    Raises:
        ConfigError: the file is missing, is not YAML, or is no mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError("no such file", where=str(path), mend="check the path of the configuration") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot be read: {error}", where=str(path)) from None
    data = parse_yaml(text, str(path))
    if not isinstance(data, Mapping):
        raise ConfigError("is empty or not a mapping", where=str(path), mend="start with `tasks:` and `recipe:`")
    return dict(data)


def parse_yaml(text: str, where: str) -> Any:
    """YAML as plain data; numbers such as 1e-4 are numbers, and a key given twice is refused.

    Raises:
        ConfigError: it is not YAML; names the line.
    """
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{where}:{mark.line + 1}" if mark else where
        raise ConfigError(f"is not valid YAML: {getattr(error, 'problem', None) or error}", where=place) from None


def parse_config(
    data: Mapping[str, Any], kind: type[AnyConfig], *, where: str = "configuration", base_dir: Path | None = None
) -> AnyConfig:
    """Plain data as a configuration; the first thing wrong is raised as a `ConfigError` that names its key."""
    if kind is RunConfig and "recipes" in data and "recipe" not in data:
        raise ConfigError(
            "this describes a comparison", where=where, mend="use `holdfast compare`, or name one `recipe`"
        )
    if kind is CompareConfig and "recipe" in data and "recipes" not in data:
        raise ConfigError("this describes a single run", where=where, mend="use `holdfast run`, or list `recipes`")
    try:
        config = kind.model_validate(dict(data))
    except ValidationError as error:
        raise ConfigError(_first_problem(error, kind), where=where) from None
    return _with_absolute_paths(config, base_dir) if base_dir is not None else config


def dump_config(config: StreamSettings) -> str:
    """The resolved configuration as YAML that `load_config` reads back to an equal one."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=100)


def _with_absolute_paths(config: AnyConfig, base_dir: Path) -> AnyConfig:
    def absolute(source: SourceSettings) -> SourceSettings:
        if source.lab is not None or source.gym is not None:
            return source
        if isinstance(source, SuiteSettings) and source.lm_eval is not None:
            file = base_dir / source.lm_eval
            return source.model_copy(update={"lm_eval": str(file.resolve())}) if file.is_file() else source
        if source.dataset is not None:
            folder = base_dir / source.dataset
            return source.model_copy(update={"dataset": str(folder.resolve())}) if folder.is_dir() else source
        paths = {f: getattr(source, f, None) for f in ("train", "test")}
        return source.model_copy(update={f: str((base_dir / p).resolve()) for f, p in paths.items() if p is not None})

    model = config.model
    if model.path not in BASES and (base_dir / model.path).is_dir():
        model = model.model_copy(update={"path": str((base_dir / model.path).resolve())})
    update: dict[str, Any] = {"model": model, "tasks": [absolute(t) for t in config.tasks]}
    if config.suites is not None:
        update["suites"] = [absolute(s) for s in config.suites]
    if config.eval.embedder is not None:
        embedder = str((base_dir / config.eval.embedder).resolve())
        update["eval"] = config.eval.model_copy(update={"embedder": embedder})
    return config.model_copy(update=update)


def _first_problem(error: ValidationError, kind: type[BaseModel]) -> str:
    problem = error.errors(include_url=False)[0]
    key = ".".join(str(p) for p in problem["loc"] if not str(p).startswith("function-"))
    message = str(problem["msg"]).removeprefix("Value error, ")
    if problem["type"] == "extra_forbidden":
        known = _known_keys(kind, problem["loc"][:-1])
        return f"{key}: unknown key; {did_you_mean(str(problem['loc'][-1]), known)}"
    if problem["type"] == "missing":
        return f"{key}: missing; it has no default"
    return f"{key}: {message}" if key else message


def _known_keys(kind: type[BaseModel], path: Iterable[int | str]) -> list[str]:
    """The keys of the block at a path of the configuration; empty where it cannot be told."""
    block: Any = kind
    for part in path:
        if isinstance(part, int):
            continue
        fields = getattr(block, "model_fields", {})
        if part not in fields:
            return []
        block = _settings_in(fields[part].annotation)
    return sorted(getattr(block, "model_fields", {}))


def _settings_in(annotation: Any) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for arg in get_args(annotation) if (found := _settings_in(arg)) is not None), None)
