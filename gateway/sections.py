"""The sections of config/gateway.yaml as types: what each may say, with its defaults.

`settings.py` reads them; where a field's form is checked stands in `fields.py`. Seconds are
seconds, bytes are bytes. The sentence below a field stands in the JSON Schema too.
"""

from abc import abstractmethod
from itertools import chain
from pathlib import Path
from typing import Literal

from pydantic import Field, PrivateAttr

from gateway.complaints import Model
from gateway.fields import (
    Count,
    Flag,
    HeaderName,
    HostName,
    Name,
    Network,
    Number,
    Origin,
    Period,
    Port,
    StoreUrl,
    Text,
    Url,
    UrlPath,
    VaultSecret,
    VisibleSecret,
)
from gateway.networks import AccessList, NetworkSet, read_networks
from gateway.tokenfile import LegacyTokenSettings, TokenKey, read_token_file

WhenStoreIsDown = Literal["local", "allow", "deny"]
FUTURES_URL, SPOT_URL = "https://fapi.binance.com", "https://api.binance.com"  # of Binance


class CertificateSettings(Model):
    certificate: Text
    """PEM file: the certificate, then its chain."""
    key: Text
    """PEM file: the private key."""


class TlsSettings(Model):
    certificate: Text | None = None
    """PEM file: the certificate, then its chain."""
    key: Text | None = None
    """PEM file: the private key."""
    certificates: tuple[CertificateSettings, ...] = ()
    """More of them: a client gets the one that names the host it asks for, or else the first."""

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """Files of certificate and key; the first pair is the default."""
        first = ((self.certificate, self.key),) if self.certificate and self.key else ()
        return (*first, *((more.certificate, more.key) for more in self.certificates))


class ProxyProtocolSettings(Model):
    trusted: tuple[Network, ...] = Field(min_length=1)
    """Networks of the balancers whose connections all begin with a PROXY header."""


class ListenSettings(Model):
    host: Text = "0.0.0.0"  # noqa: S104  # a gateway is there to be reached
    """Address that clients connect to; 0.0.0.0 is all of IPv4."""
    port: Port = 8080
    """0 takes a free one."""
    workers: Count = Field(default=1, ge=1)
    """Processes that share the port; one per core is right."""
    worker_timeout: Number = Field(default=10, ge=1)
    """Seconds without a sign of life after which a worker is replaced."""
    tls: TlsSettings | None = None
    """Certificate and key when clients connect by TLS; null: plain HTTP."""
    proxy_protocol: ProxyProtocolSettings | None = None
    """Balancers that tell the client's address by a PROXY header; null: none does."""


class AdminSettings(Model):
    host: Text = "127.0.0.1"
    """Address of the probes, the metrics and the admin API; keep it private."""
    port: Port = 9901
    """0 takes a free one."""
    token: VisibleSecret = None
    """Required to change anything through the admin API; null: nothing can be changed there."""


class StoreSettings(Model):
    url: StoreUrl = Field(default="memory://", repr=False)
    """memory:// (for trying out), redis://, unix://, redis+sentinel:// or redis+cluster://; by TLS
    rediss://, rediss+sentinel:// or rediss+cluster://."""
    prefix: Name = "gw"
    """Begins the name of every key in Redis."""
    timeout: Number = Field(default=0.05, gt=0)
    """Seconds that one answer of Redis may take."""


class ClientIpSettings(Model):
    trusted_proxies: tuple[Network, ...] = ()
    """Networks of the proxies in front, whose X-Forwarded-For is believed."""
    ipv6_prefix: Count = Field(default=64, ge=1, le=128)
    """IPv6 clients are limited per network of this size."""


