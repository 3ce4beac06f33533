"""Loading a model folder, a hub id or the lab's base; what cannot be used is refused in one line, early."""

import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import (
    CONFIG_MAPPING,
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from holdfast.config.settings import ModelSettings, TrainSettings
from holdfast.data.chat import turn_end_id
from holdfast.data.seeds import derive_seed
from holdfast.errors import ModelError
from holdfast.model import lora
from holdfast.model.policy import Policy, decoder_states
from holdfast.model.processes import Processes
from holdfast.model.quiet import quiet
from holdfast.objective.head import OutputHead
from holdfast.objective.private_torch import has_bfloat16_products
from holdfast.store.bundled import base_folder

__all__ = ["Policy", "as_policy", "load_policy", "tell_of_slow_products"]

PICKLE_WEIGHTS = ("*.bin", "*.pt", "*.pth", "*.ckpt")


def load_policy(settings: ModelSettings, *, seed: int = 0) -> Policy:
    """Load a model folder, a hub id, or the lab's base.

    Weights come from safetensors only, and code that comes with a model is not run unless the settings ask for it.

    Of several processes each has the whole model on its CPU until `holdfast.model.shard.shard` spreads it.

    Args:
        seed: of a LoRA adapter's random initialization.

    Raises:
        ModelError: one line that says why the model cannot be used, as early as that can be known.
    """
    device = _device(settings.device)
    path, where = locate(settings.path)
    load = {"revision": settings.revision, "trust_remote_code": settings.trust_remote_code}
    with quiet():
        config = _checked_config(path, where, load)
        tokenizer = _checked_tokenizer(path, where, load)
        model = _weights(path, where, config, settings, load)
    rows = model.get_input_embeddings().num_embeddings
    if len(tokenizer) > rows:
        raise ModelError(
            f"its tokenizer has {len(tokenizer)} tokens, its embedding only {rows}",
            where=where,
            fix="use the tokenizer that the model was trained with",
        )
    eos_ids = _eos_ids(model, tokenizer, settings.chat_template_kwargs, where)
    _stop_at(model, eos_ids)
    taught: PreTrainedModel | PeftModel = model
    if settings.lora is not None:
        # Before the weights move, so that the adapter's initial values are the same on every device.
        taught = lora.attach(
            model, settings.lora, seed=derive_seed("lora", seed), where=where, revision=settings.revision
        )
    taught.to(device)
    return _policy(taught, model, tokenizer, eos_ids, where, settings.chat_template_kwargs)


def as_policy(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    where: str,
    chat_template_kwargs: Mapping[str, Any] | None = None,
) -> Policy:
    """A model that someone else has loaded, seen as a policy: its weights are shared, its configuration is left alone.

    A policy's model is in evaluation mode; whoever trains it has to put it back.

    Args:
        where: its name in messages.

    Raises:
        ModelError: it has no end-of-sequence token, or an output head of an unknown kind.
    """
    own = model.get_base_model() if isinstance(model, PeftModel) else model
    model.eval()  # before the head is looked at: with dropout no two passes are the same
    kwargs = dict(chat_template_kwargs or {})
    return _policy(model, own, tokenizer, _eos_ids(own, tokenizer, kwargs, where), where, kwargs)


def tell_of_slow_products(policy: Policy, train: TrainSettings) -> None:
    """Warn where a run asks for products in bfloat16 that its processor would have to make in loops."""
    device = policy.device if (world := Processes.joined()) is None else world.device
    if train.bf16 and device.type == "cpu" and not has_bfloat16_products():
        warnings.warn("train.bf16: this processor is far slower in bfloat16 than in float32", stacklevel=2)


def _policy(
    taught: PreTrainedModel | PeftModel,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    eos_ids: frozenset[int],
    where: str,
    chat_template_kwargs: Mapping[str, Any],
) -> Policy:
    pads = (tokenizer.pad_token_id, model.generation_config.pad_token_id, min(eos_ids))
    return Policy(
        taught,
        tokenizer,
        eos_ids=eos_ids,
        pad_id=next(pad for pad in pads if isinstance(pad, int)),
        head=_checked_head(model, where),
        source=where,
        chat_template_kwargs=chat_template_kwargs,
    )


def _device(name: str) -> torch.device:
    if (world := Processes.joined()) is not None:
        if name not in ("auto", world.device.type):
            raise ModelError(
                f"device {name!r}: of several processes each has its own, {world.device} here",
                fix="leave model.device at auto; with CUDA_VISIBLE_DEVICES= in the environment it is the CPU",
            )
        return torch.device("cpu")  # until it is sharded: not every device needs room for the whole model
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ModelError(
            f"device {name!r} cannot be used: {str(error).splitlines()[0]}", fix="set model.device to auto or cpu"
        ) from error
    return device


def locate(path: str) -> tuple[str, str]:
    """What transformers is to load, and its name in messages; a local folder is looked into first.

    Raises:
        ModelError: it is no model folder, and cannot be a hub id.
    """
    where = f"model {path!r}"
    bundled = base_folder(path)
    folder = bundled or Path(path).expanduser()
    if bundled and not folder.is_dir():
        raise ModelError("the lab's base is not in this installation", where=where, fix="install holdfast again")
    if not folder.is_dir():
        if folder.exists():
            raise ModelError("is a file, not a folder", where=where, fix="name the folder that it lies in")
        if path.startswith((".", "/", "~")) or path.count("/") != 1:
            raise ModelError("no such folder", where=where, fix="check model.path; a hub id is written owner/name")
        return path, where
    if not (folder / "config.json").is_file():
        adapter = (folder / "adapter_config.json").is_file()
        raise ModelError(
            "is the folder of an adapter, not of a model" if adapter else "the folder has no config.json",
            where=where,
            fix="merge the adapter into its base and name the merged folder"
            if adapter
            else "name the folder that `save_pretrained` wrote",
        )
    if not any(folder.glob("*.safetensors")):
        pickled = sorted(p.name for pattern in PICKLE_WEIGHTS for p in folder.glob(pattern))
        raise ModelError(
            f"has pickle weights only ({pickled[0]}), which can run code when loaded"
            if pickled
            else "the folder has no *.safetensors",
            where=where,
            fix="save the model again with transformers' `save_pretrained`, which writes safetensors",
        )
    return str(folder), where


@contextmanager
def _one_line(where: str, what: str, fix: str) -> Iterator[None]:
    """Whatever a library raises about a model, as one line."""
    try:
        yield
    except ModelError:
        raise
    except Exception as error:
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), "no reason given")
        reason = reason.split(". ")[0].rstrip(".")
        if re.search("attn_implementation|FlashAttention", str(error)):
            fix = "set model.attn_implementation: eager"
        raise ModelError(f"{what}: {type(error).__name__}: {reason}", where=where, fix=fix) from error


