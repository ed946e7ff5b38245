"""config/gateway.yaml and the environment -> frozen, typed settings.

Rules: every field has a default; what isn't known is refused; `${NAME}` in a text is read from the
environment, and `GATEWAY_SECTION__FIELD=value` (read as YAML) goes before the file. A secret whose
variable is unset is None: whether that is a problem depends on the routes, see `missing_secrets`
in `routefile.py`. Where a field's form is checked stands in `fields.py`.

Seconds are seconds, bytes are bytes.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field, PrivateAttr

from gateway.complaints import Checked, Model, check
from gateway.errors import ConfigurationError
from gateway.fields import (
    Count,
    Flag,
    HeaderName,
    Name,
    Network,
    Number,
    Origin,
    PlanName,
    Port,
    StoreUrl,
    Text,
    TokenSecret,
    Url,
    UrlPath,
    VaultSecret,
    VisibleSecret,
)
from gateway.yamlfile import Document, Loc, Unset, dotted

PREFIX = "GATEWAY_"


class TlsSettings(Model):
    certificate: Text
    """PEM file: the certificate, then its chain."""
    key: Text
    """PEM file: the private key."""


class ListenSettings(Model):
    host: Text = "0.0.0.0"  # noqa: S104  # a gateway is there to be reached
    """Address that clients connect to; 0.0.0.0 is all of IPv4."""
    port: Port = 8080
    """0 takes a free one."""
    workers: Count = Field(default=1, ge=1)
    """Processes that share the port; one per core is right."""
    tls: TlsSettings | None = None
    """Certificate and key when clients connect by TLS; null: plain HTTP."""


class AdminSettings(Model):
    host: Text = "127.0.0.1"
    """Address of the probes, the metrics and the admin API; keep it private."""
    port: Port = 9901
    """0 takes a free one."""
    token: VisibleSecret = None
    """Required to change anything through the admin API; null: nothing can be changed there."""


class StoreSettings(Model):
    url: StoreUrl = Field(default="memory://", repr=False)
    """memory:// (for trying out), redis://, rediss://, unix:// or redis+sentinel://."""
    prefix: Name = "gw"
    """Begins the name of every key in Redis."""
    timeout: Number = Field(default=0.05, gt=0)
    """Seconds that one answer of Redis may take."""


class ClientIpSettings(Model):
    trusted_proxies: tuple[Network, ...] = ()
    """Networks of the proxies in front, whose X-Forwarded-For is believed."""
    ipv6_prefix: Count = Field(default=64, ge=1, le=128)
    """IPv6 clients are limited per network of this size."""


class RateLimitSettings(Model):
    enabled: Flag = True
    """Limit every client address."""
    requests: Count = Field(default=1000, ge=1)
    """Requests an address may send in any one window."""
    window: Count = Field(default=60, ge=1)
    """Seconds the window is long; it slides."""
    block: Count = Field(default=3600, ge=0)
    """Seconds that an address stays blocked once it has exceeded the limit; 0: not at all."""
    exempt: tuple[UrlPath, ...] = ("/", "/health")
    """Paths that are neither counted nor limited."""
    when_store_is_down: Literal["local", "allow", "deny"] = "local"
    """While Redis is away: count in this process, admit everything, or refuse everything."""


class KeySettings(Model):
    stale_for: Count = Field(default=300, ge=0)
    """Seconds that known keys stay good while Redis is away."""
    remember: Count = Field(default=100_000, ge=1)
    """Entries that each in-process copy of Redis's data holds at most."""


class TokenKey(Model):
    id: Name
    """Named in the token's header, so that secrets can be replaced one after the other."""
    secret: TokenSecret = None
    """Text of at least 32 bytes."""


class AppTokenSettings(Model):
    issuer: Text = "primit"
    """`iss` of every token."""
    audience: Text = "primit-app"
    """`aud` of every token."""
    lifetime: Count = Field(default=604_800, ge=1)
    """Seconds until a token expires; this is a week."""
    secrets: tuple[TokenKey, ...] = (TokenKey(id="k1"),)
    """The first one signs, all of them verify."""


class GoogleSettings(Model):
    audiences: tuple[Text, ...] = ()
    """OAuth client ids of the apps; none: nobody signs in by Google."""
    certificates_url: Url = "https://www.googleapis.com/oauth2/v1/certs"
    """Where Google publishes the certificates of its signing keys."""


class AppleSettings(Model):
    audiences: tuple[Text, ...] = ()
    """Bundle ids of the apps; none: nobody signs in by Apple."""
    keys_url: Url = "https://appleid.apple.com/auth/keys"
    """Where Apple publishes its signing keys."""


