"""Every operation on both stores: its result, its refusals, and what it makes of odd arguments."""

import base64
import json
import re
import time
from collections.abc import AsyncIterator
from hashlib import sha256
from typing import Any

import pytest

from gateway.admin.arguments import LARGEST_ID
from gateway.admin.operations import OPERATIONS, BadArgument, Context, Refused, open_context
from gateway.errors import ConfigurationError, StoreUnavailable
from gateway.identity.revocation import Revocation
from gateway.identity.users import Users
from gateway.limits import Limiter, Policy
from gateway.settings import Settings, load_settings
from gateway.store.keys import Keys
from gateway.store.plans import Plans
from gateway.store.redis import Store
from gateway.store.rotation import Rotation
from gateway.store.usage import Usage
from gateway.vault import Vault

ENVIRON = {"GATEWAY_VAULT_KEY": base64.b64encode(bytes(32)).decode()}
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d").fullmatch


def context_on(store: Store, settings: Settings) -> Context:
    users = Users(store, settings.keys)
    keys = Keys(store, settings.keys, users)
    return Context(
        settings=settings,
        store=store,
        keys=keys,
        usage=Usage(store),
        rotation=Rotation(store, keys),
        plans=Plans(users, settings.plans),
        users=users,
        revocation=Revocation(store),
        vault=Vault(store, settings.vault),
        limiter=Limiter(Policy("ip", 2, 60, 3600), store),
    )


@pytest.fixture
async def context(store: Store) -> AsyncIterator[Context]:
    made = context_on(store, load_settings(None, ENVIRON))
    yield made
    await made.limiter.close()


async def run(context: Context, operation: str, /, **arguments: Any) -> Any:
    """The result, as JSON carries it."""
    result = await OPERATIONS[operation].run(context, **arguments)
    return json.loads(json.dumps(result, allow_nan=False))


def record(result: dict[str, Any]) -> dict[str, Any]:
    """An acknowledged result, without what it says of the workers; on this store there are none."""
    *_, seconds = (result.pop(name) for name in ("unconfirmed", "confirmed", "seconds"))
    assert 0 <= seconds < 1
    return result


async def test_an_issued_key_has_the_names_of_the_contract_and_no_others(context):
    issued = await run(context, "keys.issue", user=42, name="laptop")
    assert list(issued) == ["id", "key", "user_id", "name", "created_at"]
    assert re.fullmatch(r"pk_[0-9A-Za-z]{36}", issued["key"])
    assert (issued["user_id"], issued["name"]) == (42, "laptop")
    assert MOMENT(issued["created_at"])


async def test_a_key_that_expires_says_when(context):
    issued = await run(context, "keys.issue", user=42, name="ci", expires="2999-01-01")
    assert issued["expires_at"] == "2999-01-01T00:00:00"


async def test_an_issued_key_is_the_one_that_requests_find(context):
    issued = await run(context, "keys.issue", user=42, name="laptop")
    found = await context.keys.find(sha256(issued["key"].encode()).hexdigest())
    assert found is not None
    assert found.id == issued["id"]


async def test_a_silence_longer_than_the_ledger_remembers_is_refused(store):
    settings = load_settings(None, ENVIRON)
    ledger = settings.ledger.model_copy(update={"keep_days": 1})
    context = context_on(store, settings.model_copy(update={"ledger": ledger}))
    issued = await run(context, "keys.issue", user=42, name="laptop")
    with pytest.raises(BadArgument, match="keep_days"):
        await run(context, "keys.rotate", id=issued["id"], overlap="7d", when_silent="24h")
    assert len(await run(context, "keys.list")) == 1


async def test_the_key_itself_is_in_no_later_answer(context):
    issued = await run(context, "keys.issue", user=42, name="laptop")
    later = [
        await run(context, "keys.list"),
        await run(context, "keys.show", id=issued["id"]),
        await run(context, "keys.revoke", id=issued["id"]),
    ]
    assert issued["key"] not in json.dumps(later)


async def test_keys_are_listed_for_all_users_or_one(context):
    mine = await run(context, "keys.issue", user=42, name="mine")
    other = await run(context, "keys.issue", user=7, name="other")
    listed = {key["id"] for key in await run(context, "keys.list")}
    assert listed == {mine["id"], other["id"]}
    assert [key["id"] for key in await run(context, "keys.list", user=7)] == [other["id"]]
    assert await run(context, "keys.list", user=8) == []


