"""Users out of one Redis and into another, and what becomes of lines that can't be taken."""

import json
from typing import Any

import pytest
from redis_process import news_heard

from gateway.identity.removal import Removal
from gateway.identity.transfer import UserTransfer
from gateway.identity.userline import FORMS, read
from gateway.identity.users import UnknownUserError, Users
from gateway.sections import KeySettings
from gateway.store.lines import LINES_A_BATCH, Tally
from gateway.store.redis import Store

NOW = 1777464000.0  # 2026-04-29T12:00:00
PLANS = ("free", "standard", "professional")
EMAIL, OTHER = "jane@example.com", "john@example.com"
OLD, NEW = "2001-01-01T00:00:00", "2002-02-02T00:00:00"


@pytest.fixture
def users(store: Store) -> Users:
    return Users(store, KeySettings(), lambda: NOW)


@pytest.fixture
def transfer(store: Store) -> UserTransfer:
    return UserTransfer(store, PLANS, clock=lambda: NOW)


async def take(transfer: UserTransfer, *lines: object) -> Tally:
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    tally = Tally()
    async for tally in transfer.take(texts):  # noqa: B007  # the last one counts
        pass
    return tally


def outcomes(tally: Tally) -> dict[str, int]:
    names = ("done_before", "new", "changed", "same", "kept", "refused")
    return {name: getattr(tally, name) for name in names if getattr(tally, name)}


async def sign_in(users: Users, provider: str, subject: str, email: str | None = EMAIL) -> int:
    user = await users.sign_in(provider, subject, email, email_verified=True, name="Jane")
    return user.id


async def everything(store: Store) -> dict[str, Any]:
    """But the times of the last change, and the last id given."""
    found: dict[str, Any] = {}
    async for names in store.scan("gw:user:*"):
        for name in names:
            if await store.client.type(name) == "hash":
                found[name] = await store.client.hgetall(name)
                found[name].pop("updated_at", None)
            elif name != "gw:user:last_id":
                found[name] = await store.client.get(name)
    return found


async def test_what_is_exported_is_taken_as_it_was_elsewhere(store, users, transfer):
    first = await sign_in(users, "google", "g-1")
    await sign_in(users, "apple", "a-1")
    await Removal(store, users, lambda: NOW).unlink(first, "google", may_return=False)
    await users.set_plan(first, "standard", "2999-06-01T00:00:00", OLD)
    disabled = await sign_in(users, "google", "g-2", OTHER)
    await users.disable(disabled)
    billed = (await users.create("Who@example.com", "李雷", 4711)).id
    await store.client.hset(f"gw:user:{billed}", "email_verified", "0")
    await store.client.hset(f"gw:user:{billed}", "revoked_tokens", "t-1:1777464000.000:")
    await store.client.hset(f"gw:user:{billed}", "vip_expires_at", "2999-01-01T00:00:00")
    removal = Removal(store, users, lambda: NOW)
    gone = await sign_in(users, "google", "g-3", "gone@example.com")
    await removal.end_deletion(gone, await removal.begin_deletion(gone))
    before = await everything(store)
    lines = [line async for line in transfer.export()]
    assert sorted(json.loads(line)["id"] for line in lines) == [first, disabled, gone, billed]
    await store.client.flushall()
    users.copies.all_changed()
    tally = await take(transfer, *lines)
    assert (outcomes(tally), tally.complaints) == ({"new": 4}, [])
    assert await everything(store) == before
    assert await users.get(gone) is None
    assert outcomes(await take(transfer, *lines)) == {"same": 4}
    assert await everything(store) == before


async def test_an_export_holds_what_an_import_takes_whatever_else_stands_in_redis(
    store, users, transfer
):
    fields = {"email": "Jane@Example.com", "billing": "7", "is_vip": "1", "name": ""}
    await store.client.hset("gw:user:42", mapping=fields)
    await store.client.hset("gw:user:007", "plan", "free")
    await store.client.set("gw:user:by:email:jane@example.com", "42")
    (line,) = [line async for line in transfer.export()]
    assert json.loads(line) == {"id": 42, "email": "Jane@Example.com", "is_vip": True}
    assert outcomes(await take(transfer, line)) == {"same": 1}
    assert await store.client.hgetall("gw:user:42") == fields


async def test_a_record_that_is_none_is_counted_and_not_exported(store, users, transfer):
    await users.create(id=42)
    await store.client.set("gw:user:43", "x")
    assert len([line async for line in transfer.export()]) == 1
    assert transfer.unread == 1


async def test_who_is_new_is_found_by_what_the_line_says(store, users, transfer):
    assert await users.get(42) is None
    line = {"id": 42, "email": " Jane@Example.com", "google_id": "g-1", "apple_id": "a-1"}
    assert outcomes(await take(transfer, line)) == {"new": 1}
    await news_heard(store)
    user = await users.get(42)
    assert (user.email, user.created_at, user.is_vip) == (EMAIL, "2026-04-29T12:00:00", False)
    assert (await users.find_by_email(EMAIL)).id == 42
    for provider, subject in (("google", "g-1"), ("apple", "a-1")):
        assert await sign_in(users, provider, subject, None) == 42


