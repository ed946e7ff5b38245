"""What must hold of routes beyond their single fields: between fields, routes, and settings.

Each check looks only at fields that are right by themselves, so that a mistake is told once.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

from gateway.errors import BadRequest, GatewayError
from gateway.ownendpoints import (
    OWN_ENDPOINTS,
    OWN_NAMES,
    own_endpoints,
)
from gateway.routespec import (
    BODY_PATTERNS,
    SUBPROTOCOL_PATTERNS,
    Draft,
    RouteSpec,
    heaviest,
    label,
)
from gateway.routing import Match, RouteTable, host_name, overlap, segments
from gateway.settings import Settings, load_networks
from gateway.upstreamspec import UnusableFile, UpstreamSpec
from gateway.yamlfile import Document, Loc, did_you_mean

Complain = Callable[[str, str], None]  # a field and the rest of a sentence about it


def check_routes(
    document: Document,
    drafts: Sequence[Draft],
    specs: Mapping[str, UpstreamSpec],
    settings: Settings | None,
) -> tuple[str, ...]:
    """Put what is wrong among the document's complaints; return the warnings."""
    given = document.get(("upstreams",))
    upstreams = list(given) if isinstance(given, dict) else []
    for draft in drafts:
        _check_route(document, draft, upstreams, settings)
    _check_names(document, drafts)
    _check_header_names(document, upstreams)
    for spec in specs.values():
        _check_targets(document, spec)
        _check_tls(document, spec)
    table_is_sound = all(draft.sound("path", "methods", "host", "loose_path") for draft in drafts)
    if not _find_conflicts(document, drafts) and table_is_sound:
        _check_examples(document, drafts)
    return _warnings(document, drafts, upstreams, specs)


def _check_route(
    document: Document, draft: Draft, upstreams: list[str], settings: Settings | None
) -> None:
    spec = draft.spec

    def complain(field: str, text: str) -> None:
        document.complain((*draft.loc, field), f"{_called(draft, field)} {text}")

    load_networks(
        document,
        (*draft.loc, "networks"),
        spec.networks,
        lambda loc: label("route", _name(draft), loc[len(draft.loc) :]),
    )
    if draft.sound("name") and spec.name in OWN_NAMES:
        complain("name", "is what metrics and logs call something of the gateway's own; rename it")
    if draft.sound("upstream") and spec.upstream not in upstreams:
        shown = document.quote((*draft.loc, "upstream"), spec.upstream)
        complain(
            "upstream", f"is {shown}, which isn't defined{did_you_mean(spec.upstream, upstreams)}"
        )
    if draft.sound("auth"):
        _check_auth(draft, complain)
    if spec.plan is not None and settings is not None and spec.plan not in settings.plans:
        shown = document.quote((*draft.loc, "plan"), spec.plan)
        hint = did_you_mean(spec.plan, settings.plans)
        complain("plan", f"is {shown}, which isn't in the settings' plans{hint}")
    if draft.sound("rate_limit", "weight", "auth", "owner"):
        _check_limits(document, draft)
        _check_plan_limits(draft, settings, complain)
    for field in _upgrades(spec):
        if spec.methods is not None and "GET" not in spec.methods:
            complain(field, "needs GET among the methods: an upgrade is a GET")
    if draft.sound("path"):
        own = next((own for own in OWN_ENDPOINTS if _claims(spec.path, own.claims.path)), None)
        if own is not None:
            complain("path", f"is the gateway's own ('{own.claims.path}'); choose another")
        if draft.sound("strip_prefix") and spec.strip_prefix is not None:
            prefix, path = segments(spec.strip_prefix), segments(spec.path)
            if "{" in spec.strip_prefix or path[: len(prefix)] != prefix:
                complain("strip_prefix", f"must be literal segments that '{spec.path}' begins with")


def _check_auth(draft: Draft, complain: Complain) -> None:
    """What only some patterns have."""
    spec = draft.spec
    if draft.sound("plan"):
        if spec.auth == "plan_key" and spec.plan is None:
            complain("plan", "is missing; a plan_key route names the least plan that opens it")
        if spec.auth != "plan_key" and spec.plan is not None:
            complain("plan", f"is for auth: plan_key alone, not {spec.auth}; leave it out")
    if spec.auth != "registered_key":
        for field, given in (("inject", spec.inject), ("owner", spec.owner is not None)):
            if given and draft.sound(field):
                complain(field, f"is for auth: registered_key alone, not {spec.auth}; leave it out")
    for field, given in (("scope", bool(spec.scope)), ("vip", spec.vip)):
        if given and draft.sound(field, "owner") and not spec.takes_app_token:
            complain(field, "needs an app token: auth: app_token, or owner: app_token")
    for field in _upgrades(spec):
        if draft.sound(field) and spec.auth in BODY_PATTERNS:
            complain(field, f"can't go with {spec.auth}: an upgrade has no body to read")
    if draft.sound("subprotocol_credential", "websocket") and spec.subprotocol_credential:
        if not spec.websocket:
            complain("subprotocol_credential", "needs `websocket: true`")
        elif spec.auth not in SUBPROTOCOL_PATTERNS:
            complain("subprotocol_credential", f"can't go with {spec.auth}: it has no credential")


