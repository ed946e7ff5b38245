"""The types of an upstream in routes.yaml: where it runs, and how it is treated.

Terms: an upstream is a backend; its *targets* are the entries of its list, and an *address* is one
place that a target's name leads to. Everything here counts per worker: workers don't know each
other's connections.
"""

import ssl
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag

from gateway.complaints import TAG, Model
from gateway.fields import (
    Count,
    Flag,
    HeaderValue,
    HostName,
    Name,
    Number,
    SettableHeader,
    Target,
    Text,
    UrlPath,
)
from gateway.filestate import file_state


class Timeout(Model):
    connect: Number = Field(default=2, gt=0)
    """Seconds until a connection must stand, TLS handshake included."""
    read: Number = Field(default=30, gt=0)
    """Seconds that the backend may be silent before and within an answer."""


class Health(Model):
    path: UrlPath
    """Answers 2xx or 3xx while the target is well."""
    interval: Number = Field(default=5, gt=0)
    """Seconds between two checks."""
    timeout: Number = Field(default=3, gt=0)
    """Seconds that a check may take, connecting included."""
    unhealthy_after: Count = Field(default=2, ge=1)
    """Failed checks in a row until an address gets nothing."""
    healthy_after: Count = Field(default=2, ge=1)
    """Good checks in a row until it gets requests again."""


class Ejection(Model):
    failures: Count = Field(default=5, ge=1)
    """Requests in a row that failed (refused, reset, timed out, no HTTP) until it is set aside."""
    seconds: Number = Field(default=10, gt=0)
    """How long, the first time; each further time twice as long."""
    longest: Number = Field(default=300, gt=0)
    """The most seconds. After as many seconds without a further ejection it begins anew."""
    share: Number = Field(default=0.5, ge=0, lt=1)
    """Of all addresses, the most that may be out; so the only one never is. 0: never any."""
    statuses: tuple[Literal[502, 503, 504], ...] = ()
    """Answers that count as failures too. None by default: a backend may say 502 of its own."""


class RouteRetry(Model):
    attempts: Count = Field(ge=1)
    """How often a request is tried at most, the first time included. 1: never again."""


class Retry(Model):
    attempts: Count = Field(default=3, ge=1)
    """How often a request is tried at most, the first time included. 1: never again."""
    budget: Number = Field(default=0.2, ge=0, le=1)
    """Retries, as a share of the upstream's requests in the last seconds; 10 are always free."""


class UnusableFile(Exception):
    """A file of `tls` that can't be used: `field` names it, the text says why."""

    def __init__(self, field: str, why: str) -> None:
        super().__init__(why)
        self.field = field


class UpstreamTls(Model):
    ca: Text | None = None
    """A file with the authorities (PEM) that may vouch for it; null: the system's."""
    server_name: HostName | None = None
    """The name asked for (SNI) and looked for in its certificate; null: the target's host."""
    certificate: Text | None = None
    """A file with the gateway's own certificate (PEM, its chain behind it), for those who ask."""
    key: Text | None = None
    """The file with that certificate's key (PEM, without passphrase)."""
    verify: Flag = True
    """false: believe whoever answers. Only for a network where nobody else can."""

    def context(self) -> ssl.SSLContext:
        """TLS 1.2 or newer. Raises UnusableFile."""
        try:
            context = ssl.create_default_context(cafile=self.ca)
        except (OSError, ssl.SSLError) as error:
            raise UnusableFile("ca", _why(error, "certificates in PEM form")) from None
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if not self.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if self.certificate is not None and self.key is not None:
            for field, path in (("certificate", self.certificate), ("key", self.key)):
                try:
                    Path(path).read_bytes()
                except OSError as error:
                    raise UnusableFile(field, _why(error, "")) from None
            try:
                # An empty password: a key that asks for one is refused instead of asked about.
                context.load_cert_chain(self.certificate, self.key, password="")
            except (OSError, ValueError) as error:
                wanted = "a certificate in PEM form with the key beside it"
                raise UnusableFile("certificate", _why(error, wanted)) from None
        return context

    def state(self) -> tuple[object, ...]:
        """Changes when one of the files does."""
        return tuple(map(file_state, self.files))

    @property
    def files(self) -> tuple[Path, ...]:
        named = (self.ca, self.certificate, self.key)
        return tuple(Path(name) for name in named if name is not None)


def _why(error: Exception, wanted: str) -> str:
    if isinstance(error, OSError) and not isinstance(error, ssl.SSLError):
        return f"can't be read: {(error.strerror or 'unknown error').lower()}"
    return f"doesn't hold {wanted}"


class WeightedTarget(Model):
    url: Target
    """As the entries without weight are written."""
    weight: Number = Field(default=1, gt=0, le=1000)
    """How much of the load each of its addresses takes, beside those of other targets."""


def _target_form(value: object) -> str:
    return f"{TAG}fields" if isinstance(value, dict | WeightedTarget) else f"{TAG}url"


class UpstreamFields(Model):
    """An upstream as the file has it: its name is the field's name."""

    targets: tuple[
        Annotated[
            Annotated[Target, Tag(f"{TAG}url")] | Annotated[WeightedTarget, Tag(f"{TAG}fields")],
            Discriminator(_target_form),
        ],
        ...,
    ] = Field(min_length=1)
    """Where it runs: http://10.0.0.5:9001, https://…, unix:///run/app.sock, or {url, weight}.
    Several share the load, and so do all addresses of a name."""
    timeout: Timeout = Timeout()
    """How long it may take; a route may say otherwise."""
    health: Health | None = None
    """What to ask each address now and then, to send nothing to those that are down."""
    ejection: Ejection = Ejection()
    """When an address is set aside for a while because requests to it fail."""
    slow_start: Number = Field(default=10, ge=0)
    """Seconds until an address that returns has its whole share again; 0: at once."""
    max_connections: Count = Field(default=10000, ge=1)
    """Connections to it, of each worker; WebSockets among them."""
    max_requests: Count = Field(default=4096, ge=1)
    """Requests under way, of each worker; a WebSocket is none any more."""
    max_queue: Count = Field(default=1024, ge=0)
    """Requests that wait, in order, when one of the two is reached; more are a 503."""
    queue_timeout: Number = Field(default=5, gt=0)
    """Seconds that one waits at most; then it is a 503."""
    retry: Retry = Retry()
    """How often to try again what may be sent again; a route may say otherwise."""
    resolve_every: Number = Field(default=30, gt=0)
    """Seconds between two look-ups of a target's name."""
    tls: UpstreamTls = UpstreamTls()
    """Of https:// targets: whom to believe, and who the gateway is."""
    host: Literal["target", "preserve"] = "target"
    """The Host header it gets: that of the target (unix: localhost), or the client's."""
    headers: dict[SettableHeader, HeaderValue] = Field(default_factory=dict)
    """Set on each request, as X-Backend-Key: "${BACKEND_KEY}"."""

    @property
    def weighted_targets(self) -> tuple[WeightedTarget, ...]:
        return tuple(
            WeightedTarget.model_construct(url=entry, weight=1.0)
            if isinstance(entry, str)
            else entry
            for entry in self.targets
        )


class UpstreamSpec(UpstreamFields):
    name: Name
