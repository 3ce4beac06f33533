"""The sequences from which a recipe's penalty estimates Fisher information."""

from holdfast.data.rows import Row
from holdfast.data.seeds import derive_seed
from holdfast.recipes.parts.penalty import FisherPenalty
from holdfast.rollouts.prompt_pool import PromptPool
from holdfast.rollouts.row_sampler import RowSampler
from holdfast.rollouts.sources.demonstrations import demonstration_row


def fisher_sequences(penalty: FisherPenalty, pool: PromptPool, sampler: RowSampler, seed: int, stage: int) -> list[Row]:
    """Sequences from before a stage.

    Args:
        penalty: how many sequences, and whether they are demonstrations or samples of the student as it is now.
        pool: the run's training prompts.
        sampler: samples from the student.
        seed: the run's seed.
        stage: the stage that begins, from 1.

    Returns:
        One row per sequence. There are none before the first stage if they are to be demonstrations: no task came
        before it.
    """
    if penalty.sequences == "demonstrations" and stage == 1:
        return []
    chosen = pool.before(stage, penalty.count)
    if penalty.sequences == "demonstrations":
        return [
            demonstration_row(prompt, derive_seed(seed, "demonstration", stage, 0, place))
            for place, (_, prompt) in enumerate(chosen)
        ]
    return sampler.unjudged(chosen, "student", "Fisher information", stage)
