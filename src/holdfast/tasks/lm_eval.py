"""Suites of lm-evaluation-harness, evaluated on the model in memory. Needs the extra `eval`.

The harness prompts and scores in its own way: by the likelihood of given choices, or by a generated answer. The result
here is one score per item. Their plain mean is the harness's own number, so two models can be compared item by item.
"""

import itertools
import logging
import math
import os
import random
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, chdir, contextmanager, redirect_stderr
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from holdfast import stop
from holdfast.config.settings import CodeSettings, LmEvalSettings, SuiteSettings
from holdfast.data.example import Example, Message, Verdict
from holdfast.data.task import Suite
from holdfast.errors import ConfigError, DataError, did_you_mean
from holdfast.measure.chance import most_frequent
from holdfast.measure.statistics import score_interval
from holdfast.tasks.code.code_eval import code_evaluation, uses_code_eval
from holdfast.tasks.code.load import program_runner, require_sandbox
from holdfast.tasks.code.verifier import RunsPrograms
from holdfast.tasks.files import first_line

if TYPE_CHECKING:
    import torch

    from holdfast.model.policy import Policy
    from holdfast.model.processes import Processes

METRICS: Mapping[str, str] = {
    "hellaswag": "acc",
    "truthfulqa_mc1": "acc",
    "mmlu": "acc",
    "ifeval": "inst_level_loose_acc",
    "winogrande": "acc",
    "humaneval": "pass@1",
}
"""The metric that arXiv 2601.19897 reports for each of its six suites. HellaSwag's is not the usual `acc_norm`."""

CODE_SECONDS = 3.0
"""CPU time of a program of such a suite, which is the harness's own limit."""

FEWSHOT_SEED = 1234
"""The harness's own default seed for drawing few-shot examples."""


