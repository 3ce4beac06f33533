"""The model block of the configuration."""

from typing import Any, Literal

from pydantic import Field, field_validator

from holdfast.config.base import LAB, Settings
from holdfast.config.template_kwargs import collision


class LoraSettings(Settings):
    """Low-rank adapters by peft, with the names of `peft.LoraConfig`. There is no dropout in any forward pass."""

    r: int = Field(default=16, ge=1)
    """Rank of the adapters."""
    lora_alpha: int = Field(default=32, ge=1)
    """The adapters are scaled by lora_alpha/r."""
    target_modules: list[str] | Literal["all-linear"] = "all-linear"
    """Names of the modules that get an adapter."""


class ModelSettings(Settings):
    """Which model is trained, and how its weights are stored."""

    path: str = LAB
    """A local folder, a hub id, or `lab` for the [lab](lab.md)'s base. An adapter of peft is merged into its base."""
    revision: str | None = None
    """Branch, tag or commit of a hub id."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Data type of the weights. Training in bfloat16 needs `lora`, whose own weights are float32: small updates of
    bfloat16 weights would be rounded to nothing."""
    device: str = "auto"
    """`auto`, `cpu`, or a torch device such as `cuda:1`."""
    trust_remote_code: bool = False
    """Run code that comes with the model."""
    attn_implementation: Literal["auto", "sdpa", "eager", "flash_attention_2"] = "auto"
    """The attention of transformers. `auto` is `sdpa`, but `eager` for architectures that need it. With `sdpa`, the
    rows of a batch are packed and share their prompts if the model allows it; with the others they are padded."""
    lora: LoraSettings | None = None
    """Train LoRA adapters; none is full fine-tuning."""
    chat_template_kwargs: dict[str, Any] = Field(default_factory=dict)
    """Passed to the chat template of student and teacher, such as `enable_thinking: false`. Arguments that holdfast or
    the tokenizer sets are refused."""

    @field_validator("path")
    @classmethod
    def _is_no_former_base(cls, path: str) -> str:
        if path == "lab-wide":
            raise ValueError("`lab-wide` is part of `lab` now; write `path: lab`")
        return path

    @field_validator("chat_template_kwargs")
    @classmethod
    def _do_not_collide(cls, given: dict[str, Any]) -> dict[str, Any]:
        if problem := collision(given):
            raise ValueError(problem)
        return given
