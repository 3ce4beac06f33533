"""What every run would do anew: imported by the server that runs are forked from, so that it is done once."""

from transformers.conversion_mapping import get_checkpoint_conversion_mapping

import holdfast.api
import holdfast.cli.run_progress
import holdfast.cli.summary_text  # noqa: F401
from holdfast.reporting.page import templates

get_checkpoint_conversion_mapping("qwen3")
for name in templates().list_templates(extensions=["j2"]):
    templates().get_template(name)
