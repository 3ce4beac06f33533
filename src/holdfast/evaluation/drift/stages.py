"""The drift of a run's stages from its base: which tensors of a large model are decomposed, and the summary's entry."""

from collections.abc import Mapping, Sequence
from typing import Any

from holdfast.evaluation.drift.pairs import module_and_layer
from holdfast.evaluation.drift.result import SUMMARIZED, DriftResult, DriftSummary, Pooled

Shapes = Mapping[str, tuple[int, ...]]


def tensors_to_decompose(shapes: Shapes, budget: int) -> frozenset[str]:
    """The tensors whose singular values and subspaces are compared: all of them, if they fit into a budget of entries.

    Of a larger model, evenly spread layers, the first and the last included: as many as fit, but at least one. Tensors
    outside the layers, such as the embedding, are then left out.
    """
    sizes = {name: _entries(shape) for name, shape in shapes.items()}
    if sum(sizes.values()) <= budget:
        return frozenset(shapes)
    layers: dict[int, int] = {}
    for name, size in sizes.items():
        if (layer := module_and_layer(name)[1]) is not None:
            layers[layer] = layers.get(layer, 0) + size
    numbers = sorted(layers)
    count = min(len(numbers), max(1, budget // max(layers.values(), default=1)))
    spread = [round(i * (len(numbers) - 1) / max(1, count - 1)) for i in range(count)] if numbers else []
    chosen = {numbers[i] for i in spread}
    return frozenset(name for name in shapes if module_and_layer(name)[1] in chosen)


def _entries(shape: Sequence[int]) -> int:
    product = 1
    for side in shape:
        product *= side
    return product


def drift_entry(result: DriftResult, stage: int, task: str) -> dict[str, Any]:
    """An entry of the summary's `drift` block.

    Args:
        result: from the base to the stage's model, with the stages before it as `earlier`.
    """
    overall = result.overall()
    alignments = [overall.alignment.get(earlier) for earlier in result.earlier]
    return {
        "stage": stage,
        "task": task,
        "against": "base",
        "overall": _counted(overall),
        "floor": _together(overall.floor),
        "by_type": {kind: _counted(each) for kind, each in result.by_type().items() if each.matrices},
        "matrices": [
            {
                "name": each.name,
                "type": each.module_type,
                "layer": each.layer,
                **{name: getattr(each.measured, name) for name in SUMMARIZED},
                "floor_relative_norm": each.floor.relative_norm,
                "floor_spectral_shift": each.floor.spectral_shift,
            }
            for each in result.matrices
            if each.is_matrix
        ],
        "alignment": [
            {"with_stage": number, "left": sides["left"], "right": sides["right"]}
            for number, sides in enumerate(alignments, 1)
            if sides is not None
        ],
        "conflict": None
        if overall.conflict is None
        else {"pairwise": overall.conflict.pairwise, "state": overall.conflict.state, "gap": overall.conflict.gap},
    }


def _counted(summary: DriftSummary) -> dict[str, float | None]:
    return _together(summary) | {"matrices": summary.matrices, "unmoved": summary.unmoved}


def _together(pooled: Pooled) -> dict[str, float | None]:
    return pooled.median | {
        "relative_norm": pooled.relative_norm,
        "unchanged": pooled.unchanged,
        "spectral_shift_mean": pooled.mean["spectral_shift"],
        "left_angle_largest": pooled.largest["left_angle"],
        "right_angle_largest": pooled.largest["right_angle"],
    }
