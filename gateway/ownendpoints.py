"""What the gateway answers itself: its endpoints, what switches them on, and what they ask for."""

from dataclasses import dataclass, replace
from typing import Literal

from gateway.routespec import Auth, RouteSpec
from gateway.routing import Match, host_name
from gateway.settings import Settings

OwnName = Literal[
    "status",
    "health",
    "api-key-verify",
    "api-key-status",
    "api-key-register",
    "api-key-usage",
    "sign-in-google",
    "sign-in-apple",
    "token-refresh",
    "sign-out",
]


@dataclass(frozen=True, slots=True)
class OwnEndpoint:
    """What the gateway answers itself. `demands` is what it asks of the client.

    `switched_by` names the setting without which it is a 404, `limited_by` the section whose
    limit per address it has, `asks_for` the credential without which it is a 401.
    """

    name: OwnName
    auth: Auth
    claims: Match
    demands: str = "nothing"
    switched_by: (
        Literal[
            "google.audiences",
            "apple.audiences",
            "vault.encryption_keys",
            "ledger.enabled",
            "app_tokens.secrets",
            "app_tokens.refresh",
        ]
        | None
    ) = None
    limited_by: Literal["vault", "sign_in", "app_tokens.refresh"] | None = None
    asks_for: Literal["key", "token"] | None = None

    def is_on(self, settings: Settings) -> bool:
        match self.switched_by:
            case None:
                return True
            case "google.audiences":
                return bool(settings.google.audiences)
            case "apple.audiences":
                return bool(settings.apple.audiences)
            case "ledger.enabled":
                return settings.ledger.enabled
            case "vault.encryption_keys":
                return any(key.secret is not None for key in settings.vault.encryption_keys)
            case "app_tokens.secrets":
                return any(key.secret is not None for key in settings.app_tokens.keys)
            case "app_tokens.refresh":
                return settings.app_tokens.refresh is not None

    def limit(self, settings: Settings) -> tuple[str, int, int] | None:
        """The name of its policy, requests, and the window in seconds.

        All endpoints of sign-in have one together.
        """
        match self.limited_by:
            case None:
                return None
            case "vault":
                return self.name, settings.vault.requests, settings.vault.window
            case "sign_in":
                return "sign-in", settings.sign_in.requests, settings.sign_in.window
            case "app_tokens.refresh":
                refresh = settings.app_tokens.refresh
                return None if refresh is None else (self.name, refresh.requests, refresh.window)


# No route may claim these.
OWN_ENDPOINTS = (
    OwnEndpoint("status", "public", Match("/", frozenset({"GET"}))),
    OwnEndpoint("health", "public", Match("/health", frozenset({"GET"}))),
    OwnEndpoint(
        "api-key-verify",
        "registered_key",
        Match("/api-key/verify", frozenset({"POST"})),
        demands="email in the JSON body",
        switched_by="vault.encryption_keys",
        limited_by="vault",
    ),
    OwnEndpoint(
        "api-key-status",
        "registered_key",
        Match("/api-key/status/{email}", frozenset({"GET"})),
        switched_by="vault.encryption_keys",
        limited_by="vault",
    ),
    OwnEndpoint(
        "api-key-register",
        "app_token",
        Match("/api-key/register", frozenset({"POST", "DELETE"})),
        demands=(
            "an app token, and in the JSON body the email of its user; to register one, "
            "api_key and api_secret too"
        ),
        switched_by="vault.encryption_keys",
        limited_by="vault",
        asks_for="token",
    ),
    OwnEndpoint(
        "api-key-usage",
        "plan_key",
        Match("/api-key/usage", frozenset({"GET"})),
        demands="X-Primit-API-Key with a valid key",
        switched_by="ledger.enabled",
        limited_by="vault",
        asks_for="key",
    ),
    OwnEndpoint(
        "sign-in-google",
        "app_token",
        Match("/auth/mobile/google", frozenset({"POST"})),
        demands="id_token in the JSON body",
        switched_by="google.audiences",
        limited_by="sign_in",
    ),
    OwnEndpoint(
        "sign-in-apple",
        "app_token",
        Match("/auth/mobile/apple", frozenset({"POST"})),
        demands="identity_token in the JSON body",
        switched_by="apple.audiences",
        limited_by="sign_in",
    ),
    OwnEndpoint(
        "token-refresh",
        "app_token",
        Match("/auth/refresh", frozenset({"POST"})),
        demands="refresh_token in the JSON body",
        switched_by="app_tokens.refresh",
        limited_by="app_tokens.refresh",
    ),
    OwnEndpoint(
        "sign-out",
        "app_token",
        Match("/auth/logout", frozenset({"POST"})),
        demands="Authorization: Bearer with the app token that is to end",
        switched_by="app_tokens.secrets",
        limited_by="sign_in",
        asks_for="token",
    ),
)
# Names that the gateway's own endpoints, and requests without a route, have in metrics and logs.
OWN_NAMES = frozenset(
    {own.name for own in OWN_ENDPOINTS} | {"ip", "none", "server-options", "sign-in", "unmatched"}
)


def own_endpoints(routes: tuple[RouteSpec, ...]) -> tuple[Match, ...]:
    """What the gateway answers itself, for each host a route names too: none takes them away."""
    hosts = dict.fromkeys(host_name(route.host) for route in routes if route.host is not None)
    return tuple(replace(own.claims, host=host) for host in (None, *hosts) for own in OWN_ENDPOINTS)
