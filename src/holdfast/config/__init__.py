"""The typed configuration: what a YAML file may say, read strictly, importable without torch."""
