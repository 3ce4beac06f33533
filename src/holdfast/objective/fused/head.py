"""An output head applied to chunks of hidden states, in place, and its gradients, added up chunk by chunk."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from holdfast.errors import ModelError
from holdfast.objective.fused.workspace import Workspace
from holdfast.objective.head import Head
from holdfast.objective.private_torch import has_onednn_linear, onednn_linear

TILE_BYTES = 2 * 2**20
"""Of a product, or of gathered weights, before it is added to its place. Small enough to stay in a core's cache."""

ONEDNN_TILE_BYTES = 4 * 2**20
"""Of logits, or of their gradient, in one product by oneDNN. Smaller tiles cost calls, larger ones leave the cache."""

ONEDNN_MOST_TOKENS = 256
"""Up to so many tokens oneDNN's products are faster than torch's own on a CPU; with more both take as long."""


def check_head(head: Head) -> None:
    """Refuse a head that is more than softcap(scale · (W h + b)).

    Raises:
        ModelError: it is; the message names the head's module.
    """
    module = getattr(head, "projection", None)
    weight = getattr(head, "weight", None)
    plain = module is None or isinstance(module, nn.Linear)
    if not plain or not isinstance(weight, Tensor) or weight.ndim != 2 or not weight.is_floating_point():
        raise ModelError(
            f"the output head is a {type(head if module is None else module).__name__}, but the fused loss needs a "
            "plain linear layer",
            fix="set train.engine: readable, or exclude the head from the adapter's or the quantizer's modules",
        )


def same_head(one: Head, other: Head) -> bool:
    """Whether two heads have the same weights in memory, scale and soft cap, as a model and its adapters do."""
    tensors = zip((one.weight, one.bias), (other.weight, other.bias), strict=True)
    return (one.scale, one.softcap) == (other.scale, other.softcap) and all(
        a is b or (a is not None and b is not None and a.data_ptr() == b.data_ptr() and a.dtype == b.dtype)
        for a, b in tensors
    )


