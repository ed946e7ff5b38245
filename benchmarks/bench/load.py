"""Loads: what is asked of a proxy, and what one measurement of it yields.

Every answer counts: one with another status than expected, or a connection that broke, fails the
measurement. wrk tells 4xx and 5xx apart from the rest; which status it is exactly, and how long
the body, is looked at before.
"""

import http.client
import json
import ssl
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

from bench.gateways import Proxy
from bench.machine import LOAD_CORE, PATIENCE_SECONDS, TICKS_A_SECOND, Failed, cpu_seconds

CONNECTIONS = 32
LONG = 10_000_000  # bytes: of answers as long as that, what came in part counts in part
WARM_UP_SECONDS = 120.0  # at most
DONE = """
done = function(summary, latency)
  local errors = summary.errors
  print(string.format(
    '{"requests": %d, "microseconds": %d, "bytes": %d, "refused": %d, "broken": %d, '
      .. '"p50": %.1f, "p99": %.1f}',
    summary.requests, summary.duration, summary.bytes, errors.status,
    errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50), latency:percentile(99)))
end
"""
TURNS = """
local requests, at = {}, 0
init = function()
  local files = {}
  for name, path in pairs(turns) do files[name] = io.lines(path) end
  while true do
    local headers, ended = {}, false
    for name, value in pairs(wrk.headers) do headers[name] = value end
    for name, lines in pairs(files) do
      headers[name] = lines()
      if not headers[name] then ended = true end
    end
    if ended then break end
    requests[#requests + 1] = wrk.format(nil, nil, headers)
  end
  math.randomseed(os.time())
  at = math.random(#requests)
end
request = function()
  at = at % #requests + 1
  return requests[at]
end
"""


@dataclass(frozen=True, slots=True)
class Sample:
    """What one measurement of one side found. CPU is that of all processes of the proxy."""

    rate: float  # requests, or messages, a second
    megabytes: float  # a second
    p50_ms: float
    p99_ms: float
    cpu_us: float
    per_cpu_second: float  # requests; what a core of its own could do at most
    busy: float  # the share of its core that the proxy used; well below 1, others were the limit

    @classmethod
    def of(cls, requests: float, seconds: float, cpu_seconds: float, **more: float) -> Self:
        """`cpu_seconds` are read from a clock that ticks: never none at all."""
        cpu = max(cpu_seconds, 1 / TICKS_A_SECOND)
        return cls(
            rate=requests / seconds,
            cpu_us=cpu / requests * 1e6 if requests else 0.0,
            per_cpu_second=requests / cpu,
            busy=cpu / seconds,
            **more,
        )


class Load(Protocol):
    def check(self, proxy: Proxy) -> None:
        """Ask once. Raises Failed when the answer is not the one that is to be measured."""

    def warm_up(self, proxy: Proxy, folder: Path) -> None: ...

    def sample(self, proxy: Proxy, folder: Path, seconds: float) -> Sample:
        """Measure for so long. Raises Failed when anything went wrong."""


