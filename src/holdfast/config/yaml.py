"""Read YAML strictly as plain data, and write it.

Read is the part of YAML that a configuration needs: mappings, lists, text, numbers, true, false and null. What means
something else than it seems to, or grows while it is read, is refused.
"""

import re
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import yaml

from holdfast.errors import ConfigError, shown
from holdfast.store.regular import read_text

_DEEPEST = 40
"""Blocks within each other. The deepest setting is at 6."""

_MOST = 20_000
"""Values of a file, each repetition of an anchor counted."""

_LARGEST = 4 * 2**20
"""Bytes of a file."""

_TAGS = frozenset(f"tag:yaml.org,2002:{kind}" for kind in ("map", "seq", "str", "int", "float", "bool"))

_MERGE = "tag:yaml.org,2002:merge"

_AS_TEXT = ("tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:value")
"""What YAML 1.1 reads as something else than text, and no setting is: dates, and the sign `=`."""

_EXPONENT = re.compile(r"^[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$")

_ODD_NUMBER = re.compile(r"^[-+]?(0[0-9_]+|[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?)$")
"""What YAML 1.1 reads in base 8 or 60, such as 010 and 1:30."""


class _NotReadError(yaml.MarkedYAMLError):
    """YAML that is not read. The problem says how to write it instead."""

    def __init__(self, what: str, mark: Any) -> None:
        super().__init__(problem=what, problem_mark=mark)


class _Loader(yaml.SafeLoader):
    """Safe YAML that reads 1e-4 as a number (YAML 1.1 needs 1.0e-4) and dates as text, and refuses duplicate keys."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0
        self._values = 0
        self._sizes: dict[int, int] = {}

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()
        before = self._values
        if isinstance(event, yaml.AliasEvent):
            node = super().compose_node(parent, index)
            if id(node) not in self._sizes:
                raise _NotReadError(
                    f"the alias *{event.anchor} stands within what it repeats; write it out", event.start_mark
                )
            self._count(self._sizes[id(node)], event)
            return node
        tag = getattr(event, "tag", None)
        if tag not in (None, "!") and tag not in _TAGS:
            raise _NotReadError(f"the tag {shown(tag)} is not read; leave it out", event.start_mark)
        self._depth += 1
        if self._depth > _DEEPEST:
            raise _NotReadError(f"blocks are nested more than {_DEEPEST} deep; remove some", event.start_mark)
        self._count(1, event)
        node = super().compose_node(parent, index)
        self._depth -= 1
        self._sizes[id(node)] = self._values - before
        return node

    def _count(self, values: int, event: yaml.Event) -> None:
        self._values += values
        if self._values > _MOST:
            raise _NotReadError(f"more than {_MOST} values with what aliases repeat; write less", event.start_mark)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, KeyError, IndexError, AttributeError, TypeError, OverflowError):
            what = f"{shown(node.value)} is no {node.tag.rpartition(':')[2]} that can be read; quote it if it is text"
            raise _NotReadError(what, node.start_mark) from None

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        if not isinstance(node, yaml.MappingNode):
            raise _NotReadError("a tag says mapping, and this is none; leave the tag out", node.start_mark)
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.tag == _MERGE:
                raise _NotReadError("the merge key `<<` is not read; write its keys out", key_node.start_mark)
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise _NotReadError("a key is a list or a mapping; write a name", key_node.start_mark)
            if key in seen:
                raise _NotReadError(f"key {shown(key)} is given twice; remove one", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)

    def construct_number(self, node: yaml.ScalarNode) -> int | float:
        if _ODD_NUMBER.match(node.value):
            what = f"{shown(node.value)} would be read in another base than 10; write it in base 10, or quote it"
            raise _NotReadError(what, node.start_mark)
        if node.tag.endswith("int"):
            return int(self.construct_yaml_int(node))
        return float(self.construct_yaml_float(node))


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _EXPONENT, list("-+0123456789"))
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _AS_TEXT]
    for first, resolvers in _Loader.yaml_implicit_resolvers.items()
}
for _kind in ("int", "float"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_kind}", _Loader.construct_number)


class _Dumper(yaml.SafeDumper):
    """Writes text in quotes where `_Loader` would read a number, and repeats what is there twice."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


_Dumper.add_implicit_resolver("tag:yaml.org,2002:float", _EXPONENT, list("-+0123456789"))


def read_config(path: Path) -> dict[str, Any]:
    """The plain data of a configuration file.

    Raises:
        ConfigError: the file is missing, is not YAML, or is not a mapping.
    """
    text = read_text(path, ConfigError, largest=_LARGEST, missing="check the path of the configuration")
    data = parse_yaml(text, str(path))
    if not isinstance(data, Mapping):
        raise ConfigError("is empty or not a mapping", where=str(path), fix="start with `tasks:` and `recipe:`")
    return dict(data)


def parse_yaml(text: str, where: str) -> Any:
    """YAML as plain data. Numbers such as 1e-4 are numbers, dates are text, and duplicate keys are refused.

    What an alias repeats is a copy: to change one does not change the other.

    Raises:
        ConfigError: it is not YAML, or not the part of it that is read; the message has the line.
    """
    loader = None
    try:
        loader = _Loader(text)
        return _copied(loader.get_single_data())
    except _NotReadError as error:
        raise ConfigError(str(error.problem), where=_place(where, text, error.problem_mark)) from None
    except yaml.reader.ReaderError as error:
        what = f"the character #x{error.character:04x} is not allowed"
        place = f"{where}:{text.count(chr(10), 0, error.position) + 1}" if "\n" in text else where
    except yaml.MarkedYAMLError as error:
        what, place = str(error.problem or error.context), _place(where, text, error.problem_mark or error.context_mark)
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        what, place = (
            str(error).partition("\n")[0],
            _place(where, text, loader.get_mark() if loader is not None else None),
        )
    finally:
        if loader is not None:
            loader.dispose()
    fix = "check the quotes, brackets and spaces of this line and of the one before"
    raise ConfigError(f"is not valid YAML: {what}", where=place, fix=fix)


def write_yaml(data: Any) -> str:
    """Plain data as YAML that `parse_yaml` reads back to equal data."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


def _place(where: str, text: str, mark: Any) -> str:
    """The file and the line; without the line if there is only one, as in `--set KEY=VALUE`."""
    return f"{where}:{mark.line + 1}" if mark is not None and "\n" in text else where


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copied(each) for key, each in value.items()}
    return [_copied(each) for each in value] if isinstance(value, list) else value