async def test_of_a_key_what_is_given_is_set_and_nothing_else(context):
    issued = await run(context, "keys.issue", user=42, name="laptop", allow="::ffff:10.0.0.0/104")
    assert issued["allow"] == "10.0.0.0/8"
    key = issued["id"]
    words = {"expires": "2999-01-01", "allow": "203.0.113.7, 2001:DB8::/32"}
    changed = await run(context, "keys.set", id=key, **words)
    expected = ("laptop", "2999-01-01T00:00:00", "203.0.113.7/32,2001:db8::/32")
    assert (changed["name"], changed["expires_at"], changed["allow"]) == expected
    words = {"name": "ci", "expires": "never", "allow": "any"}
    cleared = record(await run(context, "keys.set", id=key, **words))
    assert (cleared["name"], cleared["expires_at"], cleared["allow"]) == ("ci", None, None)
    assert cleared.items() < (await run(context, "keys.show", id=key)).items()


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ({}, "nothing to set; give name, expires or allow"),
        ({"allow": ""}, "allow holds an entry that must be an address or a network"),
        ({"allow": "10.0.0.1/8"}, "did you mean '10.0.0.0/8'?"),
        ({"allow": ",".join(["10.0.0.0/8"] * 101)}, "allow must name at most 100 networks"),
        ({"expires": "2000-01-01"}, "expires must be in the future"),
    ],
)
async def test_a_key_is_not_set_to_what_it_cannot_be(context, words, complaint):
    issued = await run(context, "keys.issue", user=42, name="laptop")
    with pytest.raises(BadArgument, match=re.escape(complaint)):
        await run(context, "keys.set", id=issued["id"], **words)


async def test_a_key_that_is_not_there_is_not_set(context):
    with pytest.raises(Refused, match="there is no key with this id"):
        await run(context, "keys.set", id="k_none", name="x")


async def test_a_revoked_key_stays_revoked_since_the_first_time(context):
    issued = await run(context, "keys.issue", user=42, name="laptop")
    revoked = record(await run(context, "keys.revoke", id=issued["id"]))
    assert MOMENT(revoked["revoked_at"])
    assert list(revoked) == [
        "id",
        "user_id",
        "name",
        "created_at",
        "expires_at",
        "revoked_at",
        "replaced_by",
        "allow",
        "retires_at",
        "silent_for",
    ]
    assert record(await run(context, "keys.revoke", id=issued["id"])) == revoked
    assert revoked.items() < (await run(context, "keys.show", id=issued["id"])).items()


async def test_issuing_a_key_creates_its_user(context):
    await run(context, "keys.issue", user=42, name="laptop")
    assert (await run(context, "users.show", id=42))["id"] == 42


async def test_a_plan_is_set_replaced_and_shown(context):
    given = await run(context, "plans.set", user=42, plan="standard", until="2027-01-01")
    expected = {"user_id": 42, "plan": "standard", "plan_expires_at": "2027-01-01T00:00:00"}
    assert record(given) == expected
    assert await run(context, "plans.show", user=42) == expected
    await run(context, "plans.set", user=42, plan="professional")
    assert await run(context, "plans.show", user=42) == {
        "user_id": 42,
        "plan": "professional",
        "plan_expires_at": None,
    }


async def test_a_plan_is_taken_away(context):
    await run(context, "plans.set", user=42, plan="standard", until="2027-01-01")
    nothing = {"user_id": 42, "plan": None, "plan_expires_at": None}
    assert record(await run(context, "plans.revoke", user=42)) == nothing
    assert await run(context, "plans.show", user=42) == nothing


async def test_tokens_are_ended_up_to_now_and_further_each_time(context):
    await run(context, "users.create", id=7)
    first = record(await run(context, "users.revoke-tokens", id=7))
    again = record(await run(context, "users.revoke-tokens", id=7))
    assert time.time() - 60 < first["tokens_valid_after"] < again["tokens_valid_after"]
    assert await run(context, "users.show", id=7) == {**again, "links": []}


