"""Objects of one process, used from another that does not trust it.

Plain values travel as copies. Functions, classes and other objects stay where they are: the other process gets a
`Remote`, which asks for what it needs. The two take turns: whoever asks waits for the reply, and serves what the other
asks for meanwhile.
"""

import types
from collections.abc import Callable, Iterator
from typing import Any

from .channel import Channel
from .data import NotPlainError, decode, encode, is_mutable, update

LONGEST_MESSAGE = 500

_NEVER_RAISED = (StopIteration, StopAsyncIteration)
"""Exceptions that would end a loop of a test instead of failing it. So would those that are no `Exception`."""


class RaisedThereError(Exception):
    """What the other process raised, if it is no exception that this one has."""


class PeerGoneError(BaseException):
    """The other process has ended. No test catches it."""


class Peer:
    """One end.

    Args:
        channel: to the other end.
        may: whether the other end may do something to an object of this one: the operation, the object, and the name
            of an attribute.
        describe: what is said about an exception besides its type and message.
        errors: the exceptions of the other end that have a class here, by name.
    """

    def __init__(
        self,
        channel: Channel,
        may: Callable[[str, Any, str], bool],
        describe: Callable[[BaseException], dict[str, Any]],
    ) -> None:
        self.channel, self._may, self._describe = channel, may, describe
        self._objects: list[Any] = []
        self._numbers: dict[int, int] = {}
        self.errors: dict[str, type[BaseException]] = {}

    def encoded(self, value: Any) -> Any:
        """A value as the other end reads it."""
        return encode(value, self._refer)

    def decoded(self, found: Any) -> Any:
        """What the other end sent."""
        return decode(found, self._resolve)

    def ask(self, operation: str, of: "Remote | None", *given: Any, name: str = "") -> Any:
        """Let the other end do something.

        Raises:
            Exception: what the other end raised.
            PeerGoneError: it has ended.
        """
        request: dict[str, Any] = {"op": operation, "name": name, "of": None if of is None else number_of(of)}
        request |= {"args": [self.encoded(each) for each in given]}
        self.channel.send(request)
        reply = self.serve(until_reply=True)
        for place, content in reply.get("changed", ()):
            old, new = given[place], self.decoded(content)
            if type(old) is type(new) and is_mutable(old):
                update(old, new)
        if "raised" in reply:
            raise self._exception(reply["raised"])
        return self.decoded(reply.get("value"))

    def serve(self, until_reply: bool = False) -> dict[str, Any]:
        """Do what the other end asks for, until it says that it ends or, if one is waited for, sends a reply."""
        while True:
            message = self.channel.receive()
            if not isinstance(message, dict) or "gone" in message:
                raise PeerGoneError
            if "op" not in message:
                if until_reply:
                    return message
                raise NotPlainError("a reply that nobody asked for")
            if message["op"] == "end":
                return message
            self.channel.send(self._done(message))

    def _done(self, request: dict[str, Any]) -> dict[str, Any]:
        try:
            target = self._objects[request["of"]] if request["of"] is not None else None
            name, operation = str(request["name"]), str(request["op"])
            given = [self.decoded(each) for each in request["args"]]
            if not self._may(operation, target, name):
                raise NotPlainError(f"{operation} {name}, which is not for the other side")
            before = [encode(each, _anything) if is_mutable(each) else None for each in given]
            value = _OPERATIONS[operation](target, name, given)
            after = [encode(each, _anything) if is_mutable(each) else None for each in given]
            changed = [[i, self.encoded(given[i])] for i in range(len(given)) if before[i] != after[i]]
            return {"value": self.encoded(value), "changed": changed}
        except PeerGoneError:
            raise
        except BaseException as error:
            return {"raised": {**_typed(error), **self._describe(error)}}

    def _refer(self, value: Any) -> Any:
        if type(value) is Remote and object.__getattribute__(value, "_peer") is self:
            return {"yours": number_of(value)}
        if isinstance(value, types.ModuleType):
            raise NotPlainError("a module")
        if id(value) not in self._numbers:
            self._numbers[id(value)] = len(self._objects)
            self._objects.append(value)
        return {"mine": self._numbers[id(value)]}

    def _resolve(self, reference: Any) -> Any:
        if isinstance(reference, dict) and type(reference.get("mine")) is int:
            return Remote(self, reference["mine"])
        if isinstance(reference, dict) and type(reference.get("yours")) is int and reference["yours"] >= 0:
            return self._objects[reference["yours"]]
        raise NotPlainError("something that is no reference")

    def _exception(self, said: Any) -> BaseException:
        import builtins

        said = said if isinstance(said, dict) else {}
        names = [str(each) for each in said.get("types", ())][:20]
        message = str(said.get("message", ""))[:LONGEST_MESSAGE]
        kind: type[BaseException] = RaisedThereError
        for name in names:
            known = self.errors.get(name) or getattr(builtins, name, None)
            if isinstance(known, type) and issubclass(known, Exception) and not issubclass(known, _NEVER_RAISED):
                kind = known
                break
        try:
            error = kind(message)
        except Exception:  # some need more arguments, as UnicodeDecodeError does
            error = RaisedThereError(message)
        error.said = {**said, "types": names, "message": message}  # type: ignore[attr-defined]
        return error


