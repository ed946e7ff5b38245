"""The conformance rows through the gateway, nginx, HAProxy and Caddy; writes RESULTS.md.

    make conformance

An outcome is what became of a row's requests: how many the backend saw whole (`carried`), and the
statuses of answers that were not the backend's. Two proxies differ where one carries what another
does not. Exits 1 when the gateway differs from any peer in a row that `differences.py` does not
explain, or when the gateway does not do what the row says.
"""

import asyncio
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from backend import RawBackend
from case import OK, Case
from defects import DEFECTS
from differences import why
from peers import proxy, versions
from stage import cast
from table import CASES, GROUPS
from wire import Malformed, converse

PROXIES = ("gateway", "nginx", "haproxy", "caddy")
RESULTS = Path(__file__).parent / "RESULTS.md"
PATIENCE = (1.5, 0.4)  # seconds: without an answer, and behind one
SETTLING = 0.1  # seconds in which what a proxy still sends to the backend comes
LANES = 6  # cases of one proxy at once, each with a backend of its own


@dataclass(frozen=True, slots=True)
class Result:
    carried: int  # requests that the backend saw whole
    statuses: tuple[int, ...]  # of final answers
    closed: bool
    malformed: bool = False

    def told(self, case: Case) -> str:
        own = list(self.statuses)
        parts = []
        if self.carried:
            parts.append("carried" if self.carried == 1 else f"carried {self.carried}")
            if case.saw and len(case.saw) == self.carried == len(own):
                as_expected = own == expected_finals(case) and 502 not in own
                own = [] if as_expected else own
            elif own[: self.carried] == [200] * min(self.carried, len(own)):
                own = own[self.carried :]
        parts += map(str, own)
        if self.malformed:
            parts.append("malformed answer")
        if not self.statuses and not self.malformed:
            parts.append("no answer")
        return ", ".join(parts) + (", closed" if self.closed else "")

    def kind(self, case: Case) -> tuple[object, ...]:
        """What counts as a difference: is it carried (each of several requests), or refused?

        And where the backend's answer is what the row is about: does the client get it?
        """
        if len(case.saw) > 1:
            return (self.carried,)
        if case.answer == OK:
            return (self.carried > 0,)
        finals = expected_finals(case)
        return (self.carried > 0, list(self.statuses[: len(finals)]) == finals)


def expected_finals(case: Case) -> list[int]:
    return [status for status in case.statuses if status == 101 or status >= 200]


async def play(port: int, backend: RawBackend, case: Case) -> Result:
    whole = cast(backend, case)
    try:
        outcome = await converse(
            port, case.send, case.asked, after_continue=case.after_continue, patience=PATIENCE
        )
    except Malformed:
        outcome = None
    await asyncio.sleep(SETTLING)
    if outcome is None:
        return Result(len(whole), (), closed=True, malformed=True)
    finals = tuple(status for status in outcome.statuses if status == 101 or status >= 200)
    return Result(len(whole), finals, outcome.closed)


async def results_of(name: str) -> dict[str, Result]:
    results: dict[str, Result] = {}
    left = iter(CASES)

    async def lane() -> None:
        backend = await RawBackend().start()
        with tempfile.TemporaryDirectory() as folder:
            async with proxy(name, backend, Path(folder)) as port:
                for case in left:
                    results[case.name] = await play(port, backend, case)
        await backend.stop()

    await asyncio.gather(*(lane() for _ in range(LANES)))
    print(f"{name}: {len(results)} cases", file=sys.stderr)
    return results


def row(case: Case, by_proxy: dict[str, dict[str, Result]]) -> tuple[str, bool]:
    """The case's line of the table, and whether it is as it should be."""
    results = {name: by_proxy[name][case.name] for name in PROXIES}
    kinds = {name: result.kind(case) for name, result in results.items()}
    differing = [name for name in PROXIES if kinds[name] != kinds["gateway"]]
    reason = why(case.name) if differing else ""
    told = [results[name].told(case).replace("|", "\\|") for name in PROXIES]
    if case.name in DEFECTS:
        reason = "; ".join(
            filter(None, (f"a defect of the gateway: {DEFECTS[case.name][1]}", reason))
        )
    cells = [case.name, case.rfc, *told, reason or ("**unexplained**" if differing else "")]
    return "| " + " | ".join(cells) + " |", bool(reason) or not differing


def gateway_fails(case: Case, result: Result) -> bool:
    """Rows are checked in full by test_conformance.py; this is what a table can show."""
    return case.name not in DEFECTS and result.carried != len(case.saw)


async def main() -> int:
    peers = versions()
    found = await asyncio.gather(*(results_of(name) for name in PROXIES))
    by_proxy = dict(zip(PROXIES, found, strict=True))
    lines = [
        "# The conformance rows through four proxies",
        "",
        f"Made by `make conformance`: {len(CASES)} rows through the gateway, "
        + ", ".join(f"{name} {version}" for name, version in peers.items())
        + ".",
        "",
        "`carried`: the backend saw it, whole; a number: so many requests. A status alone is the",
        "proxy's own answer. `closed`: the proxy ended the connection. RFC and section decide; the",
        "last column says why where the gateway and a peer differ in what they carry.",
        "",
    ]
    wrong = []
    for group, cases in GROUPS.items():
        lines += [
            f"## {group}",
            "",
            "| case | RFC | gateway | nginx | HAProxy | Caddy | why they differ |",
        ]
        lines.append("|---|---|---|---|---|---|---|")
        for case in cases:
            line, fine = row(case, by_proxy)
            lines.append(line)
            if not fine or gateway_fails(case, by_proxy["gateway"][case.name]):
                wrong.append(line)
        lines.append("")
    RESULTS.write_text("\n".join(lines))
    for line in wrong:
        print(line)
    print(f"{len(CASES)} cases, {len(wrong)} to explain or mend", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
