"""The `gateway` command with parts that fail: `python tests/sabotage.py serve …`.

A request's X-Crash says how its authenticator (`forwarding-…`: its forwarder) fails, or which step
of any layer (`Users.get`: one of `STEPS`). Each failure has all that it was given in its words, as
exceptions of careless code and libraries do.
"""

import asyncio
import inspect
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from gateway import pipeline
from gateway.auth.app_token import AppToken
from gateway.auth.body_credentials import BodyCredentials
from gateway.auth.plan_key import PlanKey
from gateway.auth.public import Public
from gateway.auth.registered_key import RegisteredKey
from gateway.cli import main
from gateway.exchange import Exchange
from gateway.identity.google import GoogleVerifier
from gateway.identity.revocation import Revocation
from gateway.identity.sessions import Sessions
from gateway.identity.tokens import AppTokens
from gateway.identity.users import Users
from gateway.observe.access_log import AccessLog
from gateway.observe.counts import RouteMetrics
from gateway.pipeline import Gateway
from gateway.proxy.connection import UpstreamConnection
from gateway.proxy.forward import Forwarder, Relay
from gateway.store.keys import Keys
from gateway.vault.encryption import MasterKeys
from gateway.vault.vault import Vault

FORWARDING = "forwarding-"


def words(said: str, _fields: dict[bytes, bytes]) -> None:
    raise RuntimeError(said)


def fields(_said: str, given: dict[bytes, bytes]) -> None:
    raise RuntimeError(given)


def lookup(said: str, given: dict[Any, bytes]) -> None:
    given[said]


def number(said: str, _fields: dict[bytes, bytes]) -> None:
    int(said)


def chained(said: str, _fields: dict[bytes, bytes]) -> None:
    try:
        raise ValueError(said)
    except ValueError as error:
        raise KeyError(said) from error


def within(said: str, _fields: dict[bytes, bytes]) -> None:
    try:
        raise ValueError(said)
    except ValueError:
        raise OSError(5, said, said)  # noqa: B904  # that it has a context is the case


def noted(said: str, _fields: dict[bytes, bytes]) -> None:
    error = RuntimeError("noted")
    error.add_note(said)
    raise error


def group(said: str, _fields: dict[bytes, bytes]) -> None:
    raise ExceptionGroup(said, [ValueError(said), ExceptionGroup(said, [KeyError(said)])])


def syntax(said: str, _fields: dict[bytes, bytes]) -> None:
    compile("(" + said, said, "exec")


CRASHES: dict[str, Callable[[str, dict[bytes, bytes]], None]] = {
    crash.__name__: crash
    for crash in (words, fields, lookup, number, chained, within, noted, group, syntax)
}
# The request goes well, something beside it doesn't.
ASIDE = ("task", "callback")


# Steps of all layers: where they are bound, and under which name.
STEPS: dict[str, tuple[Any, str]] = {
    f"{owner.__name__.rpartition('.')[2]}.{name}": (owner, name)
    for owner, name in (
        *((Gateway, each) for each in ("identify", "limit", "match", "authenticate", "observe")),
        *((pipeline, "check_head"), (pipeline, "write_answer"), (pipeline, "refuse")),
        *((AppTokens, "known"), (AppTokens, "issue"), (GoogleVerifier, "verify")),
        *((Sessions, "begin"), (Sessions, "renew"), (Revocation, "revoke")),
        *((Users, "get"), (Users, "sign_in"), (Keys, "find")),
        *((Vault, "credentials"), (Vault, "verify"), (Vault, "register"), (Vault, "withdraw")),
        *((MasterKeys, "open"), (MasterKeys, "seal")),
        *((AccessLog, "write"), (RouteMetrics, "observe")),
    )
}
failing: ContextVar[str] = ContextVar("failing", default="")


async def fail(how: str, exchange: Exchange) -> None:
    body = (await exchange.read_body(1 << 20)).decode(errors="replace")
    said = " ".join((exchange.target, *exchange.headers.values(), body))
    loop = asyncio.get_running_loop()
    if how == "task":
        loop.create_task(fail("words", exchange), name=said)  # noqa: RUF006  # nobody awaits it
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    elif how == "callback":
        loop.call_soon(words, said, {})
    elif how in CRASHES:
        CRASHES[how](said, dict(exchange.message.raw_headers))


def sabotage(owner: type, name: str, prefix: str = "") -> None:
    """Let the coroutine method `name` of `owner` fail as X-Crash says behind `prefix`."""
    genuine = getattr(owner, name)

    async def method(self: Any, exchange: Exchange) -> Any:
        how = exchange.headers.get("X-Crash")
        if how is None or how in STEPS:
            return await genuine(self, exchange)
        if how.startswith(prefix):
            await fail(how.removeprefix(prefix), exchange)
        outcome = await genuine(self, exchange)
        if how == "answered" and prefix == FORWARDING:
            await fail("words", exchange)
        return outcome

    setattr(owner, name, method)


def sabotage_step(called: str) -> None:
    """Let it fail in requests whose X-Crash calls it, and say all that it was given."""
    owner, name = STEPS[called]
    genuine = getattr(owner, name)

    def step(*given: Any, **more: Any) -> Any:
        if called == "Gateway.identify":
            failing.set(given[1].headers.get("X-Crash", ""))
        if failing.get() == called:
            told = [
                (each.target, *each.headers.items(), each.body)
                for each in given
                if isinstance(each, Exchange)
            ]
            raise RuntimeError(told, given, more)
        return genuine(*given, **more)

    async def waiting(*given: Any, **more: Any) -> Any:
        return await step(*given, **more)

    setattr(owner, name, waiting if inspect.iscoroutinefunction(genuine) else step)


def sabotage_all() -> None:
    for called in STEPS:
        sabotage_step(called)
    for pattern in (AppToken, BodyCredentials, PlanKey, Public, RegisteredKey):
        sabotage(pattern, "authenticate")
    sabotage(Forwarder, "respond", FORWARDING)
    genuine_head, genuine_add = Relay.head, Vault.add

    def head(self: Relay, upstream: UpstreamConnection) -> None:
        """Fail within a callback of the parser, amid the backend's answer."""
        if self.exchange.headers.get("X-Crash") == "answering":
            raise RuntimeError(self.exchange.headers, upstream)
        genuine_head(self, upstream)

    async def add(self: Vault, email: str, api_key: str, api_secret: str) -> dict[str, Any]:
        if email.startswith("crash"):
            raise RuntimeError(api_key, api_secret)
        return await genuine_add(self, email, api_key, api_secret)

    Relay.head = head  # type: ignore[method-assign]
    Vault.add = add  # type: ignore[method-assign]


if __name__ == "__main__":
    sabotage_all()
    main()