def _check_limits(document: Document, draft: Draft) -> None:
    spec = draft.spec
    seen: set[str] = set()
    for index, limit in enumerate(spec.limits):
        at: Loc = ("rate_limit", index) if isinstance(spec.rate_limit, tuple) else ("rate_limit",)

        def complain(field: str, text: str, at: Loc = at) -> None:
            document.complain((*draft.loc, *at, field), f"{_called(draft, *at, field)} {text}")

        if limit.per == "user" and not spec.knows_user:
            complain("per", f"is user, and {spec.auth} tells of none; use ip or route")
        if limit.per == "key" and spec.auth != "plan_key":
            complain("per", f"is key, and {spec.auth} has none; use ip, user or route")
        name = limit.name(spec.name)
        if name in seen:
            field = "window" if limit.concurrent is None else "concurrent"
            complain(field, f"is that of another limit per {limit.per}; leave one of the two out")
        seen.add(name)
        if limit.concurrent is not None:
            for idle in {"requests", "window", "weight"} & limit.model_fields_set:
                complain(idle, "says nothing of what is concurrent; make it another limit")
            continue
        weight = heaviest(limit.weight or spec.weight)
        if limit.requests is None:
            complain("requests", "is missing")
        elif weight > limit.requests:
            complain("requests", f"must be at least {weight}: one request can weigh that")


def _check_plan_limits(draft: Draft, settings: Settings | None, complain: Complain) -> None:
    """Can each plan's users send the heaviest request?"""
    spec = draft.spec
    weight = heaviest(spec.weight)
    for plan, limits in settings.plan_limits.items() if settings and spec.knows_user else ():
        least = min(limits.windows.values(), default=weight)
        if weight > least:
            complain("weight", f"can be {weight}, and plan_limits.{plan} has only {least}")


def _upgrades(spec: RouteSpec) -> list[str]:
    """The fields by which a route takes upgrades."""
    return [
        field
        for field, given in (("websocket", spec.websocket), ("upgrade", spec.upgrade))
        if given
    ]


def _check_names(document: Document, drafts: Sequence[Draft]) -> None:
    seen: dict[str, Draft] = {}
    for draft in drafts:
        first = seen.setdefault(draft.spec.name, draft) if draft.sound("name") else draft
        if first is not draft:
            line = document.place((*first.loc, "name")).line
            document.complain(
                (*draft.loc, "name"),
                f"{_called(draft)}: name was given in line {line} already; rename one of the two",
            )


def _check_header_names(document: Document, upstreams: list[str]) -> None:
    """Names of headers are the same in any case (RFC 9110 §5.1)."""
    for upstream in upstreams:
        loc: Loc = ("upstreams", upstream, "headers")
        headers = document.get(loc)
        seen: dict[str, str] = {}
        for name in headers if isinstance(headers, dict) else ():
            first = seen.setdefault(name.lower(), name)
            if first != name:
                document.complain_at(
                    document.name_place((*loc, name)),
                    f"{label('upstream', upstream, ('headers', name))} is '{first}' once more; "
                    "leave one of the two out",
                )


def _check_targets(document: Document, spec: UpstreamSpec) -> None:
    """A target that stands there twice would be checked, counted and ejected twice."""
    seen: dict[str, int] = {}
    for index, target in enumerate(spec.weighted_targets):
        first = seen.setdefault(target.url, index)
        if first != index:
            document.complain(
                ("upstreams", spec.name, "targets", index),
                f"{label('upstream', spec.name, ('targets', index))} is targets[{first}] once "
                "more; leave one of the two out, or give one of them a weight",
            )