class Projection:
    """From hidden states to logits, divided by the temperature.

    A head in a narrow dtype computes logits in that dtype, and they are widened after that. The model rounds at the
    same place, so both see the same logits.
    """

    def __init__(self, temperature: float, workspace: Workspace) -> None:
        self._temperature, self._workspace = temperature, workspace

    def into(self, out: Tensor, head: Head, hidden: Tensor, *, slope: bool = False) -> Tensor | None:
        """Write the logits [n, V] of hidden states [n, H] into `out`.

        Returns:
            With `slope`, and if the head has a soft cap, the cap's derivative [n, V]; the next call overwrites it.
        """
        weight, bias = head.weight.detach(), head.bias
        hidden = hidden.detach().to(weight.dtype)
        logits = out if weight.dtype == out.dtype else self._workspace.head_logits(out, weight.dtype)
        if _onednn_is_faster(hidden, weight):
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
                # d(c · tanh(z/c))/dz = 1 − tanh²(z/c)
                derivative = self._workspace.softcap_slope(out).copy_(logits).square_().neg_().add_(1.0)
            logits.mul_(head.softcap)
        if logits is not out:
            out.copy_(logits)
        if self._temperature != 1:
            out.div_(self._temperature)
        return derivative

    def at(self, head: Head, hidden: Tensor, ids: Tensor, dtype: torch.dtype) -> Tensor:
        """The logits [n, K] of hidden states [n, H] at the entries `ids` [n, K] only."""
        weight, bias = head.weight.detach(), head.bias
        hidden = hidden.detach().to(weight.dtype)
        logits = hidden.new_empty(ids.shape)
        # K rows of the weight are gathered for every token, K·H numbers; so only some tokens at a time.
        tokens = max(1, TILE_BYTES // (ids.shape[1] * hidden.shape[1] * hidden.itemsize))
        for part, states, out in zip(ids.split(tokens), hidden.split(tokens), logits.split(tokens), strict=True):
            entries = weight.index_select(0, part.flatten()).view(*part.shape, -1)
            torch.bmm(entries, states.unsqueeze(-1), out=out.unsqueeze(-1))
        if bias is not None:
            logits += bias.detach()[ids]
        if head.scale != 1.0:
            logits *= head.scale
        if head.softcap is not None:
            logits.div_(head.softcap).tanh_().mul_(head.softcap)
        return logits.to(dtype) / self._temperature


# --- Products by oneDNN -------------------------------------------------------------------------------------------


def _onednn_is_faster(inputs: Tensor, weight: Tensor) -> bool:
    return (
        inputs.device.type == "cpu"
        and inputs.dtype == weight.dtype == torch.float32
        and 0 < len(inputs) <= ONEDNN_MOST_TOKENS
        and weight.is_contiguous()
        and has_onednn_linear()
    )


def _product_in_tiles(hidden: Tensor, weight: Tensor, bias: Tensor | None, out: Tensor) -> None:
    """Write W h + b into `out`, a tile of the vocabulary at a time.

    oneDNN returns new memory and cannot write into `out`. Tiles keep that memory small.
    """
    for tile in _vocabulary_tiles(hidden, weight):
        out[:, tile].copy_(onednn_linear(hidden, weight[tile], None if bias is None else bias.detach()[tile]))


def _sum_over_tiles(gradient: Tensor, weight: Tensor, out: Tensor) -> None:
    """Write Wᵀ g into `out` [n, H], as a sum over tiles of the gradient [n, V]."""
    for tile in _vocabulary_tiles(gradient, weight):
        product = onednn_linear(gradient[:, tile], weight[tile].t(), None)
        if tile.start == 0:
            out.copy_(product)
        else:
            out.add_(product)


def _vocabulary_tiles(tokens: Tensor, weight: Tensor) -> Iterator[slice]:
    """Slices of the vocabulary with `ONEDNN_TILE_BYTES` of logits for so many tokens."""
    entries = max(1, ONEDNN_TILE_BYTES // (len(tokens) * tokens.itemsize))
    return (slice(start, start + entries) for start in range(0, len(weight), entries))


# --- Gradients ----------------------------------------------------------------------------------------------------


class HeadGradient:
    """The gradients of W h + b in h, W and b, added up over chunks.

    Args:
        needed: whether h, W and b need one.
        sum_dtype: of the sums for W and b.
    """

    def __init__(self, head: Head, hidden: Tensor, needed: tuple[bool, bool, bool], sum_dtype: torch.dtype) -> None:
        self._weight, self._sum_dtype = head.weight.detach(), sum_dtype
        # Every token is in one chunk, so its gradient is written once and can have the head's own dtype.
        self.hidden = torch.zeros_like(hidden) if needed[0] else None
        # All chunks add to the weight's and the bias's, so their sums are wide. The weight's sum begins with the first
        # chunk's product: filling V·H numbers with zeros first would cost one more pass over memory.
        self.weight = hidden.new_empty(self._weight.shape, dtype=sum_dtype) if needed[1] else None
        self.bias = hidden.new_zeros(len(self._weight), dtype=sum_dtype) if needed[2] else None
        self._weight_has_a_sum = False

    def add(self, tokens: slice | Tensor, hidden: Tensor, gradient: Tensor, narrow: Tensor | None) -> None:
        """Add a chunk.

        Args:
            tokens: where its n tokens are among all.
            hidden: [n, H], their hidden states.
            gradient: [n, V], the loss's gradient in W h + b, in the sums' dtype.
            narrow: [n, V] in the head's dtype, overwritten with the gradient; None if the head has the sums' dtype.
        """
        if self.bias is not None:
            self.bias.add_(gradient.sum(0))
        if narrow is not None:
            gradient = narrow.copy_(gradient)
        if self.hidden is not None:
            in_place = isinstance(tokens, slice)  # indices select a copy, so a product written there would be lost
            states = self.hidden[tokens] if in_place else self.hidden.new_empty(len(gradient), self.hidden.shape[1])
            if _onednn_is_faster(gradient, self._weight):
                _sum_over_tiles(gradient, self._weight, states)
            else:
                torch.mm(gradient, self._weight, out=states)
            if not in_place:
                self.hidden[tokens] = states
        if self.weight is not None:
            if narrow is None:
                self.weight.addmm_(gradient.t(), hidden, beta=int(self._weight_has_a_sum))
            else:
                self._add_in_tiles(gradient, hidden)
        self._weight_has_a_sum = True

    def _add_in_tiles(self, gradient: Tensor, hidden: Tensor) -> None:
        """Add a product in the head's narrow dtype to the wide sum, some rows of W at a time.

        torch has no product of narrow factors that is added to a wide sum, and the whole product would need V·H numbers
        more.
        """
        assert self.weight is not None
        rows = max(1, TILE_BYTES // (hidden.shape[1] * hidden.itemsize))
        for start in range(0, len(self.weight), rows):
            tile = self.weight[start : start + rows]
            product = torch.mm(gradient[:, start : start + rows].t(), hidden)
            if self._weight_has_a_sum:
                tile.add_(product)
            else:
                tile.copy_(product)

    def add_entries(self, tokens: slice | Tensor, hidden: Tensor, ids: Tensor, gradient: Tensor) -> None:
        """Add a chunk whose gradient in the logits is not 0 at K entries per token only.

        Args:
            ids: [n, K], the entries.
            gradient: [n, K], the gradient there.
        """
        if self.hidden is not None:
            values = gradient.to(self._weight.dtype)
            self.hidden[tokens] = nn.functional.embedding_bag(ids, self._weight, per_sample_weights=values, mode="sum")
        if self.bias is not None:
            self.bias.index_add_(0, ids.flatten(), gradient.flatten())
        if self.weight is not None:
            if not self._weight_has_a_sum:
                self.weight.zero_()  # `index_add_` touches few rows of W, and there is no product to begin with
            count = max(1, TILE_BYTES // (ids.shape[1] * hidden.shape[1] * gradient.itemsize))
            parts = zip(ids.split(count), gradient.split(count), hidden.to(self._sum_dtype).split(count), strict=True)
            for part_ids, part_gradient, states in parts:
                products = part_gradient.unsqueeze(-1) * states.unsqueeze(1)
                self.weight.index_add_(0, part_ids.flatten(), products.flatten(0, 1))
        self._weight_has_a_sum = True

    def take(self) -> list[Tensor | None]:
        """The gradients of hidden states, weight and bias, each in its tensor's dtype; None if it needs none."""
        if self.weight is not None and not self._weight_has_a_sum:
            self.weight.zero_()
        dtype = self._weight.dtype
        return [self.hidden, *(g if g is None else g.to(dtype) for g in (self.weight, self.bias))]
