"""What the programs inside a sandbox share: limits on themselves, values as text, and a pipe of messages.

Standard library only, and little of it: this source is sent into the sandbox, where the project does not exist.

A value travels as JSON. None, bool, int, float and str are themselves, everything else is a list whose first item
says what it is, so no text of an untrusted program becomes anything but plain values of these types.
"""

import builtins
import json
import os
import resource
import sys
from collections.abc import Callable
from typing import Any, NoReturn

FRAME = 8 * 2**20  # bytes of one message; a longer one is refused
_DIGITS = 250_000  # hexadecimal digits of an int, a million bits: multiplying larger ones takes seconds
_SMALL = 2**63
_HEAD = 8  # bytes in front of a message, its length as hexadecimal digits

Refer = Callable[[Any], list[Any]]
Resolve = Callable[[list[Any]], Any]


class Gone(BaseException):
    """The other side has ended, or said something that is no message. Not an Exception: no test may swallow it."""


# ---- values ----


def encode(value: Any, refer: Refer) -> Any:
    """A value as JSON knows it; `refer` gives the reference that stands for what cannot be sent.

    Subclasses that keep the equality of their plain base are sent as that base; Counter, OrderedDict and deque as
    themselves, because theirs differs.
    """
    if value is None or isinstance(value, bool) or type(value) in (str, float):
        return value
    kind = _kind(value)
    if kind is int:
        number = int(value)
        return number if -_SMALL < number < _SMALL else ["int", hex(number)]
    if kind in (str, float):
        return kind(value) if kind is float else str.__str__(value)
    if kind in (bytes, bytearray):
        return ["bytes", value.hex()]
    if kind is complex:
        return ["complex", value.real, value.imag]
    if kind is range:
        return ["range", *(encode(part, refer) for part in (value.start, value.stop, value.step))]
    if kind in (list, tuple, set, frozenset):
        return [kind.__name__, [encode(item, refer) for item in value]]
    if kind is dict:
        return [_mapping(value), [[encode(key, refer), encode(item, refer)] for key, item in value.items()]]
    if _from_collections(value, "deque"):
        return ["deque", [encode(item, refer) for item in value]]
    return refer(value)


_PLAIN = (int, str, float, bytes, bytearray, complex, range, list, tuple, set, frozenset, dict)


def _kind(value: Any) -> Any:
    own = type(value)
    if own in _PLAIN:
        return own
    if _mapping(value) != "dict":
        return dict
    return next((kind for kind in _PLAIN if isinstance(value, kind) and own.__eq__ is kind.__eq__), None)  # type: ignore[comparison-overlap]


def _from_collections(value: Any, name: str) -> bool:
    collections = sys.modules.get("collections")  # an object of a module that was never imported there is not
    return collections is not None and type(value) is getattr(collections, name)


def _mapping(value: Any) -> str:
    return next((name for name in ("Counter", "OrderedDict") if _from_collections(value, name)), "dict")


def decode(data: Any, resolve: Resolve) -> Any:
    """The value that `encode` wrote; `resolve` gives what a reference stands for.

    Raises:
        Gone: this is not what `encode` writes.
    """
    try:
        return _decode(data, resolve)
    except (TypeError, ValueError, IndexError, OverflowError, RecursionError, MemoryError) as failure:
        raise Gone(f"sent a value that cannot be read ({type(failure).__name__})") from None


def _decode(data: Any, resolve: Resolve) -> Any:
    if type(data) is not list:
        if type(data) is dict:
            raise TypeError("no value is written as an object")
        return data
    match data:
        case ["list" | "tuple" | "set" | "frozenset" as name, list(items)]:
            plain = [_decode(item, resolve) for item in items]
            return plain if name == "list" else getattr(builtins, name)(plain)
        case ["dict" | "OrderedDict" | "Counter" as name, list(pairs)]:
            return _decode_mapping(name, {_decode(key, resolve): _decode(item, resolve) for key, item in pairs})
        case ["int", str(digits)] if len(digits) <= _DIGITS:
            return int(digits, 16)
        case ["bytes", str(digits)]:
            return bytes.fromhex(digits)
        case ["complex", float(real), float(imaginary)]:
            return complex(real, imaginary)
        case ["range", *parts]:
            return range(*(_decode(part, resolve) for part in parts))
        case ["deque", list(items)]:
            from collections import deque

            return deque(_decode(item, resolve) for item in items)
    return resolve(data)


