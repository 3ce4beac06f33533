"""Episodes of several turns: the model writes, an environment answers, until it is over or something has run out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from holdfast.data.chat import ChatFormat
from holdfast.data.environment import Episodes, Watched
from holdfast.data.example import Example, Verdict
from holdfast.data.seeds import derive_seed
from holdfast.errors import DataError

if TYPE_CHECKING:
    from holdfast.sampling.draws import Request
    from holdfast.sampling.sampler import CompletionEngine


@dataclass(slots=True)
class Episode:
    """What was said after a prompt, by the model and by the environment.

    Args:
        ids: tokens of all turns, with everything that the chat template writes between them.
        tool_mask: 1 for the model's tokens, 0 for the others.
        logprobs: of the model's tokens as sampled; 0 at the others, which no loss reads.
        turns: of the model.
        truncated: tokens or turns ran out before the episode was over: the environment answered a turn, such as a call
            of a tool, and there was no room or no turn left to go on from it.
    """

    ids: list[int] = field(default_factory=list)
    tool_mask: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    turns: int = 0
    truncated: bool = False
    verdict: Verdict = field(default_factory=lambda: Verdict(0.0))

    def add(self, ids: Sequence[int], *, logprobs: Sequence[float] | None = None) -> None:
        """Append a turn of the model, with its log-probabilities, or without them an answer to it."""
        self.ids += ids
        self.tool_mask += [int(logprobs is not None)] * len(ids)
        self.logprobs += logprobs if logprobs is not None else [0.0] * len(ids)


def play(
    engine: "CompletionEngine",
    chat_format: ChatFormat,
    episodes: Episodes,
    requests: Sequence["Request"],
    examples: Sequence[Example],
    *,
    max_new_tokens: int,
    batch_tokens: int,
    poll: Callable[[], None] = lambda: None,
) -> list[Episode]:
    """One episode per request, whose prompt begins it and whose seed names all its draws.

    All episodes that are still going take their next turn together; what a turn says depends on its own episode alone.

    Args:
        max_new_tokens: longest episode, the environment's tokens included.
        poll: called between an environment's answers; may raise to end all.

    Raises:
        DataError: an environment fails, or the chat template cannot write what it says.
    """
    found = [Episode() for _ in requests]
    environments: list[Watched] = [episodes.begin(example) for example in examples]
    going = list(range(len(requests)))
    for turn in range(episodes.max_turns):
        if not going:
            break
        completions = engine.generate(
            [_next(requests[i], found[i], turn, max_new_tokens) for i in going],
            max_new_tokens=max(max_new_tokens - len(found[i].ids) for i in going),
            batch_tokens=batch_tokens,
        )
        still = []
        for i, completion in zip(going, completions, strict=True):
            poll()
            episode = found[i]
            episode.add(completion.ids, logprobs=completion.logprobs)
            episode.turns += 1
            if completion.truncated:
                episode.truncated = True
                continue
            reply = environments[i].step(chat_format.text(completion.ids))
            if reply is None:
                continue
            if turn + 1 == episodes.max_turns:
                episode.truncated = True
                continue
            ids = chat_format.reply(reply, where=f"environment of example {examples[i].id!r}")
            if len(episode.ids) + len(ids) >= max_new_tokens:
                episode.truncated = True
                continue
            episode.add(ids)
            still.append(i)
        going = still
    for episode, environment in zip(found, environments, strict=True):
        poll()
        episode.verdict = environment.verdict()
    return found


def recite(
    chat_format: ChatFormat,
    episodes: Episodes,
    example: Example,
    turns: Sequence[str],
    encode: Callable[[str], list[int]],
) -> Episode:
    """The episode in which the model says what it is told to: a demonstration of several turns; not judged.

    Args:
        encode: a turn as the template writes it, up to and including the token that ends it.

    Raises:
        DataError: the environment fails, or is over before the last of the turns.
    """
    where = f"environment of example {example.id!r}"
    found, environment = Episode(), episodes.begin(example)
    for number, turn in enumerate(turns, 1):
        ids = encode(turn)
        found.add(ids, logprobs=[0.0] * len(ids))
        found.turns += 1
        reply = environment.step(turn)
        if number == len(turns):
            break
        if reply is None or number == episodes.max_turns:
            what = f"it is over after {number} of the {len(turns)} turns that are demonstrated"
            raise DataError(what, where=where, fix="give actions that it takes, or raise max_turns")
        found.add(chat_format.reply(reply, where=where))
    return found


def _next(request: "Request", episode: Episode, turn: int, max_new_tokens: int) -> "Request":
    """An episode's next turn, with the room that it has left: no other's room may take it beyond the context."""
    prompt_ids, seed = [*request.prompt_ids, *episode.ids], derive_seed(request.seed, "turn", turn)
    room = max_new_tokens - len(episode.ids)
    return replace(request, prompt_ids=prompt_ids, seed=seed if turn else request.seed, max_new_tokens=room)
