"""From rows to logits at the tokens that a loss is computed on, in micro-batches of bounded size.

Rows are padded on the right: under causal attention nothing sees the padding, so no mask is needed, and every
completion is aligned at its own prompt's end. The output head is applied to loss tokens alone.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from holdfast.rollouts.rows import Row
from holdfast.train.policy import Policy


def micro_batches(rows: Sequence[Row], token_budget: int) -> list[list[Row]]:
    """Rows of similar length together, each batch with at most `token_budget` tokens, padding and teacher included.

    A row longer than the budget makes a batch of its own. Which rows share a batch never changes the result.
    """
    batches: list[list[Row]] = []
    for row in sorted(rows, key=_length):
        width = _length(row)  # the longest so far: rows come in order
        if batches and width * (len(batches[-1]) + 1) <= token_budget:
            batches[-1].append(row)
        else:
            batches.append([row])
    return batches


def _length(row: Row) -> int:
    return max(len(row.prompt_ids), len(row.teacher_prompt_ids or ())) + len(row.completion_ids)


def loss_token_logits(
    policy: Policy, prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[int]], positions: Sequence[range]
) -> Tensor:
    """Logits [N, V] that predict the completions' tokens at `positions`, flat in the order of the rows.

    The token at completion index t after a prompt of P tokens is predicted at sequence index P − 1 + t.

    Args:
        prompts: token ids [R][P_r]; never empty.
        completions: token ids [R][T_r].
        positions: completion indices [R] to predict.
    """
    width = max(len(p) + len(c) for p, c in zip(prompts, completions, strict=True))
    input_ids = torch.full((len(prompts), width), policy.pad_id)
    rows: list[int] = []
    columns: list[int] = []
    for i, (prompt, completion, wanted) in enumerate(zip(prompts, completions, positions, strict=True)):
        input_ids[i, : len(prompt) + len(completion)] = torch.tensor([*prompt, *completion])
        rows += [i] * len(wanted)
        columns += [len(prompt) - 1 + t for t in wanted]
    hidden = policy.hidden_states(input_ids.to(policy.device))
    index = torch.tensor([rows, columns], device=policy.device)
    return policy.logits(hidden[index[0], index[1]])