def _decode_mapping(name: str, plain: dict[Any, Any]) -> Any:
    if name == "dict":
        return plain
    import collections

    # Not Counter(plain): a count may be any value, and only the copy of a dict leaves it alone.
    mapping: dict[Any, Any] = collections.Counter() if name == "Counter" else collections.OrderedDict()
    for key, item in plain.items():
        mapping[key] = item
    return mapping


# ---- messages ----


class Channel:
    """Messages over two pipes; what is read is JSON and nothing more is believed of it."""

    def __init__(self, reading: int, writing: int) -> None:
        self._reading, self._writing = reading, writing
        self.taken = 0  # bytes read so far
        self.gone = ""  # why nothing more can be had from the other side; "" while it is there

    def send(self, message: Any) -> None:
        """Sends one message.

        Raises:
            OverflowError: it is longer than FRAME.
            Gone: nobody reads.
        """
        text = json.dumps(message, separators=(",", ":")).encode()
        if len(text) > FRAME:
            raise OverflowError(f"a value of {len(text)} bytes is more than the {FRAME} that may be sent")
        if self.gone:
            raise Gone(self.gone)
        view = memoryview(b"%08x" % len(text) + text)
        try:
            while view:
                view = view[os.write(self._writing, view) :]
        except OSError:
            self.lose("ended")

    def receive(self) -> Any:
        """The next message.

        Raises:
            Gone: there is none, or it is no message.
        """
        try:
            size = int(self._read(_HEAD), 16)
            if not 0 <= size <= FRAME:
                raise ValueError(f"a message of {size} bytes")
            return json.loads(self._read(size))
        except (ValueError, RecursionError, MemoryError):
            self.lose("sent something that is no answer")

    def lose(self, why: str) -> NoReturn:
        """Remembers that the other side is gone, for good, and raises Gone."""
        self.gone = self.gone or why
        raise Gone(self.gone)

    def _read(self, size: int) -> bytes:
        if self.gone:
            raise Gone(self.gone)
        parts = bytearray()
        while len(parts) < size:
            part = os.read(self._reading, min(size - len(parts), 2**16))
            if not part:
                self.lose("ended")
            parts += part
        self.taken += size
        return bytes(parts)


# ---- confinement ----


def confine(job: dict[str, Any], keep_output: bool) -> int:
    """Gives up rights, puts hard limits on this process, says "ready" on its output and turns errors off.

    Args:
        job: with `user`, the number of the user to become, or None; `refusals`, a seccomp filter to install where no
            bubblewrap has done so, or None; and `limits`, names of `resource` without RLIMIT_ and their values.
        keep_output: whether prints go to the output from now on, or nowhere.

    Returns:
        A descriptor of the output. It stays open for as long as the process runs: by that the parent knows.
    """
    if job["user"] is not None:
        os.setgroups([])
        os.setresgid(job["user"], job["user"], job["user"])
        os.setresuid(job["user"], job["user"], job["user"])
    if job["refusals"] is not None:
        _refuse(job["refusals"])
    for name, value in job["limits"].items():
        kind = getattr(resource, f"RLIMIT_{name}")
        _, ceiling = resource.getrlimit(kind)
        hard = value if ceiling == resource.RLIM_INFINITY else min(value, ceiling)
        resource.setrlimit(kind, (hard, hard))
    output = 1 if keep_output else os.dup(1)
    os.write(output, b"ready\n")
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 2)
    if not keep_output:
        os.dup2(nowhere, 1)
    os.close(nowhere)
    return output


def _refuse(refusals: bytes) -> None:
    import ctypes

    class Program(ctypes.Structure):  # struct sock_fprog
        _fields_ = (("length", ctypes.c_ushort), ("steps", ctypes.c_char_p))

    program = Program(len(refusals) // 8, refusals)
    call = ctypes.CDLL(None, use_errno=True).prctl
    died, no_new_privileges, seccomp, as_filter = 1, 38, 22, 2  # PR_SET_PDEATHSIG, ..., of linux/prctl.h
    if call(died, 9, 0, 0, 0) or call(no_new_privileges, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "the kernel does not let a process give up its rights")
    if call(seccomp, as_filter, ctypes.byref(program), 0, 0):
        raise OSError(ctypes.get_errno(), "the kernel installs no seccomp filter")
