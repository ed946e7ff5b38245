"""Networks, sets of them, and who is admitted by two of these: in a microsecond, however many.

A set is kept as the sorted bounds of its ranges; an address is in it when an odd number of bounds
lies at or below it. IPv4-mapped networks and addresses are IPv4.

A file of networks has one on each line; what follows `#` is a comment.
"""

import ipaddress
import re
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from socket import AF_INET, AF_INET6, inet_pton

from gateway.yamlfile import Place

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

BITS = {4: 32, 6: 128}
MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")
MAX_PROBLEMS = 20  # of one file
MAX_LISTED = 100  # networks in a line of text


def network(text: str) -> Network:
    """Raises ValueError with the rest of a sentence that begins with the field's name."""
    try:
        meant = ipaddress.ip_network(text, strict=False)
        is_whole = meant.network_address == ipaddress.ip_interface(text).ip
    except ValueError:
        raise ValueError("must be an address or a network, as in 10.0.0.0/8") from None
    if not is_whole:
        raise ValueError(f"names one address inside a network; did you mean '{meant}'?")
    return unmapped(meant)


def listed(text: str) -> list[Network]:
    """The networks of a list with commas or blanks between them; at least one.

    Raises ValueError with the rest of a sentence that begins with the field's name.
    """
    words = re.split(r"\s*,\s*|\s+", text.strip(), maxsplit=MAX_LISTED)
    if len(words) > MAX_LISTED:
        raise ValueError(f"must name at most {MAX_LISTED} networks")
    try:
        return list(map(network, words))
    except ValueError as error:
        raise ValueError(f"holds an entry that {error}") from None


def unmapped(given: Network) -> Network:
    """A network of IPv4-mapped addresses as the IPv4 network that it means."""
    if isinstance(given, ipaddress.IPv6Network) and given.subnet_of(MAPPED):
        v4 = int(given.network_address) & 0xFFFF_FFFF
        return ipaddress.IPv4Network((v4, given.prefixlen - 96))
    return given


@dataclass(frozen=True, slots=True)
class NetworkSet:
    """`address in networks`; the address is in its canonical text, without zone."""

    v4: "array[int]"  # not to be subscripted before Python 3.12
    v6: tuple[int, ...]

    @classmethod
    def of(cls, networks: Iterable[Network]) -> "NetworkSet":
        ranges: dict[int, list[tuple[int, int]]] = {4: [], 6: []}
        for one in networks:
            first = int(one.network_address)
            after = first + (1 << (BITS[one.version] - one.prefixlen))
            ranges[one.version].append((first, after))
        return cls(array("Q", _bounds(ranges[4])), tuple(_bounds(ranges[6])))

    def __contains__(self, address: str) -> bool:
        try:
            if ":" in address:
                found = bisect_right(self.v6, int.from_bytes(inet_pton(AF_INET6, address)))
            else:
                found = bisect_right(self.v4, int.from_bytes(inet_pton(AF_INET, address)))
        except OSError:  # a peer on a Unix socket has no address
            return False
        return found % 2 == 1


class BadNetworks(Exception):
    """Lines of a file that are no networks, each with its place."""

    def __init__(self, problems: list[tuple[Place, str]]) -> None:
        super().__init__()
        self.problems = problems


@dataclass(frozen=True, slots=True)
class AccessList:
    """Whom two sets of networks let in: nobody of `deny`; of all others those of `allow`, if it
    is given.
    """

    deny: NetworkSet
    allow: NetworkSet | None

    def admits(self, address: str) -> bool:
        return address not in self.deny and (self.allow is None or address in self.allow)


def read_networks(path: Path) -> list[Network]:
    """The networks in a file. Raises OSError, with its name, and BadNetworks."""
    networks: list[Network] = []
    problems: list[tuple[Place, str]] = []
    text = path.read_text(encoding="utf-8-sig", errors="replace")
    for number, line in enumerate(text.splitlines(), 1):
        given = line.partition("#")[0].strip()
        if not given:
            continue
        try:
            networks.append(_plain(given) or network(given))
        except ValueError as error:
            place = Place(str(path), number, line.index(given) + 1)
            problems.append((place, f"this line {error}"))
            if len(problems) == MAX_PROBLEMS:
                problems.append((Place(str(path), number + 1, 1), "and what follows is not read"))
                break
    if problems:
        raise BadNetworks(problems)
    return networks


def _plain(text: str) -> ipaddress.IPv4Network | None:
    """What most lines hold, in a third of the time; None: `network` decides."""
    address, slash, length = text.partition("/")
    try:
        first = int.from_bytes(inet_pton(AF_INET, address))
    except OSError:
        return None
    if not slash:
        length = "32"
    if not (length.isdecimal() and length.isascii() and len(length) <= 2 and int(length) <= 32):
        return None
    bits = 32 - int(length)
    return None if first & ((1 << bits) - 1) else ipaddress.IPv4Network((first, int(length)))


def _bounds(ranges: list[tuple[int, int]]) -> Iterator[int]:
    """First address and the one after the last, of each range that nothing joins to another."""
    ranges.sort()
    begin = end = -1
    for first, after in ranges:
        if first > end:
            if end >= 0:
                yield begin
                yield end
            begin = first
        end = max(end, after)
    if end >= 0:
        yield begin
        yield end
