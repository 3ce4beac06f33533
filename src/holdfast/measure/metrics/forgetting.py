"""Three definitions of forgetting. They answer different questions and disagree, so all three are shown.

The end is compared with the score just after learning (the definition behind backward transfer, Lopez-Paz & Ranzato
2017, arXiv 1706.08840), with the best score since then, and with the base model. The last one counts a failure to learn
as forgetting, so it is never shown alone.

The best score is that of Chaudhry et al. (2018, arXiv 1801.10112, section 4): f_j = max over l in {1, …, k−1} of
a_{l,j}, minus a_{k,j}, for j < k. Two details matter:

- Their models start at random, so that the rows before a task's own stage never hold its best score. Here the base may
  score more than a stage leaves: base .9, learned .5, end .5. The stage itself lost that, and nothing was forgotten
  after it, so rows before the task's own stage do not count.
- The last row is not part of their maximum. So f_j is in [−1, 1]. It is negative if the task is better at the end than
  ever before. A maximum that includes the last row would call every such gain 0.

A task counts only if it had something to lose: at the score that the end is compared with, it was above its chance
level (`holdfast.measure.chance`).
"""

from holdfast.measure.metric import metric
from holdfast.measure.scores import ScoreMatrix, Scores, drops


@metric(
    label="Forgetting, from learned",
    group="Forgetting",
    kind="loss",
    higher_is_better=False,
    definition="Mean drop of the tasks before the last: score right after the task's own stage, minus the "
    "score at the end. Negative means that later stages improved the task.",
    formula="A[j][j] − A[T][j], over tasks before the last with A[j][j] above chance",
    by="task",
    place="forgetting.from_learned",
)
def forgetting(scores: ScoreMatrix) -> Scores:
    return scores.forgotten


@metric(
    label="Forgetting, from best",
    group="Forgetting",
    kind="loss",
    higher_is_better=False,
    definition="Mean drop of the tasks before the last: best score from the task's own stage to the stage before the "
    "last, minus score at the end. Negative means better at the end than ever before.",
    formula="max over s from j to T − 1 of A[s][j], minus A[T][j], over tasks before the last with this maximum above "
    "chance",
    by="task",
    place="forgetting.from_best",
)
def forgetting_from_best(scores: ScoreMatrix) -> Scores:
    best: Scores = {}
    for j, task in enumerate(scores.tasks[:-1], 1):
        known = [(scores.rows[s][task], s) for s in range(j, len(scores.rows) - 1) if task in scores.rows[s]]
        top, stage = max(known, default=(0.0, 0))
        if known and scores.has_to_lose(task, stage):
            best[task] = top
    return drops(best, scores.final)


@metric(
    label="Forgetting, from base",
    group="Forgetting",
    kind="loss",
    higher_is_better=False,
    definition="Mean drop of the tasks that the base model can do: its score, minus score at the end. Negative means "
    "better than the base. A failure to learn counts as forgetting here, so never read it alone.",
    formula="A[0][j] − A[T][j], over tasks with A[0][j] above chance",
    by="task",
    place="forgetting.from_base",
)
def forgetting_from_base(scores: ScoreMatrix) -> Scores:
    return drops({task: scores.base[task] for task in scores.tasks if scores.has_to_lose(task, 0)}, scores.final)
