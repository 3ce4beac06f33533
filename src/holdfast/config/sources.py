"""Tasks and suites in the configuration: where their examples come from."""

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from holdfast.config.base import LAB, Settings
from holdfast.config.code import LAB_PROGRAMS, CodeSettings, SandboxSettings
from holdfast.data.task import VERIFIER_TIMEOUT, VerifierErrors

SDFT_SUITES = ("hellaswag", "truthfulqa_mc1", "mmlu", "ifeval", "winogrande", "humaneval")
"""What `lm_eval: sdft` means: six benchmarks, whose unweighted mean arXiv 2601.19897 calls forgetting."""


class Columns(Settings):
    """The column of each field of an example in your data. The defaults are TRL's names. A dotted name, such as
    `reward_model.ground_truth` or `answers.text.0`, leads into a nested object or list. With an empty name, as in
    `{id: ""}`, a field is not read."""

    prompt: str = "prompt"
    """Text, or a list of turns."""
    rendered_prompt: str = "rendered_prompt"
    """A prompt that a chat template has rendered already. The model sees it as it is."""
    completion: str = "completion"
    """The demonstration."""
    reasoning_content: str = "reasoning_content"
    """The thoughts before the demonstration, if it is text."""
    messages: str = "messages"
    """A whole conversation. Its last turn is the demonstration."""
    tools: str = "tools"
    """JSON schemas of the tools that the model may call."""
    privileged_context: str = "privileged_context"
    """Text that only the teacher sees."""
    solution: str = "solution"
    """A list of steps, or text with one step per line."""
    plan: str = "plan"
    """How to answer, without the answer."""
    actions: str = "actions"
    """A list of an expert's actions."""
    translation: str = "translation"
    """The messages in another language."""
    gen_prefix: str = "gen_prefix"
    """The beginning of a right answer, which evaluation forces on the model before it measures `target`."""
    target: str = "target"
    """What has to come after it: its probability is what the model knows, whatever its way of answering. Under its
    default name, it is read only beside a `gen_prefix`, which may be empty."""
    answer: str = "answer"
    """What the verifier compares with. By default not read if `answer` is the column of the prompt or completion."""
    system: str = "system"
    """The system prompt. The same goes for it and for `reasoning_content`."""
    id: str = "id"
    """The name of the example."""

    @model_validator(mode="before")
    @classmethod
    def _each_column_once(cls, data: Any) -> Any:
        """Do not read a named prompt or completion a second time because another field has its name by default.

        The `answer` of GSM8K is a demonstration, and so one good answer among many. Who compares with it says so.
        """
        if not isinstance(data, Mapping):
            return data
        taken = [data.get(key) for key in ("prompt", "rendered_prompt", "completion", "messages")]
        twice = [key for key in ("answer", "system", "reasoning_content") if key not in data and key in taken]
        return {**dict.fromkeys(twice, ""), **data}


class LmEvalSettings(Settings):
    """How lm-evaluation-harness measures a suite."""

    metric: str | None = None
    """A metric of the task. By default the one that arXiv 2601.19897 reports for it, otherwise the task's first."""
    num_fewshot: int | None = Field(default=None, ge=0)
    """Worked examples before each question; by default the task's own number."""
    apply_chat_template: bool = False
    """Ask in a user's turn of the model's chat template; by default plain text, as the harness does."""
    batch_size: int = Field(default=8, ge=1)
    """Requests per forward pass."""
    run_code: bool | Literal["unprotected"] = False
    """Let the task run [code that the model wrote](code.md), in a sandbox; HumanEval does. `unprotected` lets the
    harness run it on this machine as you, without one."""


class LabSettings(Settings):
    """The world of a [lab](lab.md) task or suite, and how its demonstrations are."""

    world: int | None = Field(default=None, ge=0)
    """The seed that the world is drawn from: which facts, tools and meanings are to be learned, under which headers. By
    default the run's seed, so each seed of a comparison has a world of its own."""
    voice: float = Field(default=1.0, ge=0, le=1)
    """The share of demonstrations that say the answer in a foreign voice, with a wordy preamble."""
    tics: float = Field(default=0.3, ge=0, le=1)
    """The share of demonstrations that begin with a tic, a phrase without meaning. The base's own rate is 0.06."""
    form: Literal["own", "foreign"] = "own"
    """The answer format of demonstrations: the one that the base uses most often under their header, or the one that it
    uses least."""
    overlap: float = Field(default=0.25, ge=0, le=1)
    """The share of the items of `more-facts` that give an item of `facts` another value."""