@pytest.mark.parametrize(
    ("operation", "arguments"),
    [
        ("keys.revoke", {}),
        ("keys.set", {"allow": "10.0.0.0/8"}),
        ("plans.set", {"user": 42, "plan": "free"}),
        ("plans.revoke", {"user": 42}),
        ("users.revoke-tokens", {"id": 42}),
        ("users.disable", {"id": 42}),
        ("users.enable", {"id": 42}),
        ("users.unlink", {"id": 42, "provider": "google"}),
        ("users.delete", {"id": 42}),
        ("vault.remove", {"email": "user@example.com"}),
    ],
)
async def test_what_takes_something_away_tells_who_has_heard_of_it(context, operation, arguments):
    issued = await run(context, "keys.issue", user=42, name="laptop")
    await run(context, "vault.add", email="user@example.com", api_key="k", api_secret="s")
    if operation.startswith("keys."):
        arguments = {"id": issued["id"], **arguments}
    result = await run(context, operation, **arguments)
    workers = 1 if context.store.embedded else 0
    assert (result["confirmed"], result["unconfirmed"]) == (workers, [])


async def test_a_plan_reaches_what_requests_see_of_the_user(context):
    await run(context, "plans.set", user=42, plan="standard")
    user = await context.users.get(42)
    assert user is not None
    assert user.plan == "standard"


async def test_a_plan_that_the_settings_do_not_name_is_refused_with_the_likeliest(context):
    with pytest.raises(Refused, match="did you mean 'standard'") as refused:
        await run(context, "plans.set", user=42, plan="standrd")
    assert not isinstance(refused.value, BadArgument)
    with pytest.raises(Refused, match="no user"):
        await run(context, "users.show", id=42)


async def test_users_are_created_with_the_next_free_id_or_one_of_their_own(context):
    first = await run(context, "users.create", email=" User@Example.com ", name="Jane Doe")
    assert first["email"] == "user@example.com"
    assert first["name"] == "Jane Doe"
    own = await run(context, "users.create", id=4711)
    assert own["id"] == 4711
    assert list(own) == [
        *("id", "email", "name", "google_id", "apple_id", "is_vip", "vip_expires_at"),
        *("created_at", "updated_at", "email_verified", "plan", "plan_expires_at"),
        *("tokens_valid_after", "disabled_at", "unlinked"),
    ]
    assert await run(context, "users.list") == [first, own]
    assert await run(context, "users.show", id=4711) == {**own, "links": []}
    assert await run(context, "users.show", email="USER@example.com") == {**first, "links": []}


@pytest.mark.parametrize("arguments", [{}, {"id": 7, "email": "user@example.com"}])
async def test_a_user_is_shown_by_id_or_by_email(context, arguments):
    with pytest.raises(BadArgument, match="id or email is needed, and not both"):
        await run(context, "users.show", **arguments)


async def signed_in(context: Context, provider: str = "google") -> int:
    user = await context.users.sign_in(
        provider, f"{provider}-1", "user@example.com", email_verified=True, name="Jane"
    )
    return user.id


async def test_a_disabled_user_is_shown_so_until_enabled(context):
    user_id = await signed_in(context)
    first = record(await run(context, "users.disable", id=user_id))
    assert MOMENT(first["disabled_at"])
    assert first["tokens_valid_after"] > 0
    again = record(await run(context, "users.disable", id=user_id))
    assert again["disabled_at"] == first["disabled_at"]
    enabled = record(await run(context, "users.enable", id=user_id))
    assert (enabled["disabled_at"], enabled["id"]) == (None, user_id)
    assert enabled["tokens_valid_after"] > again["tokens_valid_after"]
    unchanged = record(await run(context, "users.enable", id=user_id))
    assert unchanged == enabled


async def test_what_became_of_links_is_shown(context):
    user_id = await signed_in(context)
    assert await signed_in(context, "apple") == user_id
    unlinked = record(await run(context, "users.unlink", id=user_id, provider="google"))
    assert (unlinked["google_id"], unlinked["apple_id"]) == (None, "apple-1")
    assert unlinked["unlinked"] == ["google:google-1"]
    shown = await run(context, "users.show", id=user_id)
    assert [tuple(event.values())[:4] for event in shown["links"]] == [
        ("created", "google", "google-1", "user@example.com"),
        ("linked", "apple", "apple-1", "user@example.com"),
        ("unlinked", "google", "google-1", None),
    ]


