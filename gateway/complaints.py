"""Checks values against a typed model, and says what is wrong in plain English with its place.

pydantic finds the problems; here each gets the place of the value in its file, a subject and a
way out. What a field holds is shown only where it can't be a secret.
"""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from gateway.yamlfile import Document, Loc, Unset, did_you_mean, dotted

M = TypeVar("M", bound=BaseModel)

TAG = "as:"  # begins the names that unions give their branches; pydantic puts them in locs

_KINDS = {
    "bool_type": "must be true or false",
    "dict_type": "must be fields with values, as in {name: value}",
    "finite_number": "must be a finite number",
    "float_type": "must be a number",
    "int_type": "must be a whole number",
    "missing": "is missing",
    "model_type": "must be fields with values, as in {name: value}",
    "string_too_short": "must not be empty",
    "string_type": "must be text; if it looks like a number or a word of YAML, put it in quotes",
    "too_short": "must not be empty",
    "tuple_type": "must be a list, as in [one, two]",
}
_BOUNDS = {
    "greater_than": ("more than", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("less than", "lt"),
    "less_than_equal": ("at most", "le"),
}


class Model(BaseModel):
    """A part of a file, or all of it: frozen, without unknown fields."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        hide_input_in_errors=True,
        use_attribute_docstrings=True,
        validate_default=False,
    )


@dataclass(frozen=True, slots=True)
class Checked(Generic[M]):
    """What came of a check. Fields at `broken` hold defaults or placeholders, not what was given.

    `model` is None when nothing could be made of the value.
    """

    model: M | None
    broken: frozenset[Loc]

    def sound(self, *locs: Loc) -> bool:
        """Were the fields at `locs`, and all inside them, as they must be?"""
        return not any(
            bad[: len(loc)] == loc or loc[: len(bad)] == bad for bad in self.broken for loc in locs
        )


def check(
    document: Document,
    model: type[M],
    at: Loc,
    subject: Callable[[Loc], str] = dotted,
    placeholders: Mapping[str, Any] | None = None,
) -> Checked[M]:
    """Make a `model` of the value at `at` in `document`; what is wrong becomes its complaints.

    `subject` names the field at a loc (without `at`). `placeholders` stand for required fields
    that are missing or wrong, so that the rest can be checked further.
    """
    value = document.get(at)
    try:
        return Checked(model.model_validate({} if value is None else value), frozenset())
    except ValidationError as error:
        problems = error.errors(include_url=False)
    broken: set[Loc] = set()
    for problem in problems:
        loc = _loc(problem)
        broken.add(loc)
        if (*at, *loc) in document.misread or (problem["type"] == "too_short" and problem["input"]):
            continue  # told already; or all of a list's items are wrong, each told by itself
        if problem["type"] == "extra_forbidden":
            owner = f" in {subject(loc[:-1])}" if subject(loc[:-1]) else ""
            hint = did_you_mean(str(loc[-1]), _fields_at(model, loc[:-1]))
            place = document.name_place((*at, *loc))
            name = "" if document.private else f" '{loc[-1]}'"
            document.complain_at(place, f"unknown field{name}{owner}{hint}")
        else:
            text = _phrase(document, (*at, *loc), problem)
            is_name = "[key]" in problem["loc"]
            place = (document.name_place if is_name else document.place)((*at, *loc))
            document.complain_at(place, f"{subject(loc) or 'the file'} {text}")
    return Checked(_rest(model, value, problems, placeholders or {}), frozenset(broken))


def _rest(
    model: type[M], value: Any, problems: Sequence[Any], placeholders: Mapping[str, Any]
) -> M | None:
    """A `model` of what is left of `value` without its problems."""
    if not isinstance(value, dict):
        return None
    left = deepcopy(value)
    while True:
        for problem in problems:
            loc = _loc(problem)
            _prune(left, loc[:-1] if problem["type"] == "missing" and len(loc) > 1 else loc)
        left = {**placeholders, **left}
        try:
            return model.model_validate(left)
        except ValidationError as error:
            if problems == (problems := error.errors(include_url=False)):
                return None


def _loc(problem: Any) -> Loc:
    """Where the problem is: without what pydantic adds for unions and for names in a dict."""
    parts = problem["loc"]
    return tuple(part for part in parts if part != "[key]" and not str(part).startswith(TAG))


def _phrase(document: Document, loc: Loc, problem: Any) -> str:
    """What is wrong, as the rest of a sentence."""
    given, kind, context = problem["input"], problem["type"], problem.get("ctx", {})
    if isinstance(given, Unset):
        return f"{given}; set it"
    if kind == "value_error":
        return str(context["error"])
    if kind == "literal_error" and context["expected"] == "False":
        return "must be false, or fields with values, as in {name: value}"
    if kind == "literal_error":
        expected = context["expected"].replace("'", "").replace(" or ", ", ").split(", ")
        text = f"must be {'one of ' if len(expected) > 1 else ''}{', '.join(expected)}"
        if (
            isinstance(given, str)
            and given not in expected
            and loc not in document.from_environment
        ):
            hint = did_you_mean(given, expected)
            return text + (hint if "did you mean" in hint else "")
        return text
    if kind in _BOUNDS:
        words, bound = _BOUNDS[kind]
        return f"must be {words} {context[bound]:g}; it is {given}"
    return _KINDS.get(kind) or str(problem["msg"])


def _prune(value: Any, loc: Loc) -> None:
    """Take what is at `loc` out of `value`, or what of it can be told apart: the nearest field."""
    inner, chain = value, []
    for part in loc:
        chain.append((inner, part))
        try:
            inner = inner[part]
        except (KeyError, IndexError, TypeError):
            break
    for holder, part in reversed(chain):
        if isinstance(holder, dict):
            holder.pop(part, None)
            return


def _fields_at(model: type[BaseModel], loc: Loc) -> list[str]:
    """The names of the fields that may stand at `loc` inside `model`."""
    for part in loc:
        field = model.model_fields.get(part) if isinstance(part, str) else None
        if field is not None:
            model = _model_in(field.annotation) or model
    return list(model.model_fields)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = (_model_in(inner) for inner in get_args(annotation))
    return next((model for model in found if model is not None), None)
