"""YAML with positions: the plain values of a file, and where each of them stands.

Rules: YAML 1.2's core alone (true and false, no dates, no tags, no anchors, so that a value
is what it looks like); a field named twice is a complaint; `${NAME}` in any text is read from the
environment. Nothing ends at the first problem: complaints are collected, and given together.

Terms: a *loc* is the way to a value (`("routes", 3, "path")`); a *place* is `file:line:column`, or
the name of the environment variable that a value came from. A complaint never shows a value that
came from the environment, nor a line of the file.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from gateway.errors import ConfigurationError

Loc = tuple[str | int, ...]

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_CORE = "tag:yaml.org,2002:"
DEEPEST = 64  # levels: no file of ours has ten


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where something stands; line and column count from 1. Line 0: the source as a whole."""

    source: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.source}:{self.line}:{self.column}" if self.line else self.source


@dataclass(frozen=True, slots=True)
class Unset:
    """Stands for a text that names environment variables which are unset or empty."""

    names: tuple[str, ...]

    def __str__(self) -> str:
        verb = "is" if len(self.names) == 1 else "are"
        return f"reads {' and '.join(self.names)}, which {verb} not set in the environment"


class Document:
    """One file: its `value`, where each part of it stands, and the complaints so far.

    Of a `private` one no complaint shows even a field's name: with a blank too few, it holds more.
    """

    def __init__(self, source: str, environ: Mapping[str, str], *, private: bool = False) -> None:
        self.source = source
        self.private = private
        self.value: Any = {}
        self.unset: dict[Loc, Unset] = {}
        self.from_environment: set[Loc] = set()
        self.misread: set[Loc] = set()  # complained of already: what stands there means nothing
        self._environ = environ
        self._values: dict[Loc, Place] = {}
        self._names: dict[Loc, Place] = {}
        self._complaints: set[tuple[Place, str]] = set()

    @classmethod
    def read(cls, path: Path, environ: Mapping[str, str], *, private: bool = False) -> "Document":
        """The file at `path`. Raises ConfigurationError when it can't be read as YAML at all."""
        document = cls(str(path), environ, private=private)
        document._values[()] = Place(str(path), 1, 1)
        try:
            text = path.read_text(encoding="utf-8-sig")
        except OSError as error:
            reason = (error.strerror or "can't be read").lower()
            raise ConfigurationError([f"{path}:1:1: can't read this file: {reason}"]) from None
        except UnicodeDecodeError:
            raise ConfigurationError([f"{path}:1:1: this file isn't UTF-8; save it so"]) from None
        document.value = document._load(text, (), None)
        return document

    def override(self, variable: str, loc: tuple[str, ...]) -> None:
        """Put what the environment's `variable` holds, read as YAML, where `loc` is."""
        inner = self.value = {} if self.value is None else self.value
        if not isinstance(inner, dict):
            return
        for depth, name in enumerate(loc[:-1], start=1):
            if inner.get(name) is None:
                inner[name] = {}
                for names in (self._values, self._names):
                    names[loc[:depth]] = Place(variable)
            inner = inner[name]
            if not isinstance(inner, dict):
                field = dotted(loc[:depth])
                self.complain_at(Place(variable), f"{field} has no fields of its own")
                return
        for known in (self._values, self._names, self.unset):
            for stale in [key for key in known if key[: len(loc)] == loc]:
                del known[stale]
        self.from_environment -= {key for key in self.from_environment if key[: len(loc)] == loc}
        self._names[loc] = Place(variable)
        try:
            inner[loc[-1]] = self._load(self._environ[variable], loc, Place(variable))
        except ConfigurationError as error:
            inner.pop(loc[-1], None)
            self._complaints.update((Place(variable), text) for text in error.complaints)

    def get(self, loc: Loc) -> Any:
        """The value at `loc`; None where there is none."""
        value = self.value
        for part in loc:
            try:
                value = value[part]
            except (KeyError, IndexError, TypeError):
                return None
        return value

    def default(self, loc: Loc, value: Any) -> Any:
        """`value` as if it stood at `loc` in the file: its `${NAME}`s are read."""
        if isinstance(value, dict):
            return {name: self.default((*loc, name), inner) for name, inner in value.items()}
        if isinstance(value, list):
            return [self.default((*loc, index), inner) for index, inner in enumerate(value)]
        return self._expand(value, loc) if isinstance(value, str) else value

    def place(self, loc: Loc) -> Place:
        """Where the value at `loc` stands, or what is nearest to it."""
        while loc and loc not in self._values:
            loc = loc[:-1]
        return self._values.get(loc, Place(self.source))

    def name_place(self, loc: Loc) -> Place:
        """Where the name of the field at `loc` stands."""
        return self._names.get(loc) or self.place(loc)

    def quote(self, loc: Loc, value: object) -> str:
        """`value` as a complaint may show it: in quotes, unless the environment gave it."""
        return "what it reads" if loc in self.from_environment else f"'{value}'"

    def complain(self, loc: Loc, text: str) -> None:
        self.complain_at(self.place(loc), text)

    def complain_at(self, place: Place, text: str) -> None:
        self._complaints.add((place, text))

    @property
    def complaints(self) -> tuple[str, ...]:
        """All of them, in the order of the file."""
        return tuple(f"{place}: {text}" for place, text in sorted(self._complaints))

    def _load(self, text: str, loc: Loc, place: Place | None) -> Any:
        """`text` as plain values; `place` stands for all of it when it isn't from the file."""
        loader = _Loader(text)
        try:
            _check_depth(text)
            node = loader.get_single_node()
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            where = f"{self._at(mark)}: " if place is None else ""
            # An alias may be a secret that begins with `*`: it isn't shown.
            problem = "found an alias" if "alias" in (error.problem or "") else error.problem
            raise ConfigurationError(
                [f"{where}not valid YAML: {problem}; look for a quote, bracket or space too few"]
            ) from None
        except yaml.YAMLError as error:
            line = text.count("\n", 0, getattr(error, "position", 0)) + 1
            where = f"{self.source}:{line}:1: " if place is None else ""
            raise ConfigurationError(
                [f"{where}not valid YAML: it holds a character that can't be"]
            ) from None
        finally:
            loader.dispose()
        return None if node is None else self._plain(node, loc, place, set())

    def _at(self, mark: Any) -> Place:
        return Place(self.source, 1, 1) if mark is None else _place(self.source, mark)

    def _plain(self, node: yaml.Node, loc: Loc, place: Place | None, seen: set[int]) -> Any:
        here = place or self._at(node.start_mark)
        self._values[loc] = here
        if id(node) in seen:
            self.misread.add(loc)
            self.complain_at(here, "anchors and aliases (& and *) aren't read; write it out again")
            return None
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode) and node.tag == f"{_CORE}seq":
            return [
                self._plain(item, (*loc, index), place, seen)
                for index, item in enumerate(node.value)
            ]
        if isinstance(node, yaml.MappingNode) and node.tag == f"{_CORE}map":
            return self._fields(node, loc, place, seen)
        convert = _SCALARS.get(node.tag) if isinstance(node, yaml.ScalarNode) else None
        if convert is None:
            self.misread.add(loc)
            self.complain_at(here, "tags (!) aren't read; put the text in quotes")
            return None
        try:
            value = convert(node.value)
        except ValueError:  # a whole number of thousands of digits
            self.misread.add(loc)
            self.complain_at(here, "this number is too long to be read")
            return None
        return self._expand(value, loc) if isinstance(value, str) else value

    def _fields(
        self, node: yaml.MappingNode, loc: Loc, place: Place | None, seen: set[int]
    ) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        for name_node, value_node in node.value:
            here = place or self._at(name_node.start_mark)
            if name_node.tag != f"{_CORE}str":
                self.complain_at(here, "a field's name must be text; put it in quotes")
                continue
            name: str = name_node.value
            if name in fields:
                first = self._names[*loc, name]
                also = f" in line {first.line}" if first.line else ""
                what = "this" if self.private else f"'{name}'"
                self.complain_at(here, f"{what} was given already{also}; leave one of the two out")
                continue
            self._names[*loc, name] = here
            fields[name] = self._plain(value_node, (*loc, name), place, seen)
        return fields

    def _expand(self, text: str, loc: Loc) -> str | Unset:
        """`text` with each `${NAME}` replaced from the environment."""
        if "${" not in text:
            return text
        if "${" in _VARIABLE.sub("", text):
            self.misread.add(loc)
            self.complain(loc, "after '${' a variable's name and '}' must follow, as in ${NAME}")
            return text
        names = dict.fromkeys(_VARIABLE.findall(text))
        if unset := tuple(name for name in names if not self._environ.get(name)):
            self.unset[loc] = Unset(unset)
            return self.unset[loc]
        self.from_environment.add(loc)
        return _VARIABLE.sub(lambda match: self._environ[match[1]], text)


