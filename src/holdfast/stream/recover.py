"""The recovery test of a run: a short repair of its last model on the base's own right answers.

See `holdfast.measure.recovery` for what the numbers mean. Each suite's items are split once: one half repairs, the
other tests. Of the first half, those count that the base answers right; its greedy answers are what is trained on, in
the base's own words. The final model, and the base, each take the same few SFT steps from their own weights, suite by
suite.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from holdfast import stop
from holdfast.config.load import load_kept_config
from holdfast.config.settings import RunConfig
from holdfast.config.trust import NO_WORD, UsersWord
from holdfast.data.rows import Row
from holdfast.data.seeds import derive_seed, numpy_rng
from holdfast.data.task import Suite
from holdfast.errors import ConfigError, RunError, did_you_mean
from holdfast.evaluation.evaluator import Evaluator
from holdfast.evaluation.set_answers import SetAnswers
from holdfast.measure.recovery import BeforeAndAfter, recovery
from holdfast.model.context_length import fit_to_context
from holdfast.model.load import load_policy
from holdfast.model.policy import Policy
from holdfast.recipes.sft import SFT
from holdfast.store.files import json_safe, refuse_special, write_json
from holdfast.store.run_directory import RunDirectory
from holdfast.stream.intact import refuse_damaged_model
from holdfast.tasks.lm_eval import LmEvalSuite
from holdfast.tasks.load import load_stream
from holdfast.train.step import StageTrainer, learning_rate

FEWEST = 4
"""Smallest number of the base's right answers that a suite is repaired with."""

RATE = 1 / 3
"""The repair's learning rate by default, as a share of the run's."""

OnSuite = Callable[[str, str], None]
"""Called with the model, `base` or `model`, and the suite before each repair."""


@dataclass(frozen=True)
class _Split:
    """A suite's items in two halves, and the base's right answers to the first."""

    test: Suite
    rows: Sequence[Row]
    items: int


def recover(
    path: Path,
    suites: Sequence[str] = (),
    *,
    steps: int = 20,
    rate: float | None = None,
    on_suite: OnSuite | None = None,
    word: UsersWord = NO_WORD,
) -> dict[str, Any]:
    """Repair the last model of a run on its suites, and write `recover.json` into its directory.

    Args:
        path: a run directory.
        suites: names of judged suites of one turn; by default, all such retention suites.
        steps: optimizer steps of each repair.
        rate: learning rate of the repair; by default a third of the run's.
        word: the user's, as for `load_kept_config`.

    Returns:
        What `recover.json` holds: the settings, and by suite the scores and comparisons of `measure.recovery`. A suite
        with too few right answers of the base has `skipped`, with the reason.

    Raises:
        RunError: there is no run, or none of its stages is finished.
        ConfigError: a suite does not exist or cannot be repaired, or there is none.
    """
    directory = RunDirectory(path)
    config = _run_config(directory, word)
    refuse_special(directory.recovery)
    stage = _last_stage(directory, len(config.tasks))
    refuse_damaged_model(directory, stage)
    _, loaded = load_stream(config)
    chosen = _chosen(loaded, suites, str(path))
    train = config.train.model_copy(update={"learning_rate": rate or RATE * config.train.learning_rate})
    config = config.model_copy(update={"train": train.model_copy(update={"lr_scheduler_type": "constant"})})
    on_suite = on_suite or (lambda model, suite: None)

    base = _Repaired(config, config.model.path)
    splits = {suite.name: base.split(suite) for suite in chosen}
    to_repair = {name: split for name, split in splits.items() if len(split.rows) >= FEWEST}

    def repair_all(which: str, current: _Repaired) -> dict[str, BeforeAndAfter]:
        scores = {}
        for name, split in to_repair.items():
            on_suite(which, name)
            scores[name] = current.repair(split, steps)
        return scores

    scores = {"base": repair_all("base", base)}
    del base  # one model in memory at a time
    scores["model"] = repair_all("model", _Repaired(config, str(directory.model(stage)))) if to_repair else {}
    result = {
        "stage": stage,
        "steps": steps,
        "learning_rate": config.train.learning_rate,
        "seed": config.seed,
        "suites": {name: _entry(split, name, scores) for name, split in splits.items()},
    }
    result = json_safe(result)
    write_json(directory.recovery, result)
    return result


def _run_config(directory: RunDirectory, word: UsersWord) -> RunConfig:
    where = str(directory.path)
    if not directory.config.exists():
        raise RunError("is not a run directory: it has no config.yaml", where=where, fix="name a run directory")
    if not directory.manifest.exists():
        raise RunError("is not a single run: it has no manifest.json", where=where, fix="name one run, as in DIR/runs")
    return load_kept_config(directory.config, RunConfig, word)


def _last_stage(directory: RunDirectory, stages: int) -> int:
    finished = [stage for stage in range(1, stages + 1) if directory.model(stage).is_dir()]
    if not finished:
        raise RunError("no stage is finished", where=str(directory.path), fix="resume the run first")
    return finished[-1]


