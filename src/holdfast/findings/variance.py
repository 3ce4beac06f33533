"""How noisy the gradient of a sampled-token divergence is, with and without its closed-form baseline.

On one batch of samples the sampled-token gradient differs from that of the whole vocabulary's reverse KL by noise of
mean zero: at every prefix the token is one draw of what the whole sum is over. That difference is what is measured.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from holdfast.config.settings import ModelSettings, TrainSettings
from holdfast.data.rows import Row
from holdfast.data.task import Task
from holdfast.findings.claim import Quantity
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

SETTINGS = TrainSettings(prompts_per_step=16, max_prompt_length=160, max_completion_length=48)

FORMS = {
    "exact": Objective(divergence="reverse_kl"),
    "plain": Objective(divergence="reverse_kl", support="sampled"),
    "centered": Objective(divergence="reverse_kl", support="sampled", sampled_baseline="kl"),
    "by few": Objective(divergence="reverse_kl", support="sampled", sampled_baseline="topk_kl", top_k=20),
}

MARGIN = 0.05
"""Share of the gradient's squared norm below which a bias is none."""


def gradient_noise(seeds: Sequence[int]) -> list[Quantity]:
    """Noise of both estimators on the lab's base, whose privileged self is the teacher."""
    from holdfast.lab.tasks import lab_task

    ratios: list[float | None] = []
    ratios_by_few: list[float | None] = []
    biases: list[float | None] = []
    for seed in seeds:
        noise = {"plain": 0.0, "centered": 0.0, "by few": 0.0}
        exact, off = _Mean(), _Mean()
        for found in _gradients(lab_task("calculation"), seed):
            for name in noise:
                noise[name] += float((found[name] - found["exact"]).square().sum())
            exact.add(found["exact"])
            off.add(found["centered"] - found["exact"])
        ratios.append(noise["plain"] / noise["centered"] - 1)
        ratios_by_few.append(noise["plain"] / noise["by few"] - 1)
        gradient = exact.squared_norm()
        # Over few batches the estimate of a small gradient may be below 0.
        biases.append(-off.squared_norm() / gradient if gradient > 0 else None)
    return [
        Quantity(
            "variance of the plain estimator over that with the baseline, less 1",
            "",
            ratios,
            "The lab's teacher agrees with the student on most tokens, where neither has any noise.",
        ),
        Quantity(
            "variance of the plain estimator over that with a baseline over the student's top 20, less 1",
            "",
            ratios_by_few,
            "The student's first entries hold so little of the divergence that their own says nothing of it.",
        ),
        Quantity(
            f"squared bias with the baseline, as a share of the gradient's square, no more than {MARGIN:g}: negated",
            "",
            biases,
            f"{BATCHES} batches of {SETTINGS.prompts_per_step} answers leave more noise than gradient.",
            margin=MARGIN,
        ),
    ]


class _Mean:
    """Of vectors, whose squared norm is estimated without the noise that is in the mean of a few."""

    def __init__(self) -> None:
        self.sum, self.squares, self.count = torch.zeros(()), 0.0, 0

    def add(self, vector: Tensor) -> None:
        self.sum = self.sum + vector
        self.squares += float(vector.square().sum())
        self.count += 1

    def squared_norm(self) -> float:
        """Over all pairs of different vectors: E[x·y] = |E x|²."""
        return (float(self.sum.square().sum()) - self.squares) / (self.count * (self.count - 1))


def _gradients(task: Task, seed: int) -> Iterator[dict[str, Tensor]]:
    """Each form's gradient, flat, of one batch of the student's samples after another."""
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
