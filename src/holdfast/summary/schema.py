"""The JSON Schema of `summary.json`, generated from its models."""

from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue, models_json_schema
from pydantic_core.core_schema import WithDefaultSchema

from holdfast.summary.models.comparison import ComparisonSummary
from holdfast.summary.models.run import RunSummary
from holdfast.summary.version import SCHEMA_VERSION


class _Plain(GenerateJsonSchema):
    """Without a title for every field, which only repeats its name, and without defaults, which nothing fills in."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def default_schema(self, schema: WithDefaultSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])


def summary_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of `summary.json`, for runs and comparisons.

    Every field has a description.
    """
    _, parts = models_json_schema(
        [(RunSummary, "validation"), (ComparisonSummary, "validation")], schema_generator=_Plain
    )
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:holdfast:summary:{SCHEMA_VERSION}",
        "title": f"holdfast summary.json, version {SCHEMA_VERSION}",
        "description": "The numbers of a run or a comparison. Scores, metrics and differences are fractions of 1. KL "
        "is in nats per token. null means undefined or not measured; NaN does not occur.",
        "type": "object",
        "required": ["schema_version", "kind"],
        "properties": {
            "schema_version": {"const": SCHEMA_VERSION, "description": "Version of this schema."},
            "kind": {"enum": ["run", "comparison"], "description": "What the summary is about."},
        },
        "if": {"properties": {"kind": {"const": "comparison"}}},
        "then": {"$ref": "#/$defs/ComparisonSummary"},
        "else": {"$ref": "#/$defs/RunSummary"},
        "$defs": parts["$defs"],
    }
