"""An immutable table that finds the route of a request: `RouteTable.match(method, host, path)`.

Rules, in this order:
1. The host: a route that names the request's host goes before one that names none.
2. The path: the most specific pattern wins, segment by segment from the left: a literal before
   `{name}` (one segment, never empty) before `{name...}` (the rest, never empty).
3. The method, among the routes of that very pattern: none takes it, 405.

Matching is on the path percent-decoded once; `%2F` stays inside its segment. A path that a backend
could read otherwise than we do (`_AMBIGUOUS` below) is a 400, unless the route that it matches is
`loose_path`: that route's backend gets it as it came, and reads it as it will.

The table is compiled once. Literal paths are one dict lookup; others walk a tree of segments, at
most once over each node, so the cost depends on the path and not on the number of routes.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Generic, TypeVar
from urllib.parse import unquote_to_bytes

from gateway.errors import BadRequest, MethodNotAllowed, NotFound

T = TypeVar("T")

# Paths that mean the same to everyone, and are the same decoded: no empty segment but the last,
# none that begins with a dot (dot segments among them: RFC 3986 §5.2.4), no `%`, no `;`.
_PLAIN = re.compile(r"(?:/(?:[A-Za-z0-9_~!$&'()*+,=:@-][A-Za-z0-9._~!$&'()*+,=:@-]*+)?+)++")
_AMBIGUOUS = re.compile(
    r"//"
    r"|[;\\#]"  # a parameter, a slash to some, a fragment
    r"|%(?:2[fF]|5[cC]|00)"  # slash, backslash, NUL
    r"|%(?![0-9A-Fa-f]{2})"
    r"|/(?:\.|%2[eE]){1,2}(?:/|$)"
)
_REFUSED = re.compile(r"[^!-~]")  # beyond ASCII, control characters, space: RFC 9112 §3.2
_PARAMETER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)(\.\.\.)?\}")


@dataclass(frozen=True, slots=True)
class Match:
    """Which requests a route claims. `methods` None: all. GET includes HEAD."""

    path: str
    methods: frozenset[str] | None
    host: str | None = None
    loose_path: bool = False

    @property
    def served(self) -> frozenset[str] | None:
        """`methods` with what they include."""
        if self.methods is None or "GET" not in self.methods:
            return self.methods
        return self.methods | {"HEAD"}


def segments(path: str) -> tuple[str, ...]:
    """A route's path in its segments; `{}` stands for a parameter, `{...}` for the rest.

    Raises ValueError, with the rest of a sentence that begins with the path's name.
    """
    if not path.startswith("/"):
        raise ValueError("must begin with '/'")
    found: list[str] = []
    names: list[str] = []
    parts = path[1:].split("/")
    for index, part in enumerate(parts):
        last = index == len(parts) - 1
        parameter = _PARAMETER.fullmatch(part)
        if parameter is not None:
            if parameter[1] in names:
                raise ValueError(f"has '{{{parameter[1]}}}' twice; rename one")
            names.append(parameter[1])
            if parameter[2] and not last:
                raise ValueError(f"must end after '{part}', which takes all that follows")
            found.append("{...}" if parameter[2] else "{}")
            continue
        if "{" in part or "}" in part:
            raise ValueError(
                f"has '{part}'; write {{name}} for one whole segment, {{name...}} for the rest"
            )
        if not part and not last:
            raise ValueError("has an empty segment ('//'), which no request may have")
        if part in (".", ".."):
            raise ValueError(f"has the segment '{part}', which no request may have")
        if not part.isprintable() or set(part) & set("%;\\?# "):
            raise ValueError("must be written decoded, without any of % ; \\ ? # or spaces")
        found.append(part)
    return tuple(found)


def overlap(one: Match, other: Match) -> bool:
    """Would some request belong to both, with nothing to say which goes first?"""
    if host_name(one.host or "") != host_name(other.host or ""):
        return False
    if segments(one.path) != segments(other.path):
        return False
    mine, theirs = one.served, other.served
    return mine is None or theirs is None or bool(mine & theirs)


class _Leaf(Generic[T]):
    """The routes of one pattern; at most one for each method."""

    __slots__ = ("allow", "by_method", "entries", "every_method", "loose")

    def __init__(self) -> None:
        self.entries: tuple[tuple[Match, T], ...] = ()
        self.by_method: dict[str, T] = {}
        self.every_method: T | None = None  # the route that takes all
        self.allow = ""
        self.loose = False

    def add(self, match: Match, route: T) -> None:
        for known, _ in self.entries:
            if overlap(known, match):
                raise ValueError(f"'{known.path}' and '{match.path}' claim the same requests")
        self.entries += ((match, route),)
        self.loose = self.loose or match.loose_path
        if match.served is None:
            self.every_method = route
            return
        self.by_method.update(dict.fromkeys(match.served, route))
        self.allow = ", ".join(sorted(self.by_method))


class _Node(Generic[T]):
    """A place in the tree: what may come as the next segment."""

    __slots__ = ("leaf", "literals", "parameter", "rest")

    def __init__(self) -> None:
        self.literals: dict[str, _Node[T]] = {}
        self.parameter: _Node[T] | None = None
        self.rest: _Leaf[T] | None = None
        self.leaf: _Leaf[T] | None = None


@dataclass(slots=True)
class _HostTable(Generic[T]):
    """The routes of one host, or of none."""

    literal: dict[str, _Leaf[T]] = field(default_factory=dict)  # by the path as it comes
    root: _Node[T] = field(default_factory=_Node)

    def add(self, match: Match, route: T) -> None:
        node = self.root
        parts = segments(match.path)
        for part in parts[:-1] if parts[-1] == "{...}" else parts:
            if part == "{}":
                node.parameter = node.parameter or _Node()
                node = node.parameter
            else:
                node = node.literals.setdefault(part, _Node())
        if parts[-1] == "{...}":
            leaf = node.rest = node.rest or _Leaf()
        else:
            leaf = node.leaf = node.leaf or _Leaf()
            if "{" not in match.path and _PLAIN.fullmatch(match.path):
                self.literal[match.path] = leaf
        leaf.add(match, route)


class RouteTable(Generic[T]):
    """Finds routes. Built from what each one claims and the route itself (anything but None).

    Raises ValueError when a path can't be read or two entries claim the same requests; complaints
    with places are `routefile.py`'s work.
    """

    __slots__ = ("_anywhere", "_hosts", "_tables")

    def __init__(self, entries: Iterable[tuple[Match, T]] = ()) -> None:
        self._anywhere: _HostTable[T] = _HostTable()
        self._hosts: dict[str, _HostTable[T]] = {}
        for match, route in entries:
            self.add(match, route)

    def add(self, match: Match, route: T) -> None:
        """One more entry, before the table is used. Raises ValueError."""
        table = self._anywhere
        if match.host is not None:
            table = self._hosts.setdefault(host_name(match.host), _HostTable())
        table.add(match, route)

    def match(self, method: str, host: str, path: str) -> T:
        """The route of a request. `host` as `Host` has it; `path` as it came, without its query.

        Raises NotFound, MethodNotAllowed, and BadRequest for a path that is ambiguous or no path.
        """
        leaf = None if self._hosts else self._anywhere.literal.get(path)
        if leaf is None:
            leaf = self._find(host, path, method)
        route = leaf.by_method.get(method, leaf.every_method)
        if route is None:
            raise MethodNotAllowed(leaf.allow)
        return route

    def match_path(self, host: str, path: str) -> tuple[T, ...]:
        """All routes of the pattern that wins for `path`, whatever their methods.

        For CORS preflights, whose own method (OPTIONS) says nothing. Raises NotFound, BadRequest.
        """
        return tuple(route for _, route in self._find(host, path, None).entries)

    def _find(self, host: str, path: str, method: str | None) -> _Leaf[T]:
        """The pattern that wins. `method` decides whether it is loose, where its routes differ."""
        if _PLAIN.fullmatch(path) and "//" not in path:
            parts, ambiguous = path[1:].split("/"), False
        else:
            parts, ambiguous = _decoded(path)
        tables = [self._anywhere]
        if self._hosts and (own := self._hosts.get(host_name(host))) is not None:
            tables.insert(0, own)
        for table in tables:
            leaf = table.literal.get(path) or _walk(table.root, parts, 0)
            if leaf is not None:
                if ambiguous and not _is_loose(leaf, method):
                    break
                return leaf
        if ambiguous:
            raise BadRequest("Ambiguous path", reason="ambiguous_path")
        raise NotFound


def _walk(node: _Node[T], parts: list[str], index: int) -> _Leaf[T] | None:
    """The most specific pattern below `node` for `parts` from `index` on."""
    if index == len(parts):
        return node.leaf
    part = parts[index]
    child = node.literals.get(part)
    if child is not None and (leaf := _walk(child, parts, index + 1)) is not None:
        return leaf
    if (
        part
        and node.parameter is not None
        and (leaf := _walk(node.parameter, parts, index + 1)) is not None
    ):
        return leaf
    # The rest is empty only when nothing follows the slash.
    return node.rest if part or index + 1 < len(parts) else None


def _decoded(path: str) -> tuple[list[str], bool]:
    """A path's segments, decoded once, and whether the path is ambiguous."""
    if not path.startswith("/") or _REFUSED.search(path):
        raise BadRequest("Invalid path", reason="bad_path")
    parts = path[1:].split("/")
    if "%" in path:
        # Bytes that aren't UTF-8 become surrogates: matched by parameters, equal to no literal.
        parts = [unquote_to_bytes(part).decode("utf-8", "surrogateescape") for part in parts]
    return parts, _AMBIGUOUS.search(path) is not None


def _is_loose(leaf: _Leaf[T], method: str | None) -> bool:
    """May an ambiguous path be given to this pattern's route for `method` (None: to all of it)?"""
    if method is None:
        return all(match.loose_path for match, _ in leaf.entries)
    for match, _ in leaf.entries:
        if match.served is None or method in match.served:
            return match.loose_path
    return leaf.loose


def host_name(value: str) -> str:
    """A host to compare by: lower case, without port and without the root's dot."""
    name, colon, port = value.rpartition(":")
    if colon and (not port or port.isdecimal()):
        value = name
    return value.lower().removesuffix(".")
