"""TLS towards clients: certificates, which of them a client gets, and their change while serving.

Rules:
- A client gets the first certificate that names the host it asks for (SNI, RFC 6066 §3): an exact
  name goes before a wildcard, which stands for one label (RFC 9525 §6.3). Whoever asks for no host,
  or for one that none names, gets the first of all: it may know this gateway by another name.
- TLS 1.2 or newer, by Python's defaults for servers; ALPN (RFC 7301) offers http/1.1 alone.
- Files are read once, as a whole. A reload makes a new `ServerTls` in place of the old one, or,
  if a pair can't be used, none; connections that exist live on with what they began with.

The certificate proves the gateway to the client and admits nobody. So a request whose Host is not
the name that was asked for in TLS is served as any other, and never a 421 (RFC 9110 §15.5.20 leaves
that open): every host is served here, with the same routes and patterns whatever the certificate.
"""

import ssl
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

from gateway.errors import ConfigurationError
from gateway.settings import Settings


@dataclass(frozen=True, slots=True)
class Certificates:
    """A set of certificates that was loaded whole: `by_name` has wildcards as `*.example.com`."""

    default: ssl.SSLContext
    by_name: dict[str, ssl.SSLContext]

    def choose(self, host: str) -> ssl.SSLContext:
        host = host.lower().removesuffix(".")
        found = self.by_name.get(host) or self.by_name.get(f"*.{host.partition('.')[2]}")
        return found or self.default


class ServerTls:
    """The certificates of `listen.tls`, which must be set."""

    def __init__(self, settings: Settings) -> None:
        """Raises ConfigurationError, with a place for each pair that can't be used."""
        self._settings = settings
        self._certificates = self._load()

    @property
    def context(self) -> ssl.SSLContext:
        """What a connection begins with; the certificate is chosen when its client has spoken."""
        return self._certificates.default

    def _load(self) -> Certificates:
        tls = self._settings.listen.tls
        assert tls is not None
        complaints: list[str] = []
        contexts: list[ssl.SSLContext] = []
        by_name: dict[str, ssl.SSLContext] = {}
        listed_from = len(tls.pairs) - len(tls.certificates)
        for index, (certificate, key) in enumerate(tls.pairs):
            loc: tuple[str | int, ...] = ("listen", "tls")
            if index >= listed_from:
                loc += ("certificates", index - listed_from)
            try:
                context = self._context(certificate, key)
                names = _names(certificate)
            except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
                why = getattr(error, "strerror", None) or str(error)
                complaints.append(
                    f"{self._settings.place(loc)}: cannot use certificate {certificate} with key "
                    f"{key}: {why}"
                )
                continue
            contexts.append(context)
            for name in names:
                by_name.setdefault(name, context)
        if complaints:
            raise ConfigurationError(complaints)
        return Certificates(contexts[0], by_name)

    def _context(self, certificate: str, key: str) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        # A key in a sealed file is an error here, and no question to a terminal.
        context.load_cert_chain(certificate, key, password="")
        context.sni_callback = self._choose
        return context

    def _choose(
        self, connection: ssl.SSLObject | ssl.SSLSocket, host: str | None, _: ssl.SSLContext
    ) -> None:
        if host is not None:
            connection.context = self._certificates.choose(host)


def _names(certificate: str) -> list[str]:
    """The hosts that the first certificate of a file is for (RFC 5280 §4.2.1.6), in lower case."""
    leaf = x509.load_pem_x509_certificates(Path(certificate).read_bytes())[0]
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [name.lower() for name in names.get_values_for_type(x509.DNSName)]


def server_tls(settings: Settings) -> ServerTls | None:
    """What `listen.tls` asks for; None: plain HTTP. Raises ConfigurationError."""
    return None if settings.listen.tls is None else ServerTls(settings)
