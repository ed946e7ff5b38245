"""config/gateway.yaml and the environment -> frozen, typed settings.

Rules: every field has a default; what isn't known is refused; `${NAME}` in a text is read from the
environment, and `GATEWAY_SECTION__FIELD=value` (read as YAML) goes before the file. A secret whose
variable is unset is None: whether that is a problem depends on the routes, see `missing_secrets`
in `routefile.py`. What the sections may say
stands in `sections.py`.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pydantic import Field, PrivateAttr

from gateway.complaints import Checked, Model, check
from gateway.errors import ConfigurationError
from gateway.fields import (
    PlanName,
)
from gateway.networks import BadNetworks
from gateway.secretfile import read_secret
from gateway.sections import (
    FUTURES_URL,
    SPOT_URL,
    AdminSettings,
    AppleSettings,
    AppTokenSettings,
    BoundsSettings,
    ClientIpSettings,
    CorsSettings,
    GoogleSettings,
    KeySettings,
    LedgerSettings,
    ListenSettings,
    LoggingSettings,
    NetworkLists,
    PlanLimits,
    RateLimitSettings,
    ReloadSettings,
    ShutdownSettings,
    SignInSettings,
    SocketsSettings,
    StoreSettings,
    TracingSettings,
    VaultSettings,
)
from gateway.tokenfile import FileRefused
from gateway.yamlfile import Document, Loc, Unset, did_you_mean, dotted

PREFIX = "GATEWAY_"
FILES = ("deny_files", "allow_files")


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
    networks: NetworkLists = NetworkLists()
    """Who may come at all."""
    rate_limit: RateLimitSettings = RateLimitSettings()
    """The limit per client address, over all routes."""
    plans: tuple[PlanName, ...] = Field(default=("free", "standard", "professional"), min_length=1)
    """Ascending: each opens what the ones before it open."""
    plan_limits: dict[PlanName, PlanLimits] = Field(default_factory=dict)
    """What users of a plan may send, by all their keys; who has none has the lowest plan's."""
    keys: KeySettings = KeySettings()
    """Plan keys (pk_...)."""
    ledger: LedgerSettings = LedgerSettings()
    """What each key did, and when it was used last."""
    app_tokens: AppTokenSettings = AppTokenSettings()
    """What users of the native apps get at sign-in."""
    google: GoogleSettings = GoogleSettings()
    """Sign-in by Google."""
    apple: AppleSettings = AppleSettings()
    """Sign-in by Apple."""
    sign_in: SignInSettings = SignInSettings()
    """What holds for sign-in by either."""
    vault: VaultSettings = VaultSettings()
    """Registered Binance keys."""
    cors: CorsSettings | None = None
    """Pages that may call from a browser, for routes that don't say otherwise; null: none."""
    bounds: BoundsSettings = BoundsSettings()
    """How much clients may send and hold, and how long they may take."""
    reload: ReloadSettings = ReloadSettings()
    """How a changed configuration comes into use."""
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
    # Where those and the certificates stand.
    _places: dict[Loc, str] = PrivateAttr(default_factory=dict)

    def unset(self, loc: Loc) -> Unset | None:
        """The variables that the secret at `loc` waits for."""
        return self._unset.get(loc)

    def place(self, loc: Loc) -> str:
        """Where the secret, list of secrets or certificate at `loc` stands: `file:line:column`."""
        return self._places.get(loc, "(settings)")


# What the defaults of secrets read; a type can't say it, the environment is not known there.
DEFAULT_SECRETS: dict[tuple[str, str], list[dict[str, str]]] = {
    ("app_tokens", "secrets"): [{"id": "k1", "secret": "${GATEWAY_TOKEN_SECRET}"}],
    ("vault", "encryption_keys"): [{"id": "v1", "secret": "${GATEWAY_VAULT_KEY}"}],
}

# Lists whose secrets may lie in files.
SECRET_FILES: tuple[Loc, ...] = (("vault", "encryption_keys"),)


