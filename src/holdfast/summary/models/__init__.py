"""The fields of `summary.json`, as pydantic models. The schema is generated from them."""