class VaultKey(Model):
    id: Name
    """Kept beside what it encrypted, so that keys can be replaced one after the other."""
    secret: VaultSecret = None
    """Base64 of 32 bytes: `openssl rand -base64 32`."""


class VaultSettings(Model):
    encryption_keys: tuple[VaultKey, ...] = (VaultKey(id="v1"),)
    """The first one encrypts, all of them decrypt."""
    binance_url: Url = "https://fapi.binance.com"
    """Where registered keys are verified."""
    timeout: Number = Field(default=5, gt=0)
    """Seconds that one answer of Binance may take."""
    requests: Count = Field(default=30, ge=1)
    """Requests an address may send to the /api-key endpoints in one window."""
    window: Count = Field(default=60, ge=1)
    """Seconds that window is long."""


class CorsSettings(Model):
    origins: tuple[Origin, ...] = Field(min_length=1)
    """Pages that may call from a browser, as in https://app.example.com; "*" is all of them."""
    headers: tuple[HeaderName, ...] = ("Authorization", "Content-Type", "X-Primit-API-Key")
    """Request headers that such pages may set."""
    max_age: Count = Field(default=600, ge=0)
    """Seconds that a browser may remember the answer to a preflight."""


class BoundsSettings(Model):
    request_line: Count = Field(default=8192, ge=512)
    """Bytes; a longer one is a 414."""
    headers: Count = Field(default=32_768, ge=1024)
    """Bytes of all header fields together; more is a 431."""
    header_fields: Count = Field(default=100, ge=10)
    """Fields; more is a 431."""
    keep_alive: Number = Field(default=75, gt=0)
    """Seconds that a client's idle connection is kept."""


class SocketsSettings(Model):
    idle: Number = Field(default=300, gt=0)
    """Seconds that an upgraded connection may be quiet, in both directions, before it ends."""
    max_per_ip: Count = Field(default=100, ge=1)
    """Open sockets of one address (IPv6: network), in each worker; more is a 429."""
    max_per_key: Count = Field(default=100, ge=1)
    """Open sockets of one plan key or app user, in each worker; more is a 429."""
    max: Count = Field(default=10_000, ge=1)
    """Open sockets in each worker; more is a 503."""


class ShutdownSettings(Model):
    grace: Number = Field(default=0, ge=0)
    """Seconds between "not ready" and closing the port, for a load balancer to notice."""
    deadline: Number = Field(default=30, ge=0)
    """Seconds that requests under way get to finish."""


class LoggingSettings(Model):
    format: Literal["json", "text"] = "json"
    """One JSON object a line, or lines for people."""
    access: Flag = True
    """One line per request."""
    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least serious that is logged."""


class TracingSettings(Model):
    endpoint: Url | None = None
    """Where traces go, by OTLP over HTTP; null: nowhere."""
    sample: Number = Field(default=0.01, ge=0, le=1)
    """Share of the requests that are traced, unless the client's traceparent decides."""


class Settings(Model):
    """All of config/gateway.yaml."""

    listen: ListenSettings = ListenSettings()
    """Where clients connect."""
    admin: AdminSettings = AdminSettings()
    """Where operators and Prometheus connect."""
    store: StoreSettings = StoreSettings()
    """Where keys, users and counts are kept."""
    client_ip: ClientIpSettings = ClientIpSettings()
    """Whose request it is, when proxies stand in front."""
    rate_limit: RateLimitSettings = RateLimitSettings()
    """The limit per client address, over all routes."""
    plans: tuple[PlanName, ...] = Field(default=("free", "standard", "professional"), min_length=1)
    """Ascending: each opens what the ones before it open."""
    keys: KeySettings = KeySettings()
    """Plan keys (pk_...)."""
    app_tokens: AppTokenSettings = AppTokenSettings()
    """What users of the native apps get at sign-in."""
    google: GoogleSettings = GoogleSettings()
    """Sign-in by Google."""
    apple: AppleSettings = AppleSettings()
    """Sign-in by Apple."""
    vault: VaultSettings = VaultSettings()
    """Registered Binance keys."""
    cors: CorsSettings | None = None
    """Pages that may call from a browser, for routes that don't say otherwise; null: none."""
    bounds: BoundsSettings = BoundsSettings()
    """How much a request's head may be, and how long a client may take."""
    sockets: SocketsSettings = SocketsSettings()
    """WebSockets and other upgraded connections."""
    shutdown: ShutdownSettings = ShutdownSettings()
    """How the gateway ends."""
    logging: LoggingSettings = LoggingSettings()
    """Requests are logged on standard output, all else on standard error."""
    tracing: TracingSettings = TracingSettings()
    """Where a request's spans go."""

    # Where secrets were asked of variables that are unset, for `missing_secrets`.
    _unset: dict[Loc, Unset] = PrivateAttr(default_factory=dict)
    _places: dict[Loc, str] = PrivateAttr(default_factory=dict)

    def unset(self, loc: Loc) -> Unset | None:
        """The variables that the secret at `loc` waits for."""
        return self._unset.get(loc)

    def place(self, loc: Loc) -> str:
        """Where the secret or list of secrets at `loc` stands: `file:line:column`."""
        return self._places.get(loc, "(settings)")


