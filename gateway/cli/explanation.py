"""What `gateway explain` says: the decisions of the pipeline that need neither client nor store."""

from collections.abc import Iterator
from typing import Any

from gateway.cli.output import Failure
from gateway.errors import GatewayError
from gateway.ownendpoints import (
    OWN_ENDPOINTS,
    OwnEndpoint,
    own_endpoints,
)
from gateway.proxy.headers import without_prefix
from gateway.routefile import RouteFile
from gateway.routespec import (
    ParameterWeight,
    RouteSpec,
)
from gateway.routing import RouteTable
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


def explained(
    settings: Settings, route_file: RouteFile, method: str, host: str, target: str
) -> dict[str, Any]:
    """What the gateway would do. Raises Failure when it would refuse, whatever the credential."""
    path = target.partition("?")[0]
    own = {endpoint.claims.path: endpoint for endpoint in OWN_ENDPOINTS}
    table: RouteTable[RouteSpec | OwnEndpoint] = RouteTable(
        [
            *((spec.claims, spec) for spec in route_file.routes),
            *((claims, own[claims.path]) for claims in own_endpoints(route_file.routes)),
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
        if not taker.is_on(settings):
            raise Failure(f"404 Not Found: {path} is there once {taker.switched_by} is set")
        return {
            "route": taker.name,
            "path": taker.claims.path,
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


def _limits(
    settings: Settings, path: str, taker: RouteSpec | OwnEndpoint
) -> Iterator[dict[str, Any]]:
    limit = settings.rate_limit
    if limit.enabled and path not in limit.exempt:
        yield _limit("ip", "ip", limit.requests, limit.window, block=limit.block)
    if isinstance(taker, OwnEndpoint):
        if (own_limit := taker.limit(settings)) is not None:
            yield _limit(own_limit[0], "ip", *own_limit[1:])
        return
    for own in taker.limits:
        name, weight = own.name(taker.name), own.weight or taker.weight
        if own.concurrent is not None:
            yield _limit(name, own.per, own.concurrent, "concurrent")
        else:
            yield _limit(name, own.per, own.requests, own.window, weighs=_weighs(weight))
    for plan, limits in settings.plan_limits.items() if taker.knows_user else ():
        for window, requests in limits.windows.items():
            name = f"plan-{plan}-{window}"
            yield _limit(name, "user", requests, window, weighs=_weighs(taker.weight))


def _limit(
    name: str,
    per: str,
    requests: int | None,
    window: int | str,
    *,
    block: int = 0,
    weighs: str = "1",
) -> dict[str, Any]:
    return {
        "name": name,
        "per": per,
        "requests": requests,
        "window": window,
        "block": block,
        "weighs": weighs,
    }


def _weighs(weight: int | ParameterWeight | None) -> str:
    """What a request counts."""
    if not isinstance(weight, ParameterWeight):
        return str(weight or 1)
    least = min(step.weight for step in weight.steps)
    return f"{least} to {weight.most}, by {weight.parameter}"


def _demands(route: RouteSpec) -> str:
    demands = DEMANDS[route.auth].format(plan=route.plan)
    if route.owner is not None:
        demands += ", and an app token of the user whose email it is"
    if route.scope:
        demands += f", with scope {' '.join(route.scope)}"
    if route.vip:
        demands += ", of a user who is a VIP now"
    return demands if route.enforce else f"{demands}; not enforced, only reported"


def _forwarded(route: RouteSpec, target: str) -> str:
    """The target that the backend gets."""
    return target if route.strip_prefix is None else without_prefix(target, route.strip_prefix)