async def test_who_only_typed_an_email_in_does_not_take_its_registered_key_along(context):
    await run(context, "users.create", id=42, email="user@example.com")
    await context.store.client.hset(context.store.key("user", "42"), "email_verified", "0")
    await run(context, "vault.add", email="user@example.com", api_key="k", api_secret="s")
    deleted = record(await run(context, "users.delete", id=42, registered_key=True))
    assert deleted["registered_key"] is None
    assert await context.vault.status("user@example.com") is not None


@pytest.mark.parametrize("also", [False, True])
async def test_a_deleted_user_takes_their_keys_along_and_the_registered_one_if_told(context, also):
    user_id = await signed_in(context)
    issued = [await run(context, "keys.issue", user=user_id, name=name) for name in ("a", "b")]
    other = await run(context, "keys.issue", user=4711, name="c")
    await run(context, "keys.revoke", id=issued[0]["id"])
    await run(context, "vault.add", email="user@example.com", api_key="k", api_secret="s")
    deleted = record(await run(context, "users.delete", id=user_id, registered_key=also))
    assert MOMENT(deleted.pop("deleted_at"))
    assert deleted == {
        "id": user_id,
        "revoked_keys": [issued[1]["id"]],
        "registered_key": "removed" if also else "stays",
    }
    assert (await run(context, "keys.show", id=issued[1]["id"]))["revoked_at"]
    assert (await run(context, "keys.show", id=other["id"]))["revoked_at"] is None
    assert (await context.vault.status("user@example.com") is None) == also
    for operation, arguments in (
        ("users.show", {"id": user_id}),
        ("users.show", {"email": "user@example.com"}),
        ("users.disable", {"id": user_id}),
        ("users.create", {"id": user_id}),
        ("plans.show", {"user": user_id}),
        ("plans.revoke", {"user": user_id}),
        ("plans.set", {"user": user_id, "plan": "standard"}),
        ("keys.issue", {"user": user_id, "name": "d"}),
    ):
        with pytest.raises(Refused):
            await run(context, operation, **arguments)
    assert [user["id"] for user in await run(context, "users.list")] == [4711]
    again = record(await run(context, "users.delete", id=user_id))
    assert (again["id"], again["revoked_keys"], again["registered_key"]) == (user_id, [], None)


@pytest.mark.parametrize("again", [{"email": "user@example.com"}, {"id": 7}])
async def test_an_id_or_email_that_is_taken_is_refused(context, again):
    await run(context, "users.create", email="user@example.com", id=7)
    with pytest.raises(Refused, match="already"):
        await run(context, "users.create", **again)


async def test_an_unreadable_end_of_tokens_is_still_json(context):
    await run(context, "users.create", id=7)
    await context.store.client.hset(context.store.key("user", "7"), "tokens_valid_after", "soon")
    assert (await run(context, "users.show", id=7))["tokens_valid_after"] > time.time()


async def test_a_registered_key_is_stored_shown_without_secrets_and_removed(context):
    secrets = {"api_key": "canary-api-key", "api_secret": "canary-api-secret"}
    added = await run(context, "vault.add", email="User@Example.com", **secrets)
    assert added["email"] == "user@example.com"
    assert added["is_active"] is True
    assert await run(context, "vault.show", email="user@example.com") == added
    assert "canary" not in json.dumps(added)
    credentials = await context.vault.credentials("user@example.com")
    assert credentials is not None
    assert (credentials.api_key, credentials.api_secret) == tuple(secrets.values())
    removed = await run(context, "vault.remove", email="user@example.com")
    assert record(removed) == {"email": "user@example.com", "removed": True}
    with pytest.raises(Refused, match="no key is registered"):
        await run(context, "vault.show", email="user@example.com")


async def test_without_a_key_to_encrypt_with_nothing_is_registered(store):
    context = context_on(store, load_settings(None, {}))
    with pytest.raises(Refused, match="GATEWAY_VAULT_KEY"):
        await run(context, "vault.add", email="user@example.com", api_key="k", api_secret="s")


async def test_credentials_that_can_not_be_sent_are_refused_without_being_quoted(context):
    with pytest.raises(BadArgument) as refused:
        await run(context, "vault.add", email="user@example.com", api_key="ca nary", api_secret="s")
    assert "nary" not in str(refused.value)


