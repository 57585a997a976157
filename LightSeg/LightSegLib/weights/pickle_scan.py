"""What a pickle would do, without doing it: the names that it refers to, and what its calls would take.

A pickle is a program for a machine with a stack (Python's pickletools lists its operations). Here it runs with
stand-ins for all values, so that a file of a few bytes cannot ask for gigabytes or hours unnoticed.
"""

from __future__ import annotations

import pickletools
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

from ..core.i18n import tr as _

PROTOCOL = 2  # torch.save's, and the only one that the restricted reader understands
SPARE = 1 << 20  # entries and characters that any file may have copied
SHARE = 16  # and how many for each of its bytes
ENCODE = "_codecs.encode"  # how protocol 2 writes bytes: as text of Latin-1
HOLDERS = ("collections.OrderedDict", "collections.Counter")  # whose own functions a file could replace by others
KEPT = {"_metadata"}  # what torch hangs on the dict of a network's weights
ITEMSIZES = {
    f"torch.{kind}Storage": size
    for size, kinds in {
        8: ("Double", "Long"),
        4: ("Float", "Int"),
        2: ("Half", "BFloat16", "Short"),
        1: ("Char", "Byte", "Bool"),
    }.items()
    for kind in kinds
}


def names(stream: IO[bytes], newest_protocol: int = PROTOCOL) -> Iterator[str]:
    """Yield every `module.name` that the next pickle in a stream refers to, in its order; nothing is built."""
    text: str | None = None  # what the operation before put on the stack
    texts: deque[str] = deque(maxlen=2)
    memo: dict[int, str | None] = {}
    protocol = 0
    argument: Any
    for operation, argument, _position in pickletools.genops(stream):
        if operation.name in ("GLOBAL", "INST"):
            yield _full_name(argument)
        elif operation.name == "STACK_GLOBAL":
            yield ".".join(texts)
        elif operation.name == "PROTO":
            protocol = argument
        elif operation.name == "MEMOIZE":
            memo[len(memo)] = text
        elif operation.name.endswith("BINPUT"):
            memo[argument] = text
        text = memo.get(argument) if operation.name.endswith("BINGET") else argument
        if isinstance(text, str):
            texts.append(text)
        else:
            text = None
    if protocol > newest_protocol:
        raise ValueError(
            _("it uses pickle protocol {protocol}, newer than {newest}").format(
                protocol=protocol, newest=newest_protocol
            )
        )


def _full_name(argument: str) -> str:
    """Return the name that a pickle imports, "module.name"."""
    module, name = argument.split(" ", 1)
    return f"{'builtins' if module == '__builtin__' else module}.{name}"


@dataclass(frozen=True)
class _Name:
    """Stand-in for a function or class."""

    name: str


@dataclass
class _Held:
    """Stand-in for a list, a dict, or the result of a call: number of entries, and what was called.

    Attributes:
        keys: those that are text; None where they are not known.
    """

    entries: int = 0
    made_by: str = ""
    keys: set[str] | None = None


_MARK = object()


