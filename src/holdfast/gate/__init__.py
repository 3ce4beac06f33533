"""The decision whether a model may replace its predecessor."""