@dataclass(frozen=True, slots=True)
class HttpLoad:
    """wrk. `turns` are headers whose values come from a file in turn, one on each line."""

    path: str = "/public/klines"
    status: int = 200
    size: int | None = 1500  # of the answer's body; None: any
    method: str = "GET"
    fields: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    turns: tuple[tuple[str, Path], ...] = ()
    warm_requests: int = 0
    connections: int = CONNECTIONS
    least_seconds: float = 0.0
    tls: bool = False

    def check(self, proxy: Proxy) -> None:
        first = [(name, file.open().readline().strip()) for name, file in self.turns]
        connection: http.client.HTTPConnection
        if self.tls:
            unverified = ssl._create_unverified_context()  # noqa: SLF001  # our own certificate
            connection = http.client.HTTPSConnection(
                "localhost", proxy.tls_port, timeout=PATIENCE_SECONDS, context=unverified
            )
        else:
            connection = http.client.HTTPConnection(
                "127.0.0.1", proxy.port, timeout=PATIENCE_SECONDS
            )
        try:
            fields = dict([*self.fields, *first])
            connection.request(self.method, self.path, self.body or None, fields)
            answer = connection.getresponse()
            size = len(answer.read())
        finally:
            connection.close()
        if answer.status != self.status or self.size not in {None, size}:
            raise Failed(f"{self.path}: {answer.status} with {size} bytes")

    def warm_up(self, proxy: Proxy, folder: Path) -> None:
        """What is to be refused may have to be admitted first, until a limit is reached."""
        asked = self._wrk(proxy, folder, 1)["requests"]
        if asked < self.warm_requests:
            # In one go: each starts anew somewhere in the files of `turns`.
            seconds = min(1.2 * self.warm_requests / max(asked, 1), WARM_UP_SECONDS)
            asked = self._wrk(proxy, folder, seconds)["requests"]
        if asked < self.warm_requests:
            raise Failed(f"{self.path}: only {asked} requests to warm up in {seconds:.0f} s")

    def sample(self, proxy: Proxy, folder: Path, seconds: float) -> Sample:
        pids = proxy.family()
        before = cpu_seconds(pids)
        found = self.run(proxy, folder, max(seconds, self.least_seconds))
        cpu = cpu_seconds(pids) - before
        took = found["microseconds"] / 1e6
        in_part = found["bytes"] / self.size if self.size and self.size >= LONG else None
        return Sample.of(
            in_part or found["requests"],
            took,
            cpu,
            megabytes=found["bytes"] / took / 1e6,
            p50_ms=found["p50"] / 1e3,
            p99_ms=found["p99"] / 1e3,
        )

    def run(self, proxy: Proxy, folder: Path, seconds: float) -> dict[str, int]:
        """wrk's own summary. Raises Failed when not all answers were as expected."""
        return self.judged(self._wrk(proxy, folder, seconds))

    def judged(self, found: dict[str, int]) -> dict[str, int]:
        expected = found["requests"] if self.status >= 400 else 0
        if not found["bytes"]:
            raise Failed(f"{self.path}: no request was answered")
        if found["broken"] or found["refused"] != expected:
            refused, broken = found["refused"], found["broken"]
            raise Failed(
                f"{self.path}: of {found['requests']} answers {refused} were 4xx or 5xx "
                f"instead of {expected}; {broken} connections broke or timed out"
            )
        return found

    def _wrk(self, proxy: Proxy, folder: Path, seconds: float) -> dict[str, int]:
        # By its name where it is TLS: an address is none that a certificate is chosen by.
        origin = (
            f"https://localhost:{proxy.tls_port}" if self.tls else f"http://127.0.0.1:{proxy.port}"
        )
        script = folder / "load.lua"
        script.write_text(self.script())
        command = ["taskset", "-c", str(LOAD_CORE), "wrk", "-t1", f"-c{self.connections}"]
        command += [f"-d{max(1, round(seconds))}s", "--timeout", "30s", "-s", str(script)]
        command.append(origin + self.path)
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Failed(f"wrk: {done.stderr or done.stdout}")
        return summary(done.stdout)

    def script(self) -> str:
        """What wrk is to do, in Lua."""
        lines = [f"wrk.method = {quoted(self.method)}"]
        if self.body:
            lines.append(f"wrk.body = {quoted(self.body.decode())}")
        lines += [f"wrk.headers[{quoted(name)}] = {quoted(value)}" for name, value in self.fields]
        if self.turns:
            files = ", ".join(
                f"[{quoted(name)}] = {quoted(str(path))}" for name, path in self.turns
            )
            lines += [f"local turns = {{{files}}}", TURNS]
        return "\n".join([*lines, DONE])


def summary(output: str) -> dict[str, int]:
    """What `DONE` has printed at the end of wrk's own words."""
    found: dict[str, int] = json.loads(output.splitlines()[-1])
    return found


def quoted(text: str) -> str:
    """A Lua string, of printable ASCII."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def values_file(folder: Path, name: str, values: Sequence[str]) -> Path:
    """For `turns`."""
    file = folder / f"{name}.txt"
    file.write_text("".join(f"{value}\n" for value in values))
    return file


def addresses_file(folder: Path, count: int) -> Path:
    """So many clients' addresses, for `X-Forwarded-For`."""
    addresses = [f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}" for n in range(count)]
    return values_file(folder, f"addresses-{count}", addresses)
