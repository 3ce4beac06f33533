"""Requests completed and judged, each by its own task: in one turn, or in an episode with an environment."""

from collections.abc import Sequence

from holdfast import stop
from holdfast.data.chat import ChatFormat
from holdfast.data.example import Example, Verdict
from holdfast.data.task import Task
from holdfast.sampling.episodes import Episode, play
from holdfast.sampling.sampler import Completion, CompletionEngine, Request

Completed = tuple[Completion | Episode, str, Verdict | None]
"""A completion, its text and, where something judges it, its verdict."""


def complete(
    engine: CompletionEngine,
    chat_format: ChatFormat,
    requests: Sequence[Request],
    owners: Sequence[tuple[Task, Example]],
    *,
    max_new_tokens: int,
    batch_tokens: int,
) -> list[Completed]:
    """What becomes of requests, in their order.

    Args:
        owners: of each request, its task and its example.
        max_new_tokens: of a completion, or of a whole episode.
        batch_tokens: at a time, without gradients.
    """
    found: dict[int, Completed] = {}
    for task in {task.name: task for task, _ in owners if task.episodes is not None}.values():
        assert task.episodes is not None
        places = [i for i, (owner, _) in enumerate(owners) if owner.name == task.name]
        episodes = play(
            engine,
            chat_format,
            task.episodes,
            [requests[i] for i in places],
            [owners[i][1] for i in places],
            max_new_tokens=max_new_tokens,
            batch_tokens=batch_tokens,
            poll=stop.poll,
        )
        found |= {i: (each, chat_format.text(each.ids), each.verdict) for i, each in zip(places, episodes, strict=True)}
    places = [i for i, (task, _) in enumerate(owners) if task.episodes is None]
    single = [requests[i] for i in places]
    completions = engine.generate(single, max_new_tokens=max_new_tokens, batch_tokens=batch_tokens) if single else []
    for i, completion in zip(places, completions, strict=True):
        stop.poll()
        task, example = owners[i]
        text = chat_format.text(completion.ids)
        found[i] = (completion, text, task.verify(example, text) if task.verifier is not None else None)
    return [found[i] for i in range(len(owners))]
