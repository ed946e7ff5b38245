"""What a request costs: the same for all of a route, or by a parameter of its query.

Rules: never in the caller's favour. What two servers could read differently, or this one can't
read, costs the most there is: a parameter that comes twice (in any case, encoding, or with `[]`
behind it), one that is no whole number from 1, a `;` anywhere in the query.
"""

import re
from bisect import bisect_left
from collections.abc import Callable
from urllib.parse import unquote_plus

from gateway.exchange import Exchange
from gateway.routespec import ParameterWeight

Weigher = Callable[[Exchange], int]

NUMBER = re.compile(r"0*[1-9][0-9]{0,17}", re.ASCII).fullmatch


def one(_exchange: Exchange) -> int:
    return 1


def weigher(weight: int | ParameterWeight | None) -> Weigher:
    """None: every request costs one."""
    if weight is None:
        return one
    return ByParameter(weight) if isinstance(weight, ParameterWeight) else lambda _: weight


class ByParameter:
    """The weight of the first step that reaches the parameter's value."""

    def __init__(self, spec: ParameterWeight) -> None:
        self._name = _plain(spec.parameter)
        self._reach = [step.to for step in spec.steps]
        self._weights = [step.weight for step in spec.steps]
        self._most = spec.most
        self._absent = self._most if spec.default is None else self._of(spec.default)

    def __call__(self, exchange: Exchange) -> int:
        query = exchange.target.partition("?")[2]
        pairs = (part.partition("=") for part in query.split("&"))
        values = [value for name, _, value in pairs if _plain(name) == self._name]
        if ";" in query or len(values) > 1:
            return self._most
        if not values:
            return self._absent
        value = unquote_plus(values[0])
        return self._of(int(value)) if NUMBER(value) else self._most

    def _of(self, value: int) -> int:
        step = bisect_left(self._reach, value)
        return self._weights[step] if step < len(self._weights) else self._most


def _plain(name: str) -> str:
    """A parameter's name as the laxest server reads it."""
    return unquote_plus(name).partition("[")[0].strip().casefold()