class Scan:
    """Runs a pickle of a weights file with stand-ins for all values.

    Args:
        storages: bytes of each storage that it names, by key.
        size: of the file in bytes.

    Raises:
        ValueError: for what no weights need: more than a file of that size can hold, tensors without numbers, bytes
            in another encoding than Python's pickles have, and operations that torch's restricted reader does not
            know; whatever broken bytes raise, too.
    """

    def __init__(self, stream: IO[bytes], size: int) -> None:
        self.storages: dict[str, int] = {}
        self.result: Any = None  # texts, numbers and tuples as they are, all else as a stand-in
        self.texts: list[str] = []
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self._left = SHARE * size + SPARE
        for operation, argument, _position in pickletools.genops(stream):
            self._do(operation.name, argument)
        if sum(self.storages.values()) > size:
            raise ValueError(_("its tensors are larger than the file"))

    def _do(self, name: str, argument: Any) -> None:
        """Follow one operation of a pickle."""
        push, pop = self._stack.append, self._stack.pop
        if name in ("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINSTRING"):
            if isinstance(argument, str):
                self.texts.append(argument)
            push(argument)
        elif name in ("NONE", "NEWTRUE", "NEWFALSE"):
            push(None)
        elif name in ("EMPTY_LIST", "EMPTY_DICT", "EMPTY_SET"):
            push(_Held(keys=set() if name == "EMPTY_DICT" else None))
        elif name == "EMPTY_TUPLE":
            push(())
        elif name == "MARK":
            push(_MARK)
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            count = int(name[-1])
            self._stack[-count:] = [tuple(self._stack[-count:])]
        elif name == "TUPLE":
            push(tuple(self._popped()))
        elif name == "GLOBAL":
            push(_Name(_full_name(argument)))
        elif name in ("APPEND", "SETITEM"):
            self._enter([pop()] if name == "APPEND" else [pop(), pop()][::-1], name)
        elif name in ("APPENDS", "SETITEMS"):
            self._enter(self._popped(), name)
        elif name in ("REDUCE", "NEWOBJ"):
            arguments, function = pop(), pop()
            push(self._called(function, arguments))
        elif name == "BUILD":
            state = pop()
            self._charge((state,))
            self._check_state(self._stack[-1], state)
        elif name == "BINPERSID":
            push(self._stored(pop()))
        elif name in ("BINPUT", "LONG_BINPUT"):
            self._memo[argument] = self._stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            push(self._memo[argument])
        elif name == "STOP":
            self.result = pop()
        elif name != "PROTO":
            raise ValueError(_("it uses {name}, which torch.save does not").format(name=name))

    def _popped(self) -> list[Any]:
        """Return the values above the last mark."""
        items: list[Any] = []
        while (item := self._stack.pop()) is not _MARK:
            items.append(item)
        return items[::-1]

    def _enter(self, items: list[Any], name: str) -> None:
        """Add items to a collection.

        Raises:
            ValueError: if they could be of unbounded size.
        """
        keys = items[::2] if name.startswith("SET") else ()
        if any(isinstance(part, tuple) for key in keys if isinstance(key, tuple) for part in key):
            raise ValueError(_("it has nested tuples as keys"))  # whose hash takes twice the time with each level
        if isinstance(self._stack[-1], _Held):
            self._stack[-1].entries += len(items)
            if self._stack[-1].keys is not None:
                self._stack[-1].keys.update(str(key) for key in keys)

    def _check_state(self, target: Any, state: Any) -> None:
        """Check the state that a pickle sets on an object.

        Raises:
            ValueError: for a dict that would get an attribute in place of `items` or another of its functions.
        """
        known = state.keys if isinstance(state, _Held) else None
        if isinstance(target, _Held) and target.made_by in HOLDERS and (known is None or not known <= KEPT):
            raise ValueError(_("it changes what a dict can do"))

    def _called(self, function: Any, arguments: Any) -> _Held:
        """Return what a call gives.

        Raises:
            ValueError: if the function is not an allowed one.
        """
        if not isinstance(function, _Name) or not isinstance(arguments, tuple):
            raise ValueError(_("it calls something that is not a function"))
        if function.name == ENCODE and arguments[1:] not in (("latin1",), ("latin-1",)):
            raise ValueError(_("it has bytes in an unusual encoding"))
        self._charge(arguments)
        return _Held(sum(map(_length, arguments)), function.name)

    def _charge(self, values: tuple[Any, ...]) -> None:
        """Count copied values against the limit: what is written once may be referenced again and again."""
        self._left -= sum(map(_length, values))
        if self._left < 0:
            raise ValueError(_("it requests more memory than a file of its size can fill"))

    def _stored(self, identity: Any) -> _Held:
        """Return a storage by torch.save's tuple: "storage", type, key, device, number of elements."""
        kind, storage, key, device, count = identity[:5]
        if kind != "storage" or not isinstance(key, str) or not isinstance(count, int) or count < 0:
            raise ValueError(_("it has an unknown kind of storage"))
        if not isinstance(device, str) or device.startswith("meta"):
            raise ValueError(_("some of its tensors have no data"))
        self.storages[key] = max(self.storages.get(key, 0), count * ITEMSIZES[storage.name])
        return _Held()


def _length(value: Any) -> int:
    """Return how many entries a value has."""
    if isinstance(value, _Held):
        return value.entries
    return len(value) if isinstance(value, (str, tuple)) else 1
