"""The process of an agent: what it may print and how long it may take, and that nothing of it is left."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from rewards.grading.below import below, kill_all

OUTPUT_BYTES, ERROR_BYTES = 1 << 18, 4000  # that are kept of what it prints, from the end
LEFT_SECONDS = 1.0  # in which the rest of its output is read once it has ended
LOOPBACK = "127.0.0.1,localhost"


class AgentFailed(Exception):
    """An agent did not end by itself with status 0; the message says how, with the end of its standard error."""


class _Tail:
    """The end of what comes through a pipe."""

    def __init__(self, pipe: IO[bytes], most: int) -> None:
        self._pipe, self._most, self._kept = pipe, most, b""
        self._reading = asyncio.ensure_future(self._read())

    @property
    def text(self) -> str:
        """What is there of it."""
        return self._kept.decode("utf-8", "replace")

    async def end(self) -> None:
        """Reads what is left, unless whoever holds the other end keeps it open."""
        await asyncio.wait({self._reading}, timeout=LEFT_SECONDS)
        self.close()

    def close(self) -> None:
        """Reads no more."""
        self._reading.cancel()

    async def _read(self) -> None:
        reader = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), self._pipe
        )
        try:
            while chunk := await reader.read(1 << 16):
                self._kept = (self._kept + chunk)[-self._most :]
        finally:
            transport.close()


async def run_agent(command: Sequence[str], variables: Mapping[str, str], folder: Path, seconds: float | None) -> str:
    """What an agent prints, the last 256 KiB of it. However this ends, the agent has ended by then, with its process
    group and all that was below it.

    Args:
        command: program and arguments; `python` is the one that runs winnow.
        variables: what stands in its environment, beside what this process has in its own.
        folder: that it is started in.
        seconds: that it may take; None is any time.

    Raises:
        AgentFailed: it could not be started, ended with another status than 0, or took longer.
    """
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=folder,
            env=_environment(variables),
            start_new_session=True,
        )
    except (OSError, ValueError) as failure:
        raise AgentFailed(f"cannot be started: {failure}") from None
    assert process.stdout is not None
    assert process.stderr is not None
    output, errors = _Tail(process.stdout, OUTPUT_BYTES), _Tail(process.stderr, ERROR_BYTES)
    try:
        in_time = await _ended(process, seconds)
        _kill(process)
        await asyncio.gather(output.end(), errors.end())
    finally:
        _kill(process)
        output.close()
        errors.close()
    if in_time and not process.returncode:
        return output.text
    how = _how(process.returncode) if in_time else f"took longer than {seconds:g} s"
    said = errors.text.strip()
    raise AgentFailed(f"{how}. Its standard error ends with:\n{said}" if said else f"{how}, and said nothing of why")


def _environment(variables: Mapping[str, str]) -> dict[str, str]:
    """The environment of an agent: no proxy stands between it and its address."""
    around = dict(os.environ)
    for name in ("NO_PROXY", "no_proxy"):
        around[name] = ",".join(filter(None, (around.get(name), LOOPBACK)))
    around["PATH"] = os.pathsep.join(filter(None, (str(Path(sys.executable).parent), around.get("PATH"))))
    return around | dict(variables)


async def _ended(process: subprocess.Popen[bytes], seconds: float | None) -> bool:
    """Whether it ends in that time."""
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    handle = os.pidfd_open(process.pid)
    loop.add_reader(handle, ended.set)
    try:
        await asyncio.wait_for(ended.wait(), seconds)
    except TimeoutError:
        return False
    finally:
        loop.remove_reader(handle)
        os.close(handle)
    return True


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Ends it with all that it has started. Its group is ended before it is waited for: then its number is nobody
    else's yet."""
    if process.returncode is not None:
        return
    kill_all(list(below(process.pid)))
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _how(status: int) -> str:
    return f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
