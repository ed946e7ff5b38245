"""What `gateway explain` says: the decisions of the pipeline that need neither client nor store."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gateway.cli.output import Failure
from gateway.errors import GatewayError
from gateway.routefile import RouteFile, RouteSpec
from gateway.routing import Match, RouteTable
from gateway.settings import Settings

DEMANDS = {
    "public": "nothing",
    "plan_key": "X-Primit-API-Key whose user has an active plan, {plan} or higher",
    "body_credentials": "api_key and api_secret in the JSON body",
    "registered_key": "email in the JSON body, with an active registered key",
    "app_token": "Authorization: Bearer with an app token",
}
WHY = {
    "no_route": "no route matches {path}",
    "bad_path": "{path} has characters that no path may have",
    "ambiguous_path": "{path} can be read in more than one way, and its route isn't loose_path",
    "method_not_allowed": "{path} takes {allow} alone",
}


@dataclass(frozen=True, slots=True)
class OwnEndpoint:
    """What the gateway answers itself. `demands` is what it asks of the client."""

    name: str
    auth: str
    method: str
    path: str
    demands: str
    limited: bool = False  # has the limit that the settings' vault section names

    @property
    def claims(self) -> Match:
        return Match(self.path, frozenset({self.method}))


def explained(
    settings: Settings, route_file: RouteFile, method: str, host: str, target: str
) -> dict[str, Any]:
    """What the gateway would do. Raises Failure when it would refuse, whatever the credential."""
    path = target.partition("?")[0]
    table: RouteTable[RouteSpec | OwnEndpoint] = RouteTable(
        [
            *((spec.claims, spec) for spec in route_file.routes),
            *((own.claims, own) for own in own_endpoints(settings)),
        ]
    )
    try:
        taker = table.match(method, host, path)
    except GatewayError as error:
        allow = dict(error.headers).get("Allow")
        why = WHY[error.reason].format(path=path, allow=allow)
        raise Failure(f"{error.status} {error.detail}: {why}") from None
    limits = list(_limits(settings, path, taker))
    if isinstance(taker, OwnEndpoint):
        return {
            "route": taker.name,
            "path": taker.path,
            "auth": taker.auth,
            "plan": None,
            "demands": taker.demands,
            "upstream": None,
            "targets": [],
            "target": None,
            "limits": limits,
        }
    return {
        "route": taker.name,
        "path": taker.path,
        "auth": taker.auth,
        "plan": taker.plan,
        "demands": _demands(taker),
        "upstream": taker.upstream,
        "targets": list(route_file.upstreams[taker.upstream].targets),
        "target": _forwarded(taker, target),
        "limits": limits,
    }


def own_endpoints(settings: Settings) -> Iterator[OwnEndpoint]:
    """Those that these settings switch on."""
    yield OwnEndpoint("status", "public", "GET", "/", "nothing")
    yield OwnEndpoint("health", "public", "GET", "/health", "nothing")
    for provider, token, on in (
        ("google", "id_token", settings.google.audiences),
        ("apple", "identity_token", settings.apple.audiences),
    ):
        if on:
            demands = f"{token} in the JSON body"
            path = f"/auth/mobile/{provider}"
            yield OwnEndpoint(f"sign-in-{provider}", "app_token", "POST", path, demands)
    if any(key.secret is not None for key in settings.vault.encryption_keys):
        for name, method, path, demands in (
            ("api-key-verify", "POST", "/api-key/verify", "email in the JSON body"),
            ("api-key-status", "GET", "/api-key/status/{email}", "nothing"),
        ):
            yield OwnEndpoint(name, "registered_key", method, path, demands, limited=True)


def _limits(
    settings: Settings, path: str, taker: RouteSpec | OwnEndpoint
) -> Iterator[dict[str, Any]]:
    limit = settings.rate_limit
    if limit.enabled and path not in limit.exempt:
        yield {
            "name": "ip",
            "requests": limit.requests,
            "window": limit.window,
            "block": limit.block,
        }
    if isinstance(taker, OwnEndpoint):
        own = settings.vault if taker.limited else None
        requests, window = (own.requests, own.window) if own else (0, 0)
    else:
        spec = taker.rate_limit
        requests, window = (spec.requests, spec.window) if spec else (0, 0)
    if requests:
        yield {"name": taker.name, "requests": requests, "window": window, "block": 0}


def _demands(route: RouteSpec) -> str:
    demands = DEMANDS[route.auth].format(plan=route.plan)
    if route.owner is not None:
        demands += ", and an app token of the user whose email it is"
    if route.scope:
        demands += f", with scope {' '.join(route.scope)}"
    return demands if route.enforce else f"{demands}; not enforced, only reported"


def _forwarded(route: RouteSpec, target: str) -> str:
    """The target that the backend gets, as `proxy/forward.py` makes it."""
    if route.strip_prefix is None:
        return target
    rest = target.removeprefix(route.strip_prefix)
    return rest if rest.startswith("/") else f"/{rest}"
