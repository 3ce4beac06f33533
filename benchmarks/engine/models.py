"""Models and data of the benchmarks: shapes of Qwen3 with random weights, and rows of random tokens.

Both sides read the same folder and draw the same tokens, because a draw depends on its name only. No token ends a
completion: the end-of-sequence token has the first id without a logit. So every completion has the requested length,
and neither side's sampler has extra work.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from holdfast.data.seeds import numpy_rng

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerFast

    from holdfast.model.policy import Policy

PAD_ID = 0


@dataclass(frozen=True)
class Shape:
    """A dense Qwen3 model with tied embeddings.

    `weights` is the number of all weights; `block_weights` of those in the layers, before the output head.
    """

    name: str
    vocabulary: int
    width: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int

    @property
    def block_weights(self) -> int:
        attention = 2 * self.width * self.head_dim * (self.heads + self.kv_heads)
        return self.layers * (attention + 3 * self.width * self.intermediate)

    @property
    def weights(self) -> int:
        norms = self.layers * (2 * self.width + 2 * self.head_dim) + self.width
        return self.vocabulary * self.width + self.block_weights + norms

    def with_vocabulary(self, vocabulary: int) -> "Shape":
        return Shape(**{**asdict(self), "name": f"{self.name}-v{vocabulary}", "vocabulary": vocabulary})


SHAPES = {
    shape.name: shape
    for shape in (
        Shape("toy", 512, 64, 2, 4, 2, 16, 192),
        Shape("11.5m", 32_768, 256, 4, 8, 4, 32, 768),
        Shape("qwen3-0.6b", 151_936, 1024, 28, 16, 8, 128, 3072),
        Shape("qwen3-1.7b", 151_936, 2048, 28, 16, 8, 128, 6144),
    )
}


def write_folder(shape: Shape, folder: Path, seed: int = 0) -> None:
    """Write the model with random float32 weights, and a tokenizer with the words t0, t1, …, into a new folder."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    config = Qwen3Config(
        vocab_size=shape.vocabulary,
        hidden_size=shape.width,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        # Large enough that distributions are far from uniform, so rounding does not decide the student's top tokens.
        initializer_range=0.05,
        bos_token_id=None,
        eos_token_id=shape.vocabulary,
        pad_token_id=PAD_ID,
    )
    torch.manual_seed(seed)
    Qwen3ForCausalLM(config).save_pretrained(folder)
    _tokenizer(shape.vocabulary).save_pretrained(folder)


def _tokenizer(vocabulary: int) -> "PreTrainedTokenizerFast":
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {f"t{index}": index for index in range(vocabulary)} | {"<|end|>": vocabulary}
    core = Tokenizer(models.WordLevel(words, unk_token=f"t{PAD_ID}"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|end|>", pad_token=f"t{PAD_ID}")


def load(folder: str, device: str) -> "Policy":
    """The benchmark's model as a policy with float32 weights. No token ends a completion."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from holdfast.model.policy import Policy
    from holdfast.objective.head import OutputHead

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).to(device)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    head = OutputHead(model.get_output_embeddings())
    eos = frozenset({tokenizer.eos_token_id})
    return Policy(model, tokenizer, eos_ids=eos, pad_id=PAD_ID, head=head, source=folder)


def score(model: Any, prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[int]]) -> "Tensor":
    """The log-probability of every completion token, flat, by one forward pass per row."""
    import torch

    parts = []
    with torch.no_grad():
        for prompt, completion in zip(prompts, completions, strict=True):
            ids = torch.tensor([[*prompt, *completion]], device=model.device)
            logprobs = model(ids).logits[0, len(prompt) - 1 : -1].float().log_softmax(-1)
            parts.append(logprobs.gather(1, ids[0, len(prompt) :, None]).squeeze(1).cpu())
    return torch.cat(parts)


@dataclass(frozen=True)
class Workload:
    """The rows of one optimizer step: `prompts` × `generations` of them, `new_tokens` each.

    Real prompts differ in length. So prompt lengths alternate between a sixteenth below and above `prompt_tokens`, and
    teacher prompts between the same around `teacher_tokens`.

    Attributes:
        active: the first so many rows have a signal. Whole groups are silent, as in SDPO.
        teacher_prompts_per_group: number of different teacher prompts in a group. With two, the first row has a
            different one, as in SDPO, where the first success is shown the second.
    """

    prompts: int = 2
    generations: int = 8
    new_tokens: int = 128
    prompt_tokens: int = 64
    teacher_tokens: int = 128
    active: int | None = None
    teacher_prompts_per_group: int = 1

    @property
    def rows(self) -> int:
        return self.prompts * self.generations

    @property
    def active_rows(self) -> int:
        return self.rows if self.active is None else self.active


@dataclass(frozen=True)
class Tokens:
    """A workload as token ids, one entry per row; `signal` is 1 for rows with a signal, 0 for others."""

    prompts: list[list[int]]
    teacher_prompts: list[list[int]]
    completions: list[list[int]]
    signal: list[int]
    advantages: list[float]


def draw_tokens(workload: Workload, vocabulary: int) -> Tokens:
    """The tokens of a workload. They are equal in every process."""

    def draw(count: int, *name: Any) -> list[int]:
        return numpy_rng("benchmark", *name).integers(PAD_ID + 1, vocabulary, count).tolist()

    def near(length: int, place: int) -> int:
        return max(1, length + (length // 16) * (-1 if place % 2 == 0 else 1))

    rows = [(group, row) for group in range(workload.prompts) for row in range(workload.generations)]
    variant = [row == 0 and workload.teacher_prompts_per_group > 1 for _, row in rows]
    return Tokens(
        prompts=[draw(near(workload.prompt_tokens, g), "prompt", g) for g, _ in rows],
        teacher_prompts=[
            draw(near(workload.teacher_tokens, g + own), "teacher", g, int(own)) for (g, _), own in zip(rows, variant)
        ],
        completions=[draw(workload.new_tokens, "completion", g, r) for g, r in rows],
        signal=[int(index < workload.active_rows) for index in range(len(rows))],
        # Their mean is not 0, so the loss is not 0 and can be compared.
        advantages=[1.0 if r % 2 == 0 else -0.5 for _, r in rows],
    )
