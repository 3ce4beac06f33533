"""An output head, applied to chunks of hidden states in place, and its gradients, gathered chunk by chunk."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from holdfast.errors import ModelError
from holdfast.objective.head import Head

TILE_BYTES = 2 * 2**20
"""Of a product, or of gathered weights, that is waiting to go where it belongs."""

ONEDNN_TILE_BYTES = 4 * 2**20
"""Of logits, or of their gradient, that oneDNN works on at a time; smaller ones cost calls, larger ones caches."""

ONEDNN_MOST = 256
"""Tokens up to which oneDNN's products are the faster ones on a CPU; with more the two are alike."""


def check_head(head: Head) -> None:
    """Refuse what is more than softcap(scale · (W h + b)).

    Raises:
        ModelError: the head's module is named.
    """
    module = getattr(head, "projection", None)
    weight = getattr(head, "weight", None)
    plain = module is None or isinstance(module, nn.Linear)
    if not plain or not isinstance(weight, Tensor) or weight.ndim != 2 or not weight.is_floating_point():
        raise ModelError(
            f"the output head is a {type(head if module is None else module).__name__}, and the fused loss knows plain "
            "linear layers alone",
            fix="set train.engine: readable, or take the head out of the adapter's or the quantizer's modules",
        )


def same_head(one: Head, other: Head) -> bool:
    """Whether two heads are the same weights in memory, used alike, as a model's and its adapters' are."""
    tensors = zip((one.weight, one.bias), (other.weight, other.bias), strict=True)
    return (one.scale, one.softcap) == (other.scale, other.softcap) and all(
        a is b or (a is not None and b is not None and a.data_ptr() == b.data_ptr() and a.dtype == b.dtype)
        for a, b in tensors
    )


