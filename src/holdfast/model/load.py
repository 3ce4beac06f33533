"""Load a model folder, a hub id or the lab's base. A model that cannot be used raises a one-line error, early."""

import warnings
from collections.abc import Mapping
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
from holdfast.config.template_kwargs import collision
from holdfast.data.chat_template import ChatTemplate
from holdfast.data.seeds import derive_seed
from holdfast.errors import ModelError, shown
from holdfast.model import lora
from holdfast.model.adapters import Source, find_source, merge_into
from holdfast.model.folders import refuse_quantized
from holdfast.model.library_errors import one_line
from holdfast.model.policy import Policy, decoder_states
from holdfast.model.processes import Processes
from holdfast.model.quiet import quiet
from holdfast.objective.head import OutputHead
from holdfast.objective.private_torch import has_bfloat16_products

__all__ = ["Policy", "as_policy", "load_policy", "warn_of_slow_products"]


def load_policy(settings: ModelSettings, *, seed: int = 0) -> Policy:
    """Load a model folder, a hub id, or the lab's base. An adapter is merged into its base, which is found by its name.

    Weights are read from safetensors only. Code that comes with a model runs only if the settings allow it. With
    several processes, each has the whole model on its CPU until `holdfast.model.shard.shard` shards it.

    Args:
        seed: of a LoRA adapter's random initialization.

    Raises:
        ModelError: the model cannot be used. The message is one line.
    """
    device = _device(settings.device)
    source = find_source(settings.path, settings.revision)
    where = source.where
    load = {"revision": source.revision, "trust_remote_code": settings.trust_remote_code}
    with quiet():
        config = _checked_config(source.path, where, load)
        tokenizer = _checked_tokenizer(source, settings)
        model = _weights(source.path, where, config, settings, load)
        if source.adapter is not None:
            model = merge_into(model, source)
    rows = model.get_input_embeddings().num_embeddings
    if len(tokenizer) > rows:
        raise ModelError(
            f"the tokenizer has {len(tokenizer)} tokens, but the embedding has only {rows} rows",
            where=where,
            fix="use the tokenizer that the model was trained with",
        )
    _check_written(tokenizer, settings.chat_template_kwargs, where)
    eos_ids = _eos_ids(model, tokenizer, settings.chat_template_kwargs, where)
    _stop_at(model, eos_ids)
    trained: PreTrainedModel | PeftModel = model
    if settings.lora is not None:
        # Before the weights move to a device, so that the adapter's initial values are equal on all kinds of devices.
        trained = lora.attach(
            model, settings.lora, seed=derive_seed("lora", seed), where=where, revision=settings.revision
        )
    trained.to(device)
    return _policy(trained, model, tokenizer, eos_ids, where, settings.chat_template_kwargs)


def as_policy(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    where: str,
    chat_template_kwargs: Mapping[str, Any] | None = None,
) -> Policy:
    """A policy around a model that is loaded already. It shares the weights and does not change the configuration.

    A policy sets its model to eval mode. A caller that trains the model must set it back.

    Args:
        where: the model's name in messages.

    Raises:
        ModelError: the model has no end-of-sequence token, an unknown kind of output head, or no chat template that
            writes a question and its answer.
    """
    _check_chat_template(tokenizer, where)
    _check_written(tokenizer, chat_template_kwargs or {}, where)
    own = model.get_base_model() if isinstance(model, PeftModel) else model
    model.eval()  # before the head is checked: with dropout no two passes are equal
    kwargs = dict(chat_template_kwargs or {})
    return _policy(model, own, tokenizer, _eos_ids(own, tokenizer, kwargs, where), where, kwargs)


def warn_of_slow_products(policy: Policy, train: TrainSettings) -> None:
    """Warn if a run uses bfloat16 on a processor without instructions for it."""
    device = policy.device if (world := Processes.joined()) is None else world.device
    if train.bf16 and device.type == "cpu" and not has_bfloat16_products():
        warnings.warn(
            "train.bf16: this processor is far slower in bfloat16 than in float32; set train.bf16: false", stacklevel=2
        )


def _policy(
    trained: PreTrainedModel | PeftModel,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    eos_ids: frozenset[int],
    where: str,
    chat_template_kwargs: Mapping[str, Any],
) -> Policy:
    pads = (tokenizer.pad_token_id, model.generation_config.pad_token_id)
    return Policy(
        trained,
        tokenizer,
        eos_ids=eos_ids,
        pad_id=next((pad for pad in pads if _is_token(pad, model)), min(eos_ids)),
        head=_checked_head(model, where),
        source=where,
        chat_template_kwargs=chat_template_kwargs,
    )