class NetworkLists(Model):
    deny: tuple[Network, ...] = ()
    """Whose requests are refused with 403, before anything else is asked."""
    deny_files: tuple[Text, ...] = ()
    """Files with more of them, one on each line; read again at each reload."""
    allow: tuple[Network, ...] = ()
    """If there are any, here or in allow_files, nobody else is let in; deny goes first."""
    allow_files: tuple[Text, ...] = ()
    """Files with more of them."""

    # Of both lists with their files; None: everybody may come. Equal lists are of equal content.
    _access: AccessList | None = PrivateAttr(default=None)

    @property
    def access(self) -> AccessList | None:
        """Whom they let in, as their files were when `load` read them; None: everybody."""
        return self._access

    @property
    def files(self) -> tuple[Path, ...]:
        return tuple(map(Path, (*self.deny_files, *self.allow_files)))

    def load(self) -> None:
        """Read the files. Raises OSError, with its file's name, and BadNetworks."""
        if self == NetworkLists():
            return
        deny = chain(self.deny, *(read_networks(Path(name)) for name in self.deny_files))
        allow = chain(self.allow, *(read_networks(Path(name)) for name in self.allow_files))
        restricted = bool(self.allow or self.allow_files)
        self._access = AccessList(NetworkSet.of(deny), NetworkSet.of(allow) if restricted else None)


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
    when_store_is_down: WhenStoreIsDown = "local"
    """While Redis is away: count in this process, admit everything, or refuse everything."""


class PlanLimits(Model):
    requests: Count | None = Field(default=None, ge=1)
    """Requests that a user may send in any one window, over all routes that ask who calls."""
    window: Count = Field(default=60, ge=1, le=86_400)
    """Seconds that window is long; it slides."""
    daily: Count | None = Field(default=None, ge=1)
    """Requests on one day (UTC), or their weights; null: any number."""
    monthly: Count | None = Field(default=None, ge=1)
    """In one month (UTC)."""

    @property
    def windows(self) -> dict[int | Period, int]:
        """How many requests in which window, the shortest first."""
        limits: dict[int | Period, int | None] = {
            self.window: self.requests,
            "day": self.daily,
            "month": self.monthly,
        }
        return {window: most for window, most in limits.items() if most is not None}


class KeySettings(Model):
    stale_for: Count = Field(default=300, ge=0)
    """Seconds that known keys stay good while Redis is away."""
    remember: Count = Field(default=100_000, ge=1)
    """Entries that each in-process copy of Redis's data holds, beside a tenth of absent names."""


class LedgerSettings(Model):
    enabled: Flag = True
    """Count what each key does, by day and route."""
    keep_days: Count = Field(default=400, ge=1, le=10_000)
    """Days that the counts of a day are kept after it."""
    remember: Count = Field(default=100_000, ge=1)
    """Counts that a worker keeps while Redis is away, one for each key, day and route."""


class RefreshSettings(Model):
    lifetime: Count = Field(default=7_776_000, ge=1)
    """Seconds from a sign-in until its session ends, whatever is done; this is 90 days."""
    idle: Count = Field(default=2_592_000, ge=1)
    """Seconds without a refresh after which it ends; this is 30 days."""
    grace: Count = Field(default=0, ge=0, le=60)
    """Seconds in which the token that was used last gives the same answer once more."""
    requests: Count = Field(default=60, ge=1)
    """Refreshes an address may try in one window."""
    window: Count = Field(default=60, ge=1, le=86_400)
    """Seconds that window is long."""


class AppTokenSettings(Model):
    issuer: Text = "primit"
    """`iss` of every token."""
    audience: Text = "primit-app"
    """`aud` of every token."""
    lifetime: Count = Field(default=604_800, ge=1)
    """Seconds until a token expires; this is a week."""
    secrets: tuple[TokenKey, ...] = (TokenKey(id="k1"),)
    """All of them verify. The newest by signs_from signs; without times, the first."""
    secrets_file: Text | None = None
    """More of them, as `gateway tokens rotate` writes it; its owner alone may read it."""
    refresh: RefreshSettings | None = None
    """Refresh tokens, which sign-in gives too then; null: none."""
    legacy: LegacyTokenSettings | None = None
    """Tokens that the platform issued before the gateway came; null: none is taken."""

    _filed: tuple[TokenKey, ...] = PrivateAttr(default=())

    @property
    def keys(self) -> tuple[TokenKey, ...]:
        """Those of the settings, then those of the file as it was when `load` read it."""
        return (*self.secrets, *self._filed)

    def load(self) -> None:
        """Read the file. Raises FileRefused; ConfigurationError with its mistakes."""
        if self.secrets_file is not None:
            self._filed = read_token_file(Path(self.secrets_file))