def load_settings(
    path: Path | None, environ: Mapping[str, str], *, token_file: bool = True
) -> Settings:
    """The settings in the file at `path` (None: defaults), with what `environ` says otherwise.

    Without `token_file`, app_tokens.secrets_file is not looked at: `tokens rotate` may make it.
    Raises ConfigurationError with every problem there is.
    """
    document = Document("(defaults)", environ) if path is None else Document.read(path, environ)
    _apply_overrides(document, environ)
    _apply_defaults(document)
    _read_secret_files(document)
    inside: list[str] = []  # complaints of another file
    checked = check(document, Settings, ())
    if checked.model is not None:
        _check_whole(document, checked.model, checked)
        load_networks(document, ("networks",), checked.model.networks, dotted)
        if token_file:
            inside += _load_token_file(document, checked.model.app_tokens)
    _check_repeated(document, ("plans",))
    _check_repeated(document, ("app_tokens", "secrets"), "id")
    _check_repeated(document, ("vault", "encryption_keys"), "id")
    if document.complaints or inside or checked.model is None:
        raise ConfigurationError((*document.complaints, *inside))
    settings = checked.model
    settings._unset.update(document.unset)  # noqa: SLF001  # ours, before anyone else sees it
    for section, field in DEFAULT_SECRETS:
        whole: Loc = (section, field)
        secrets = getattr(getattr(settings, section), field)
        locs = [whole, *((*whole, index, "secret") for index in range(len(secrets)))]
        settings._places.update({loc: str(document.place(loc)) for loc in locs})  # noqa: SLF001  # as above
    legacy: Loc = ("app_tokens", "legacy", "secret")
    settings._places[legacy] = str(document.place(legacy))  # noqa: SLF001  # as above
    tls: Loc = ("listen", "tls")
    more = settings.listen.tls.certificates if settings.listen.tls is not None else ()
    locs = [tls, *((*tls, "certificates", index) for index in range(len(more)))]
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
            if given.get("secrets_file") and document.unset.get((section, field, 0, "secret")):
                given[field] = []  # the file has them


def _read_secret_files(document: Document) -> None:
    """Put what the files of secrets hold where the secrets stand."""
    for loc in SECRET_FILES:
        items = document.get(loc)
        for index, item in enumerate(items if isinstance(items, list) else ()):
            if not isinstance(item, dict) or not isinstance(item.get("file"), str):
                continue
            at: Loc = (*loc, index, "file")
            if item.get("secret") is not None:
                document.complain(at, f"{dotted(at)} stands beside a secret; leave one of the two")
                continue
            try:
                item["secret"] = read_secret(Path(item["file"]))
            except ValueError as error:
                document.complain(at, f"{dotted(at)} {error}")


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
    if (
        (tls := listen.tls) is not None
        and checked.sound(("listen", "tls"))
        and (tls.certificate or tls.key or not tls.certificates)
    ):
        for field in ("certificate", "key"):
            if getattr(tls, field) is None:
                loc = ("listen", "tls", field)
                document.complain(loc, f"{dotted(loc)} is missing")
    for plan in settings.plan_limits:
        if checked.sound(("plans",), ("plan_limits", plan)) and plan not in settings.plans:
            at: Loc = ("plan_limits", plan)
            hint = did_you_mean(plan, settings.plans)
            document.complain_at(
                document.name_place(at),
                f"plan_limits names {document.quote(at, plan)}, which isn't in plans{hint}",
            )
    vault = settings.vault
    if (
        checked.sound(("vault", "account"), ("vault", "binance_url"))
        and vault.account == "spot"
        and vault.binance_url.rstrip("/") == FUTURES_URL
    ):
        document.complain(
            ("vault", "account"),
            "vault.account is spot, and vault.binance_url is futures' host; "
            f"set that to {SPOT_URL}",
        )
    tokens = settings.app_tokens
    if (
        checked.sound(("app_tokens", "lifetime"), ("app_tokens", "refresh"))
        and tokens.refresh is not None
        and (shortest := min(tokens.refresh.idle, tokens.refresh.lifetime)) <= tokens.lifetime
    ):
        document.complain(
            ("app_tokens", "refresh"),
            f"app_tokens.refresh ends after {shortest} s, before the access token does "
            f"(app_tokens.lifetime is {tokens.lifetime}): shorten that, to minutes",
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


def load_networks(
    document: Document, at: Loc, lists: NetworkLists, subject: Callable[[Loc], str]
) -> None:
    """Read the files of `lists`, which stand at `at`; `subject` names the field at a loc."""
    try:
        lists.load()
    except BadNetworks as bad:
        for place, text in bad.problems:
            document.complain_at(place, text)
    except OSError as error:
        field = next(name for name in FILES if error.filename in getattr(lists, name))
        loc = (*at, field, getattr(lists, field).index(error.filename))
        why = (error.strerror or "unknown error").lower()
        document.complain(loc, f"{subject(loc)} can't be read: {why}")


def _load_token_file(document: Document, tokens: AppTokenSettings) -> Sequence[str]:
    """The complaints of what stands in it."""
    at: Loc = ("app_tokens", "secrets_file")
    try:
        tokens.load()
    except FileRefused as refused:
        document.complain(at, f"{dotted(at)} {refused}")
    except ConfigurationError as error:
        return error.complaints
    ours = {key.id for key in tokens.secrets}
    for key in tokens.keys[len(tokens.secrets) :]:
        if key.id in ours:
            document.complain(at, f"{dotted(at)} has '{key.id}', as app_tokens.secrets; rename one")
    return ()


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
