"""Runs an operation where the data is: on Redis itself, or in the gateway whose memory holds it.

With `memory://` the data lives in a running gateway, and is reached through its admin listener
with the admin token of the settings.
"""

import asyncio
import http.client
import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from gateway.cli.configuration import read_settings
from gateway.cli.options import Options
from gateway.cli.output import REFUSED, WRONG_USAGE, Failure, failures, show

if TYPE_CHECKING:
    from gateway.settings import Settings

STORE_SECONDS = 5.0  # a command can wait longer than a request may
GATEWAY_SECONDS = 15.0
MAX_ANSWER_BYTES = 64 * 1024 * 1024
UNCONFIRMED = (
    "it is done, but not confirmed by all: a worker that is named as unconfirmed and still runs "
    "may go by what it knew for up to keys.stale_for seconds; the same command asks again"
)
EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # compared, not bound


def operate(
    options: Options, operation: str, *, tables: Sequence[str] = (), **arguments: Any
) -> Any:
    """Run `operation`, print its result and return it. Arguments that are None are not given.

    `tables` are for `output.show`.
    """
    arguments = {name: value for name, value in arguments.items() if value is not None}
    with failures(options.output):
        settings = read_settings(options)
        if settings.store.url.startswith("memory://"):
            result = ask_gateway(settings, operation, arguments)
        else:
            result = asyncio.run(ask_store(settings, operation, arguments), debug=False)
        show(result, options.output, tables)
        if isinstance(result, dict) and result.get("unconfirmed"):
            raise Failure(UNCONFIRMED)
        return result


async def ask_store(settings: "Settings", operation: str, arguments: dict[str, Any]) -> Any:
    """Run it here, on the store that the settings name."""
    from gateway.admin.operations import (  # noqa: PLC0415  # brings redis and cryptography
        OPERATIONS,
        open_context,
    )

    with store_failures(settings, operation):
        async with open_context(settings, timeout_seconds=STORE_SECONDS) as context:
            return await OPERATIONS[operation].run(context, **arguments)


@contextmanager
def store_failures(settings: "Settings", operation: str) -> Iterator[None]:
    """What an operation on the store raises, as the Failure that tells it."""
    from gateway.admin.operations import BadArgument, Refused  # noqa: PLC0415  # as above
    from gateway.errors import (  # noqa: PLC0415
        BinanceFailed,
        ConfigurationError,
        GatewayError,
        StoreUnavailable,
    )
    from gateway.store.topology import where  # noqa: PLC0415

    # What the store logs of its troubles is told once, by the Failure.
    logging.getLogger("gateway").addHandler(logging.NullHandler())
    try:
        yield
    except BadArgument as error:
        raise Failure(str(error), exit_code=WRONG_USAGE) from None
    except (Refused, ConfigurationError) as error:
        raise Failure(str(error)) from None
    except StoreUnavailable as error:
        raise Failure(
            f"the store at {where(settings.store.url)} can't be asked"
            f"{reason(error)}; start Redis, or set store.url to where it runs"
        ) from None
    except BinanceFailed as error:
        raise Failure(str(error.detail)) from None
    except GatewayError as error:
        raise Failure(f"{operation} failed: {error.reason}") from None


def ask_gateway(
    settings: "Settings",
    operation: str,
    arguments: dict[str, Any],
    *,
    seconds: float = GATEWAY_SECONDS,
) -> Any:
    """Have the running gateway do it, within `seconds`."""
    admin = settings.admin
    host = EVERYWHERE.get(admin.host, admin.host)
    where = f"[{host}]:{admin.port}" if ":" in host else f"{host}:{admin.port}"
    headers = {"Content-Type": "application/json"}
    if admin.token is not None:
        headers["Authorization"] = f"Bearer {admin.token.get_secret_value()}"
    connection = http.client.HTTPConnection(host, admin.port, timeout=seconds)
    try:
        connection.request("POST", f"/api/{operation}", json.dumps(arguments), headers)
        response = connection.getresponse()
        status, body = response.status, response.read(MAX_ANSWER_BYTES)
    except TimeoutError:
        raise Failure(
            f"the gateway on {where} did not answer within {seconds:.0f} s; see its log"
        ) from None
    except OSError:
        if settings.store.url.startswith("memory://"):
            raise Failure(
                f"no gateway answers on {where}; with memory:// the data lives in the running "
                "gateway: start `gateway serve` first, or set store.url"
            ) from None
        raise Failure(
            f"no gateway answers on {where}; start `gateway serve` first, or set admin.host and "
            "admin.port to where it runs"
        ) from None
    except http.client.HTTPException:
        raise not_a_gateway(where) from None
    finally:
        connection.close()
    try:
        answer = json.loads(body)
    except ValueError:
        raise not_a_gateway(where) from None
    if status == http.HTTPStatus.OK:
        return answer
    if not isinstance(answer, dict) or "detail" not in answer:
        raise not_a_gateway(where)
    if status == http.HTTPStatus.UNAUTHORIZED:
        raise Failure(f"the gateway on {where} has another admin.token; set the one it runs with")
    wrong_usage = status == http.HTTPStatus.UNPROCESSABLE_ENTITY
    problems = answer.get("problems", ())
    raise Failure(
        str(answer["detail"]),
        complaints=problems,
        exit_code=WRONG_USAGE if wrong_usage else REFUSED,
    )


def not_a_gateway(where: str) -> Failure:
    return Failure(
        f"what answers on {where} is no gateway; set admin.host and admin.port to those of yours"
    )


def reason(error: BaseException) -> str:
    """What was behind an error, in parentheses; without the arguments that Redis repeats."""
    cause = error.__cause__
    said = str(cause).partition(", with args")[0].strip().removesuffix(".")
    if cause is None or not said:
        return f" within {STORE_SECONDS:.0f} s" if isinstance(cause, TimeoutError) else ""
    return f" ({said})"
