"""Parameter drift: how far, and in which directions, a model's weights have moved. Imports without torch.

Definitions follow arXiv 2511.08567, as restated in section 3.1 of arXiv 2606.07082. arXiv 2607.01763 measures
self-distillation with them.
"""

from holdfast.evaluation.drift.compare import drift, stages_between
from holdfast.evaluation.drift.result import Alignment, DriftResult, DriftSummary, MatrixDrift, Metrics, Pooled

__all__ = ["Alignment", "DriftResult", "DriftSummary", "MatrixDrift", "Metrics", "Pooled", "drift", "stages_between"]
