"""Reads untrusted pickles: only arrays and plain containers, and no function is called.

A pickle is a program for a small stack machine, and Python's own machine calls whatever the program
names. The one below knows only the instructions for numbers, strings, tuples, lists, dicts and
numpy arrays, in every protocol, and refuses all others by name. The handful of globals that arrays
are written with stand for functions of this module that check what they get: element type, shape
and number of bytes must agree before an array is made.
"""

from __future__ import annotations

import math
import mmap
import pickletools
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray

from vidfeat.errors import WeightsError

MAX_OPERATIONS = 1_000_000  # a weights file has a few thousand
_ELEMENT_TYPES = {f"{kind}{size}" for kind, sizes in
                  (("f", (2, 4, 8)), ("i", (1, 2, 4, 8)), ("u", (1, 2, 4, 8)), ("b", (1,)))
                  for size in sizes}  # fmt: skip
_MARK = object()


class _RefusedError(Exception):
    """The pickle wants something that arrays and plain containers do not need."""


class _Dtype:
    """A numpy element type while it is being described."""

    def __init__(self, code: object = None, *_flags: object) -> None:
        if not isinstance(code, str) or code not in _ELEMENT_TYPES:
            raise _RefusedError(f"arrays of the element type {code!r}")
        self.dtype = np.dtype(code)

    def set_state(self, state: object) -> None:
        """(version, byte order, subtype, names, fields, ...): plain numbers have only the order."""
        if not isinstance(state, tuple) or len(state) < 5 or any(state[2:5]):
            raise _RefusedError("a structured element type")
        if state[1] not in ("<", ">", "|", "="):
            raise _RefusedError(f"the byte order {state[1]!r}")
        self.dtype = self.dtype.newbyteorder(state[1])


class _Array:
    """A numpy array before its contents are known."""

    def __init__(self, *_arguments: object) -> None:
        self.value: NDArray[Any] = np.empty(0, np.float32)

    def set_state(self, state: object) -> None:
        """(version, shape, element type, whether columns come first, bytes)."""
        if not isinstance(state, tuple) or len(state) != 5:
            raise _RefusedError("an array described in an unknown way")
        _version, shape, dtype, by_column, data = state
        self.value = _array(data, dtype, shape, "F" if by_column else "C")


def _array(data: object, dtype: object, shape: object, order: object) -> NDArray[Any]:
    """An array of these bytes; nothing is allocated beyond what the file holds."""
    if isinstance(data, str):  # Python 2 wrote bytes as text of one byte per character
        data = data.encode("latin-1")
    if not isinstance(data, bytes | bytearray):
        raise _RefusedError(f"an array made of a {type(data).__name__}")
    if not isinstance(dtype, _Dtype):
        raise _RefusedError("an array without an element type")
    if isinstance(shape, int):
        shape = (shape,)
    if not isinstance(shape, tuple) or not all(type(n) is int and n >= 0 for n in shape):
        raise _RefusedError("an array without a shape")
    wanted = math.prod(shape) * dtype.dtype.itemsize
    if wanted != len(data):
        raise _RefusedError(f"an array of shape {shape} ({wanted} bytes) made of {len(data)} bytes")
    flat = np.frombuffer(data, dtype.dtype)
    return flat.reshape(shape, order="F" if order == "F" else "C")


def _scalar(dtype: object = None, data: object = None) -> Any:
    return _array(data, dtype, (), "C")[()]


def _frombuffer(data: object, dtype: object, shape: object, order: object, *_axes: object) -> Any:
    return _array(data, dtype, shape, order)


