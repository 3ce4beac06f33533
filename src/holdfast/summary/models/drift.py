"""How far the weights moved from the base, as docs/drift.md defines it."""

from typing import Literal

from pydantic import Field

from holdfast.summary.models.part import Count, Part, Stage


class MatrixMoves(Part):
    """Drift of one matrix, or of several together. Null if it is undefined or was not measured."""

    relative_norm: float | None = Field(
        description="‖ΔW‖_F / ‖W₀‖_F; for several matrices together, over all of their entries."
    )
    unchanged: float | None = Field(description="Share of entries that are unchanged at bfloat16 precision.")
    spectral_shift: float | None = Field(description="Normalized shift of the singular values.")
    left_angle: float | None = Field(
        description="Largest principal angle between the leading left singular subspaces, in degrees."
    )
    right_angle: float | None = Field(
        description="Largest principal angle between the leading right singular subspaces, in degrees."
    )
    stable_rank: float | None = Field(description="‖ΔW‖_F² / ‖ΔW‖₂².")
    principal_overlap: float | None = Field(description="Share of W₀'s principal mask that is also in W_t's.")
    principal_changed: float | None = Field(description="Share of W₀'s principal mask that changed.")
    changes_in_principal: float | None = Field(
        description="Share of the changed entries that are in W₀'s principal mask."
    )
    changes_in_low: float | None = Field(
        description="Share of the changed entries that are in W₀'s low-magnitude mask."
    )


class DriftMetrics(MatrixMoves):
    """Drift of several matrices together.

    The norm and the unchanged share are over all entries, vectors included. The other numbers are medians over the
    matrices that moved.
    """

    spectral_shift_mean: float | None = Field(
        None, description="Mean of `spectral_shift` over the same matrices: NSS as the papers average it."
    )
    left_angle_largest: float | None = Field(None, description="Largest `left_angle` of these matrices, in degrees.")
    right_angle_largest: float | None = Field(None, description="Largest `right_angle` of these matrices, in degrees.")
    matrices: Count = Field(0, description="Number of these matrices. `floor` has the same matrices and omits it.")
    unmoved: Count = Field(
        0,
        description="Matrices without a changed entry. They count in no median, mean or maximum, unless no matrix "
        "moved.",
    )


class MatrixDriftRecord(MatrixMoves):
    """Drift of one matrix."""

    name: str = Field(description="Name in the saved model.")
    type: str = Field(description="Module type: the name without numbers.")
    layer: int | None = Field(description="Layer; null outside of the layers.")
    floor_relative_norm: float | None = Field(description="`relative_norm` of the no-op control.")
    floor_spectral_shift: float | None = Field(description="`spectral_shift` of the no-op control.")


class UpdateAlignment(Part):
    """This stage's update compared with one earlier stage's update."""

    with_stage: Stage = Field(description="The earlier stage.")
    left: float | None = Field(
        description="Share of this update's leading left subspace that is within the earlier update's."
    )
    right: float | None = Field(
        description="Share of this update's leading right subspace that is within the earlier update's."
    )


class UpdateConflict(Part):
    """How much the updates of the stages so far conflict; means over matrices. docs/drift.md defines it."""

    pairwise: float = Field(description="Geometry conflict of two stages' updates; mean over all pairs.")
    state: float = Field(
        description="Geometry conflict of a stage's update with the update from the base to the current model; mean "
        "over the stages."
    )
    gap: float = Field(description="The state-relative gap: state − pairwise.")


class StageDrift(Part):
    """How far the weights after one stage are from the base's."""

    stage: Stage = Field(description="Stage, from 1.")
    task: str = Field(description="Task of the stage.")
    against: Literal["base"] = Field(description="What the weights are compared with.")
    overall: DriftMetrics = Field(description="All weights.")
    floor: DriftMetrics = Field(
        description="The no-op control: the base's weights, converted to the stage's storage type and back. Pooled as "
        "`overall` is, over the same matrices."
    )
    by_type: dict[str, DriftMetrics] = Field(description="By module type, e.g. `mlp.up_proj`.")
    matrices: list[MatrixDriftRecord] = Field(description="Each matrix, in the order of the layers.")
    alignment: list[UpdateAlignment] = Field(
        description="This stage's update compared with each earlier stage's update; means over matrices."
    )
    conflict: UpdateConflict | None = Field(
        None, description="Conflicts of the updates of the stages so far; null after the first stage."
    )
