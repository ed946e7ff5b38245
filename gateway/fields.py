"""The forms that single fields of settings and routes may have, each with its own complaint.

A validator here raises ValueError with the rest of a sentence that begins with the field's name;
it never repeats a value that may be, or hold, a secret.
"""

import base64
import binascii
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainValidator,
    SecretStr,
    Strict,
    WithJsonSchema,
)

from gateway import networks
from gateway.routing import segments
from gateway.yamlfile import Unset, did_you_mean

TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+").fullmatch  # RFC 9110 §5.6.2
STORE_SCHEMES = (
    "memory",
    "redis",
    "rediss",
    "unix",
    "redis+sentinel",
    "rediss+sentinel",
    "redis+cluster",
    "rediss+cluster",
)
# Fields that are of one connection, or that say where a message ends: never to be set by hand.
FRAMING = frozenset(
    {
        "connection",
        "content-length",
        "expect",
        "host",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
IDENTITY = frozenset(
    {
        "forwarded",
        "x-auth-pattern",
        "x-plan",
        "x-real-ip",
        "x-request-id",
        "x-user-email",
        "x-user-id",
    }
)
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
LONGEST_WINDOW_SECONDS = 86_400
LONGEST_SOCKET_PATH = 107  # bytes; sun_path of unix(7) less the NUL
UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9}
UNITS |= {"kib": 2**10, "mib": 2**20, "gib": 2**30}

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*").fullmatch
_PLAN = re.compile(r"[a-z0-9][a-z0-9_-]*").fullmatch
_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?").fullmatch
_BYTES = re.compile(r"([0-9]+) ?([a-z]*)").fullmatch


def _text(value: str) -> str:
    if not value or value != value.strip() or not value.isprintable():
        raise ValueError("must be text without spaces around it or control characters")
    return value


def _name(value: str) -> str:
    if not _NAME(value) or len(value) > 64:
        raise ValueError("must be 1 to 64 letters, digits, '.', '_' or '-', as in my-orders")
    return value


def _plan(value: str) -> str:
    if not _PLAN(value):
        raise ValueError("must be lower-case letters, digits, '_' or '-', as in standard")
    return value


def _host(value: str) -> str:
    if not _HOST(value):
        raise ValueError("must be a host name without port, as in api.example.com")
    return value.lower()


def _header_name(value: str) -> str:
    if not TOKEN(value):
        raise ValueError("must be a header's name, as in X-Backend-Key")
    return value


def _settable(value: str) -> str:
    folded = value.lower().replace("_", "-")  # as many backends do
    if folded in FRAMING:
        raise ValueError("belongs to the connection; leave it out, the gateway takes care of it")
    if folded in IDENTITY or folded.startswith("x-forwarded-"):
        raise ValueError("is what the gateway says of each request; choose another name")
    return _header_name(value)


def _method(value: str) -> str:
    if value not in METHODS:
        raise ValueError(f"must be one of {', '.join(METHODS)}{_close(value.upper(), METHODS)}")
    return value


def _methods(value: tuple[str, ...]) -> tuple[str, ...]:
    repeated = sorted({method for method in value if value.count(method) > 1})
    if repeated:
        raise ValueError(f"has {repeated[0]} twice; leave one out")
    if not value:
        raise ValueError("must not be empty; leave the field out for all methods")
    return value


def _route_path(value: str) -> str:
    segments(value)
    return value


def _example(value: str) -> str:
    method, _, target = value.partition(" ")
    if method not in METHODS or not re.fullmatch(r"/[!-~]*", target):
        raise ValueError("must be a method and a path, as in GET /strategies/7")
    return value


def _header_value(value: SecretStr) -> SecretStr:
    if not re.fullmatch(r"[!-~]([ -~]*[!-~])?", value.get_secret_value()):
        raise ValueError("must be one line of ASCII text, without spaces around it")
    return value


def _visible(value: SecretStr | None) -> SecretStr | None:
    if value is not None and not re.fullmatch(r"[!-~]+", value.get_secret_value()):
        raise ValueError("must be one or more visible ASCII characters, without spaces")
    return value


def _token_secret(value: SecretStr | None) -> SecretStr | None:
    if value is not None and len(value.get_secret_value().encode()) < 32:
        raise ValueError("must have at least 32 bytes; `openssl rand -base64 48` makes one")
    return value


def _vault_secret(value: SecretStr | None) -> SecretStr | None:
    if value is None:
        return None
    try:
        key = base64.b64decode(value.get_secret_value(), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != 32:
        raise ValueError("must be base64 of exactly 32 bytes; `openssl rand -base64 32` makes one")
    return value


def _unset_is_none(value: Any) -> Any:
    """A secret may wait for its variable; what can't do without it says so later."""
    return None if isinstance(value, Unset) else value


def _network(value: Any) -> networks.Network:
    if isinstance(value, networks.Network):
        return value
    if isinstance(value, Unset):
        raise ValueError(f"{value}; set it")  # noqa: TRY004  # pydantic takes no other for a problem
    return networks.network(str(value))


def _upgrade_name(value: str) -> str:
    """RFC 9110 §7.8: protocol-name, and `/` protocol-version if there is one."""
    name = value.lower()
    if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9a-z-]+(/[!#$%&'*+.^_`|~0-9a-z-]+)?", name):
        raise ValueError("must be a protocol's name, as in foo or foo/2")
    if name == "websocket":
        raise ValueError("has a field of its own; say `websocket: true`")
    if name.partition("/")[0] in ("h2", "h2c", "http", "tls"):
        raise ValueError("can't be tunneled: it would carry requests past every check")
    return name


def _url_path(value: str) -> str:
    if not re.fullmatch(r"/[!-~]*", value) or "?" in value or "#" in value:
        raise ValueError("must be a path that begins with '/', without query, as in /health")
    return value


def _url(value: str) -> str:
    if not _is_http(value):
        raise ValueError("must be an address, as in https://example.com/path")
    return value


def _target(value: str) -> str:
    if value.startswith("unix:"):
        return _unix_target(value)
    parts = urlsplit(value) if _is_http(value) else None
    if parts is None or parts.query or parts.fragment or "?" in value or "#" in value:
        raise ValueError(
            "must be http:// or https:// with host and port, or unix:// with a path, "
            "as in http://10.0.0.5:9001"
        )
    if parts.username is not None or parts.password is not None:
        raise ValueError("must not hold a user or password; send them in the upstream's headers")
    if parts.path not in ("", "/"):
        raise ValueError("must end after host and port; a path comes from the request")
    return value.removesuffix("/")


def _unix_target(value: str) -> str:
    path = value.removeprefix("unix://")
    if not re.fullmatch(r"/[!-~]*[!-.0-~]", path):
        raise ValueError("must name a socket by its whole path, as in unix:///run/app.sock")
    if len(path) > LONGEST_SOCKET_PATH:
        raise ValueError(f"has a path of more than {LONGEST_SOCKET_PATH} characters")
    return value


def _origin(value: str) -> str:
    if value == "*":
        return value
    parts = urlsplit(value) if _is_http(value) else None
    if parts is None or value != f"{parts.scheme}://{parts.netloc}" or parts.username is not None:
        raise ValueError('must be "*" or scheme and host alone, as in https://app.example.com')
    return value


def _close(word: str, known: Iterable[str]) -> str:
    """`did_you_mean`, where the complaint has listed all there are already."""
    hint = did_you_mean(word, known)
    return hint if hint.startswith("; did you mean") else ""


def _is_http(value: str) -> bool:
    """Is it an http or https URL with a host, and a port that can be?"""
    if not re.fullmatch(r"[!-~]+", value):
        return False
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname) and port != 0


def _store_url(value: str) -> str:
    """Its shape; the store connects later. The URL may hold a password: it is never repeated."""
    scheme, separator, rest = value.partition("://")
    if not separator or scheme not in STORE_SCHEMES:
        hint = _close(scheme, STORE_SCHEMES) if separator else ""
        raise ValueError(f"must begin with {', '.join(f'{s}://' for s in STORE_SCHEMES)}{hint}")
    place = rest.partition("?")[0]
    if scheme != "unix" and "/" in place.rpartition("@")[0]:
        raise ValueError("has a '/' in its user or password; write it as %2F")
    address, _, path = place.rpartition("@")[2].partition("/")
    if scheme == "memory":
        good, form = not rest, "memory://"
    elif scheme == "unix":
        good, form = place.rpartition("@")[2].startswith("/"), "unix:///run/redis/redis.sock"
    elif scheme.endswith("+sentinel"):
        good = _addresses(address) and bool(re.fullmatch(r"[^/]+(/[0-9]*)?", path))
        form = f"{scheme}://host:26379,host:26379/master/0"
    elif scheme.endswith("+cluster"):
        good, form = _addresses(address) and path in ("", "0"), f"{scheme}://host:6379,host:6379"
    else:
        good = _addresses(address) and "," not in address and bool(re.fullmatch("[0-9]*", path))
        form = f"{scheme}://host:6379/0"
    if not good:
        raise ValueError(f"isn't a complete address of this kind; write it as in {form}")
    return value


def _addresses(text: str) -> bool:
    """Is `text` host:port, one or several with commas between?"""
    for one in text.split(","):
        match = re.fullmatch(r"(?:[A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\])(?::([0-9]{1,5}))?", one)
        if match is None or (match[1] is not None and not 0 < int(match[1]) < 65536):
            return False
    return True


def _byte_count(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    match = _BYTES(value.lower())
    if match is None or match[2] not in UNITS:
        raise ValueError("must be a number of bytes, as in 1048576 or 1MiB")
    return int(match[1]) * UNITS[match[2]]


def _scope_word(value: str) -> str:
    """RFC 6749 §3.3: scope-token."""
    if not re.fullmatch(r"[!#-\[\]-~]+", value):
        raise ValueError("must be one word of visible ASCII characters, without quotes")
    return value


def _moment(value: Any) -> float:
    try:
        moment = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        raise ValueError("must be a time as in 2027-01-01T12:00:00 (UTC), in quotes") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _window(value: Any) -> Any:
    seconds = isinstance(value, int) and not isinstance(value, bool)
    if value in ("day", "month") or (seconds and 1 <= value <= LONGEST_WINDOW_SECONDS):
        return value
    raise ValueError(f"must be seconds, from 1 to {LONGEST_WINDOW_SECONDS}, or day or month")


Number = Annotated[float, Strict()]
Count = Annotated[int, Strict()]
Flag = Annotated[bool, Strict()]
Period = Literal["day", "month"]  # of the calendar, in UTC
Window = Annotated[int | Period, PlainValidator(_window, json_schema_input_type=int | Period)]
Moment = Annotated[float, PlainValidator(_moment, json_schema_input_type=str)]  # Unix seconds
Port = Annotated[int, Strict(), Field(ge=0, le=65535)]
ByteCount = Annotated[
    int,
    Strict(),
    Field(ge=0),
    BeforeValidator(_byte_count, json_schema_input_type=int | str),
]
Text = Annotated[str, AfterValidator(_text)]
Name = Annotated[str, AfterValidator(_name)]
PlanName = Annotated[str, AfterValidator(_plan)]
ScopeWord = Annotated[str, AfterValidator(_scope_word)]
HostName = Annotated[str, AfterValidator(_host)]
HeaderName = Annotated[str, AfterValidator(_header_name)]
SettableHeader = Annotated[str, AfterValidator(_settable)]
HeaderValue = Annotated[SecretStr, AfterValidator(_header_value)]
Method = Annotated[
    str, AfterValidator(_method), WithJsonSchema({"type": "string", "enum": list(METHODS)})
]
Methods = Annotated[tuple[Method, ...], AfterValidator(_methods)]
RoutePath = Annotated[str, AfterValidator(_route_path)]
Example = Annotated[str, AfterValidator(_example)]
UpgradeName = Annotated[str, AfterValidator(_upgrade_name)]
Network = Annotated[
    networks.Network,
    PlainValidator(_network, json_schema_input_type=str),
]
UrlPath = Annotated[str, AfterValidator(_url_path)]
Url = Annotated[str, AfterValidator(_url)]
Target = Annotated[str, AfterValidator(_target)]
Origin = Annotated[str, AfterValidator(_origin)]
StoreUrl = Annotated[str, AfterValidator(_store_url)]
VisibleSecret = Annotated[
    SecretStr | None, BeforeValidator(_unset_is_none), AfterValidator(_visible)
]
TokenSecret = Annotated[
    SecretStr | None, BeforeValidator(_unset_is_none), AfterValidator(_token_secret)
]
VaultSecret = Annotated[
    SecretStr | None, BeforeValidator(_unset_is_none), AfterValidator(_vault_secret)
]