def _encode(text: object = "", encoding: object = "") -> bytes:
    """Python 3 writes bytes for Python 2 as ``_codecs.encode(text, 'latin1')``."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise _RefusedError(f"_codecs.encode with {encoding!r}")
    return text.encode("latin-1")


def _no_bytes(*arguments: object) -> bytes:
    """Python 3 writes empty bytes for Python 2 as a call of ``bytes`` without arguments."""
    if arguments:
        raise _RefusedError("__builtin__.bytes with arguments")
    return b""


def _dictionary(*arguments: object) -> dict[Any, Any]:
    if arguments:
        raise _RefusedError("a collections.OrderedDict with arguments")
    return {}


_GLOBALS: dict[str, Callable[..., Any]] = {
    "numpy.ndarray": _Array,
    "numpy.dtype": _Dtype,
    "collections.OrderedDict": _dictionary,
    "_codecs.encode": _encode,
    "__builtin__.bytes": _no_bytes,
}
for _module in ("numpy.core.multiarray", "numpy._core.multiarray"):
    _GLOBALS[f"{_module}._reconstruct"] = _Array
    _GLOBALS[f"{_module}.scalar"] = _scalar
for _module in ("numpy.core.numeric", "numpy._core.numeric"):
    _GLOBALS[f"{_module}._frombuffer"] = _frombuffer

_PUSH = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT",
    "STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE",
    "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8",
}  # fmt: skip
_CONSTANT = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_IGNORED = {"PROTO", "FRAME"}


class _Machine:
    """The stack machine, which executes one instruction at a time."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def pop(self) -> Any:
        if not self.stack:
            raise _RefusedError("a value from an empty stack")
        return self.stack.pop()

    def pop_to_mark(self) -> list[Any]:
        taken = []
        while (value := self.pop()) is not _MARK:
            taken.append(value)
        return taken[::-1]

    def top(self, kind: type) -> Any:
        if not self.stack or not isinstance(self.stack[-1], kind):
            raise _RefusedError(f"to fill something that is not a {kind.__name__}")
        return self.stack[-1]

    def step(self, name: str, argument: Any) -> None:
        """Execute one instruction."""
        if name in _PUSH:
            self.stack.append(argument)
        elif name in _CONSTANT:
            self.stack.append(_CONSTANT[name])
        elif name == "MARK":
            self.stack.append(_MARK)
        elif name in ("EMPTY_DICT", "EMPTY_LIST"):
            self.stack.append({} if name == "EMPTY_DICT" else [])
        elif name in _TUPLES:
            items = [self.pop() for _ in range(_TUPLES[name])]
            self.stack.append(tuple(items[::-1]))
        elif name in ("TUPLE", "LIST", "DICT"):
            items = self.pop_to_mark()
            made: Any = tuple(items) if name == "TUPLE" else items
            self.stack.append(_pairs(items) if name == "DICT" else made)
        elif name in ("APPEND", "APPENDS"):
            items = [self.pop()] if name == "APPEND" else self.pop_to_mark()
            self.top(list).extend(items)
        elif name in ("SETITEM", "SETITEMS"):
            items = self.pop_to_mark() if name == "SETITEMS" else [self.pop(), self.pop()][::-1]
            self.top(dict).update(_pairs(items))
        elif name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            key = len(self.memo) if name == "MEMOIZE" else int(argument)
            self.memo[key] = self.top(object)
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            if int(argument) not in self.memo:
                raise _RefusedError(f"entry {argument} of a memo that has none")
            self.stack.append(self.memo[int(argument)])
        elif name == "POP":
            self.pop()
        else:
            self._object(name, argument)

    def _object(self, name: str, argument: Any) -> None:
        """The instructions that create objects, which turn a pickle into a program."""
        if name in ("GLOBAL", "STACK_GLOBAL"):
            if name == "GLOBAL":
                path = str(argument).replace(" ", ".", 1)
            else:
                attribute, module = self.pop(), self.pop()
                path = f"{module}.{attribute}"
            if path not in _GLOBALS:
                raise _RefusedError(path)
            self.stack.append(_GLOBALS[path])
        elif name == "REDUCE":
            arguments, function = self.pop(), self.pop()
            # Identity, not equality: an array in this place would compare element by element.
            if not isinstance(arguments, tuple) or not any(
                function is known for known in _GLOBALS.values()
            ):
                raise _RefusedError("to call something other than a numpy function")
            try:
                self.stack.append(function(*arguments))
            except TypeError:
                raise _RefusedError("a call with the wrong number of arguments") from None
        elif name == "BUILD":
            state = self.pop()
            target = self.top(object)
            if not isinstance(target, _Array | _Dtype):
                raise _RefusedError(f"to set the state of a {type(target).__name__}")
            target.set_state(state)
        else:
            raise _RefusedError(f"the instruction {name}")


def _pairs(items: list[Any]) -> dict[Any, Any]:
    if len(items) % 2:
        raise _RefusedError("a dict with a key and no value")
    keys = items[::2]
    if not all(isinstance(key, str | int | bytes) for key in keys):
        raise _RefusedError("a dict whose keys are neither text nor numbers")
    return dict(zip(keys, items[1::2], strict=True))


def load(path: Path) -> Any:
    """Read a pickle of arrays and plain containers.

    An array is a ``numpy.ndarray`` inside the containers; it is found with `array_of`.

    Raises:
        WeightsError: the pickle asks for anything else, named in the message, or it is cut off.
        OSError: the file cannot be read.
    """
    machine = _Machine()
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            # Reading a memory map never allocates more than the file has, whatever a length field
            # says.
            operations = pickletools.genops(cast(IO[bytes], data))
            for count, (code, argument, _position) in enumerate(operations):
                if code.name == "STOP":
                    break
                if count > MAX_OPERATIONS:
                    raise _RefusedError(f"more than {MAX_OPERATIONS} instructions")
                if code.name not in _IGNORED:
                    machine.step(code.name, argument)
        return machine.pop()
    except _RefusedError as error:
        raise WeightsError(
            f"{path}: refused: the pickle wants {error}; only arrays and plain containers are read"
        ) from None
    except (ValueError, UnicodeError, OverflowError, MemoryError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise WeightsError(f"{path}: refused: not a complete pickle: {reason}") from None


def array_of(value: object) -> NDArray[Any] | None:
    """The array of a loaded value; None if it is something else."""
    if isinstance(value, _Array):
        return value.value
    return value if isinstance(value, np.ndarray) else None
