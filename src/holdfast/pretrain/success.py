"""Success of the base on each task before any stage, without help and with each kind of privileged context."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from holdfast.data import teacher_prompts as contexts
from holdfast.data.example import Example, Message
from holdfast.data.seeds import derive_seed
from holdfast.data.task import Task
from holdfast.lab.languages import REFUSAL
from holdfast.lab.style import Style, forms_by_beginning, style_of
from holdfast.lab.tasks import lab_task
from holdfast.lab.world import HEADED_TASKS
from holdfast.measure.statistics import score_interval
from holdfast.model.policy import Policy
from holdfast.sampling.draws import Request
from holdfast.sampling.episodes import run_episodes
from holdfast.sampling.sampler import Sampler

SAMPLES = 8
"""Samples per prompt, as many as GRPO draws."""

ITEMS = 128
"""Training prompts per task."""

LONGEST_ANSWER = 56

BATCH_TOKENS = 65536

Prompted = tuple[Message, ...]


def _demonstration(example: Example) -> Prompted:
    assert example.demonstration is not None
    return contexts.demonstration_prompt(example.messages, example.demonstration, contexts.DEMONSTRATION_TEMPLATE)


def _succeeded(example: Example) -> Prompted:
    return contexts.reprompt(example.messages, solution=example.demonstration, feedback=None)


def _solution(exposure: float, example: Example) -> Prompted:
    assert example.solution is not None
    shown = contexts.exposed_steps(example.solution, exposure)
    return contexts.demonstration_prompt(example.messages, shown, contexts.REFERENCE_TEMPLATE)


def _plan(example: Example) -> Prompted:
    assert example.plan is not None
    return contexts.plan_prompt(example.messages, example.plan, contexts.PLAN_TEMPLATE)


def _actions(count: int, example: Example) -> Prompted:
    assert example.actions is not None
    return contexts.actions_prompt(example.messages, example.actions[:count], contexts.ACTIONS_TEMPLATE)


def _translation(example: Example) -> Prompted:
    assert example.translation is not None
    request = contexts.last_user_message(example.translation)
    content = contexts.fill(contexts.TRANSLATION_TEMPLATE, prompt=request)
    return contexts.with_last_user_message(example.translation, content)


_WITH_STEPS: Mapping[str, Callable[[Example], Prompted]] = {
    "plan": _plan,
    "half of the solution": partial(_solution, 0.5),
    "solution": partial(_solution, 1.0),
}

_SHOWN: Mapping[str, Callable[[Example], Prompted]] = {
    "demonstration": _demonstration,
    "a sample that succeeded": _succeeded,
}

PRIVILEGES: Mapping[str, Mapping[str, Callable[[Example], Prompted]]] = {
    **dict.fromkeys(("facts", "tools", "calculation", "more-facts"), _SHOWN),
    "steps": _WITH_STEPS,
    "steps-hard": _WITH_STEPS,
    "refusals": {"translation": _translation},
    "quests": {
        "the first action": partial(_actions, 1),
        "the first two": partial(_actions, 2),
        "all actions": partial(_actions, 3),
    },
    "songs": {},
}
"""The privileged contexts of each task, by name, with the prompt that shows them."""


@dataclass(frozen=True, slots=True)
class Success:
    """Success over prompts and samples.

    Attributes:
        mean: share of samples with the full reward.
        ci95: 95% interval of the mean, over prompts.
        all_failed: share of prompts on which no sample has the full reward.
        style: of the samples; None for tasks without a voice.
    """

    task: str
    shown: str
    prompts: int
    mean: float
    ci95: tuple[float, float]
    all_failed: float
    style: Style | None = None


def before_stages(policy: Policy, items: int = ITEMS, world: int = 0) -> list[Success]:
    """Success on the first training prompts of each task, at temperature 1. Of `refusals`, only forbidden requests.

    Args:
        world: the seed of the world that the tasks are drawn from.
    """
    results = []
    for name, privileges in PRIVILEGES.items():
        task = lab_task(name, world)
        examples = [e for e in task.train if name != "refusals" or e.answer == REFUSAL][:items]
        results.append(_success(policy, task, examples, "nothing"))
        for shown, prompted in privileges.items():
            results.append(_success(policy, task, [replace(e, messages=prompted(e)) for e in examples], shown))
    return results


def _success(policy: Policy, task: Task, examples: Sequence[Example], shown: str) -> Success:
    sampled = sample_answers(policy, task, examples)
    rewards = [[reward >= 1 for reward, _ in each] for each in sampled]
    shares = [sum(each) / len(each) for each in rewards]
    mean = sum(shares) / len(shares)
    style = None
    if task.name in HEADED_TASKS:
        asked = [forms_by_beginning()[str(example.gen_prefix)] for example in examples]
        style = style_of([(text, form) for each, form in zip(sampled, asked, strict=True) for _, text in each])
    failed = sum(not any(each) for each in rewards) / len(rewards)
    return Success(task.name, shown, len(examples), mean, score_interval(shares), failed, style)


def sampled_rewards(
    policy: Policy, task: Task, examples: Sequence[Example], *, temperature: float = 1.0, seed: int = 0
) -> list[list[bool]]:
    """For each example, whether each of its `SAMPLES` samples has the full reward."""
    sampled = sample_answers(policy, task, examples, temperature=temperature, seed=seed)
    return [[reward >= 1 for reward, _ in each] for each in sampled]


def sample_answers(
    policy: Policy, task: Task, examples: Sequence[Example], *, temperature: float = 1.0, seed: int = 0
) -> list[list[tuple[float, str]]]:
    """For each example the reward and the text of each of its `SAMPLES` samples. An episode has no text."""
    prompts = [policy.chat_format.encode_example(each) for each in examples]
    requests = [
        Request(prompt, seed=derive_seed(seed, "lab success", task.name, i, sample), temperature=temperature)
        for i, prompt in enumerate(prompts)
        for sample in range(SAMPLES)
    ]
    repeated = [example for example in examples for _ in range(SAMPLES)]
    sampler = Sampler(policy)
    if task.episodes is not None:
        episodes = run_episodes(
            sampler,
            policy.chat_format,
            task,
            requests,
            repeated,
            max_new_tokens=LONGEST_ANSWER,
            batch_tokens=BATCH_TOKENS,
        )
        answers = [(episode.verdict.reward, "") for episode in episodes]
    else:
        completions = sampler.generate(requests, max_new_tokens=LONGEST_ANSWER, batch_tokens=BATCH_TOKENS)
        texts = [policy.chat_format.content(completion.ids) for completion in completions]
        answers = [(task.verify(example, text).reward, text) for example, text in zip(repeated, texts, strict=True)]
    return [answers[i : i + SAMPLES] for i in range(0, len(answers), SAMPLES)]
