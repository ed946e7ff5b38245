"""Canaries: made-up secrets that are planted everywhere, and the search for them afterwards.

A canary is found in whatever form it leaked: as it is in any case of letters, cut (any
`FRAGMENT` characters of it), in hex, in base64 of either alphabet at any alignment.
"""

import base64
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field

import redis

FRAGMENT = 12
SHOWN = 150  # bytes around what was found


def encoded_forms(text: str) -> Iterator[bytes]:
    """The text as it stands within something encoded, without the ends that its neighbours share.

    Base64 makes 4 characters of 3 bytes, so what stands before decides which of 3 forms it has.
    """
    raw = text.encode()
    yield raw.hex().encode()
    yield raw.hex().upper().encode()
    for before, shared in enumerate((0, 2, 3)):
        inner = base64.b64encode(bytes(before) + raw)[shared:-4]
        yield inner
        yield inner.translate(bytes.maketrans(b"+/", b"-_"))


def position(text: str, content: bytes) -> int:
    """Where `content` holds `text` in any form, or a piece of it; -1: nowhere."""
    raw, lowered = text.lower().encode(), content.lower()
    for start in range(len(raw) - FRAGMENT + 1):
        if (at := lowered.find(raw[start : start + FRAGMENT])) >= 0:
            return at
    return next((at for form in encoded_forms(text) if (at := content.find(form)) >= 0), -1)


@dataclass
class Canaries:
    """The planted texts by name; `spared` says in which places a name may be found."""

    texts: dict[str, str] = field(default_factory=dict)
    spared: dict[str, frozenset[str]] = field(default_factory=dict)

    def plant(self, name: str, *, spare: tuple[str, ...] = (), size: int = 12) -> str:
        """A new one: twice `size` characters of chance, which say nothing of what they are."""
        return self.watch(name, secrets.token_hex(size), spare=spare)

    def watch(self, name: str, text: str, *, spare: tuple[str, ...] = ()) -> str:
        """A secret of a form of its own, as keys and tokens have it."""
        assert len(text) >= FRAGMENT
        assert name not in self.texts, name
        self.texts[name] = text
        self.spared[name] = frozenset(spare)
        return text

    def found_in(self, place: str, content: bytes) -> dict[str, bytes]:
        """The names of the canaries that `content` holds, and what stands around each."""
        return {
            name: content[max(0, at - SHOWN) : at + SHOWN]
            for name, text in self.texts.items()
            if place not in self.spared[name] and (at := position(text, content)) >= 0
        }


def dump(url: str) -> bytes:
    """All that a Redis holds, names and values, and the commands that it was sent lately."""
    said: list[object] = []
    with redis.Redis.from_url(url) as client:
        readers = {
            b"string": client.get,
            b"hash": client.hgetall,
            b"set": client.smembers,
            b"list": lambda name: client.lrange(name, 0, -1),
            b"zset": lambda name: client.zrange(name, 0, -1, withscores=True),
            b"stream": client.xrange,
            b"none": lambda _name: None,  # it has expired since
        }
        names = client.scan_iter(count=1000)
        said += [(name, readers[client.type(name)](name)) for name in names]
        said += [entry["command"] for entry in client.slowlog_get(1_000_000)]
    return "\n".join(map(repr, said)).encode()