async def test_a_block_is_listed_and_lifted(context):
    bucket = "203.0.113.9"
    for _ in range(4):
        decision = await context.limiter.admit(bucket)
    assert not decision.admitted
    (blocked,) = await run(context, "ips.list")
    assert blocked["ip"] == bucket
    assert MOMENT(blocked["blocked_until"])
    assert 0 < blocked["seconds_left"] <= 3600
    assert await run(context, "ips.unblock", ip=bucket) == {"ip": bucket, "unblocked": True}
    assert await run(context, "ips.list") == []
    assert (await context.limiter.admit(bucket)).admitted


@pytest.mark.parametrize(
    ("operation", "arguments"),
    [
        ("keys.show", {"id": "k_unknown"}),
        ("keys.revoke", {"id": "k_unknown"}),
        ("plans.show", {"user": 42}),
        ("plans.revoke", {"user": 42}),
        ("users.revoke-tokens", {"id": 42}),
        ("users.show", {"id": 42}),
        ("users.show", {"email": "nobody@example.com"}),
        ("users.disable", {"id": 42}),
        ("users.enable", {"id": 42}),
        ("users.unlink", {"id": 42, "provider": "google"}),
        ("users.delete", {"id": 42}),
        ("vault.show", {"email": "nobody@example.com"}),
        ("vault.remove", {"email": "nobody@example.com"}),
        ("vault.verify", {"email": "nobody@example.com"}),
        ("vault.disable", {"email": "nobody@example.com"}),
        ("vault.enable", {"email": "nobody@example.com"}),
        ("ips.unblock", {"ip": "203.0.113.9"}),
    ],
)
async def test_what_is_not_there_is_refused_and_not_created(context, operation, arguments):
    with pytest.raises(Refused) as refused:
        await run(context, operation, **arguments)
    assert not isinstance(refused.value, BadArgument)
    keys = await context.store.client.keys("*")
    assert [key for key in keys if not key.endswith(":version")] == []


GOOD = {
    "user": 42,
    "name": "laptop",
    "id": "k_1",
    "plan": "standard",
    "email": "user@example.com",
    "api_key": "k",
    "api_secret": "s",
    "ip": "203.0.113.9",
    "overlap": "7d",
    "provider": "google",
}


def good(operation: str, argument: str) -> Any:
    return 42 if operation.startswith("users.") and argument == "id" else GOOD[argument]


DURATIONS = ["", "7", "7 d", "-1d", "1.5h", "1w", "d", "7D", "1d12h", "3651d", "٣d", 7, ["7d"]]
WRONG = {
    "user": [0, -1, True, 1.0, "42", LARGEST_ID + 1, [42]],
    "name": ["", "  ", "x" * 101, "red\x1b[31m", "a\nb", 7, {}],
    "id": ["", "two words", "x" * 201, 7, "pk_QebjLx9HP28rDYL2eCSkKDTyvZuDhx07jCm2"],
    "plan": ["", "two words", 7],
    "email": ["", "user", "a@b@c", "a b@example.com", "a@b\x00.com", 7],
    "api_key": [7, ["k"]],
    "api_secret": [7, {"s": 1}],
    "ip": ["", "example.com", "1.2.3", "1.2.3.4/99", 7],
    "overlap": DURATIONS,
    "provider": ["", "Google", "facebook", 7],
}
MOMENTS = ["", "soon", "2027", "2027-13-01", "2027-02-30", "20270101", "2027-W01-1", 1798761600]
CASES = [
    *((name, arg, value) for name in OPERATIONS for arg, values in WRONG.items() for value in values
      if arg in OPERATIONS[name].required and not (arg == "id" and name.startswith("users."))),
    *((name, "id", value) for name, operation in OPERATIONS.items() for value in WRONG["user"]
      if name.startswith("users.") and "id" in {**operation.required, **operation.optional}),
    *(("users.create", "email", value) for value in WRONG["email"]),
    *(("users.show", "email", value) for value in WRONG["email"]),
    *(("users.unlink", "may_return", value) for value in ["yes", 1]),
    *(("users.delete", "registered_key", value) for value in ["yes", 1]),
    *(("keys.rotate", "when_silent", value) for value in [*DURATIONS, "29s"]),
    *(("keys.usage", "days", value) for value in [0, -1, True, 1.0, "7", 401]),
    *(("keys.usage", "by", value) for value in ["", "month", 7]),
    *(("keys.list", "user", value) for value in WRONG["user"]),
    *(("plans.set", "until", value) for value in MOMENTS),
    *(("keys.issue", "expires", value) for value in [*MOMENTS, "2020-01-01"]),
]  # fmt: skip


