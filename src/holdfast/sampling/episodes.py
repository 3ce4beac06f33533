"""Episodes of several turns: the model writes, an environment answers, until the episode ends or a limit is reached."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from holdfast import stop
from holdfast.data.chat import ChatFormat
from holdfast.data.example import Example, Verdict
from holdfast.data.seeds import derive_seed
from holdfast.data.task import Suite, Task
from holdfast.data.thoughts import split_thoughts
from holdfast.errors import DataError
from holdfast.judging.episodes import EpisodesToJudge

if TYPE_CHECKING:
    from holdfast.sampling.draws import Request
    from holdfast.sampling.sampler import Completion, CompletionEngine


@dataclass(slots=True)
class Episode:
    """Everything that follows the prompt of one episode: the model's turns and the environment's answers.

    Args:
        ids: tokens of all turns and answers, with what the chat template writes between them.
        tool_mask: for each token, 1 if the model wrote it, else 0.
        logprobs: for each token of the model, its log-probability as sampled. It is 0 at all others, which no loss
            reads.
        turns: how many turns the model has written.
        truncated: a limit on tokens or turns was reached before the episode ended. So the model never saw the
            environment's last answer, such as the result of a tool, or could not reply to it.
        verdict: what the episode was worth.
    """

    ids: list[int] = field(default_factory=list)
    tool_mask: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    turns: int = 0
    truncated: bool = False
    verdict: Verdict = field(default_factory=lambda: Verdict(0.0))

    def add(self, ids: Sequence[int], *, logprobs: Sequence[float] | None = None) -> None:
        """Append a turn of the model with its log-probabilities, or an answer to it without any."""
        self.ids += ids
        self.tool_mask += [int(logprobs is not None)] * len(ids)
        self.logprobs += logprobs if logprobs is not None else [0.0] * len(ids)


def run_episodes(
    engine: "CompletionEngine",
    chat_format: ChatFormat,
    judge: Task | Suite,
    requests: Sequence["Request"],
    examples: Sequence[Example],
    *,
    max_new_tokens: int,
    batch_tokens: int,
    workers: int | None = None,
    poll: Callable[[], None] = lambda: None,
) -> list[Episode]:
    """Run one episode per request.

    All unfinished episodes sample their next turn in one call of the engine. What a turn contains depends only on its
    own episode.

    Args:
        engine: samples the model's turns.
        chat_format: writes turns and answers as tokens.
        judge: the task or suite that has the environment.
        requests: the prompt of each episode, and the seed that names all its draws.
        examples: the example of each request.
        max_new_tokens: longest episode, in tokens, the environment's included.
        batch_tokens: see `CompletionEngine.generate`.
        workers: the most child processes with environments; None for a number that follows from the cores.
        poll: called before each step of an environment; may raise to stop everything.

    Raises:
        DataError: an environment fails and `verifier_errors` is `stop`, or the chat template cannot write its answer.
    """
    assert judge.episodes is not None
    max_turns = judge.episodes.max_turns
    results = [Episode() for _ in requests]
    environments = EpisodesToJudge(judge, examples, workers=workers, poll=poll)
    unfinished = list(range(len(requests)))
    for turn in range(max_turns):
        if not unfinished:
            break
        completions = engine.generate(
            [_next_turn(requests[i], results[i], turn, max_new_tokens) for i in unfinished],
            max_new_tokens=max(max_new_tokens - len(results[i].ids) for i in unfinished),
            batch_tokens=batch_tokens,
        )
        whole: list[tuple[int, Completion]] = []
        for i, completion in zip(unfinished, completions, strict=True):
            results[i].add(completion.ids, logprobs=completion.logprobs)
            results[i].turns += 1
            # The environment does not get a turn that was cut off: it might act on half a tool call.
            if completion.truncated:
                results[i].truncated = True
            else:
                whole.append((i, completion))
        replies = environments.step([i for i, _ in whole], [chat_format.content(each.ids) for _, each in whole])
        still_unfinished = []
        for (i, completion), reply in zip(whole, replies, strict=True):
            if reply is None:
                continue
            episode = results[i]
            if turn + 1 == max_turns:
                episode.truncated = True
                continue
            where = f"environment of example {examples[i].id!r}"
            ids = chat_format.encode_reply(reply, last_id=completion.ids[-1], where=where)
            # An answer that leaves no room for another turn is left out: nothing would be sampled after it.
            if len(episode.ids) + len(ids) >= max_new_tokens:
                episode.truncated = True
                continue
            episode.add(ids)
            still_unfinished.append(i)
        unfinished = still_unfinished
    for episode, verdict in zip(results, environments.verdicts(), strict=True):
        episode.verdict = verdict
    return results


def try_reply(chat_format: ChatFormat, judge: Task | Suite, example: Example) -> None:
    """Play one turn of an episode, so that a reply that the chat template cannot write is noticed before training.

    Environments reply differently to right and wrong turns, and some end at once, so several first turns are tried: the
    example's first action, its demonstration, and a turn that says nothing.

    Raises:
        DataError: the environment fails, or the chat template cannot write its answer.
    """
    _, demonstrated = split_thoughts(example.demonstration or "")
    for turn in dict.fromkeys([*(example.actions or ())[:1], demonstrated or "", "no answer"]):
        reply = EpisodesToJudge(judge, [example], workers=1, poll=stop.poll).reply(turn) if turn else None
        if reply is not None:
            chat_format.encode_reply(reply, where=f"environment of example {example.id!r}")


def demonstration_episode(
    chat_format: ChatFormat,
    judge: Task | Suite,
    example: Example,
    turns: Sequence[str],
    encode: Callable[[str], list[int]],
) -> Episode:
    """The episode of a demonstration of several turns: the given turns, with the environment's real answers.

    It has no verdict.

    Args:
        chat_format: writes the answers as tokens.
        judge: the task that has the environment.
        example: the example of the demonstration.
        turns: the model's turns.
        encode: a turn as the chat template writes it, up to and including the token that ends it.

    Raises:
        DataError: the environment fails, or ends before the last turn.
    """
    where = f"environment of example {example.id!r}"
    assert judge.episodes is not None
    episode, environment = Episode(), EpisodesToJudge(judge, [example], workers=1, poll=stop.poll)
    for number, turn in enumerate(turns, 1):
        ids = encode(turn)
        episode.add(ids, logprobs=[0.0] * len(ids))
        episode.turns += 1
        reply = environment.reply(chat_format.content(ids))
        if number == len(turns):
            break
        if reply is None or number == judge.episodes.max_turns:
            raise DataError(
                f"the episode is over after {number} of the {len(turns)} turns of the demonstration",
                where=where,
                fix="give actions that the environment accepts, or raise max_turns",
            )
        episode.add(chat_format.encode_reply(reply, last_id=ids[-1], where=where))
    return episode


def _next_turn(request: "Request", episode: Episode, turn: int, max_new_tokens: int) -> "Request":
    """The request for an episode's next turn.

    Its `max_new_tokens` is what its own episode has left. Without it, an episode with more tokens left could let this
    one grow beyond the model's context.
    """
    prompt_ids, seed = [*request.prompt_ids, *episode.ids], derive_seed(request.seed, "turn", turn)
    room = max_new_tokens - len(episode.ids)
    return replace(request, prompt_ids=prompt_ids, seed=seed if turn else request.seed, max_new_tokens=room)