class Remote:
    """An object of the other process.

    It has no operators, and is equal to no plain value: otherwise the other process would decide whether its own
    result is what a test expects, by an `__eq__` or a `__sub__` of its own.
    """

    __slots__ = ("_number", "_peer")

    def __init__(self, peer: Peer, number: int) -> None:
        object.__setattr__(self, "_peer", peer)
        object.__setattr__(self, "_number", number)

    def __call__(self, *given: Any, **named: Any) -> Any:
        if named:
            return _peer(self).ask("call_named", self, list(given), named)
        return _peer(self).ask("call", self, *given)

    def __getattr__(self, name: str) -> Any:
        return _peer(self).ask("get", self, name=name)

    def __setattr__(self, name: str, value: Any) -> None:
        _peer(self).ask("set", self, value, name=name)

    def __getitem__(self, key: Any) -> Any:
        return _peer(self).ask("item", self, key)

    def __setitem__(self, key: Any, value: Any) -> None:
        _peer(self).ask("set_item", self, key, value)

    def __len__(self) -> int:
        return int(_peer(self).ask("len", self))

    def __iter__(self) -> Iterator[Any]:
        iterator = _peer(self).ask("iter", self)
        while True:
            found = _peer(self).ask("next", iterator)
            if not found:
                return
            yield found[0]

    def __next__(self) -> Any:
        found = _peer(self).ask("next", self)
        if not found:
            raise StopIteration
        return found[0]

    def __bool__(self) -> bool:
        return bool(_peer(self).ask("bool", self))

    def __str__(self) -> str:
        return str(_peer(self).ask("str", self))

    def __repr__(self) -> str:
        return str(_peer(self).ask("repr", self))

    def __hash__(self) -> int:
        return hash(_peer(self).ask("hash", self))

    def __eq__(self, other: Any) -> bool:
        return type(other) is Remote and bool(_peer(self).ask("equal", self, other))

    def __lt__(self, other: Any) -> bool:
        return bool(_peer(self).ask("less", self, other)) if type(other) is Remote else NotImplemented

    def __instancecheck__(self, value: Any) -> bool:
        return type(value) is Remote and bool(_peer(self).ask("isinstance", self, value))


def number_of(remote: Remote) -> int:
    """Under which number the other process has an object."""
    return int(object.__getattribute__(remote, "_number"))


def _peer(remote: Remote) -> Peer:
    peer: Peer = object.__getattribute__(remote, "_peer")
    return peer


def _anything(value: Any) -> Any:
    """A form of any value, to see whether it was replaced by another."""
    return id(value)


def _typed(error: BaseException) -> dict[str, Any]:
    try:
        message = str(error)[:LONGEST_MESSAGE]
    except Exception:
        message = ""
    return {"types": [each.__name__ for each in type(error).__mro__], "message": message}


def _set(target: Any, name: str, given: list[Any]) -> None:
    setattr(target, name, given[0])


def _next(target: Any, name: str, given: list[Any]) -> list[Any]:
    """The next item in a list; an empty list at the end."""
    try:
        return [next(target)]
    except StopIteration:
        return []


def _set_item(target: Any, name: str, given: list[Any]) -> None:
    target[given[0]] = given[1]


_OPERATIONS: dict[str, Callable[[Any, str, list[Any]], Any]] = {
    "call": lambda target, name, given: target(*given),
    "call_named": lambda target, name, given: target(*given[0], **given[1]),
    "get": lambda target, name, given: getattr(target, name),
    "set": _set,
    "item": lambda target, name, given: target[given[0]],
    "set_item": _set_item,
    "len": lambda target, name, given: len(target),
    "iter": lambda target, name, given: iter(target),
    "next": _next,
    "bool": lambda target, name, given: bool(target),
    "str": lambda target, name, given: str(target),
    "repr": lambda target, name, given: repr(target),
    "hash": lambda target, name, given: hash(target),
    "equal": lambda target, name, given: bool(target == given[0]),
    "less": lambda target, name, given: bool(target < given[0]),
    "isinstance": lambda target, name, given: isinstance(given[0], target),
}