def _device(name: str) -> torch.device:
    if (world := Processes.joined()) is not None:
        if name not in ("auto", world.device.type):
            raise ModelError(
                f"model.device is {name!r}, but each of several processes chooses its own device, here {world.device}",
                fix="set model.device: auto; to use the CPU, set CUDA_VISIBLE_DEVICES= in the environment",
            )
        return torch.device("cpu")  # until it is sharded: a device may have no room for the whole model
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ModelError(
            f"model.device {name!r} cannot be used: {str(error).splitlines()[0]}", fix="set model.device to auto or cpu"
        ) from error
    return device


def _checked_config(path: str, where: str, load: Mapping[str, Any]) -> PretrainedConfig:
    fix = "check the folder's config.json" if Path(path).is_dir() else "check the id and the network, or name a folder"
    with one_line(where, "the configuration cannot be loaded", fix):
        raw, _ = PretrainedConfig.get_config_dict(path, revision=load["revision"])
        refuse_quantized(raw, where)
        if "auto_map" in raw and raw.get("model_type") not in CONFIG_MAPPING and not load["trust_remote_code"]:
            raise ModelError(
                "the model needs its own code, which does not run without permission",
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


def _checked_tokenizer(source: Source, settings: ModelSettings) -> PreTrainedTokenizerBase:
    where, fix = source.where, "add the tokenizer's files to the folder"
    revision = source.adapter_revision if source.tokenizer == source.adapter else source.revision
    with one_line(where, "the tokenizer cannot be loaded", fix):
        tokenizer = AutoTokenizer.from_pretrained(
            source.tokenizer, revision=revision, trust_remote_code=settings.trust_remote_code
        )
    if len(tokenizer) <= len(tokenizer.added_tokens_decoder):
        # Without files, some classes make an empty tokenizer, which turns every text into no tokens.
        raise ModelError("the tokenizer has no vocabulary", where=where, fix=fix)
    _check_chat_template(tokenizer, where)
    if problem := collision(settings.chat_template_kwargs, tokenizer.special_tokens_map):
        raise ModelError(f"model.chat_template_kwargs: {problem}", where=where)
    return tokenizer


def _check_chat_template(tokenizer: PreTrainedTokenizerBase, where: str) -> None:
    template = tokenizer.chat_template
    if not template:
        raise ModelError(
            "the tokenizer has no chat template",
            where=where,
            fix="add chat_template.jinja to the folder, or use the instruction-tuned model's tokenizer",
        )
    if isinstance(template, dict) and "default" not in template:
        raise ModelError(
            f"the tokenizer has several chat templates ({', '.join(sorted(template))}), but none is named 'default'",
            where=where,
            fix="write the one to use into chat_template.jinja",
        )


def _check_written(tokenizer: PreTrainedTokenizerBase, kwargs: Mapping[str, Any], where: str) -> None:
    """Refuse a template that does not write a question and its answer."""
    length = tokenizer.model_max_length
    if isinstance(length, bool) or not isinstance(length, int | float):
        what = f"model_max_length in tokenizer_config.json is {shown(length)}, not a number"
        raise ModelError(what, where=where, fix="correct it")
    with one_line(where, "the chat template cannot be used", "check the tokenizer's files"):
        try:
            _ = ChatTemplate(tokenizer, kwargs).facts
        except ModelError as error:
            raise ModelError(error.what, where=where, fix=error.fix) from None


def _weights(
    path: str, where: str, config: PretrainedConfig, settings: ModelSettings, load: Mapping[str, Any]
) -> PreTrainedModel:
    attention = settings.attn_implementation
    with one_line(where, "the weights cannot be loaded", "use safetensors that match config.json"):
        model, info = AutoModelForCausalLM.from_pretrained(
            path,
            config=config,
            dtype=getattr(torch, settings.dtype),
            # Without a wish, transformers takes sdpa where the architecture declares it, and eager elsewhere.
            attn_implementation=None if attention == "auto" else attention,
            use_safetensors=True,
            output_loading_info=True,
            **load,
        )
    if getattr(model, "_hf_peft_config_loaded", False):
        raise ModelError(f"{path} has a model and an adapter", where=where, fix="name a base without an adapter")
    _refuse_absent(info, config, where)
    if attention == "auto" and model.config._attn_implementation == "eager":
        why = f"transformers has no other for {type(model).__name__}"
        warnings.warn(f"{where}: its attention is eager, because {why}", stacklevel=3)
    return model.eval()


def _refuse_absent(info: Mapping[str, Any], config: PretrainedConfig, where: str) -> None:
    """Refuse weights that are not in the files: transformers would draw them at random."""
    absent = sorted(info["missing_keys"]) + sorted(str(key) for key in info["mismatched_keys"])
    if absent == ["lm_head.weight"] and not getattr(config.get_text_config(), "tie_word_embeddings", False):
        raise ModelError(
            "lm_head.weight is missing, and config.json does not tie it to the embedding",
            where=where,
            fix="set tie_word_embeddings: true in config.json if the model was trained so; else save it again",
        )
    if absent:
        raise ModelError(
            f"{len(absent)} weights are missing or do not have the shape that config.json implies; the first is "
            f"{absent[0]}",
            where=where,
            fix="save the complete model again",
        )


def _eos_ids(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, chat_template_kwargs: Mapping[str, Any], where: str
) -> frozenset[int]:
    """Every end-of-sequence token: the generation configuration's, the tokenizer's, the chat template's."""
    configured = model.generation_config.eos_token_id
    listed = configured if isinstance(configured, list) else [configured]
    for token in listed:
        if token is not None and not _is_token(token, model):
            raise ModelError(
                f"eos_token_id is {shown(token)}, which is no token of the model: it has 0 to {_vocabulary(model) - 1}",
                where=where,
                fix="correct eos_token_id in generation_config.json or config.json",
            )
    candidates = {*listed, tokenizer.eos_token_id, _turn_end_id(tokenizer, chat_template_kwargs)}
    eos_ids = frozenset(token for token in candidates if token is not None)
    if not eos_ids:
        raise ModelError(
            "neither generation_config.json nor the tokenizer names an end-of-sequence token",
            where=where,
            fix="set eos_token in tokenizer_config.json",
        )
    return eos_ids


def _is_token(token: Any, model: PreTrainedModel) -> bool:
    return type(token) is int and 0 <= token < _vocabulary(model)


def _vocabulary(model: PreTrainedModel) -> int:
    return int(model.config.get_text_config(decoder=True).vocab_size)


def _turn_end_id(tokenizer: PreTrainedTokenizerBase, chat_template_kwargs: Mapping[str, Any]) -> int | None:
    """The token that ends the assistant's turn; None without one, or if the template writes no turn."""
    try:
        return ChatTemplate(tokenizer, chat_template_kwargs).facts.turn_end_id
    except ModelError:
        return None


def _stop_at(model: PreTrainedModel, eos_ids: frozenset[int]) -> None:
    """Set all of these tokens as end-of-sequence in the generation configuration that is saved with the model."""
    generation = model.generation_config
    configured = generation.eos_token_id
    if eos_ids != set(configured if isinstance(configured, list) else [configured]):
        generation.eos_token_id = sorted(eos_ids)
        # transformers validates a changed configuration when it saves it, and refuses sampling settings (such as a
        # temperature) without do_sample, which many published configurations have.
        try:
            generation.validate(strict=True)
        except ValueError:
            generation.do_sample = True


def _checked_head(model: PreTrainedModel, where: str) -> OutputHead:
    """The output head whose logits equal the model's on a tiny input.

    Architectures scale or cap their logits by settings with different names, and one name can mean a factor or a
    divisor. So all candidates are compared with the model's own logits.
    """
    config = model.config.get_text_config(decoder=True)
    factors = [getattr(config, name, None) for name in ("logit_scale", "logits_scaling", "lm_head_multiplier")]
    scales = [1.0, *(s for f in factors if isinstance(f, int | float) and f for s in (float(f), 1.0 / f))]
    softcaps = [getattr(config, "final_logit_softcapping", None), None]
    projection = model.get_output_embeddings()
    heads = [OutputHead(projection, scale, cap) for scale in scales for cap in softcaps]
    with torch.no_grad(), one_line(where, "a first forward pass failed", "use another architecture"):
        ids = torch.arange(1, 5, device=model.device)[None] % config.vocab_size
        # The class's forward, because a trainer may have replaced the instance's, for example for mixed precision.
        expected = type(model).forward(model, input_ids=ids, use_cache=False).logits.float()
        if not bool(expected.isfinite().all()):
            raise ModelError("the weights give logits that are not finite", where=where, fix="download the model again")
        if bool((expected == expected[..., :1]).all()):
            what = "the weights give all tokens the same logits, as weights of zeros do"
            raise ModelError(what, where=where, fix="download the model again")
        hidden = decoder_states(model, ids)
        errors = [float((head(hidden).float() - expected).abs().max()) for head in heads]
        tolerance = (1e-4 if model.dtype == torch.float32 else 2e-2) * float(expected.abs().max())
    best = min(range(len(heads)), key=errors.__getitem__)
    if errors[best] <= tolerance:
        return heads[best]
    raise ModelError(
        f"{type(model).__name__} computes logits from hidden states in a way that holdfast does not know",
        where=where,
        fix="use another architecture, or report this one",
    )