async def test_who_signs_in_is_not_given_an_id_that_came_by_import(users, transfer):
    await take(transfer, {"id": 1}, {"id": 2, "deleted_at": OLD})
    assert await sign_in(users, "google", "g-1") == 3
    with pytest.raises(UnknownUserError):
        await users.show(2)


MORE = {"name": "new", "plan": "standard", "is_vip": True}


@pytest.mark.parametrize(
    ("here", "file", "overwrite", "outcome", "then"),
    [
        ({"name": "old"}, MORE, False, "kept", {"name": "old", "plan": None, "is_vip": None}),
        ({"name": "old"}, MORE, True, "changed", {"name": "new", "plan": "standard"}),
        ({"name": "old", "plan": "free"}, {"name": "new"}, True, "changed", {"plan": "free"}),
        ({"name": "old"}, {"name": "old"}, False, "same", {}),
        ({}, {"email": EMAIL}, False, "kept", {"email": None}),
        ({}, {"email": EMAIL}, True, "changed", {"email": EMAIL}),
        ({"email": "Jane@Example.com"}, {"email": EMAIL}, True, "same", {}),
        ({"email_verified": "0"}, {"email_verified": True}, False, "kept", {"email_verified": "0"}),
        ({}, {"disabled_at": OLD}, False, "changed", {"disabled_at": OLD}),
        ({"disabled_at": OLD}, {"disabled_at": NEW}, True, "same", {"disabled_at": OLD}),
        ({"disabled_at": OLD}, {}, True, "same", {"disabled_at": OLD}),
        ({}, {"tokens_valid_after": 7.5}, False, "changed", {"tokens_valid_after": "7.500"}),
        (
            {"tokens_valid_after": "8"},
            {"tokens_valid_after": 7.5},
            True,
            "same",
            {"tokens_valid_after": "8"},
        ),
        (
            {"tokens_valid_after": "soon"},
            {"tokens_valid_after": 7.5},
            True,
            "same",
            {"tokens_valid_after": "soon"},
        ),
        (
            {"revoked_tokens": "a:1:2"},
            {"revoked_tokens": "b:1:2 a:1:2"},
            False,
            "changed",
            {"revoked_tokens": "a:1:2 b:1:2"},
        ),
        ({}, {"unlinked": ["google:g-9"]}, False, "changed", {"unlinked": "google:g-9"}),
        ({"google_id": "g-9"}, {"unlinked": ["google:g-9"]}, True, "same", {"unlinked": None}),
    ],
)
async def test_what_ends_access_is_taken_over_and_the_rest_if_the_file_goes_before(
    store, users, here, file, overwrite, outcome, then
):
    await store.client.hset("gw:user:42", mapping={"id": "42", **here})
    transfer = UserTransfer(store, PLANS, overwrite=overwrite, clock=lambda: NOW)
    assert outcomes(await take(transfer, {"id": 42, **file})) == {outcome: 1}
    record = await store.client.hgetall("gw:user:42")
    assert {name: record.get(name) for name in then} == then


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize(
    ("line", "why"),
    [
        ({"id": 43, "google_id": "g-1"}, "google_id belongs to another user here"),
        ({"id": 43, "apple_id": "a-9", "email": EMAIL}, "email belongs to another user here"),
        ({"id": 42, "google_id": "g-2"}, "google_id is not the one that the user has here"),
        ({"id": 42, "email": OTHER, "apple_id": "a-9"}, "email is not the one that"),
        ({"id": 42, "apple_id": "a-1"}, "a link was taken from the user here"),
        ({"id": 42, "deleted_at": OLD}, "deleted_at deletes nobody here"),
        ({"id": 41, "google_id": "g-9"}, "id was deleted here"),
    ],
)
async def test_nobody_gets_what_is_somebody_elses(store, users, overwrite, line, why):
    await store.client.hset("gw:user:42", mapping={"id": "42", "email": EMAIL})
    await store.client.hset("gw:user:41", mapping={"id": "41", "deleted_at": OLD})
    await store.client.set(f"gw:user:by:email:{EMAIL}", "42")
    assert await sign_in(users, "google", "g-1") == 42
    await sign_in(users, "apple", "a-1")
    await Removal(store, users).unlink(42, "apple", may_return=False)
    before = await everything(store)
    transfer = UserTransfer(store, PLANS, overwrite=overwrite)
    tally = await take(transfer, {"id": 50}, line, {"id": 51})
    assert outcomes(tally) == {"new": 2, "refused": 1}
    ((number, complaint),) = tally.complaints
    assert number == 2
    assert complaint.startswith(why)
    for new in ("gw:user:50", "gw:user:51"):
        await store.client.delete(new)
    assert await everything(store) == before


