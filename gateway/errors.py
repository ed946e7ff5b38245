"""Every refusal and fault of the gateway: its status, its text, its reason, and whose fault it is.

A part that refuses a request raises one of these, a new object each time; `pipeline.py` renders
it, counts it by `reason` and logs it. Foreign exceptions (redis, aiohttp, sockets) are mapped to
these at the border where they appear, and go no further.

Terms: the *detail* is what the client reads; the *reason* is a word from a closed set, the label
in metrics and log. Neither ever holds what a client sent.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import TypedDict

REALM = "primit"
BEARER = f'Bearer realm="{REALM}"'  # what a 401 or 403 about a token asks for (RFC 6750 §3)
INVALID_TOKEN = f'{BEARER}, error="invalid_token"'


class Fault(StrEnum):
    """Who has to act when this happens."""

    CLIENT = "client"
    UPSTREAM = "upstream"
    DEPENDENCY = "dependency"
    GATEWAY = "gateway"


class Problem(TypedDict):
    """One entry of a 422, in FastAPI's list form. There is no `input`: nothing is echoed."""

    loc: list[str | int]
    msg: str
    type: str


class GatewayError(Exception):
    """A request that ends here. `headers` are added to the answer as they are."""

    status = 500
    fault = Fault.GATEWAY
    reason = "internal_error"
    closes_connection = False

    def __init__(
        self,
        detail: str | Sequence[Problem] = "Internal Server Error",
        *,
        reason: str | None = None,
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.headers = headers
        if reason is not None:
            self.reason = reason


class BadRequest(GatewayError):
    """400: the request is malformed, or two parsers could read it differently (RFC 9112 §11)."""

    status = 400
    fault = Fault.CLIENT
    reason = "bad_request"
    closes_connection = True


class RequestLineTooLong(BadRequest):
    """414 (RFC 9110 §15.5.15)."""

    status = 414
    reason = "request_line_too_long"

    def __init__(self) -> None:
        super().__init__("URI Too Long")


class HeadersTooLarge(BadRequest):
    """431 (RFC 6585 §5)."""

    status = 431
    reason = "headers_too_large"

    def __init__(self) -> None:
        super().__init__("Request Header Fields Too Large")


class RequestTimeout(BadRequest):
    """408: the client stopped amid its request (RFC 9110 §15.5.9)."""

    status = 408
    reason = "request_timeout"

    def __init__(self) -> None:
        super().__init__("Request Timeout")


class PayloadTooLarge(BadRequest):
    """413: the body is longer than the route takes (RFC 9110 §15.5.14)."""

    status = 413
    reason = "payload_too_large"

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"The request body may have at most {limit_bytes} bytes.")


class Unauthenticated(GatewayError):
    """401: no credential, or not a valid one (RFC 9110 §15.5.2)."""

    status = 401
    fault = Fault.CLIENT

    def __init__(self, detail: str, *, reason: str, challenge: str) -> None:
        super().__init__(detail, reason=reason, headers=(("WWW-Authenticate", challenge),))


class Forbidden(GatewayError):
    """403: the credential is good, and does not open this (RFC 9110 §15.5.4)."""

    status = 403
    fault = Fault.CLIENT
    reason = "forbidden"


class NotFound(GatewayError):
    """404: no route matches the path."""

    status = 404
    fault = Fault.CLIENT
    reason = "no_route"

    def __init__(self) -> None:
        super().__init__("Not Found")


class MethodNotAllowed(GatewayError):
    """405: the path is known, with other methods (RFC 9110 §15.5.6)."""

    status = 405
    fault = Fault.CLIENT
    reason = "method_not_allowed"

    def __init__(self, allow: str) -> None:
        super().__init__("Method Not Allowed", headers=(("Allow", allow),))


class Invalid(GatewayError):
    """422: the body is not what the endpoint takes; every problem of it in one answer."""

    status = 422
    fault = Fault.CLIENT
    reason = "invalid_body"

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__(problems)


class TooManyRequests(GatewayError):
    """429 with `Retry-After` in whole seconds (RFC 6585 §4)."""

    status = 429
    fault = Fault.CLIENT

    def __init__(self, detail: str, *, reason: str, retry_after: int) -> None:
        super().__init__(detail, reason=reason, headers=(("Retry-After", str(retry_after)),))


class UpstreamFailed(GatewayError):
    """502: the backend refused, reset, or answered what is not HTTP (RFC 9110 §15.6.3)."""

    status = 502
    fault = Fault.UPSTREAM
    reason = "upstream_failed"

    def __init__(self, detail: str = "Bad Gateway", *, reason: str | None = None) -> None:
        super().__init__(detail, reason=reason)


class UpstreamTimeout(GatewayError):
    """504: the backend did not answer in time (RFC 9110 §15.6.5)."""

    status = 504
    fault = Fault.UPSTREAM
    reason = "upstream_timeout"

    def __init__(self) -> None:
        super().__init__("Gateway Timeout")


class UpstreamUnavailable(GatewayError):
    """503: no healthy target, or too much is under way already (RFC 9110 §15.6.4)."""

    status = 503
    fault = Fault.UPSTREAM
    reason = "upstream_unavailable"

    def __init__(self, retry_after: int = 1, *, reason: str | None = None) -> None:
        headers = (("Retry-After", str(retry_after)),)
        super().__init__("Service Unavailable", reason=reason, headers=headers)


class Overloaded(GatewayError):
    """503: this worker has as much under way as it may (RFC 9110 §15.6.4)."""

    status = 503
    fault = Fault.GATEWAY

    def __init__(self, *, reason: str, retry_after: int = 1) -> None:
        super().__init__(
            "Service Unavailable", reason=reason, headers=(("Retry-After", str(retry_after)),)
        )


class DependencyUnavailable(GatewayError):
    """503: something that must be asked could not be asked. Never a 401, 403 or 404."""

    status = 503
    fault = Fault.DEPENDENCY
    reason = "dependency_unavailable"

    def __init__(
        self,
        detail: str = "Service Unavailable",
        *,
        reason: str | None = None,
        retry_after: int = 1,
    ) -> None:
        super().__init__(detail, reason=reason, headers=(("Retry-After", str(retry_after)),))


class StoreUnavailable(DependencyUnavailable):
    """503: Redis could not be asked."""

    reason = "store_unavailable"


class BinanceFailed(GatewayError):
    """502 with the platform's own text for it; `cause` is a short word, never a secret.

    `retry_after` (seconds): Binance asked for so much time, or would.
    """

    status = 502
    fault = Fault.DEPENDENCY
    reason = "binance_failed"

    def __init__(self, cause: str, *, retry_after: int | None = None) -> None:
        headers = () if retry_after is None else (("Retry-After", str(retry_after)),)
        super().__init__(f"Binance请求失败: {cause}", headers=headers)
        self.retry_after = retry_after


class ClientGone(GatewayError):
    """The client left before its answer was whole; 499 stands in log and metrics alone."""

    status = 499
    fault = Fault.CLIENT
    reason = "client_gone"

    def __init__(self) -> None:
        super().__init__("Client Closed Request")


class ConfigurationError(Exception):
    """What is wrong with settings or routes, each with file, line and column; for the operator."""

    def __init__(self, complaints: Sequence[str]) -> None:
        super().__init__("\n".join(complaints))
        self.complaints = tuple(complaints)


def forget_frames(error: BaseException) -> None:
    """Of an error that is kept: one of its frames has it too, and the whole connection with it."""
    kept: BaseException | None = error
    while kept is not None:
        kept.__traceback__ = None
        kept = kept.__context__