class Projection:
    """Logits of chunks, written into place.

    A head in a narrow dtype gives logits in that dtype, and only then are they widened: as the model itself does it.
    """

    def __init__(self, temperature: float) -> None:
        self.temperature = temperature
        self._buffers: dict[tuple[str, torch.dtype], Tensor] = {}

    def into(self, out: Tensor, head: Head, hidden: Tensor, *, slope: bool = False) -> Tensor | None:
        """Write the logits [n, V] of hidden states [n, H], divided by the temperature, into `out`.

        Returns:
            With `slope`, and where the head has a soft cap, the cap's derivative [n, V]; overwritten by the next call.
        """
        weight, bias = head.weight.detach(), head.bias
        hidden = hidden.detach().to(weight.dtype)
        logits = out if weight.dtype == out.dtype else self.buffer("logits", out, weight.dtype)
        if _has_onednn(hidden, weight):
            _product_in_tiles(hidden, weight, bias, logits)
        elif bias is None:
            torch.mm(hidden, weight.t(), out=logits)
        else:
            torch.addmm(bias.detach(), hidden, weight.t(), out=logits)
        if head.scale != 1.0:
            logits.mul_(head.scale)
        derivative = None
        if head.softcap is not None:
            logits.div_(head.softcap).tanh_()
            if slope:
                derivative = self.buffer("slope", out, out.dtype).copy_(logits).square_().neg_().add_(1.0)
            logits.mul_(head.softcap)
        if logits is not out:
            out.copy_(logits)
        if self.temperature != 1:
            out.div_(self.temperature)
        return derivative

    def at(self, head: Head, hidden: Tensor, ids: Tensor, dtype: torch.dtype) -> Tensor:
        """The logits [n, K] of hidden states [n, H] at a few entries `ids` [n, K] each, divided by the temperature."""
        weight, bias = head.weight.detach(), head.bias
        hidden = hidden.detach().to(weight.dtype)
        logits = hidden.new_empty(ids.shape)
        rows = max(1, TILE_BYTES // (ids.shape[1] * hidden.shape[1] * hidden.itemsize))
        for part, states, found in zip(ids.split(rows), hidden.split(rows), logits.split(rows), strict=True):
            entries = weight.index_select(0, part.flatten()).view(*part.shape, -1)
            torch.bmm(entries, states.unsqueeze(-1), out=found.unsqueeze(-1))
        if bias is not None:
            logits += bias.detach()[ids]
        if head.scale != 1.0:
            logits *= head.scale
        if head.softcap is not None:
            logits.div_(head.softcap).tanh_().mul_(head.softcap)
        return logits.to(dtype) / self.temperature

    def buffer(self, name: str, like: Tensor, dtype: torch.dtype) -> Tensor:
        """Memory of the shape of `like`, the same for every chunk; the largest must come first."""
        key = name, dtype
        if key not in self._buffers or len(self._buffers[key]) < len(like):
            self._buffers[key] = torch.empty(like.shape, dtype=dtype, device=like.device)
        return self._buffers[key][: len(like)]


def _has_onednn(hidden: Tensor, weight: Tensor) -> bool:
    """Whether oneDNN multiplies these: for few tokens and float32 it is up to half faster than torch's own choice."""
    return (
        hidden.device.type == "cpu"
        and hidden.dtype == weight.dtype == torch.float32
        and 0 < len(hidden) <= ONEDNN_MOST
        and weight.is_contiguous()
        and onednn_is_there()
    )


def onednn_is_there() -> bool:
    """Whether torch's products by oneDNN can be called by themselves; they are not part of its public interface."""
    mkldnn = torch.backends.mkldnn
    return mkldnn.is_available() and bool(mkldnn.enabled) and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def has_bfloat16_products() -> bool:
    """Whether this processor multiplies matrices in bfloat16 by instructions; without them torch does it in loops."""
    return bool(torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _product_in_tiles(hidden: Tensor, weight: Tensor, bias: Tensor | None, out: Tensor) -> None:
    """Write W h + b into `out`, some entries at a time: oneDNN gives memory of its own, which is to stay small."""
    for tile in _onednn_tiles(hidden, weight):
        added = None if bias is None else bias.detach()[tile]
        product = torch.ops.mkldnn._linear_pointwise(hidden, weight[tile], added, "none", [], "")
        out[:, tile].copy_(product)


def _sum_over_tiles(gradient: Tensor, weight: Tensor, out: Tensor) -> None:
    """Write Wᵀ g into `out` [n, H], as a sum over some entries of the gradient [n, V] at a time."""
    for tile in _onednn_tiles(gradient, weight):
        product = torch.ops.mkldnn._linear_pointwise(gradient[:, tile], weight[tile].t(), None, "none", [], "")
        if tile.start == 0:
            out.copy_(product)
        else:
            out.add_(product)


def _onednn_tiles(tokens: Tensor, weight: Tensor) -> Iterator[slice]:
    """Slices of the vocabulary, for as many tokens as there are."""
    entries = max(1, ONEDNN_TILE_BYTES // (len(tokens) * tokens.itemsize))
    return (slice(start, start + entries) for start in range(0, len(weight), entries))


class HeadGradient:
    """The gradients of W h + b in h, W and b, where they are asked for."""

    def __init__(self, head: Head, hidden: Tensor, needed: tuple[bool, bool, bool], wide: torch.dtype) -> None:
        self._weight, self._wide = head.weight.detach(), wide
        self.hidden = torch.zeros_like(hidden) if needed[0] else None
        # Sums over many chunks are kept wide; they begin with the first chunk's product, so need no zeros.
        self.weight = hidden.new_empty(self._weight.shape, dtype=wide) if needed[1] else None
        self.bias = hidden.new_zeros(len(self._weight), dtype=wide) if needed[2] else None
        self._begun = False

    def add(self, tokens: slice | Tensor, hidden: Tensor, gradient: Tensor, narrow: Tensor | None) -> None:
        """Add a chunk: its logits' gradient [n, V] in the wide dtype, copied into `narrow` where the head's is not."""
        if self.bias is not None:
            self.bias.add_(gradient.sum(0))
        if narrow is not None:
            gradient = narrow.copy_(gradient)
        if self.hidden is not None:
            whole = isinstance(tokens, slice)
            states = self.hidden[tokens] if whole else self.hidden.new_empty(len(gradient), self.hidden.shape[1])
            if _has_onednn(gradient, self._weight):
                _sum_over_tiles(gradient, self._weight, states)
            else:
                torch.mm(gradient, self._weight, out=states)
            if not whole:
                self.hidden[tokens] = states
        if self.weight is not None:
            if narrow is None:
                self.weight.addmm_(gradient.t(), hidden, beta=int(self._begun))
            else:
                self._add_tiles(gradient, hidden)
        self._begun = True

    def _add_tiles(self, gradient: Tensor, hidden: Tensor) -> None:
        assert self.weight is not None
        rows = max(1, TILE_BYTES // (hidden.shape[1] * hidden.itemsize))
        for start in range(0, len(self.weight), rows):
            tile = self.weight[start : start + rows]
            product = torch.mm(gradient[:, start : start + rows].t(), hidden)
            if self._begun:
                tile.add_(product)
            else:
                tile.copy_(product)

    def add_entries(self, tokens: slice | Tensor, hidden: Tensor, ids: Tensor, gradient: Tensor) -> None:
        """Add a chunk whose gradient is not 0 at a few entries only: `ids` and `gradient` are [n, K]."""
        if self.hidden is not None:
            values = gradient.to(self._weight.dtype)
            self.hidden[tokens] = nn.functional.embedding_bag(ids, self._weight, per_sample_weights=values, mode="sum")
        if self.bias is not None:
            self.bias.index_add_(0, ids.flatten(), gradient.flatten())
        if self.weight is not None:
            if not self._begun:
                self.weight.zero_()
            rows = max(1, TILE_BYTES // (ids.shape[1] * hidden.shape[1] * gradient.itemsize))
            for part in zip(ids.split(rows), gradient.split(rows), hidden.to(self._wide).split(rows), strict=True):
                products = part[1].unsqueeze(-1) * part[2].unsqueeze(1)
                self.weight.index_add_(0, part[0].flatten(), products.flatten(0, 1))
        self._begun = True

    def take(self) -> list[Tensor | None]:
        """The gradients in the dtypes of what they belong to."""
        if self.weight is not None and not self._begun:
            self.weight.zero_()
        dtype = self._weight.dtype
        return [self.hidden, *(g if g is None else g.to(dtype) for g in (self.weight, self.bias))]