def _checked_config(path: str, where: str, load: Mapping[str, Any]) -> PretrainedConfig:
    fix = "check the folder's config.json" if Path(path).is_dir() else "check the id and the network, or name a folder"
    with _one_line(where, "its configuration cannot be loaded", fix):
        raw, _ = PretrainedConfig.get_config_dict(path, revision=load["revision"])
        if "auto_map" in raw and raw.get("model_type") not in CONFIG_MAPPING and not load["trust_remote_code"]:
            raise ModelError(
                "needs code that comes with it, which is not run unasked",
                where=where,
                fix="read that code, then set model.trust_remote_code: true",
            )
        config = AutoConfig.from_pretrained(path, **load)
    known = type(config) in MODEL_FOR_CAUSAL_LM_MAPPING or "AutoModelForCausalLM" in raw.get("auto_map", {})
    if getattr(config, "is_encoder_decoder", False) or not known:
        raise ModelError(
            f"{config.model_type!r} is not a decoder-only causal language model",
            where=where,
            fix="name a model that AutoModelForCausalLM loads",
        )
    return config


def _checked_tokenizer(path: str, where: str, load: Mapping[str, Any]) -> PreTrainedTokenizerBase:
    fix = "put the tokenizer's files beside the weights"
    with _one_line(where, "its tokenizer cannot be loaded", fix):
        tokenizer = AutoTokenizer.from_pretrained(path, **load)
    if len(tokenizer) <= len(tokenizer.added_tokens_decoder):
        # Without its files some classes make an empty tokenizer, and every text becomes nothing.
        raise ModelError("its tokenizer has no vocabulary", where=where, fix=fix)
    if not tokenizer.chat_template:
        raise ModelError(
            "its tokenizer has no chat template",
            where=where,
            fix="add chat_template.jinja to the folder, or use the instruction-tuned model's tokenizer",
        )
    return tokenizer


