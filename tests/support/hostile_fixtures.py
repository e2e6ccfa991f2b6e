"""Pickles that want more than arrays, written instruction by instruction or by pickle itself.

None of them is ever given to `pickle.load`. Each would, if its calls were made, leave a file at
``MARK`` or need more memory than there is.
"""

import builtins
import collections
import functools
import os
import pickle
import struct

import numpy as np


class Calls:
    """Pickles as a call of a function."""

    def __init__(self, function, *arguments, state=None) -> None:
        self.parts = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self):
        return self.parts


class Plain:
    """Any object with a dict."""

    def __init__(self) -> None:
        self.x = 1


class FromDict(dict):
    """A dict of another class."""


def _name(module: str, attribute: str) -> bytes:
    return f"c{module}\n{attribute}\n".encode()


def _text(text: bytes) -> bytes:
    return b"U" + bytes([len(text)]) + text


def _array(dtype: bytes = b"f4", shape: bytes = b"K\x01\x85", data: bytes = b"\0\0\0\0") -> bytes:
    """An array as Python 2 wrote it, with parts of one's own."""
    return (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01"
        + shape
        + b"cnumpy\ndtype\n"
        + _text(dtype)
        + b"K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
        + _text(data)
        + b"tb."
    )


def hostile(mark: str) -> dict[str, tuple[bytes, str]]:
    """Name of the attack to the pickle, and to what the refusal must name."""
    command = f"touch {mark}"
    dump = functools.partial(pickle.dumps, protocol=2)
    return {
        "os.system": (dump(Calls(os.system, command)), "posix.system"),
        "os.system, protocol 0": (pickle.dumps(Calls(os.system, command), 0), "posix.system"),
        "os.system, protocol 5": (pickle.dumps(Calls(os.system, command), 5), "posix.system"),
        "os.system below the blobs": (
            dump({"blobs": {"conv1_w": Calls(os.system, command)}}),
            "posix.system",
        ),
        "os.system in the arguments of an array": (
            dump(Calls(np.dtype, Calls(os.system, command))),
            "posix.system",
        ),
        "builtins.eval": (dump(Calls(builtins.eval, f"open({mark!r},'w')")), "__builtin__.eval"),
        "builtins.eval, Python 3's name": (
            b"\x80\x02" + _name("builtins", "eval") + b"U\x011\x85R.",
            "builtins.eval",
        ),
        "builtins.exec": (dump(Calls(builtins.exec, "1")), "__builtin__.exec"),
        "builtins.open": (dump(Calls(open, mark, "w")), "io.open;"),
        "getattr chain": (
            dump(Calls(getattr, Calls(__import__, "os"), "system")),
            "__builtin__.getattr",
        ),
        "getattr through numpy": (
            b"\x80\x02" + _name("numpy.core.multiarray", "_reconstruct.__globals__") + b".",
            "numpy.core.multiarray._reconstruct.__globals__",
        ),
        "dotted name, protocol 4": (
            b"\x80\x04\x8c\x05numpy\x8c\x13f2py.os.system.call\x93.",
            "numpy.f2py.os.system.call",
        ),
        "another function of numpy": (
            b"\x80\x02" + _name("numpy", "fromfile") + _text(b"/etc/passwd") + b"\x85R.",
            "numpy.fromfile",
        ),
        "numpy's load": (b"\x80\x02" + _name("numpy", "load") + b".", "numpy.load"),
        "subprocess": (b"\x80\x02" + _name("subprocess", "Popen") + b".", "subprocess.Popen"),
        "importlib": (
            b"\x80\x02" + _name("importlib", "import_module") + b".",
            "importlib.import_module",
        ),
        "a function out of code": (
            b"\x80\x02" + _name("types", "FunctionType") + b".",
            "types.FunctionType",
        ),
        "torch's rebuild": (
            b"\x80\x02" + _name("torch._utils", "_rebuild_tensor_v2") + b".",
            "torch._utils._rebuild_tensor_v2",
        ),
        "defaultdict with a factory": (
            dump(collections.defaultdict(list)),
            "collections.defaultdict",
        ),
        "OrderedDict with arguments": (
            dump(Calls(collections.OrderedDict, [("a", 1)])),
            "OrderedDict with arguments",
        ),
        "instance of a class": (
            dump(Plain()),
            "hostile_fixtures.Plain",
        ),
        "instance, protocol 0": (pickle.dumps(Plain(), 0), "copy_reg._reconstructor"),
        "instance of a subclass of dict": (dump(FromDict(a=1)), "hostile_fixtures.FromDict"),
        "old class (INST)": (b"(U\x06touch ios\nsystem\n.", "the instruction INST"),
        "old class (OBJ)": (b"(" + _name("numpy", "dtype") + b"o.", "the instruction OBJ"),
        "new object (NEWOBJ)": (
            b"\x80\x02" + _name("numpy", "ndarray") + b"K\x01\x85\x81.",
            "the instruction NEWOBJ",
        ),
        "persistent id": (b"Pfile\n.", "the instruction PERSID"),
        "persistent object": (b"\x80\x02U\x01x\x51.", "the instruction BINPERSID"),
        "extension registry": (b"\x80\x02\x82\x01.", "the instruction EXT1"),
        "buffer from outside": (b"\x80\x05\x97.", "the instruction NEXT_BUFFER"),
        "call of a text": (b"\x80\x02U\x06system)R.", "to call something other than"),
        "call of an array": (_array()[:-1] + b")R.", "to call something other than"),
        "call without a tuple": (
            b"\x80\x02" + _name("numpy", "dtype") + b"U\x02f4R.",
            "to call something other than",
        ),
        "state of a dict": (b"\x80\x02}}U\x01aU\x01bsb.", "to set the state of a dict"),
        "state of a function": (
            b"\x80\x02" + _name("numpy", "dtype") + b"}b.",
            "to set the state of a",
        ),
        "array of objects": (dump(np.array([Plain(), None], dtype=object)), "element type 'O8'"),
        "array of objects, state": (_array(dtype=b"O8"), "element type 'O8'"),
        "array of objects, protocol 4": (
            pickle.dumps(np.array([None], dtype=object), 4),
            "element type 'O8'",
        ),
        "array of text": (pickle.dumps(np.array(["a"]), 4), "element type 'U1'"),
        "record array": (
            pickle.dumps(np.zeros(2, dtype=[("a", "f4"), ("b", "O")]), 4),
            "element type 'V12'",
        ),
        "array larger than its bytes": (
            _array(shape=b"\x8a\x06\x00\x00\x00\x00\x00\x01\x85"),
            "made of 4 bytes",
        ),
        "array of negative size": (_array(shape=b"J\xff\xff\xff\xff\x85"), "without a shape"),
        "array whose size overflows": (
            _array(shape=b"\x8a\x09" + b"\x00" * 7 + b"\x80\x00" + b"K\x00\x86", data=b""),
            "",
        ),
        "array made of a list": (_array()[:-9] + b"]tb.", "made of a list"),
        "array of a subclass": (
            b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n"
            + _name("numpy", "memmap")
            + b"K\x00\x85U\x01b\x87R.",
            "numpy.memmap",
        ),
        "bytes by another codec": (
            b"\x80\x02" + _name("_codecs", "encode") + b"X\x01\x00\x00\x00aU\x04zlib\x86R.",
            "_codecs.encode with 'zlib'",
        ),
        "text of 2^62 bytes": (
            b"\x80\x04\x8d" + struct.pack("<Q", 1 << 62) + b"a",
            "not a complete pickle",
        ),
        "bytes of 2^40 bytes": (
            b"\x80\x04\x8e" + struct.pack("<Q", 1 << 40) + b"a",
            "not a complete pickle",
        ),
        "bytearray of 2^40 bytes": (
            b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b"a",
            "not a complete pickle",
        ),
        "number of 2^31 digits": (b"\x80\x02\x8b\xff\xff\xff\x7f\x01", "not a complete pickle"),
        "number in 5,000 digits": (b"L" + b"9" * 5000 + b"L\n.", "not a complete pickle"),
        "memo entry 2^32 - 1": (b"\x80\x02]r\xff\xff\xff\xff.", "not of named blobs"),
        "memo entry that is not there": (b"\x80\x02h\x07.", "memo that has none"),
        "a million instructions": (b"\x80\x02" + b"N0" * 600_000 + b".", "more than 1000000"),
        "nested 100,000 deep": (
            b"\x80\x02" + b"(" * 100_000 + b"t" * 100_000 + b".",
            "not of named blobs",
        ),
        "pickle in a pickle": (
            dump(Calls(pickle.loads, dump(Calls(os.system, command)))),
            "ickle.loads;",
        ),
        "containers within themselves": (b"\x80\x02]q\x00h\x00a.", "a pickle of a list"),
        "dict with itself as a key": (b"\x80\x02}q\x00h\x00Ns.", "keys are neither text"),
        "dict with keys alone": (b"\x80\x02}(U\x01au.", "a key and no value"),
        "empty stack": (b"\x80\x02.", "empty stack"),
        "marks never set": (b"\x80\x02Nt.", "empty stack"),
        "append to a number": (b"\x80\x02K\x01K\x01a.", "to fill something that is not a list"),
        "cut in an array": (dump(np.ones(100, np.float32))[:150], "not a complete pickle"),
        "cut before the end": (dump({"blobs": {}})[:-1], "not a complete pickle"),
        "only the protocol": (b"\x80\x02", "not a complete pickle"),
        "unknown instruction": (b"\x80\x02\xfe.", "not a complete pickle"),
        "no blobs": (dump([1, 2, 3]), "a pickle of a list"),
        "empty blobs": (dump({"blobs": {}}), "no blob conv1_w"),
    }
