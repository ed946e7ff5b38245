"""The types of routes.yaml: what a route may say, and how complaints call it.

Terms: a *route* claims requests and says who may pass; an *upstream* is a backend, whose types
stand in `upstreamspec.py`.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Field, Strict, Tag, model_validator

from gateway.complaints import TAG, Checked, Model
from gateway.fields import (
    ByteCount,
    Count,
    Example,
    Flag,
    HostName,
    Methods,
    Name,
    RoutePath,
    ScopeWord,
    Text,
    UpgradeName,
    Window,
)
from gateway.routing import Match
from gateway.sections import CorsSettings, NetworkLists, WhenStoreIsDown
from gateway.upstreamspec import RouteRetry, Timeout, UpstreamFields
from gateway.yamlfile import Loc

Per = Literal["ip", "user", "key", "route"]
Auth = Literal["public", "plan_key", "body_credentials", "registered_key", "app_token"]
BODY_PATTERNS = ("body_credentials", "registered_key")  # they read the body, all of it
SUBPROTOCOL_PATTERNS = ("plan_key", "app_token")  # their credential fits into a subprotocol
DEFAULT_MAX_BODY_BYTES = 1024 * 1024


class WeightStep(Model):
    to: Count = Field(ge=1)
    """The parameter's highest value that has this weight."""
    weight: Count = Field(ge=1)
    """What such a request counts."""


def _ascending(steps: tuple[WeightStep, ...]) -> tuple[WeightStep, ...]:
    if any(step.to >= later.to for step, later in pairwise(steps)):
        raise ValueError("must ascend in `to`")
    return steps


class ParameterWeight(Model):
    parameter: Text
    """The query's parameter that decides, as in limit."""
    steps: Annotated[tuple[WeightStep, ...], AfterValidator(_ascending)] = Field(min_length=1)
    """Ascending. What is above them all, repeated or no whole number has the highest weight."""
    default: Count | None = Field(default=None, ge=1)
    """The value that counts where the parameter is missing; null: the highest weight."""

    @property
    def most(self) -> int:
        return max(step.weight for step in self.steps)


def _weight_form(value: object) -> str:
    return f"{TAG}fields" if isinstance(value, dict | ParameterWeight) else f"{TAG}number"


Weight = Annotated[
    Annotated[Annotated[int, Strict(), Field(ge=1)], Tag(f"{TAG}number")]
    | Annotated[ParameterWeight, Tag(f"{TAG}fields")],
    Discriminator(_weight_form),
]


def heaviest(weight: int | ParameterWeight | None) -> int:
    """The most that one request may weigh."""
    return weight.most if isinstance(weight, ParameterWeight) else weight or 1


class RouteLimit(Model):
    per: Per = "ip"
    """What it counts by: the client's address, the user, the plan key, or the route as a whole."""
    requests: Count | None = Field(default=None, ge=1)
    """Requests that each of them may send to this route in any one window, or their weights."""
    concurrent: Count | None = Field(default=None, ge=1)
    """Instead: how many of their requests may be under way at once; a socket is until it ends."""
    window: Window = 60
    """Seconds that window is long; or day or month, of the calendar in UTC."""
    weight: Weight | None = None
    """What a request counts here, instead of the route's weight."""

    def name(self, route: str) -> str:
        """What the policy is called, in headers and metrics too."""
        return f"route-{route}-{self.per}-{'concurrent' if self.concurrent else self.window}"

    @property
    def shown(self) -> str:
        if self.concurrent is not None:
            return f"{self.concurrent} at once per {self.per}"
        window = f"in {self.window} s" if isinstance(self.window, int) else f"a {self.window}"
        return f"{self.requests} {window} per {self.per}"


def _limits_form(value: object) -> str:
    return f"{TAG}list" if isinstance(value, list | tuple) else f"{TAG}fields"


RouteLimits = Annotated[
    Annotated[RouteLimit, Tag(f"{TAG}fields")]
    | Annotated[tuple[RouteLimit, ...], Tag(f"{TAG}list")],
    Discriminator(_limits_form),
]


def _cors_form(value: object) -> str:
    return f"{TAG}false" if isinstance(value, bool) else f"{TAG}fields"


RouteCors = Annotated[
    Annotated[CorsSettings, Tag(f"{TAG}fields")] | Annotated[Literal[False], Tag(f"{TAG}false")],
    Discriminator(_cors_form),
]