@pytest.mark.parametrize(("operation", "argument", "value"), CASES)
async def test_a_wrong_argument_is_named_and_never_repeated(
    memory_store, operation, argument, value
):
    context = context_on(memory_store, load_settings(None, ENVIRON))
    arguments = {name: good(operation, name) for name in OPERATIONS[operation].required}
    with pytest.raises(BadArgument, match=rf"\A{argument} must be ") as refused:
        await run(context, operation, **{**arguments, argument: value})
    shown = str(value)
    assert len(shown) < 8 or shown not in str(refused.value)


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_each_argument_that_is_needed_is_asked_for(memory_store, operation):
    context = context_on(memory_store, load_settings(None, ENVIRON))
    required = OPERATIONS[operation].required
    for missing in required:
        for absent in ({}, {missing: None}):
            arguments = {name: good(operation, name) for name in required if name != missing}
            with pytest.raises(BadArgument, match=f"{missing} is missing"):
                await run(context, operation, **arguments, **absent)


@pytest.mark.parametrize("unknown", ["usr", "context", "self"])
async def test_an_unknown_argument_is_refused(memory_store, unknown):
    context = context_on(memory_store, load_settings(None, ENVIRON))
    with pytest.raises(BadArgument, match="unknown argument"):
        await run(context, "keys.list", **{unknown: 1})
    with pytest.raises(BadArgument, match="it takes none"):
        await run(context, "users.list", **{unknown: 1})


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ("2027-01-01", "2027-01-01T00:00:00"),
        ("2027-01-01T12:30", "2027-01-01T12:30:00"),
        ("2027-01-01 12:30:05", "2027-01-01T12:30:05"),
        ("2027-01-01T12:30:05Z", "2027-01-01T12:30:05"),
        ("2027-01-01T00:30:00+08:00", "2026-12-31T16:30:00"),
    ],
)
async def test_times_become_utc_without_offset(memory_store, given, stored):
    context = context_on(memory_store, load_settings(None, {}))
    plan = await run(context, "plans.set", user=42, plan="standard", until=given)
    assert plan["plan_expires_at"] == stored


def test_what_changes_something_says_so():
    changing = {name for name, operation in OPERATIONS.items() if operation.changes}
    assert changing == {
        *("keys.issue", "keys.set", "keys.rotate", "keys.revoke", "plans.set", "plans.revoke"),
        *("users.create", "users.revoke-tokens", "users.disable", "users.enable"),
        *("users.unlink", "users.delete", "tokens.revoke"),
        *("vault.add", "vault.import", "vault.verify", "vault.rotate", "vault.disable"),
        *("vault.enable", "vault.remove", "ips.unblock"),
    }


async def test_a_context_of_its_own_works_on_the_store_that_the_settings_name(redis_url):
    settings = load_settings(None, {"GATEWAY_STORE__URL": redis_url})
    async with open_context(settings, timeout_seconds=5) as first:
        issued = await run(first, "keys.issue", user=42, name="laptop")
    async with open_context(settings, timeout_seconds=5) as second:
        assert [key["id"] for key in await run(second, "keys.list")] == [issued["id"]]


async def test_without_redis_an_operation_could_not_ask(redis_process):
    settings = load_settings(None, {"GATEWAY_STORE__URL": redis_process.url})
    redis_process.kill()
    async with open_context(settings, timeout_seconds=5) as context:
        with pytest.raises(StoreUnavailable):
            await run(context, "keys.list")


async def test_data_of_a_newer_layout_is_left_alone(real_store, redis_url):
    await real_store.client.set("gw:version", "99")
    settings = load_settings(None, {"GATEWAY_STORE__URL": redis_url})
    with pytest.raises(ConfigurationError, match="newer gateway"):
        async with open_context(settings, timeout_seconds=5):
            pass