@dataclass(frozen=True, slots=True)
class LmEvalResult:
    """The harness's result on one suite.

    Attributes:
        items: one score per item. If the harness weights items, or the tasks of a group, the scores are scaled so that
            their plain mean is the harness's number.
        ids: of the items.
        length: mean length of the generated answers, in tokens; 0 if the harness generates none.
        truncated: share of the requests that were too long for the model's context and were cut on the left.
        shown: prompt and answer of each item, as text.
    """

    items: list[float]
    ids: list[str]
    length: float
    truncated: float
    shown: list[tuple[str, str]]

    @property
    def score(self) -> float:
        return math.fsum(self.items) / len(self.items)

    def numbers(self) -> dict[str, Any]:
        """The suite's entry under "sets" of an evaluation. `format_ok` is 1, because the harness does not judge
        format."""
        return {
            "mean": min(1.0, self.score),
            "n": len(self.items),
            "ci95": list(score_interval(self.items)),
            "reward": min(1.0, self.score),
            "format_ok": 1.0,
            "length": self.length,
            "truncated": self.truncated,
            "kl_to_base": None,
            "kl_to_base_se": None,
            "most_frequent": None
            if (most := most_frequent([text for _, text in self.shown])) is None
            else most.as_json(),
        }

    def samples(self, count: int) -> list[dict[str, Any]]:
        """`count` items from all over the suite, as an evaluation keeps them."""
        places = range(0, len(self.items), max(1, len(self.items) // count))[:count] if count else ()
        return [
            {"id": self.ids[i], "prompt": prompt, "system": None, "text": text, "reward": self.items[i]}
            for i, (prompt, text) in ((i, self.shown[i]) for i in places)
        ]


@dataclass(frozen=True)
class LmEvalSuite(Suite):
    """A task or group of tasks of the harness. It is evaluated as a whole, so no verifier can judge one answer."""

    settings: LmEvalSettings = field(kw_only=True)
    runner: RunsPrograms | None = field(kw_only=True, repr=False)
    """Runs programs that the model wrote; None if nothing may run them, or the harness itself."""
    limit: int | None = field(kw_only=True)
    task: str = field(kw_only=True)
    loaded: Mapping[str, Any] = field(kw_only=True, repr=False, compare=False)

    @classmethod
    def of(cls, settings: SuiteSettings) -> Self:
        """The suite that settings name, with its data.

        Raises:
            ConfigError: lm-evaluation-harness is not installed, has no such task, or the task runs code without
                permission.
            DataError: the task's data cannot be loaded.
        """
        assert settings.lm_eval is not None
        runner = _runner(settings)
        loaded = _load(settings.lm_eval, settings.lm_eval_settings, runner, f"suite {settings.name!r}")
        examples = [
            Example(f"{name}-{index}", (Message(role="user", content=_text(task, doc)),), answer=doc)
            for name, task in loaded["tasks"].items()
            for index, doc in enumerate(itertools.islice(task.eval_docs, settings.limit))
        ]
        return cls(
            settings.name,
            settings.kind,
            examples,
            _no_single_verdict,
            f"lm-evaluation-harness {settings.lm_eval}",
            settings=settings.lm_eval_settings,
            runner=runner,
            limit=settings.limit,
            task=(task := next(iter(loaded["groups"] or loaded["tasks"]))),
            loaded=loaded,
            chance=_chance(loaded["tasks"], settings.lm_eval_settings.metric or METRICS.get(task), settings.limit),
        )

    def evaluate(self, policy: "Policy", limit: int | None = None, world: "Processes | None" = None) -> LmEvalResult:
        """Evaluate a policy with its current weights. The model and all random states stay as they are.

        Several processes answer a share each. Afterwards each has the whole result. The weights must be whole on each.

        Args:
            policy: the model.
            limit: use only the first `limit` items of each of the harness's tasks. A lower limit of the suite counts.
            world: the processes; by default those of this run.

        Raises:
            ConfigError: the task has no such metric.
            DataError: the metric is not a mean of scores from 0 to 1 over items.
        """
        import lm_eval

        from holdfast.model.processes import Processes
        from holdfast.tasks.lm_eval_model import InMemory

        world = world or Processes.current()
        limits = [each for each in (limit, self.limit) if each is not None]
        with _harness(self.settings.run_code, self.runner, policy.device):
            for task in self.loaded["tasks"].values():
                task.set_fewshot_seed(seed=FEWSHOT_SEED)
            model = InMemory(policy, self.settings.batch_size, world)
            try:
                output = lm_eval.evaluate(
                    lm=model,
                    task_dict=self.loaded,
                    limit=min(limits, default=None),
                    bootstrap_iters=0,
                    apply_chat_template=self.settings.apply_chat_template,
                    fewshot_as_multiturn=self.settings.apply_chat_template,
                    confirm_run_unsafe_code=bool(self.settings.run_code),
                )
            except (AssertionError, ValueError) as error:  # the harness refuses a model for a task
                raise DataError(
                    f"lm-evaluation-harness cannot evaluate it: {first_line(error)}",
                    where=f"suite {self.name!r}",
                    fix="leave the suite out, or change its `lm_eval_settings`",
                ) from error
        stop.poll_together(world.highest)
        counts = world.gather((model.requests, model.cut))
        requests, cut = (sum(each) for each in zip(*counts))
        result = world.main(lambda: self._result(output, policy.tokenizer, cut / max(1, requests)))
        if cut and world.is_main:
            warnings.warn(
                f"suite {self.name!r}: {cut} of {requests} requests are longer than the model's context. They were cut "
                "on the left, as lm-evaluation-harness does.",
                stacklevel=2,
            )
        return result

    def _result(self, output: Mapping[str, Any], tokenizer: Any, truncated: float) -> LmEvalResult:
        where = f"suite {self.name!r}"
        by_task: dict[str, list[tuple[str, Any]]] = {}
        shown: dict[str, tuple[str, str]] = {}
        tokens: list[int] = []
        metric, wanted = _metric(self.task, self.settings.metric, output, where)
        if any(
            better.get(metric) is False
            for name, better in output["higher_is_better"].items()
            if name in self.loaded["tasks"]
        ):
            raise DataError(
                f"a lower {metric!r} is better", where=where, fix="choose a metric that is better if higher"
            )
        for task, samples in output["samples"].items():
            for sample in sorted(samples, key=lambda s: s["doc_id"]):
                if sample["filter"] != wanted or metric not in sample:
                    continue
                item = f"{task}-{sample['doc_id']}"
                by_task.setdefault(task, []).append((item, sample[metric]))
                shown[item] = _shown(sample)
                texts = [text for (text, *_) in sample["resps"] if isinstance(text, str)]
                tokens += [len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts]
        reported = output["results"].get(self.task, {}).get(f"{metric},{wanted}")
        items = _items(by_task, reported, f"{where}, metric {metric!r}")
        return LmEvalResult(
            items=list(items.values()),
            ids=list(items),
            length=sum(tokens) / len(tokens) if tokens else 0.0,
            truncated=truncated,
            shown=[shown[item] for item in items],
        )


def _chance(tasks: Mapping[str, Any], metric: str | None, limit: int | None) -> float:
    """The accuracy of guessing: the mean over items of 1 / number of choices. 0 if not all tasks are multiple choice.

    Args:
        metric: named by the configuration or the paper; None for the task's first, which is an accuracy.
        limit: items of each task.
    """
    if metric is not None and metric.partition(",")[0] not in ("acc", "acc_norm"):
        return 0.0
    rates: list[float] = []
    for task in tasks.values():
        if task.get_config("output_type") != "multiple_choice":
            return 0.0
        rates += [1 / len(task.doc_to_choice(doc)) for doc in itertools.islice(task.eval_docs, limit)]
    return sum(rates) / len(rates) if rates else 0.0


def _no_single_verdict(example: Example, completion: str) -> Verdict:
    raise DataError("lm-evaluation-harness evaluates the suite as a whole", fix="call its `evaluate`")


@cache
def _manager() -> Any:
    """The harness's index of its tasks. Cached, because making it reads about ten thousand files."""
    from lm_eval.tasks import TaskManager

    return TaskManager()


def _runner(settings: SuiteSettings) -> RunsPrograms | None:
    """What runs programs in a sandbox; None if nothing may run them, or the harness itself.

    Raises:
        ConfigError: there can be no such sandbox on this machine.
    """
    if settings.lm_eval_settings.run_code is not True:
        return None
    require_sandbox(settings)
    code = CodeSettings(time_limit=CODE_SECONDS, total_time_limit=3 * CODE_SECONDS)
    return program_runner(settings, code)


def _load(task: str, settings: LmEvalSettings, runner: RunsPrograms | None, where: str) -> dict[str, Any]:
    """The harness's tasks with their data, by name or task file. Paths in a task file are relative to its folder."""
    path = Path(os.path.realpath(os.path.expanduser(task)))
    with _harness(settings.run_code, runner):
        try:
            from lm_eval.tasks import TaskManager
        except ImportError as error:
            raise ConfigError(
                "lm-evaluation-harness cannot be imported", where=where, fix="install it: pip install 'holdfast[eval]'"
            ) from error
        if path.is_file():
            manager = TaskManager(include_defaults=False)
            name = _register(path, manager, where)
        else:
            manager, name = _manager(), task
            if name not in manager.all_tasks:
                fix = did_you_mean(name, manager.all_tasks)
                raise ConfigError(f"lm-evaluation-harness has no task {name!r}", where=where, fix=fix)
        # Checked before the task is loaded, because some tasks run code during loading.
        if (manager.task_index[name].cfg or {}).get("unsafe_code") and not settings.run_code:
            raise _not_allowed(task, where)
        try:
            with chdir(path.parent if path.is_file() else "."):
                loaded: dict[str, Any] = manager.load([name])
        except Exception as error:
            raise DataError(
                f"lm-evaluation-harness cannot load {task!r}: {type(error).__name__}: {first_line(error)}",
                where=where,
                fix="connect to the network, which most tasks need once, or use a task file with local data",
            ) from error
        if not loaded["groups"] and len(loaded["tasks"]) > 1:
            names = ", ".join(loaded["tasks"])
            raise ConfigError(
                f"{task!r} is a tag of several tasks, not a task", where=where, fix=f"name one of {names}"
            )
        for name, each in loaded["tasks"].items():
            _set_fewshot(each, settings.num_fewshot)
            if each.get_config("unsafe_code") and not settings.run_code:  # within a group
                raise _not_allowed(name, where)
            if runner is not None and each.get_config("unsafe_code") and not uses_code_eval(vars(each.config)):
                raise ConfigError(
                    f"{name!r} runs code in a way of its own, which cannot be put into a sandbox",
                    where=where,
                    fix="remove the suite, or let it run without one with `lm_eval_settings: {run_code: unprotected}`",
                )
    return loaded


def _not_allowed(task: str, where: str) -> ConfigError:
    fix = "let it run in a sandbox with `lm_eval_settings: {run_code: true}`, or remove the suite"
    return ConfigError(f"{task!r} runs code that the model wrote", where=where, fix=fix)


def _register(path: Path, manager: Any, where: str) -> str:
    """Add the task or group of a task file to the harness's index. Returns its name."""
    from lm_eval.tasks._index import TaskIndex
    from lm_eval.tasks._yaml_loader import load_yaml

    try:
        spec = load_yaml(path, resolve_func=False)
    except Exception as error:
        raise DataError(
            f"cannot be read: {first_line(error)}", where=f"{where}, {path}", fix="check that it is valid YAML"
        ) from error
    if not isinstance(spec, Mapping) or not {"task", "group"} & set(spec):
        raise DataError(
            "names no `task`", where=f"{where}, {path}", fix="write it as a task file of lm-evaluation-harness"
        )
    TaskIndex.process_cfg(spec, path, manager.task_index)
    return str(spec.get("group") or spec["task"])


def _set_fewshot(task: Any, num_fewshot: int | None) -> None:
    """Set the number of few-shot examples as the harness does.

    A task whose own number is 0 stays at 0. A task without a number gets 0 by default.
    """
    own = task.get_config("num_fewshot")
    if own is None or (num_fewshot is not None and own != 0):
        task.set_config(key="num_fewshot", value=num_fewshot or 0)


def _metric(task: str, named: str | None, output: Mapping[str, Any], where: str) -> tuple[str, str]:
    """Metric and filter: those named (`metric` or `metric,filter`), else the paper's, else the first in the output."""
    available = [
        (metric, sample["filter"])
        for samples in output["samples"].values()
        for sample in samples
        for metric in sample["metrics"]
    ]
    wanted = named or METRICS.get(task)
    if wanted is None:
        return available[0]
    metric, _, name = wanted.partition(",")
    matching = [each for each in available if each[0] == metric and name in ("", each[1])]
    if not matching:
        known = sorted({f"{metric},{name}" for metric, name in available} | {metric for metric, _ in available})
        raise ConfigError(f"the task has no metric {wanted!r}", where=where, fix=did_you_mean(wanted, known))
    return matching[0]


def _items(by_task: Mapping[str, Sequence[tuple[str, Any]]], reported: float | None, where: str) -> dict[str, float]:
    """One score per item, scaled so that their plain mean is the number that the harness reports.

    A task's number may be the mean over all parts of its items (in IFEval, over instructions). A group's number may be
    the mean over items or over tasks. The reported number shows which of the two it is.

    Args:
        by_task: for each task, its items with their scores, or with a list of scores of their parts.
        reported: the harness's number; None if it reports none.
        where: names suite and metric in error messages.
    """
    scores: dict[str, dict[str, float]] = {}
    for task, items in by_task.items():
        parts = {item: value if isinstance(value, list | tuple) else [value] for item, value in items}
        if not all(_is_score(part) for values in parts.values() for part in values):
            raise DataError(
                "is not a score from 0 to 1 for each item",
                where=where,
                fix="choose another metric with `lm_eval_settings.metric`",
            )
        weight = sum(map(len, parts.values())) / len(parts) or 1.0
        scores[task] = {item: math.fsum(map(float, values)) / weight for item, values in parts.items()}
    total, groups = sum(map(len, scores.values())), len(scores)
    over_items = {item: value for values in scores.values() for item, value in values.items()}
    over_tasks = {
        item: value * total / (groups * len(values)) for values in scores.values() for item, value in values.items()
    }
    for items_of in (over_items, over_tasks):
        if reported is None or math.isclose(math.fsum(items_of.values()) / total, reported, abs_tol=1e-6):
            return items_of
    raise DataError(
        "is not a mean over items",
        where=where,
        fix="choose another metric with `lm_eval_settings.metric`, such as acc",
    )


def _is_score(value: Any) -> bool:
    is_number = isinstance(value, int | float) or (hasattr(value, "item") and value.size == 1)
    return is_number and 0 <= float(value) <= 1


def _text(task: Any, doc: Any) -> str:
    try:
        return str(task.doc_to_text(doc))
    except Exception:  # some tasks need more than the document for it; winogrande scores two texts
        return str(doc)


def _shown(sample: Mapping[str, Any]) -> tuple[str, str]:
    """Prompt and answer of an item. The answer is the generated text, or the most likely choice."""
    arguments, answers = sample["arguments"], sample["filtered_resps"]
    if isinstance(answers[0], tuple | list) and len(answers[0]) == 2:
        best = max(range(len(answers)), key=lambda i: answers[i][0])
        return str(arguments[best][0]), str(arguments[best][1])
    return str(arguments[0][0]), str(sample["resps"][0][0])


@contextmanager
def _harness(
    run_code: bool | Literal["unprotected"], runner: RunsPrograms | None, device: "torch.device | None" = None
) -> Iterator[None]:
    """A context in which the harness logs only errors, and all random states are restored at the end.

    Args:
        run_code: whether it may run code that a model wrote.
        runner: runs that code; None if the harness itself may.
    """
    import numpy as np
    import torch

    logger = logging.getLogger("lm_eval")
    level, states = logger.level, (random.getstate(), np.random.get_state())
    allowed = os.environ.get("HF_ALLOW_CODE_EVAL")
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng([device] if device is not None and device.type == "cuda" else []))
        stack.enter_context(torch.no_grad())
        if not sys.stderr.isatty():  # a progress bar in a log file is many lines
            stack.enter_context(redirect_stderr(stack.enter_context(open(os.devnull, "w"))))
        logger.setLevel(logging.ERROR)
        if run_code:
            stack.enter_context(code_evaluation(runner))
        if run_code == "unprotected":
            os.environ["HF_ALLOW_CODE_EVAL"] = "1"
        random.seed(0)
        np.random.seed(FEWSHOT_SEED)
        torch.manual_seed(FEWSHOT_SEED)
        try:
            yield
        finally:
            logger.setLevel(level)
            random.setstate(states[0])
            np.random.set_state(states[1])
            if run_code == "unprotected":
                os.environ.pop("HF_ALLOW_CODE_EVAL")
                if allowed is not None:
                    os.environ["HF_ALLOW_CODE_EVAL"] = allowed
