"""`holdfast.objective.private_torch`: torch still has its private operations, and each fall-back computes the same."""

import math

import pytest
import torch
from torch import Tensor

from holdfast.model import packed_attention
from holdfast.model.packing import pack
from holdfast.objective import private_torch

SCHEMAS = {
    "mkldnn::_linear_pointwise": (
        "(Tensor X, Tensor W, Tensor? B, str attr, Scalar?[] scalars, str? algorithm) -> Tensor Y"
    ),
    "mkldnn::_reorder_linear_weight": "(Tensor self, int? batch_size=None) -> Tensor Y",
    "mkldnn::_is_mkldnn_bf16_supported": "() -> bool _0",
    "aten::_scaled_dot_product_flash_attention_for_cpu": (
        "(Tensor query, Tensor key, Tensor value, float dropout_p=0., bool is_causal=False, *,"
        " Tensor? attn_mask=None, float? scale=None) -> (Tensor output, Tensor logsumexp)"
    ),
    "aten::_scaled_dot_product_flash_attention_for_cpu_backward": (
        "(Tensor grad_out, Tensor query, Tensor key, Tensor value, Tensor out, Tensor logsumexp, float dropout_p,"
        " bool is_causal, *, Tensor? attn_mask=None, float? scale=None)"
        " -> (Tensor grad_query, Tensor grad_key, Tensor grad_value)"
    ),
}
"""Of the private operations that holdfast calls, as torch 2.13 declares them."""


needs_onednn = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available(), reason="this build of torch is without oneDNN"
)


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_torch_still_declares_the_operation_as_it_is_called(name: str) -> None:
    """If this fails after an upgrade of torch: change the call in `private_torch`, or remove it with its fall-back."""
    if name.startswith("mkldnn") and not torch.backends.mkldnn.is_available():
        pytest.skip("this build of torch is without oneDNN")
    namespace, operation = name.split("::")
    assert hasattr(getattr(torch.ops, namespace), operation), f"torch {torch.__version__} has no {name}"
    schema = str(getattr(getattr(torch.ops, namespace), operation).default._schema)
    assert schema == name + SCHEMAS[name]


@needs_onednn
def test_the_checks_find_what_torch_has() -> None:
    """Without this, a renamed operation would only make everything slower."""
    assert private_torch.has_onednn_linear()
    assert private_torch.has_onednn_layout()
    assert private_torch.has_cpu_flash_attention()
    assert isinstance(private_torch.has_bfloat16_products(), bool)


def test_onednn_can_be_switched_off() -> None:
    with torch.backends.mkldnn.flags(enabled=False):
        assert not private_torch.has_onednn_linear()
        assert not private_torch.has_onednn_layout()


# --- Products -----------------------------------------------------------------------------------------------------


@pytest.fixture
def without_private_operations(monkeypatch: pytest.MonkeyPatch) -> None:
    """A torch that has renamed everything."""
    monkeypatch.setattr(private_torch, "_exists", lambda namespace, name: False)


def _linear(rows: int, bias: bool) -> tuple[Tensor, Tensor, Tensor | None]:
    generator = torch.Generator().manual_seed(rows)
    inputs, weight = (torch.randn(n, 48, generator=generator) for n in (rows, 333))
    return inputs, weight, torch.randn(333, generator=generator) if bias else None


@needs_onednn
@pytest.mark.parametrize("rows", [1, 7, 256])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("laid_out", [False, True])
def test_a_product_by_onednn_is_the_product(rows: int, bias: bool, laid_out: bool) -> None:
    inputs, weight, added = _linear(rows, bias)
    stored = private_torch.onednn_layout(weight, rows) if laid_out else weight
    product = private_torch.onednn_linear(inputs, stored, added)
    expected = inputs.double() @ weight.double().t() + (0 if added is None else added.double())
    assert product.dtype == torch.float32
    torch.testing.assert_close(product.double(), expected, rtol=1e-5, atol=1e-4)


@pytest.mark.usefixtures("without_private_operations")
@pytest.mark.parametrize("bias", [False, True])
def test_without_onednn_the_product_is_the_same(bias: bool) -> None:
    assert not private_torch.has_onednn_linear()
    inputs, weight, added = _linear(7, bias)
    stored = private_torch.onednn_layout(weight, 7)
    product = private_torch.onednn_linear(inputs, stored, added)
    expected = inputs.double() @ weight.double().t() + (0 if added is None else added.double())
    torch.testing.assert_close(product.double(), expected, rtol=1e-5, atol=1e-4)


@pytest.mark.usefixtures("without_private_operations")
def test_a_processor_that_torch_says_nothing_about_has_no_bfloat16_products() -> None:
    assert private_torch.has_bfloat16_products() is False


# --- Attention ----------------------------------------------------------------------------------------------------


def _attention(heads: int = 4, key_heads: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    shapes = ((2, heads, 6, 8), (2, key_heads, 6, 8), (2, key_heads, 6, 8))
    query, key, value = (torch.randn(shape, dtype=torch.float64, generator=generator) for shape in shapes)
    return query.requires_grad_(), key.requires_grad_(), value.requires_grad_()


@pytest.mark.parametrize("causal", [False, True])
def test_cpu_attention_returns_output_log_sum_exp_and_gradients(causal: bool) -> None:
    """What `packed_attention` relies on: all three, with fewer key heads than query heads."""
    query, key, value = _attention()
    scores = 0.3 * query @ key.repeat_interleave(2, dim=1).transpose(2, 3)
    if causal:
        scores = scores.masked_fill(torch.ones(6, 6, dtype=torch.bool).triu(1), -math.inf)
    expected = scores.softmax(-1) @ value.repeat_interleave(2, dim=1)
    upstream = torch.randn(expected.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    gradients = torch.autograd.grad(expected, (query, key, value), upstream)
    given = [tensor.detach() for tensor in (query, key, value)]
    output, log_sum_exp = private_torch.cpu_flash_attention(*given, causal=causal, scale=0.3)
    torch.testing.assert_close(output, expected.detach())
    torch.testing.assert_close(log_sum_exp, scores.detach().logsumexp(-1))
    own = private_torch.cpu_flash_attention_backward(
        upstream, *given, output, log_sum_exp=log_sum_exp, causal=causal, scale=0.3
    )
    for gradient, reference in zip(own, gradients, strict=True):
        torch.testing.assert_close(gradient, reference)


@pytest.mark.usefixtures("without_private_operations")
def test_without_cpu_attention_packed_rows_attend_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not private_torch.has_cpu_flash_attention()
    packed = pack([[1, 2, 3]] * 3 + [[4]], [[5, 6], [7, 8, 9], [5], [6, 6]], [range(2), range(3), range(1), range(2)])
    layout, generator = packed.layout, torch.Generator().manual_seed(3)
    query, key, value = (torch.randn(1, h, layout.tokens, 8, generator=generator) for h in (4, 2, 2))
    streams = [x[0].transpose(0, 1) for x in (query, key, value)]
    expected = packed_attention.part_by_part(*streams, layout, 8**-0.5)

    def refuse(*_: object) -> Tensor:
        raise AssertionError("the private operations were called")

    monkeypatch.setattr(packed_attention, "part_by_part", refuse)
    module = torch.nn.Module()
    output, _ = packed_attention.attention(module, query, key, value, None, packed_layout=layout)
    torch.testing.assert_close(output[0], expected)
