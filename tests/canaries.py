"""Canaries: made-up secrets that are planted everywhere, and the search for them afterwards.

A canary is found in whatever form it leaked: as it is in any case of letters, cut (any
`FRAGMENT` characters of it), in hex, in base64 at any alignment, of either alphabet.
"""

import base64
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field

import redis

FRAGMENT = 12


def encoded_forms(text: str) -> Iterator[bytes]:
    """The text as it stands within something encoded, without the ends that its neighbours share.

    Base64 makes 4 characters of 3 bytes, so what stands before decides which of 3 forms it has.
    """
    raw = text.encode()
    yield raw.hex().encode()
    yield raw.hex().upper().encode()
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + raw)
        inner = encoded[(0, 2, 3)[before] : -4]
        yield inner
        yield inner.translate(bytes.maketrans(b"+/", b"-_"))


@dataclass
class Canaries:
    """The planted texts by name; `spared` says in which places a name may be found."""

    texts: dict[str, str] = field(default_factory=dict)
    spared: dict[str, frozenset[str]] = field(default_factory=dict)

    def plant(self, name: str, *, spare: tuple[str, ...] = ()) -> str:
        """A new one: 24 characters of chance that say nothing of what they are."""
        return self.watch(name, secrets.token_hex(12), spare=spare)

    def watch(self, name: str, text: str, *, spare: tuple[str, ...] = ()) -> str:
        """A secret of a form of its own, as keys and tokens have it."""
        assert len(text) >= FRAGMENT
        assert name not in self.texts, name
        self.texts[name] = text
        self.spared[name] = frozenset(spare)
        return text

    def found_in(self, place: str, content: bytes) -> list[str]:
        """The names of the canaries that `content` holds, and where."""
        lowered = content.lower()
        found = []
        for name, text in self.texts.items():
            if place in self.spared[name]:
                continue
            raw = text.lower().encode()
            pieces = (raw[at : at + FRAGMENT] for at in range(len(raw) - FRAGMENT + 1))
            at = next((at for piece in pieces if (at := lowered.find(piece)) >= 0), -1)
            if at < 0:
                at = next(
                    (at for form in encoded_forms(text) if (at := content.find(form)) >= 0), -1
                )
            if at >= 0:
                found.append(f"{name}: …{content[max(0, at - 200) : at + 100]!r}…")
        return found


def dump(url: str) -> bytes:
    """All that a Redis holds, names and values, and every command it was sent since its start."""
    said: list[object] = []
    with redis.Redis.from_url(url) as client:
        for name in client.scan_iter(count=1000):
            kind = client.type(name)
            value: object
            if kind == b"string":
                value = client.get(name)
            elif kind == b"hash":
                value = client.hgetall(name)
            elif kind == b"set":
                value = client.smembers(name)
            elif kind == b"zset":
                value = client.zrange(name, 0, -1, withscores=True)
            elif kind == b"list":
                value = client.lrange(name, 0, -1)
            elif kind == b"stream":
                value = client.xrange(name)
            else:
                raise AssertionError(f"{name!r} is a {kind!r}: dump that too")
            said.append((name, value))
        said += [entry["command"] for entry in client.slowlog_get(1_000_000)]
    return "\n".join(map(repr, said)).encode()
