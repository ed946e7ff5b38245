"""Runs the demo's lines as printed, each through `sh -c`, and says what differed.

A variable that a line sets is in the environment of the lines after it, as in the shell that a
person pastes into. The WebSocket's messages, which curl can't send, go through aiohttp's client.
"""

import asyncio
import contextlib
import os
import re
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from gateway.demo.lines import Facts, Line, groups, setup
from gateway.demo.ports import DemoError

LINE_SECONDS = 20.0
WEBSOCKET_SECONDS = 5.0
STATUS_LINE = re.compile(r"HTTP/[0-9.]+ ([0-9]{3})")
INTERIM = re.compile(r"HTTP/[0-9.]+ 100[^\n]*\n\r?\n")


@dataclass(frozen=True, slots=True)
class Outcome:
    """One row of the table. `problem` is what differed, or None."""

    group: str
    command: str
    expected: str
    got: str
    problem: str | None = None


async def outcomes(facts: Facts) -> AsyncIterator[Outcome]:
    """Run everything, one after the other; raises DemoError without curl or sh."""
    for program in ("curl", "sh"):
        if shutil.which(program) is None:
            raise DemoError(f"--check runs the lines with {program}, and there is none: install it")
    environment = _environment(os.environ)
    prepare = setup(facts, proxied=proxied(os.environ))
    for group in groups(facts):
        for line in group.lines:
            yield await run_line(group.title, line, prepare, environment)
    yield await _websocket(facts)


def proxied(environment: Mapping[str, str]) -> bool:
    """Would curl ask a proxy for what is on this machine?"""
    return any(environment.get(name) for name in ("http_proxy", "all_proxy", "ALL_PROXY"))


def _environment(outer: Mapping[str, str]) -> dict[str, str]:
    # The python3 that runs the gateway is found even where no other is installed.
    own = str(Path(sys.executable).parent)
    return {**outer, "PATH": outer.get("PATH", os.defpath) + os.pathsep + own}


async def run_line(group: str, line: Line, prepare: str, environment: dict[str, str]) -> Outcome:
    script = f"{prepare}\n{line}\n"
    if line.sets is not None:
        script += f"printf '\\n%s' \"${line.sets}\""
    try:
        exit_code, output = await _run(script, environment)
    except TimeoutError:
        late = f"took more than {LINE_SECONDS:.0f} s"
        return Outcome(group, line.command, line.expectation, "-", late)
    if line.sets is not None:
        value = output.rpartition("\n")[2]
        environment[line.sets] = value
        problem = None if value else "nothing came"
        got = "set" if value else "empty"
        return Outcome(group, line.command, f"sets {line.sets}", got, problem)
    if line.prints is not None:
        got = " ".join(output.split())
        problem = None if got == line.prints else f"expected {line.prints!r}"
        return Outcome(group, line.command, line.expectation, got, problem)
    status = status_of(output)
    return Outcome(
        group,
        line.command,
        line.expectation,
        str(status) if status else "no answer",
        _difference(line, status, exit_code, output),
    )


def status_of(output: str) -> int | None:
    """The status of what `curl -i` printed; an interim 100 is none."""
    found = STATUS_LINE.match(INTERIM.sub("", output))
    return int(found[1]) if found else None


def _difference(line: Line, status: int | None, exit_code: int, output: str) -> str | None:
    if status != line.status:
        return f"expected {line.status}: {_short(output)}"
    if exit_code != line.exit_code:
        return f"curl ended with {exit_code}"
    missing = [text for text in line.shows if text not in output]
    if missing:
        return f"{missing[0]!r} is not in: {_short(output)}"
    return None


def _short(output: str) -> str:
    body = output.rpartition("\r\n\r\n")[2].strip() or output.strip()
    return body[:300]


async def _run(script: str, environment: dict[str, str]) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *("sh", "-c", script),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env=environment,
        start_new_session=True,
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), LINE_SECONDS)
    finally:
        # Whatever a line started ends with it; a cancelled check too.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
    return process.returncode or 0, output.decode(errors="replace")


async def _websocket(facts: Facts) -> Outcome:
    """Subscribe by message, as a client does; the confirmation, depth and a ticker must come."""
    subscribe = {"method": "SUBSCRIBE", "params": ["btcusdt@ticker", "btcusdt@depth"], "id": 1}
    seen: list[str] = []
    problem = None
    try:
        async with (
            asyncio.timeout(WEBSOCKET_SECONDS),
            aiohttp.ClientSession() as session,
            session.ws_connect(facts.gateway_url + "/ws") as socket,
        ):
            await socket.send_json(subscribe)
            confirmed = await socket.receive_json()
            if confirmed != {"result": None, "id": 1}:
                problem = f"not confirmed: {confirmed}"
            while "24hrTicker" not in seen:
                seen.append((await socket.receive_json())["e"])
            if "depthUpdate" not in seen:
                problem = "no depth came"
    except (TimeoutError, aiohttp.ClientError, TypeError, ValueError, KeyError) as error:
        problem = f"{type(error).__name__} after {len(seen)} messages"
    return Outcome(
        "WebSocket, by aiohttp's client",
        'SUBSCRIBE "btcusdt@ticker", "btcusdt@depth" at /ws',
        "confirmed, then served",
        f"{len(seen)} messages",
        problem,
    )
