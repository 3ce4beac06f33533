"""From requests to judged completions: in one turn with a verifier, or in an episode with an environment."""

from collections.abc import Sequence

from holdfast import stop
from holdfast.data.chat import ChatFormat
from holdfast.data.example import Example, Verdict
from holdfast.data.task import Task
from holdfast.judging.answers import AnswerToJudge, judge_answers
from holdfast.sampling.episodes import Episode, run_episodes
from holdfast.sampling.sampler import Completion, CompletionEngine, Request

Completed = tuple[Completion | Episode, str, Verdict | None]
"""A completion, its text, and its verdict. The verdict is None if the task has neither verifier nor environment."""


def complete(
    engine: CompletionEngine,
    chat_format: ChatFormat,
    requests: Sequence[Request],
    owners: Sequence[tuple[Task, Example]],
    *,
    max_new_tokens: int,
    batch_tokens: int,
    workers: int | None = None,
) -> list[Completed]:
    """Sample and judge requests, in their order.

    Args:
        engine: samples.
        chat_format: decodes completions.
        requests: what is sampled.
        owners: for each request, its task and its example.
        max_new_tokens: longest completion, or longest episode.
        batch_tokens: see `CompletionEngine.generate`.
        workers: the most child processes that judge; None for a number that follows from the cores.
    """
    completed: dict[int, Completed] = {}
    # Episodes go task by task, because each task has its own limit of turns.
    for task in {task.name: task for task, _ in owners if task.episodes is not None}.values():
        places = [i for i, (owner, _) in enumerate(owners) if owner.name == task.name]
        episodes = run_episodes(
            engine,
            chat_format,
            task,
            [requests[i] for i in places],
            [owners[i][1] for i in places],
            max_new_tokens=max_new_tokens,
            batch_tokens=batch_tokens,
            workers=workers,
            poll=stop.poll,
        )
        for i, episode in zip(places, episodes, strict=True):
            completed[i] = episode, chat_format.decode_episode(episode.ids), episode.verdict
    # Requests of one turn go together, whatever their tasks: a larger batch is sampled faster.
    places = [i for i, (task, _) in enumerate(owners) if task.episodes is None]
    of_one_turn = [requests[i] for i in places]
    completions = (
        engine.generate(of_one_turn, max_new_tokens=max_new_tokens, batch_tokens=batch_tokens) if of_one_turn else []
    )
    answers = [chat_format.read(completion.ids) for completion in completions]
    to_judge = [
        AnswerToJudge(*owners[i], answer.content, answer.thoughts) for i, answer in zip(places, answers, strict=True)
    ]
    verdicts = judge_answers(to_judge, workers=workers)
    for i, completion, answer, verdict in zip(places, completions, answers, verdicts, strict=True):
        completed[i] = completion, answer.text, verdict
    return [completed[i] for i in range(len(owners))]
