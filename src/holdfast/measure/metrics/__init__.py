"""Every metric of a run. To add one, write a file like those below and import it here: one line.

The metric then has its place in `summary.json`, its schema, the report, `--json` and the documentation
(`python docs/generate.py` writes the last).
"""
# ruff: noqa: F401, I001 - importing a file registers its metrics, and tables list them in the order of these lines.

from holdfast.measure.metric import METRICS, Metric, NumberKind, compute_metrics, flatten_metrics, metrics_by_group

from holdfast.measure.metrics import final_score
from holdfast.measure.metrics import learned_score
from holdfast.measure.metrics import learning
from holdfast.measure.metrics import first_task_learned
from holdfast.measure.metrics import average_incremental_score
from holdfast.measure.metrics import pass_at_k
from holdfast.measure.metrics import loss_of_earlier
from holdfast.measure.metrics import forgetting
from holdfast.measure.metrics import backward_transfer
from holdfast.measure.metrics import retention
from holdfast.measure.metrics import forward_transfer
from holdfast.measure.metrics import ood
from holdfast.measure.metrics import nll
from holdfast.measure.metrics import probability
from holdfast.measure.metrics import kl_to_base

__all__ = ["METRICS", "Metric", "NumberKind", "compute_metrics", "flatten_metrics", "metrics_by_group"]
