"""Names of weights that mean the same in two files.

transformers has renamed the weights of models with a language part: `language_model.model.layers.0` in a file may be
`model.language_model.layers.0` in memory, in an adapter, and in a file that a later version wrote.
"""

from collections.abc import Collection, Mapping

_PARTS = frozenset({"model", "language_model", "text_model", "vision_model", "transformer"})
"""Parts of a name that say only where a module stands within the whole model."""


def plain_name(name: str) -> str:
    """The name without the parts that versions of transformers name differently."""
    return ".".join(part for part in name.split(".") if part not in _PARTS)


def same_weights(names: Collection[str], others: Collection[str]) -> Mapping[str, str]:
    """By name: the other name of the same weight, for all names that the others lack and that have exactly one."""
    by_plain: dict[str, list[str]] = {}
    for other in set(others) - set(names):
        by_plain.setdefault(plain_name(other), []).append(other)
    renamed: dict[str, str] = {}
    taken: dict[str, int] = {}
    for name in set(names) - set(others):
        found = by_plain.get(plain_name(name), [])
        if len(found) == 1:
            renamed[name] = found[0]
            taken[found[0]] = taken.get(found[0], 0) + 1
    return {name: other for name, other in renamed.items() if taken[other] == 1}