async def test_of_two_lines_with_one_subject_the_first_is_taken(store, transfer):
    tally = await take(transfer, {"id": 7, "google_id": "g-1"}, {"id": 8, "google_id": "g-1"})
    assert outcomes(tally) == {"new": 1, "refused": 1}
    assert await store.client.get("gw:user:by:google:g-1") == "7"
    assert not await store.client.exists("gw:user:8")


@pytest.mark.parametrize(
    "record",
    [{}, {"email": EMAIL, "email_verified": "0"}, {"email": OTHER}, {"deleted_at": OLD}],
    ids=["nobody", "one whose email nobody vouches for", "one with another", "a deleted one"],
)
async def test_an_email_whose_index_leads_astray_is_free(store, users, transfer, record):
    if record:
        await store.client.hset("gw:user:42", mapping=record)
    await store.client.set(f"gw:user:by:email:{EMAIL}", "42")
    assert outcomes(await take(transfer, {"id": 43, "email": EMAIL})) == {"new": 1}
    assert (await users.find_by_email(EMAIL)).id == 43


async def test_an_email_that_nobody_vouches_for_takes_none_away(store, users, transfer):
    owner = await sign_in(users, "google", "g-1")
    line = {"id": 43, "email": EMAIL, "email_verified": False}
    assert outcomes(await take(transfer, line)) == {"new": 1}
    assert (await users.show(43)).own_email is None
    assert (await users.find_by_email(EMAIL)).id == owner


async def test_a_sign_in_amid_an_import_keeps_its_user_and_the_line_is_told(
    store, users, transfer, monkeypatch
):
    adopt = transfer._adopt_records
    signed_in = []

    async def adopt_after_a_sign_in(lines):
        signed_in.append(await sign_in(users, "google", "g-1", None))
        return await adopt(lines)

    monkeypatch.setattr(transfer, "_adopt_records", adopt_after_a_sign_in)
    tally = await take(transfer, {"id": 43, "google_id": "g-1"})
    assert outcomes(tally) == {"refused": 1}
    assert tally.complaints == [(1, "google_id went to another user meanwhile")]
    assert [await sign_in(users, "google", "g-1", None)] == signed_in != [43]


class CutOff(Exception):
    """A command that was killed."""


async def test_an_import_goes_on_where_it_was(store, transfer, monkeypatch):
    lines = [{"id": number, "google_id": f"g-{number}"} for number in range(1, LINES_A_BATCH + 3)]
    note = transfer._note

    async def note_and_die(name, digest):
        await note(name, digest)
        raise CutOff

    with monkeypatch.context() as patch:
        patch.setattr(transfer, "_note", note_and_die)
        with pytest.raises(CutOff):
            await take(transfer, *lines)
    again = await take(transfer, *lines)
    assert outcomes(again) == {"done_before": LINES_A_BATCH, "new": 2}
    assert [name async for names in store.scan("gw:import:*") for name in names] == []


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("canary", "must be a JSON object"),
        ("[1]", "must be a JSON object"),
        ("{}", "id is missing"),
        ('{"id": 42, "canary": 1}', "has an unknown field"),
        (json.dumps({"id": 42, "name": "x" * 20_000}), "must have at most 16384 bytes"),
        *(
            (json.dumps({"id": 42, name: value}), f"{name} must be|{name} must have")
            for name, values in {
                "id": [0, -1, True, "canary", 2**53],
                "email": ["canary", 7],
                "email_verified": ["1", 1, "canary"],
                "name": ["", "canary\n", "x" * 257, 7],
                "google_id": ["", "two canaries", "canar\u00ff", "x" * 256, 7],
                "apple_id": ["", "two canaries"],
                "is_vip": ["1", 0],
                "vip_expires_at": ["canary", 7],
                "created_at": ["canary"],
                "updated_at": ["canary"],
                "plan_expires_at": ["canary"],
                "tokens_valid_after": ["7", True, -1, 1e300, "canary"],
                "last_token_at": ["canary"],
                "revoked_tokens": ["", 7, "canary\n"],
                "disabled_at": ["", "canary"],
                "deleted_at": ["", "canary"],
                "unlinked": ["canary", ["canary"], [7], ["google:two canaries"]],
                "links": ["canary", [7], [{"canary": "x"}], [{"at": 7}], [{}] * 21],
            }.items()
            for value in values
        ),
        ('{"id": 42, "plan": "canary"}', "plan is none that the settings name"),
    ],
)
def test_what_cannot_be_taken_is_told_without_being_shown(line: str, complaint: str):
    with pytest.raises(ValueError, match=rf"\A({complaint})") as refused:
        read(line, PLANS)
    assert "canar" not in str(refused.value)


def test_each_field_may_be_null():
    line = json.dumps(dict.fromkeys(FORMS) | {"id": 42})
    assert read(line, PLANS) == {"id": "42"}