def dotted(loc: Iterable[str | int]) -> str:
    """`("secrets", 0, "id")` as people write it: `secrets[0].id`."""
    text = ""
    for part in loc:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The rest of a complaint about an unknown `word`: the likeliest one, or all there are."""
    names = list(known)
    if close := get_close_matches(word, names, n=1, cutoff=0.6):
        return f"; did you mean '{close[0]}'?"
    return f"; known: {', '.join(names)}" if names else "; none is known"


def _check_depth(text: str) -> None:
    """Raise MarkedYAMLError for a nesting that libyaml, which recurses in C, would die of."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > DEEPEST:
                problem = f"nested more than {DEEPEST} levels deep"
                mark: Any = event.start_mark
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=mark)
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _place(source: str, mark: Any) -> Place:
    return Place(source, mark.line + 1, mark.column + 1)


def _integer(text: str) -> int:
    return int(text, 0) if text.lstrip("+-").startswith(("0x", "0o")) else int(text)


_SCALARS: dict[str, Any] = {
    f"{_CORE}null": lambda _: None,
    f"{_CORE}bool": lambda text: text.lower() == "true",
    f"{_CORE}int": _integer,
    f"{_CORE}float": lambda text: float(re.sub(r"\.(?=inf|nan)", "", text.lower())),
    f"{_CORE}str": str,
}


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Composes nodes; resolves plain scalars as YAML 1.2's core schema does (§10.3.2)."""

    yaml_implicit_resolvers: dict[str | None, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012  # PyYAML's own name and type


for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ("~", "n", "N", "")),
    ("bool", r"true|True|TRUE|false|False|FALSE", tuple("tTfF")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", tuple("-+0123456789")),
    (
        "float",
        r"[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?|[-+]?\.inf|\.nan",
        tuple("-+.0123456789"),
    ),
):
    _Loader.add_implicit_resolver(_CORE + _tag, re.compile(f"(?:{_pattern})$"), _first)
