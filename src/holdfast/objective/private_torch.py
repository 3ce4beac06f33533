"""Every private torch operation that holdfast calls, with a check that it exists and what is used instead.

torch may rename or change these in any release. Everything else in holdfast uses torch's public interface, and calls
these only through this module. If torch changes a signature, `tests/objective/test_private_torch.py` fails. If an
operation is missing, holdfast uses the fall-back, which computes the same but more slowly.

All of them were seen in torch 2.13.

    mkldnn._linear_pointwise            W x + b by oneDNN. For up to 256 tokens in float32 it takes as little as half
                                        the time of `torch.mm`. Fall-back: `torch.nn.functional.linear`, `torch.mm`.
    mkldnn._reorder_linear_weight       Stores W in oneDNN's own layout. Generation multiplies with one W at every
                                        step; otherwise each product converts W first. Fall-back: W as it is.
    mkldnn._is_mkldnn_bf16_supported    Whether the processor has bfloat16 instructions. Without them torch multiplies
                                        bfloat16 matrices in slow loops, and holdfast warns. Fall-back: "no".
    aten._scaled_dot_product_flash_attention_for_cpu and …_backward
                                        Attention that also returns the log-sum-exp of its scores, which the public
                                        function does not. Attention to a shared prompt merges two parts by it.
                                        Fall-back: `holdfast.model.packed_attention.gathered`, a few padded calls of the
                                        public function.
"""

import torch
from torch import Tensor, nn


def _exists(namespace: str, name: str) -> bool:
    return hasattr(getattr(torch.ops, namespace), name)


# --- Products by oneDNN -------------------------------------------------------------------------------------------


def has_onednn_linear() -> bool:
    """Whether `onednn_linear` runs oneDNN's product; `torch.backends.mkldnn.flags` can switch it off."""
    mkldnn = torch.backends.mkldnn
    return mkldnn.is_available() and bool(mkldnn.enabled) and _exists("mkldnn", "_linear_pointwise")


def has_onednn_layout() -> bool:
    """Whether `onednn_layout` can store a weight for `onednn_linear`."""
    return has_onednn_linear() and _exists("mkldnn", "_reorder_linear_weight")


def onednn_linear(inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """inputs Wᵀ + bias in new memory: [n, H], [V, H], [V] → [n, V]; float32 on a CPU.

    `weight` may be what `onednn_layout` returned.
    """
    if not has_onednn_linear():
        return nn.functional.linear(inputs, weight, bias)
    # "none", [] and "": no activation after the product.
    product: Tensor = torch.ops.mkldnn._linear_pointwise(inputs, weight, bias, "none", [], "")
    return product


def onednn_layout(weight: Tensor, rows: int) -> Tensor:
    """A copy of a float32 weight [V, H] in the layout that suits products with about so many rows.

    Only `onednn_linear` can read the copy.
    """
    if not has_onednn_layout():
        return weight
    laid_out: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight, rows)
    return laid_out


def has_bfloat16_products() -> bool:
    """Whether this processor has instructions for products of bfloat16 matrices."""
    known = torch.backends.mkldnn.is_available() and _exists("mkldnn", "_is_mkldnn_bf16_supported")
    return known and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


# --- Attention on CPUs --------------------------------------------------------------------------------------------


def has_cpu_flash_attention() -> bool:
    """Whether `cpu_flash_attention` and its backward can be called."""
    name = "_scaled_dot_product_flash_attention_for_cpu"
    return _exists("aten", name) and _exists("aten", f"{name}_backward")


def cpu_flash_attention(
    query: Tensor, key: Tensor, value: Tensor, *, causal: bool, scale: float
) -> tuple[Tensor, Tensor]:
    """Attention of queries [B, H, L, D] over keys and values [B, H_kv, K, D], without dropout.

    Returns:
        The output [B, H, L, D], and the log-sum-exp [B, H, L] of each query's scores.
    """
    attend = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    output, log_sum_exp = attend(query, key, value, 0.0, causal, scale=scale)
    return output, log_sum_exp


def cpu_flash_attention_backward(
    grad: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    output: Tensor,
    *,
    log_sum_exp: Tensor,
    causal: bool,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients in queries, keys and values, for the gradient `grad` in the output."""
    backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
    in_query, in_key, in_value = backward(grad, query, key, value, output, log_sum_exp, 0.0, causal, scale=scale)
    return in_query, in_key, in_value