class RouteSpec(Model):
    name: Name
    """Names the route in metrics, logs and complaints."""
    path: RoutePath
    """Exact, or with {name} for one segment, {name...} at the end for the rest."""
    methods: Methods | None = None
    """GET includes HEAD; null: all."""
    auth: Auth
    """Who may pass."""
    upstream: Text
    """Where requests go: a name under upstreams."""
    plan: Text | None = None
    """plan_key: the least plan that opens the route."""
    host: HostName | None = None
    """Only requests to this host; such a route goes before those without host."""
    networks: NetworkLists = NetworkLists()
    """Who may come to this route, of those whom the settings let in."""
    rate_limit: RouteLimits | None = None
    """One limit of this route's own or a list of them, beside the one over all routes."""
    weight: Weight | None = None
    """What a request counts in the route's own limits and in its plan's; null: one."""
    when_store_is_down: WhenStoreIsDown | None = None
    """Instead of what rate_limit in the settings says; deny: nothing passes without Redis."""
    timeout: Timeout | None = None
    """Instead of the upstream's; what is left out stays as the upstream has it."""
    retry: RouteRetry | None = None
    """Instead of the upstream's; its budget stays the upstream's, which it protects."""
    max_body: ByteCount | None = None
    """Bytes a request's body may have, as in 1048576 or 1MiB. Patterns that read it: 1MiB."""
    websocket: Flag = False
    """Let connections become WebSockets."""
    subprotocol_credential: Flag = False
    """websocket: the credential may also come as a subprotocol, primit.<credential>."""
    upgrade: tuple[UpgradeName, ...] = ()
    """Other protocols that connections may be upgraded to, by their names in Upgrade."""
    strip_prefix: RoutePath | None = None
    """Taken off the path's beginning before it goes to the backend, as in /api."""
    pass_credentials: Flag = False
    """Let the backend see the X-Primit-API-Key, or the Authorization of an app_token route."""
    inject: Flag = False
    """registered_key: put the stored api_key and api_secret into the body."""
    owner: Literal["app_token"] | None = None
    """registered_key: the caller must also prove, by app token, that the email is theirs."""
    scope: tuple[ScopeWord, ...] = ()
    """app_token: words that the token's scope must have, all of them."""
    vip: Flag = False
    """app_token: the user must be a VIP now."""
    enforce: Flag = True
    """false: let everyone pass, and report who would have been refused."""
    loose_path: Flag = False
    """Pass ambiguous paths (//, ;, dot segments, encoded slashes) on as they are."""
    cors: RouteCors | None = None
    """Instead of the settings' cors; false: none."""
    tests: tuple[Example, ...] = ()
    """Requests that must land on this route, as in GET /strategies/7; checked at load."""

    @model_validator(mode="before")
    @classmethod
    def _bound_body(cls, fields: Any) -> Any:
        """What is read whole has a bound."""
        if (
            isinstance(fields, dict)
            and fields.get("max_body") is None
            and fields.get("auth") in BODY_PATTERNS
        ):
            return {**fields, "max_body": DEFAULT_MAX_BODY_BYTES}
        return fields

    @property
    def limits(self) -> tuple[RouteLimit, ...]:
        """Its own, in the order in which they are judged."""
        if isinstance(self.rate_limit, tuple):
            return self.rate_limit
        return () if self.rate_limit is None else (self.rate_limit,)

    @property
    def knows_user(self) -> bool:
        """Does its pattern tell which user is calling?"""
        return self.auth in ("plan_key", "app_token") or self.owner is not None

    @property
    def takes_app_token(self) -> bool:
        """Does it read the Authorization header, as its pattern or to know the owner?"""
        return "app_token" in (self.auth, self.owner)

    @property
    def claims(self) -> Match:
        """What the route table needs to know of it."""
        methods = None if self.methods is None else frozenset(self.methods)
        return Match(self.path, methods, self.host, self.loose_path)


class RoutesDocument(Model):
    """All of routes.yaml."""

    version: Literal[1]
    """Of this file's form."""
    upstreams: dict[Name, UpstreamFields]
    """The backends, by name."""
    routes: tuple[RouteSpec, ...]
    """Their order doesn't matter: the most specific path wins."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A route under check: `sound` says whether some of its fields hold what the file says."""

    loc: Loc
    spec: RouteSpec
    checked: Checked[RouteSpec]

    def sound(self, *fields: str) -> bool:
        return self.checked.sound(*((field,) for field in fields))


def label(kind: str, name: str | int, loc: Loc = ()) -> str:
    """How complaints call a route or upstream, or a field of it."""
    owner = f"{kind} '{name}'" if isinstance(name, str) else f"{kind} {name + 1}"
    field = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc)
    return f"{owner}: {field.removeprefix('.')}" if loc else owner