class SourceSettings(Settings):
    """Where examples come from: files, a Hugging Face dataset, a generator of reasoning-gym, or the lab."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]*$")
    """Its name in the report and in file names."""
    lab: str | None = None
    """Name of a task or suite of the lab."""
    lab_settings: LabSettings = LabSettings()
    """Its world, and the voice of its demonstrations."""
    given: bool = False
    """It is an object, passed to `holdfast.run` or `holdfast.compare` in Python. The configuration only names it."""
    gym: str | None = None
    """Name of a generator of reasoning-gym (extra `gym`)."""
    gym_level: int | None = Field(default=None, ge=0)
    """Difficulty by the generator's curriculum, from 0; by default the generator's own defaults."""
    gym_settings: dict[str, Any] = Field(default_factory=dict)
    """Settings of the generator. They override those of `gym_level`."""
    test_size: int = Field(default=256, ge=1)
    """Test items from a generator."""
    seed: int = Field(default=0, ge=0)
    """Seed of a generator's items. It does not depend on the run's seed, so all runs are tested on the same items."""
    dataset: str | None = None
    """Hub id or local folder of a Hugging Face dataset."""
    subset: str | None = None
    """Configuration of the dataset."""
    test: str | None = None
    """Path of a JSON Lines, JSON, CSV, TSV or Parquet file; with `dataset`, the name of a split."""
    reader: Literal["auto", "records", "sharegpt", "alpaca", "verl", "sciknoweval", "toolalpaca", "code"] = "auto"
    """The form of the records. `auto` recognizes the next four by their columns. `records` is TRL's forms and OpenAI's
    messages. The next two are published tasks with their verifiers. `code` is programs with their tests."""
    code: CodeSettings | None = None
    """How [programs](code.md) are tested. It means `reader: code`; `{}` is its defaults. Also for `lab: programs`."""
    sandbox: SandboxSettings = SandboxSettings()
    """Where code that the model wrote runs: that of `reader: code` and `lab: programs`, of `gym`, and of `lm_eval` with
    `run_code`."""
    run_code: Literal["sandboxed", "unprotected"] = "sandboxed"
    """`unprotected` runs programs, and answers that `gym` evaluates, as you, on this machine, without a sandbox. They
    may then do whatever you may. In a run directory it [does not
    count](run-directory.md#run-directories-from-others)."""
    columns: Columns = Columns()
    """The names of your columns."""
    prompt_template: str | None = None
    """Writes the prompt from columns, such as `Sort {title} of {author}`. `{{word}}` stands for `{word}`."""
    bad_records: Literal["refuse", "drop"] = "refuse"
    """What happens if some records cannot be read. They are counted, and the first are named, in either case."""
    verifier: str | None = None
    """`module:function` that takes (example, completion) and returns a Verdict or a number from 0 to 1."""
    environment_factory: str | None = None
    """`module:function` that takes an example and returns an environment: a task of several turns. The environment
    answers every turn of the model until the episode is over, and it gives the reward; there is no verifier."""
    max_turns: int = Field(default=8, ge=1)
    """The model's turns per episode of `environment_factory`. An episode that is not over after the last turn is judged
    as it is, and counts as truncated."""
    verifier_timeout: float = Field(default=VERIFIER_TIMEOUT, gt=0, allow_inf_nan=False)
    """Seconds that the verifier may take for one answer, or the environment for one turn. An answer whose time is over
    has reward 0; such answers are counted, and the first are named."""
    verifier_errors: VerifierErrors = "stop"
    """What it does if the verifier or the environment fails in another way: the run stops and can be resumed, or the
    answer has reward 0, likewise counted and named."""
    in_process: bool = False
    """Run the verifier or the environment in the training process, not in child processes. There it can take the run
    down with it, and its time limit holds for Python code alone. For verifiers that need what the training process
    has in memory."""
    limit: int | None = Field(default=None, ge=1)
    """Use only this many examples of each split, the first ones."""
    chance: float | None = Field(default=None, ge=0, lt=1)
    """The mean score of a model that lacks the skill, such as 0.25 where each item has four options. A set on which the
    base is not above it has nothing to lose, and does not count as forgotten. By default it follows from what is known:
    the number of options in lm-evaluation-harness, and for answers that are compared as text, the best constant
    answer's score. Otherwise it is 0."""

    @property
    def is_code(self) -> bool:
        """Whether the records are programs with their tests."""
        return self.reader == "code" or self.code is not None or self.lab == LAB_PROGRAMS

    @property
    def runs_code(self) -> bool:
        """Whether what judges answers runs code that is in them."""
        return self.gym is not None or (self.is_code and self.verifier is None)

    @model_validator(mode="after")
    def _code_runs_somewhere(self) -> Self:
        """Refuse settings of code that runs nowhere, or elsewhere."""
        if self.code is not None and self.reader not in ("auto", "code"):
            raise ValueError(f"`code` means `reader: code`, and the reader is {self.reader!r}; remove one of them")
        other = any(getattr(self, key, None) is not None for key in ("lab", "gym", "lm_eval"))
        if self.is_code and other and self.lab != LAB_PROGRAMS:
            raise ValueError("programs with tests are read from files and datasets; remove `code` or the other source")
        if self.is_code and self.environment_factory is not None:
            raise ValueError("`environment_factory` judges its episodes itself; leave `code` out")
        if not self.runs_code and getattr(self, "lm_eval", None) is None:
            for key in ("sandbox", "run_code"):
                if getattr(self, key) != type(self).model_fields[key].default:
                    raise ValueError(f"`{key}` is for `reader: code`, `gym` and `lm_eval`, and nothing here runs code")
        if self.gym is not None and self.sandbox.kind == "sandbox-fusion":
            raise ValueError("a `sandbox-fusion` server runs whole programs only; use `bubblewrap` for `gym`")
        return self

    @model_validator(mode="after")
    def _settings_of_the_source(self) -> Self:
        """Refuse settings that this source would ignore."""
        if self.environment_factory is not None and self.verifier is not None:
            raise ValueError("`environment_factory` judges its episodes itself; leave `verifier` out")
        if self.in_process and self.environment_factory is None and self.verifier is None:
            raise ValueError("`in_process` is for `verifier` or `environment_factory`, which are not given; remove it")
        for source, keys in (
            ("lab", ("lab_settings",)),
            ("gym", ("gym_level", "gym_settings", "test_size", "train_size", "seed")),
            ("lm_eval", ("lm_eval_settings",)),
            ("environment_factory", ("max_turns",)),
        ):
            fields = {key: field for key, field in type(self).model_fields.items() if key in keys}
            for key, field in fields.items():
                if getattr(self, source, None) is None and getattr(self, key) != field.get_default(
                    call_default_factory=True, validated_data={}
                ):
                    raise ValueError(f"`{key}` is for `{source}: NAME`, which is not given")
        for source in ("lab", "gym", "lm_eval"):
            for key in ("prompt_template", "train_on", "bad_records"):
                default = type(self).model_fields[key].default if key in type(self).model_fields else None
                if getattr(self, source, None) is not None and getattr(self, key, default) != default:
                    raise ValueError(f"`{key}` is for files and datasets, and `{source}` has its own data")
        return self


class TaskSettings(SourceSettings):
    """One stage of the stream."""

    train: str | None = None
    """Path of the training file, as for `test`; with `dataset`, the name of a split."""
    train_size: int = Field(default=512, ge=1)
    """Training items from a generator. They are disjoint from the test items."""
    test_fraction: float = Field(default=0.1, gt=0, lt=1)
    """Fraction of the training examples that is held out for testing, if there is no `test`."""
    train_on: Literal["last", "all"] = "last"
    """The turns of the assistant that are trained on where a conversation has no weights: the last one, or all of them.
    The last one is always the demonstration."""
    steps: int | None = Field(default=None, ge=1)
    """Optimizer steps of this stage; by default `train.steps`."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if self.lab is None and self.gym is None and self.train is None and not self.given:
            raise ValueError(
                "a task needs `train: FILE`, or `dataset:` and `train: SPLIT`, or `gym: NAME`, or `lab: NAME`"
            )
        return self


class SuiteSettings(SourceSettings):
    """A held-out suite that no stage trains on."""

    kind: Literal["retention", "ood"] = "retention"
    """`retention` suites measure old skills, `ood` suites measure generalization of the tasks."""
    lm_eval: str | None = None
    """A task or group of lm-evaluation-harness (extra `eval`): its name, or the path of a task file in the harness's
    YAML form. `sdft` means the six suites of arXiv 2601.19897."""
    lm_eval_settings: LmEvalSettings = LmEvalSettings()
    """How the harness measures it."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if self.lab is None and self.gym is None and self.lm_eval is None and self.test is None and not self.given:
            raise ValueError(
                "a suite needs `test: FILE`, or `dataset:` and `test: SPLIT`, or `gym: NAME`, `lm_eval: NAME` or "
                "`lab: NAME`"
            )
        if self.lm_eval is not None and self.run_code != "sandboxed":
            raise ValueError("`run_code` of `lm_eval` is in `lm_eval_settings`")
        # The harness also refuses this, but only after it has loaded the data.
        if self.lm_eval == "humaneval" and not self.lm_eval_settings.run_code:
            raise ValueError(
                "humaneval runs code that the model wrote; let it run in a sandbox with `lm_eval_settings: {run_code: "
                "true}` (at the gate, --run-code), or leave it out"
            )
        return self


def shorthand(value: Any) -> Any:
    """A task or suite in one word, such as `lab:facts`, as a mapping; anything else unchanged."""
    if isinstance(value, str):
        kind, _, name = value.partition(":")
        if kind not in (LAB, "gym", "lm_eval") or not name:
            raise ValueError(f"{value!r} is not understood; write lab:NAME, or a mapping with `name` and `train`")
        return {"name": name, kind: name}
    return value


def presets(value: Any) -> Any:
    """Suites with `lm_eval: sdft` replaced by the six suites that it means, with the same settings."""
    suites = []
    for each in value if isinstance(value, list) else ():
        entry = shorthand(each) if each == "lm_eval:sdft" else each
        if isinstance(entry, Mapping) and entry.get("lm_eval") == "sdft":
            suites += [{**entry, "name": name, "lm_eval": name} for name in SDFT_SUITES]
        else:
            suites.append(each)
    return suites if isinstance(value, list) else value