def _chosen(suites: Sequence[Suite], names: Sequence[str], where: str) -> list[Suite]:
    """The suites to repair. Only a verifier says which answers of the base are right."""
    fitting = {
        suite.name: suite
        for suite in suites
        if suite.verifier is not None and suite.episodes is None and not isinstance(suite, LmEvalSuite)
    }
    for name in names:
        if name not in fitting:
            known = [suite.name for suite in suites]
            if name in known:
                what = f"the suite {name!r} cannot be repaired: it needs a verifier and single turns"
                raise ConfigError(what, where=where, fix="name another suite")
            raise ConfigError(f"no suite is named {name!r}", where=where, fix=did_you_mean(name, known))
    chosen = [fitting[name] for name in dict.fromkeys(names)] or [s for s in fitting.values() if s.kind == "retention"]
    if not chosen:
        what = "the run has no retention suite with a verifier and single turns"
        raise ConfigError(what, where=where, fix="add one under `suites`, and run again")
    return chosen


def _entry(split: _Split, name: str, scores: Mapping[str, Mapping[str, BeforeAndAfter]]) -> dict[str, Any]:
    entry: dict[str, Any] = {"repair_items": len(split.rows), "test_items": split.items}
    if name not in scores["base"]:
        return entry | {"skipped": f"the base answers only {len(split.rows)} of the items for the repair right"}
    base, model = scores["base"][name], scores["model"][name]
    means = {
        which: {when: sum(values) / len(values) for when, values in (("before", own.before), ("after", own.after))}
        for which, own in (("base", base), ("model", model))
    }
    return entry | means | recovery(base, model).as_json()


class _Repaired:
    """A model that is repaired on one suite after the other, each time from its own weights."""

    def __init__(self, config: RunConfig, path: str) -> None:
        revision = config.model.revision if path == config.model.path else None
        settings = config.model.model_copy(update={"path": path, "revision": revision})
        self.policy: Policy = load_policy(settings, seed=config.seed)
        self.config = fit_to_context(config, self.policy.context_length)
        self._weights = {name: each.detach().clone() for name, each in self.policy.named_trainable().items()}

    def split(self, suite: Suite) -> _Split:
        """Split a suite's items, and answer those of the first half."""
        items = self._evaluator().items(suite)
        order = numpy_rng("recovery", suite.name, self.config.seed).permutation(len(items))
        repair = replace(suite, test=[items[i] for i in sorted(order[: len(items) // 2])])
        test = replace(suite, test=[items[i] for i in sorted(order[len(items) // 2 :])])
        return _Split(test, self._right_answers(repair) if repair.test else [], len(test.test))

    def _right_answers(self, suite: Suite) -> list[Row]:
        """The greedy answers that get the full reward, as rows to train on."""
        answers, prompts = self._answer(suite)
        rows = zip(answers.examples, prompts, answers.completions, answers.texts, answers.verdicts, strict=True)
        return [
            Row(example, prompt, list(completion.ids), text, ce=1.0)
            for example, prompt, completion, text, verdict in rows
            if verdict is not None and verdict.reward >= 1.0 and not completion.truncated
        ]

    def repair(self, split: _Split, steps: int) -> BeforeAndAfter:
        """Score the test items, take the steps, and score them again. The weights are as before afterwards."""
        before = self._scores(split.test)
        trainer = StageTrainer(self.policy, None, None, SFT().objective(), self.config.train)
        trainer.poll = stop.poll
        seed = derive_seed("recovery", split.test.name, self.config.seed)
        for step, rows in enumerate(_batches(split.rows, self.config.train.prompts_per_step, steps, seed)):
            torch.manual_seed(derive_seed(seed, "step", step))
            trainer.step(rows, learning_rate(self.config.train, step, steps), where=f"repair, step {step + 1}")
        after = self._scores(split.test)
        with torch.no_grad():
            for name, each in self.policy.named_trainable().items():
                each.copy_(self._weights[name])
        return BeforeAndAfter(before, after)

    def _scores(self, suite: Suite) -> list[float]:
        return self._answer(suite)[0].scores(self.config.eval.score)

    def _answer(self, suite: Suite) -> tuple[SetAnswers, list[list[int]]]:
        evaluator = self._evaluator()
        (answers,) = evaluator.answer([(suite, evaluator.items(suite))])
        return answers, evaluator.prompt_ids(suite)

    def _evaluator(self) -> Evaluator:
        return Evaluator(self.policy, None, self.config.train, self.config.eval)


def _batches(rows: Sequence[Row], size: int, steps: int, seed: int) -> list[list[Row]]:
    """The rows of each step, in passes over all rows, each in a new order. No step has a row twice."""
    size, order = min(size, len(rows)), list[int]()
    while len(order) < size * steps:
        order += numpy_rng("order", len(order), seed).permutation(len(rows)).tolist()
    return [[replace(rows[i]) for i in order[step * size : (step + 1) * size]] for step in range(steps)]
