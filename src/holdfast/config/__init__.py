"""The typed configuration: what a YAML file may contain. It is read strictly; this package imports without torch."""

from holdfast.config.load import dump_config, load_config, parse_config
from holdfast.config.settings import CompareConfig, RunConfig
from holdfast.renamed import refuse_moved_names

__all__ = ["CompareConfig", "RunConfig", "dump_config", "load_config", "parse_config"]

__getattr__ = refuse_moved_names(__name__)