# What the defaults of secrets read; a type can't say it, the environment is not known there.
DEFAULT_SECRETS: dict[tuple[str, str], list[dict[str, str]]] = {
    ("app_tokens", "secrets"): [{"id": "k1", "secret": "${GATEWAY_TOKEN_SECRET}"}],
    ("vault", "encryption_keys"): [{"id": "v1", "secret": "${GATEWAY_VAULT_KEY}"}],
}


def load_settings(path: Path | None, environ: Mapping[str, str]) -> Settings:
    """The settings in the file at `path` (None: defaults), with what `environ` says otherwise.

    Raises ConfigurationError with every problem there is.
    """
    document = Document("(defaults)", environ) if path is None else Document.read(path, environ)
    _apply_overrides(document, environ)
    _apply_defaults(document)
    checked = check(document, Settings, ())
    if checked.model is not None:
        _check_whole(document, checked.model, checked)
    _check_repeated(document, ("plans",))
    _check_repeated(document, ("app_tokens", "secrets"), "id")
    _check_repeated(document, ("vault", "encryption_keys"), "id")
    if document.complaints or checked.model is None:
        raise ConfigurationError(document.complaints)
    settings = checked.model
    settings._unset.update(document.unset)  # noqa: SLF001  # ours, before anyone else sees it
    for section, field in DEFAULT_SECRETS:
        whole: Loc = (section, field)
        secrets = getattr(getattr(settings, section), field)
        locs = [whole, *((*whole, index, "secret") for index in range(len(secrets)))]
        settings._places.update({loc: str(document.place(loc)) for loc in locs})  # noqa: SLF001  # as above
    return settings


def _apply_overrides(document: Document, environ: Mapping[str, str]) -> None:
    for variable in sorted(environ):
        section, separator, field = variable.removeprefix(PREFIX).lower().partition("__")
        if variable.startswith(PREFIX) and (separator or section in Settings.model_fields):
            document.override(variable, (section, *field.split("__")) if separator else (section,))


def _apply_defaults(document: Document) -> None:
    """What stands where the file says nothing, as far as a type can't say it."""
    if not isinstance(document.value, dict | None):
        return
    fields = Settings.model_fields
    document.value = {
        section: value
        for section, value in (document.value or {}).items()
        # A section whose fields are all commented out is null in YAML.
        if value is not None or not isinstance(getattr(fields.get(section), "default", None), Model)
    }
    for (section, field), default in DEFAULT_SECRETS.items():
        given = document.value.setdefault(section, {})
        if isinstance(given, dict) and field not in given:
            given[field] = document.default((section, field), default)


def _check_whole(document: Document, settings: Settings, checked: Checked[Settings]) -> None:
    """What concerns more than one field. Fields that are wrong by themselves are left out."""
    listen, admin = settings.listen, settings.admin
    if (
        checked.sound(("store", "url"), ("listen", "workers"))
        and settings.store.url == "memory://"
        and listen.workers > 1
    ):
        document.complain(
            ("listen", "workers"),
            f"listen.workers is {listen.workers}, but memory:// is seen by one process alone; "
            "set it to 1, or store.url to a Redis",
        )
    hosts = {listen.host, admin.host}
    if (
        checked.sound(("listen", "port"), ("admin", "port"), ("listen", "host"), ("admin", "host"))
        and listen.port == admin.port != 0
        and (len(hosts) == 1 or hosts & {"0.0.0.0", "::"})  # noqa: S104  # compared, not bound
    ):
        document.complain(
            ("admin", "port"), f"admin.port is that of listen ({listen.port}); choose another"
        )


def _check_repeated(document: Document, loc: Loc, field: str | None = None) -> None:
    """Complain of what the list at `loc` names twice; `field` is its items' name."""
    items = document.get(loc)
    if not isinstance(items, list):
        return
    seen = set()
    for index, item in enumerate(items):
        name = item.get(field) if isinstance(item, dict) else item
        at: Loc = (*loc, index) if field is None else (*loc, index, field)
        if name in seen:
            document.complain(at, f"{dotted(loc)} has {document.quote(at, name)} twice; rename one")
        if isinstance(name, str):
            seen.add(name)
