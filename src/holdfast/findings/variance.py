"""Gradient noise of the sampled-token divergence, with and without its closed-form baseline (arXiv 2605.07865).

On one batch of samples, the sampled-token gradient equals the gradient of the full-vocabulary reverse KL plus noise
with mean zero, because at every prefix the token is one draw from the distribution that the full sum runs over. This
module measures that noise.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from holdfast.config.settings import ModelSettings, TrainSettings
from holdfast.data.rows import Row
from holdfast.data.task import Task
from holdfast.model.load import load_policy
from holdfast.recipes import SDFT
from holdfast.recipes.parts.objective import Objective
from holdfast.recipes.parts.teacher import TeacherSpec
from holdfast.rollouts.collect import Collector
from holdfast.sampling.sampler import Sampler
from holdfast.train.step import StageTrainer
from holdfast.train.teacher import Teacher

BATCHES = 16
"""Batches per seed."""

SETTINGS = TrainSettings(prompts_per_step=16, max_prompt_length=200, max_completion_length=56)

FORMS = {
    "exact": Objective(divergence="reverse_kl"),
    "plain": Objective(divergence="reverse_kl", support="sampled"),
    "centered": Objective(divergence="reverse_kl", support="sampled", sampled_baseline="kl"),
    "by few": Objective(divergence="reverse_kl", support="sampled", sampled_baseline="topk_kl", top_k=20),
}


def gradient_noise(world: int) -> Sequence[float | None]:
    """Noise of the estimators on the lab's base. The teacher is the base with privileged context.

    Returns:
        The plain estimator's variance over the variance with the baseline, minus 1; the same with a baseline over the
        student's top 20; minus the squared bias with the baseline over the squared gradient, None if the gradient's
        norm is lost in noise.
    """
    from holdfast.lab.tasks import lab_task

    noise = {"plain": 0.0, "centered": 0.0, "by few": 0.0}
    exact, off = _Mean(), _Mean()
    for gradients in _gradients(lab_task("facts", world), world):
        for name in noise:
            noise[name] += float((gradients[name] - gradients["exact"]).square().sum())
        exact.add(gradients["exact"])
        off.add(gradients["centered"] - gradients["exact"])
    gradient = exact.squared_norm()
    # With few batches, the unbiased estimate of a small squared norm can be negative.
    bias = -off.squared_norm() / gradient if gradient > 0 else None
    return [noise["plain"] / noise["centered"] - 1, noise["plain"] / noise["by few"] - 1, bias]


class _Mean:
    """Mean of vectors. Its squared norm is estimated without the bias that the noise of a few vectors adds."""

    def __init__(self) -> None:
        self.sum, self.squares, self.count = torch.zeros(()), 0.0, 0

    def add(self, vector: Tensor) -> None:
        self.sum = self.sum + vector
        self.squares += float(vector.square().sum())
        self.count += 1

    def squared_norm(self) -> float:
        """Mean over all pairs of different vectors, because E[x·y] = |E x|² for independent x and y."""
        return (float(self.sum.square().sum()) - self.squares) / (self.count * (self.count - 1))


def _gradients(task: Task, seed: int) -> Iterator[dict[str, Tensor]]:
    """Yields, for each batch of student samples, the flattened gradient of each form."""
    policy = load_policy(ModelSettings(), seed=seed)
    teacher = Teacher(TeacherSpec(kind="frozen", stage_start="base"), policy, None)
    collector = Collector(policy, Sampler(policy), SDFT(num_loss_tokens_to_skip=0), SETTINGS, seed)
    collector.prepare(task)
    trainers = {name: StageTrainer(policy, teacher, None, form, SETTINGS) for name, form in FORMS.items()}
    for batch in range(BATCHES):
        groups, _ = collector.collect(task, 1, batch)
        rows = [row for group in groups for row in group.rows]
        yield {name: _gradient(trainer, rows) for name, trainer in trainers.items()}


def _gradient(trainer: StageTrainer, rows: list[Row]) -> Tensor:
    trainer.forward_backward(rows, where="gradient noise")
    parameters = trainer.parameters.values()
    flat = [torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in parameters]
    gradient = torch.cat(flat).double()
    trainer.optimizer.zero_grad(set_to_none=True)
    return gradient