def _check_tls(document: Document, spec: UpstreamSpec) -> None:
    tls = spec.tls
    loc: Loc = ("upstreams", spec.name, "tls")
    if not isinstance(document.get(loc), dict):
        return

    def complain(field: str | None, text: str) -> None:
        inner = () if field is None else (field,)
        document.complain((*loc, *inner), f"{label('upstream', spec.name, ('tls', *inner))} {text}")

    if not any(target.url.startswith("https://") for target in spec.weighted_targets):
        complain(None, "is for https:// targets, and there is none; leave it out")
    for field, other in (("certificate", "key"), ("key", "certificate")):
        if getattr(tls, field) is not None and getattr(tls, other) is None:
            complain(field, f"needs {other} beside it")
    if tls.ca is not None and not tls.verify:
        complain("ca", "has no use while verify is false; leave one of the two out")
    try:
        tls.context()
    except UnusableFile as unusable:
        complain(unusable.field, str(unusable))


def _find_conflicts(document: Document, drafts: Sequence[Draft]) -> bool:
    """Complain of routes that claim what an earlier one claims."""
    by_pattern: defaultdict[tuple[object, ...], list[Draft]] = defaultdict(list)
    found = False
    for draft in drafts:
        if not draft.sound("path", "methods", "host"):
            continue
        claims = draft.spec.claims
        others = by_pattern[host_name(claims.host or ""), *segments(claims.path)]
        for other in others:
            if overlap(claims, other.spec.claims):
                found = True
                line = document.place((*other.loc, "path")).line
                document.complain(
                    (*draft.loc, "path"),
                    f"{_called(draft)} claims the same requests as {_called(other)} in line "
                    f"{line} ({_shared(claims, other.spec.claims)}); "
                    "give one of the two another path, host or methods",
                )
                break
        others.append(draft)
    return found


def _check_examples(document: Document, drafts: Sequence[Draft]) -> None:
    """Does each example land on its route?"""
    routes = tuple(draft.spec for draft in drafts)
    try:
        table: RouteTable[str] = RouteTable(
            [(route.claims, f"route '{route.name}'") for route in routes]
            + [(own, "the gateway's own endpoint") for own in own_endpoints(routes)]
        )
    except ValueError:  # a route claims an own endpoint, and has its complaint
        return
    for draft in drafts:
        for index, example in enumerate(draft.spec.tests if draft.sound("tests", "name") else ()):
            method, _, target = example.partition(" ")
            path = target.partition("?")[0]
            try:
                landed = table.match(method, draft.spec.host or "", path)
            except BadRequest:
                landed = "400: the path is ambiguous, and the route isn't loose_path"
            except GatewayError as error:
                landed = f"{error.status}: {error.detail}"
            if landed != f"route '{draft.spec.name}'":
                document.complain(
                    (*draft.loc, "tests", index),
                    f"{_called(draft)}: '{example}' lands on {landed}; "
                    "change the example, or the paths",
                )


def _warnings(
    document: Document,
    drafts: Sequence[Draft],
    upstreams: list[str],
    specs: Mapping[str, UpstreamSpec],
) -> tuple[str, ...]:
    warnings = []
    for spec in specs.values():
        if not spec.tls.verify:
            called = label("upstream", spec.name, ("tls", "verify"))
            place = document.place(("upstreams", spec.name, "tls", "verify"))
            warnings.append((place, f"{called} is false: whoever answers is believed"))
    for draft in drafts:
        if draft.spec.auth == "registered_key" and draft.spec.owner is None:
            advice = "anyone who knows an email can use its key; `owner: app_token` asks for proof"
            warnings.append((document.place((*draft.loc, "auth")), f"{_called(draft)}: {advice}"))
    used = {draft.spec.upstream for draft in drafts}
    warnings += [
        (document.name_place(("upstreams", name)), f"upstream '{name}' is used by no route")
        for name in upstreams
        if name not in used
    ]
    return tuple(f"{place}: {text}" for place, text in sorted(warnings))


def _claims(path: str, own: str) -> bool:
    """Would a route with `path` take requests from the gateway's own endpoint at `own`?"""
    theirs, ours = segments(path), segments(own)
    return len(theirs) == len(ours) and all(
        mine in ("{}", part) and part != "{...}" for part, mine in zip(theirs, ours, strict=True)
    )


def _shared(one: Match, other: Match) -> str:
    mine, theirs = one.served, other.served
    methods = mine or theirs if mine is None or theirs is None else mine & theirs
    return f"{'any method' if methods is None else ', '.join(sorted(methods))} {one.path}"


def _called(draft: Draft, *field: str | int) -> str:
    return label("route", _name(draft), field)


def _name(draft: Draft) -> str | int:
    """What the route is called: its name, or which it is in the file."""
    index = draft.loc[-1]
    assert isinstance(index, int)
    return draft.spec.name if draft.sound("name") else index
