"""routes.yaml -> typed routes, with file, line and column in every complaint.

Rules: everything wrong is told at once; the types stand in `routespec.py` and `upstreamspec.py`,
what concerns more than one field in `routechecks.py`, checked of the fields that are right by
themselves. `load_configuration` reads both files and is what `gateway check` and `gateway serve`
call.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from gateway.complaints import Model, check
from gateway.errors import ConfigurationError
from gateway.fields import Name
from gateway.ownendpoints import (
    OWN_ENDPOINTS,
    own_endpoints,
)
from gateway.routechecks import check_routes
from gateway.routespec import (
    Draft,
    RouteSpec,
    label,
)
from gateway.sections import VaultKey
from gateway.settings import Settings, load_settings
from gateway.tokenfile import TokenKey
from gateway.upstreamspec import UpstreamFields, UpstreamSpec
from gateway.yamlfile import Document, Loc, Place, dotted

__all__ = [
    "OWN_ENDPOINTS",
    "RouteFile",
    "RouteSpec",
    "UpstreamSpec",
    "describe",
    "load_configuration",
    "load_routes",
    "missing_secrets",
    "own_endpoints",
]


class _Outline(Model):
    """`RoutesDocument` without what stands inside: each route is checked whatever others are."""

    version: Literal[1]
    upstreams: dict[Name, Any]
    routes: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class RouteFile:
    """The file, ready. `warnings` are sentences with their places; `places` go by route name."""

    upstreams: Mapping[str, UpstreamSpec]
    routes: tuple[RouteSpec, ...]
    warnings: tuple[str, ...]
    places: Mapping[str, Place]


def load_routes(path: Path, settings: Settings | None, environ: Mapping[str, str]) -> RouteFile:
    """The routes in the file at `path`. Without `settings`, plans are not compared with theirs.

    Raises ConfigurationError with every problem there is.
    """
    document = Document.read(path, environ)
    check(document, _Outline, ())
    upstreams = _upstreams(document)
    _complete_timeouts(document, upstreams)
    drafts = _drafts(document)
    warnings = check_routes(document, drafts, upstreams, settings)
    if document.complaints:
        raise ConfigurationError(document.complaints)
    return RouteFile(
        upstreams=upstreams,
        routes=tuple(draft.spec for draft in drafts),
        warnings=warnings,
        places={draft.spec.name: document.place(draft.loc) for draft in drafts},
    )


def load_configuration(
    settings_path: Path | None, routes_path: Path, environ: Mapping[str, str]
) -> tuple[Settings, RouteFile]:
    """Both files, and whether the secrets they need are there.

    Raises ConfigurationError with every problem of both.
    """
    complaints: list[str] = []
    settings: Settings | None = None
    route_file: RouteFile | None = None
    try:
        settings = load_settings(settings_path, environ)
    except ConfigurationError as error:
        complaints += error.complaints
    try:
        route_file = load_routes(routes_path, settings, environ)
    except ConfigurationError as error:
        complaints += error.complaints
    if settings is not None and route_file is not None:
        complaints += missing_secrets(settings, route_file)
        if not complaints:
            return settings, route_file
    raise ConfigurationError(complaints)


def missing_secrets(settings: Settings, route_file: RouteFile) -> list[str]:
    """Complaints about secrets that something switched on needs and that aren't there."""
    routes = route_file.routes
    tokens = next((r.name for r in routes if r.takes_app_token), None)
    vault = next((r.name for r in routes if r.auth == "registered_key"), None)
    sign_in = next((s for s in ("google", "apple") if getattr(settings, s).audiences), None)
    token_user = f"route '{tokens}'" if tokens else f"sign-in by {sign_in}" if sign_in else None
    vault_user = f"route '{vault}'" if vault else None
    complaints: list[str] = []
    needs: list[tuple[tuple[str, str], Sequence[TokenKey | VaultKey], str | None]] = [
        (("app_tokens", "secrets"), settings.app_tokens.keys, token_user),
        (("vault", "encryption_keys"), settings.vault.encryption_keys, vault_user),
    ]
    for loc, keys, user in needs:
        if user is None:
            continue
        name = ".".join(loc)
        if not keys:
            complaints.append(f"{settings.place(loc)}: {name} is empty; {user} needs one")
        for index, key in enumerate(keys):
            at: Loc = (*loc, index, "secret")
            if key.secret is None:
                problem = settings.unset(at) or "is missing"
                where = settings.place(at)
                complaints.append(f"{where}: {name}[{index}].secret {problem}; {user} needs it")
    legacy: Loc = ("app_tokens", "legacy", "secret")
    if settings.app_tokens.legacy is not None and settings.app_tokens.legacy.secret is None:
        problem = settings.unset(legacy) or "is missing"
        complaints.append(
            f"{settings.place(legacy)}: {dotted(legacy)} {problem}; set it, or leave "
            "app_tokens.legacy out"
        )
    return complaints


def describe(route_file: RouteFile) -> list[dict[str, Any]]:
    """The table as plain data, in the file's order; for `gateway routes`."""
    return [
        {
            "name": route.name,
            "methods": None if route.methods is None else list(route.methods),
            "host": route.host,
            "path": route.path,
            "auth": route.auth,
            "plan": route.plan,
            "scope": list(route.scope),
            "vip": route.vip,
            "upstream": route.upstream,
            "limits": [limit.shown for limit in route.limits],
        }
        for route in route_file.routes
    ]


def _upstreams(document: Document) -> dict[str, UpstreamSpec]:
    found: dict[str, UpstreamSpec] = {}
    given = document.get(("upstreams",))
    for name in given if isinstance(given, dict) else ():

        def subject(loc: Loc, name: str = name) -> str:
            return label("upstream", name, loc)

        entry = check(document, UpstreamFields, ("upstreams", name), subject).model
        if entry is not None:
            found[name] = UpstreamSpec.model_construct(name=name, **dict(entry))
    return found


def _complete_timeouts(document: Document, upstreams: Mapping[str, UpstreamSpec]) -> None:
    """Give each route's own timeout what it leaves out, from its upstream's."""
    routes = document.get(("routes",))
    for route in routes if isinstance(routes, list) else ():
        if isinstance(route, dict) and isinstance(route.get("timeout"), dict):
            upstream = upstreams.get(str(route.get("upstream")))
            usual = {} if upstream is None else upstream.timeout.model_dump()
            route["timeout"] = {**usual, **route["timeout"]}


def _drafts(document: Document) -> list[Draft]:
    drafts: list[Draft] = []
    given = document.get(("routes",))
    for index in range(len(given) if isinstance(given, list) else 0):
        loc: Loc = ("routes", index)
        name = document.get((*loc, "name"))

        def subject(inner: Loc, name: object = name, index: int = index) -> str:
            return label("route", name if isinstance(name, str) else index, inner)

        stand_ins = {"name": f"route-{index}", "path": "/", "auth": "public", "upstream": "none"}
        checked = check(document, RouteSpec, loc, subject, stand_ins)
        if checked.model is not None:
            drafts.append(Draft(loc, checked.model, checked))
    return drafts