def _weights(
    path: str, where: str, config: PretrainedConfig, settings: ModelSettings, load: Mapping[str, Any]
) -> PreTrainedModel:
    with _one_line(where, "its weights cannot be loaded", "only safetensors that fit config.json are loaded"):
        model, found = AutoModelForCausalLM.from_pretrained(
            path,
            config=config,
            dtype=getattr(torch, settings.dtype),
            attn_implementation=settings.attn_implementation,
            use_safetensors=True,
            output_loading_info=True,
            **load,
        )
    absent = sorted(found["missing_keys"]) + sorted(str(key) for key in found["mismatched_keys"])
    if absent:
        raise ModelError(
            f"{len(absent)} weights are missing or of another shape than config.json says, the first {absent[0]}",
            where=where,
            fix="save the model again, whole",
        )
    return model.eval()


def _eos_ids(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, chat_template_kwargs: Mapping[str, Any], where: str
) -> frozenset[int]:
    """Every end-of-sequence token: the generation configuration's, the tokenizer's, the chat template's."""
    stated = model.generation_config.eos_token_id
    found = set(stated if isinstance(stated, list) else [stated])
    found |= {tokenizer.eos_token_id, turn_end_id(tokenizer, chat_template_kwargs)}
    eos_ids = frozenset(int(token) for token in found if token is not None)
    if not eos_ids:
        raise ModelError(
            "neither its generation_config.json nor its tokenizer names an end-of-sequence token",
            where=where,
            fix="set eos_token in tokenizer_config.json",
        )
    return eos_ids


def _stop_at(model: PreTrainedModel, eos_ids: frozenset[int]) -> None:
    """Have the saved generation configuration stop at all of these tokens too."""
    generation = model.generation_config
    stated = generation.eos_token_id
    if eos_ids != set(stated if isinstance(stated, list) else [stated]):
        generation.eos_token_id = sorted(eos_ids)
        # A changed configuration is checked when it is saved, and settings of sampling without sampling fail there.
        try:
            generation.validate(strict=True)
        except ValueError:
            generation.do_sample = True


def _checked_head(model: PreTrainedModel, where: str) -> OutputHead:
    """The output head whose logits are the model's own on a tiny input.

    Architectures scale or cap their logits under names of their own; what a name means is measured, not believed.
    """
    config = model.config.get_text_config(decoder=True)
    factors = [getattr(config, name, None) for name in ("logit_scale", "logits_scaling", "lm_head_multiplier")]
    scales = [1.0, *(s for f in factors if isinstance(f, int | float) and f for s in (float(f), 1.0 / f))]
    softcaps = [getattr(config, "final_logit_softcapping", None), None]
    projection = model.get_output_embeddings()
    heads = [OutputHead(projection, scale, cap) for scale in scales for cap in softcaps]
    with torch.no_grad(), _one_line(where, "a first forward pass fails", "use another architecture"):
        ids = torch.arange(1, 5, device=model.device)[None] % config.vocab_size
        # The class's own forward: a trainer may have put another one on the instance, in mixed precision for one.
        expected = type(model).forward(model, input_ids=ids, use_cache=False).logits.float()
        if not bool(expected.isfinite().all()):
            raise ModelError("its weights give logits that are not finite", where=where, fix="use another copy of it")
        hidden = decoder_states(model, ids)
        errors = [float((head(hidden).float() - expected).abs().max()) for head in heads]
        tolerance = (1e-4 if model.dtype == torch.float32 else 2e-2) * float(expected.abs().max())
    best = min(range(len(heads)), key=errors.__getitem__)
    if errors[best] <= tolerance:
        return heads[best]
    raise ModelError(
        f"{type(model).__name__} makes its logits from hidden states in a way that is not known here",
        where=where,
        fix="use another architecture, or report this one",
    )