class ProviderSettings(Model):
    audiences: tuple[Text, ...] = ()
    """Ids of the apps there; none: nobody signs in by this provider."""
    nonce: Literal["optional", "required", "hashed"] = "optional"
    """Must a sign-in name its token's nonce? hashed: and the token have the SHA-256 of it?"""
    keys_kept_for: Count = Field(default=86_400, ge=0)
    """Seconds that the provider's keys stay in use past their lifetime while it is away."""
    timeout: Number = Field(default=5, gt=0)
    """Seconds that one fetch of its keys may take."""

    @property
    def parties(self) -> frozenset[str]:
        """Whom its tokens may have been issued to."""
        return frozenset(self.audiences)

    @property
    @abstractmethod
    def keys_at(self) -> str:
        """Where its keys are."""


class GoogleSettings(ProviderSettings):
    certificates_url: Url = "https://www.googleapis.com/oauth2/v1/certs"
    """Where Google publishes the certificates of its signing keys."""
    authorized_parties: tuple[Text, ...] = ()
    """Client ids that tokens may have been issued to (`azp`); none: the audiences."""
    hosted_domains: tuple[HostName, ...] = ()
    """Google Workspace domains whose people may sign in; none: everybody."""

    @property
    def parties(self) -> frozenset[str]:
        return frozenset(self.authorized_parties or self.audiences)

    @property
    def keys_at(self) -> str:
        return self.certificates_url


class AppleSettings(ProviderSettings):
    keys_url: Url = "https://appleid.apple.com/auth/keys"
    """Where Apple publishes its signing keys."""

    @property
    def keys_at(self) -> str:
        return self.keys_url


class SignInSettings(Model):
    requests: Count = Field(default=20, ge=1)
    """Sign-ins an address may try in one window, by whichever provider."""
    window: Count = Field(default=60, ge=1, le=86_400)
    """Seconds that window is long."""
    replay: Literal["allow", "refuse"] = "allow"
    """Whether a provider's token may sign in again within its lifetime."""


class VaultKey(Model):
    id: Name
    """Kept beside what it encrypted, so that keys can be replaced one after the other."""
    secret: VaultSecret = None
    """Base64 of 32 bytes: `openssl rand -base64 32`."""
    file: Text | None = None
    """Instead of secret: the file that holds it, which others can't read."""


class VaultSettings(Model):
    encryption_keys: tuple[VaultKey, ...] = (VaultKey(id="v1"),)
    """The first one encrypts, all of them decrypt."""
    account: Literal["futures", "spot"] = "futures"
    """Whose account a key is tried at: /fapi/v2/account, or spot's /api/v3/account."""
    binance_url: Url = FUTURES_URL
    """Where registered keys are verified; spot's is https://api.binance.com."""
    permissions_url: Url | None = None
    """Where a key's permissions are asked; null: https://api.binance.com for
    https://fapi.binance.com, which doesn't tell them, else binance_url."""
    timeout: Number = Field(default=5, gt=0)
    """Seconds that one verification may take at Binance."""
    verify_every: Count = Field(default=10, ge=0)
    """Seconds in which nobody asks Binance about the same key again; its last word stands."""
    verifications: Count = Field(default=120, ge=1)
    """In a minute, by all gateways together: Binance bans addresses that ask too much."""
    requests: Count = Field(default=30, ge=1)
    """Requests an address may send to each of the /api-key endpoints in one window."""
    window: Count = Field(default=60, ge=1)
    """Seconds that window is long."""

    @property
    def files(self) -> tuple[Path, ...]:
        return tuple(Path(key.file) for key in self.encryption_keys if key.file is not None)


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
    head_timeout: Number = Field(default=10, gt=0)
    """Seconds from a connection's begin, or a later request's first byte, to the head's end."""
    body_timeout: Number = Field(default=30, gt=0)
    """Seconds that may pass between two pieces of a request's body."""
    keep_alive: Number = Field(default=75, gt=0)
    """Seconds that a client's idle connection is kept."""
    requests_per_connection: Count = Field(default=1000, ge=1)
    """The answer to the last one closes it."""
    connections: Count = Field(default=10_000, ge=1)
    """Open connections of clients per worker; further ones are closed at once."""
    connections_per_ip: Count = Field(default=1000, ge=1)
    """Of these, from one address (trusted proxies aside)."""


class ReloadSettings(Model):
    watch: Flag = False
    """Reload when one of the files has changed; else on SIGHUP and `gateway reload` alone."""
    drain: Number = Field(default=30, ge=0)
    """Seconds that requests and sockets on routes that are gone get to finish."""


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
