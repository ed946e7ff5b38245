"""Refresh tokens: good once, one line of them to a session, and what ends it."""

import asyncio
from collections import Counter
from typing import Any

import jwt
import pytest
from token_gateway import ABSOLUTE, IDLE, LIFETIME, TokenGateway

from gateway.errors import StoreUnavailable
from gateway.identity import sessions
from gateway.identity.sessions import Grant, next_token
from gateway.store.redis import Store

REVOKED, REUSED, UNKNOWN = (f"{word}_refresh_token" for word in ("revoked", "reused", "unknown"))
EXPIRED = "expired_refresh_token"
MOST_SESSIONS = 20


async def fields(store: Store, user_id: int = 1) -> dict[str, str]:
    record: dict[str, str] = await store.client.hgetall(f"gw:user:{user_id}")
    return record


async def test_without_the_setting_sign_in_gives_what_it_always_gave(store: Store):
    gateway = TokenGateway(store, grace=None)
    grant = await gateway.sign_in()
    assert list(grant.as_answer()) == ["access_token"]
    claims = jwt.decode(grant.access_token, options={"verify_signature": False})
    assert not {"sid", "gen"} & claims.keys()
    assert not [name for name in await fields(store) if name.startswith("session")]
    assert await gateway.renewed("rt_1_" + "a" * 65) == UNKNOWN


async def test_a_refresh_token_brings_the_next_and_a_new_access_token(store: Store):
    gateway = TokenGateway(store)
    first = await gateway.sign_in()
    gateway.now += LIFETIME
    assert await gateway.refusal(first.access_token) == "expired_token"
    second = await gateway.next(first)
    third = await gateway.next(second)
    assert len({first.refresh_token, second.refresh_token, third.refresh_token}) == 3
    for grant in (second, third):
        assert await gateway.refusal(grant.access_token) is None
        assert gateway.claims(grant.access_token).expires_at == int(gateway.now + LIFETIME)
    sids = {gateway.claims(grant.access_token).session for grant in (second, third)}
    jtis = {gateway.claims(grant.access_token).jti for grant in (second, third)}
    assert (len(sids), len(jtis)) == (1, 2)


async def test_one_that_was_used_ends_its_session_for_both_who_have_it(store: Store):
    gateway = TokenGateway(store)
    first, other = await gateway.sign_in(), await gateway.sign_in()
    without = await TokenGateway(store, grace=None).sign_in()
    second = await gateway.next(first)
    third = await gateway.next(second)
    assert await gateway.renewed(first.refresh_token) == REUSED
    for grant in (first, second, third):
        assert await gateway.renewed(grant.refresh_token) == UNKNOWN
        assert await gateway.refusal(grant.access_token) == "revoked_token"
    assert await gateway.refusal(without.access_token) is None
    assert await gateway.refusal((await gateway.next(other)).access_token) is None


async def test_of_many_at_once_one_wins_and_the_session_ends(store: Store):
    gateway = TokenGateway(store)
    first = await gateway.sign_in()
    outcomes = await asyncio.gather(*(gateway.renewed(first.refresh_token) for _ in range(50)))
    (won,) = (outcome for outcome in outcomes if isinstance(outcome, Grant))
    assert Counter(outcomes) - Counter([won]) == {REUSED: 1, UNKNOWN: 48}
    assert await gateway.refusal(won.access_token) == "revoked_token"
    assert await gateway.renewed(won.refresh_token) == UNKNOWN


async def test_in_its_grace_one_that_was_used_gives_the_same_answer_once_more(store: Store):
    gateway, elsewhere = TokenGateway(store, grace=10), TokenGateway(store, grace=10)
    first = await gateway.sign_in()
    second = await gateway.next(first)
    elsewhere.now = gateway.now + 9.9
    again = await elsewhere.next(first)
    assert again.refresh_token == second.refresh_token
    assert again.access_token != second.access_token
    third = await elsewhere.next(again)
    for grant in (second, again, third):
        assert await elsewhere.refusal(grant.access_token) is None


async def test_with_a_grace_many_at_once_all_get_the_same_one(store: Store):
    gateway = TokenGateway(store, grace=10)
    first = await gateway.sign_in()
    grants = await asyncio.gather(*(gateway.next(first) for _ in range(50)))
    assert len({grant.refresh_token for grant in grants}) == 1
    assert [await gateway.refusal(grant.access_token) for grant in grants] == [None] * 50


@pytest.mark.parametrize("case", ["late", "the next was used", "two before", "grace is over"])
async def test_the_grace_is_short_and_of_the_last_one_alone(store: Store, case: str):
    gateway = TokenGateway(store, grace=10)
    first = await gateway.sign_in()
    last = second = await gateway.next(first)
    match case:
        case "late":
            gateway.now += 10
        case "the next was used":
            last = await gateway.next(second)
        case "two before":
            last = await gateway.next(await gateway.next(second))
        case "grace is over":
            gateway = TokenGateway(store, grace=0)
    assert await gateway.renewed(first.refresh_token) == REUSED
    assert await gateway.renewed(last.refresh_token) == UNKNOWN
    assert await gateway.refusal(last.access_token) == "revoked_token"


async def test_without_a_grace_a_clock_that_is_behind_gives_none(store: Store):
    here, elsewhere = TokenGateway(store), TokenGateway(store, ahead=-5)
    first = await here.sign_in()
    await here.next(first)
    assert await elsewhere.renewed(first.refresh_token) == REUSED


@pytest.mark.parametrize("grace", [0, 10])
async def test_a_call_whose_answer_got_lost_is_made_again_and_costs_no_session(
    store: Store, grace: int
):
    gateway = TokenGateway(store, grace=grace)
    first = await gateway.sign_in()
    script, lost = gateway.sessions._renew_script, []

    async def losing(*given: Any, **named: Any) -> Any:
        answer = await script(*given, **named)
        if len(lost) < 3:
            lost.append(answer)
            raise TimeoutError
        return answer

    gateway.sessions._renew_script = losing
    second = await gateway.next(first)
    assert [outcome for outcome, *_ in lost] == ["taken"] * 3
    assert await gateway.refusal(second.access_token) is None
    assert isinstance(await gateway.renewed(second.refresh_token), Grant)


async def test_what_redis_does_not_answer_at_all_is_not_insisted_on_for_ever(
    store: Store, monkeypatch: pytest.MonkeyPatch
):
    gateway = TokenGateway(store)
    first = await gateway.sign_in()
    monkeypatch.setattr(sessions, "INSIST_SECONDS", 0.2)

    async def silent(*_: Any, **__: Any) -> Any:
        raise TimeoutError

    gateway.sessions._renew_script = silent
    with pytest.raises(StoreUnavailable):
        await gateway.renewed(first.refresh_token)


async def test_a_session_ends_when_it_was_idle_or_whatever_is_done(store: Store):
    gateway = TokenGateway(store)
    idle, busy = await gateway.sign_in(), await gateway.sign_in()
    gateway.now += IDLE - 1
    busy = await gateway.next(busy)
    gateway.now += 1
    assert await gateway.renewed(idle.refresh_token) == EXPIRED
    assert await gateway.renewed(idle.refresh_token) == UNKNOWN
    gateway.now += ABSOLUTE - IDLE - 2
    busy = await gateway.next(busy)
    gateway.now += 2
    assert await gateway.renewed(busy.refresh_token) == EXPIRED
    assert await gateway.refusal(busy.access_token) is None  # until it expires, as any other


ENDS = ("revoke-tokens", "disable", "disable and enable", "delete", "all", "sid", "token")


@pytest.mark.parametrize("how", ENDS)
async def test_what_ends_a_users_tokens_ends_their_refresh_tokens(store: Store, how: str):
    gateway = TokenGateway(store)
    grant = await gateway.next(await gateway.sign_in())
    claims = gateway.claims(grant.access_token)
    assert claims.session is not None
    refused = REVOKED
    match how:
        case "revoke-tokens":
            await gateway.users.revoke_tokens(1)
        case "disable":
            await gateway.users.disable(1)
        case "disable and enable":
            await gateway.users.disable(1)
            await gateway.users.enable(1)
        case "delete":
            refused = UNKNOWN
            await store.client.delete("gw:user:1")
            store.changed("gw:user:1")
        case "all":
            await gateway.revocation.revoke_all()
        case "sid":
            refused = UNKNOWN
            await gateway.revocation.revoke_id(1, claims.session)
        case "token":
            refused = UNKNOWN
            await gateway.revocation.revoke(claims)
    assert await gateway.refusal(grant.access_token) == "revoked_token"
    assert await gateway.renewed(grant.refresh_token) == refused
    assert await gateway.renewed(grant.refresh_token) == UNKNOWN
    if how not in ("disable", "delete"):
        after = await gateway.next(await gateway.sign_in())
        assert await gateway.refusal(after.access_token) is None


async def test_a_jti_ends_its_token_alone(store: Store):
    gateway = TokenGateway(store)
    first = await gateway.sign_in()
    second = await gateway.next(first)
    await gateway.revocation.revoke_id(1, gateway.claims(first.access_token).jti)
    assert await gateway.refusal(first.access_token) == "revoked_token"
    assert await gateway.refusal(second.access_token) is None
    assert isinstance(await gateway.renewed(second.refresh_token), Grant)


def changed_at(token: str, at: int) -> str:
    return token[:at] + ("A" if token[at] != "A" else "B") + token[at + 1 :]


async def test_what_is_made_up_is_refused_and_ends_nothing(store: Store):
    gateway = TokenGateway(store)
    grant, other = await gateway.sign_in(), await gateway.sign_in("other")
    token = grant.refresh_token
    assert token is not None
    assert other.refresh_token is not None
    made_up = [
        *("", "rt_", "rt_1_", "rt_1_x", "x" * 85, "rt_1_" + "a" * 65, "rt_1_" + "a" * 66),
        *(grant.access_token, token.upper(), token + "A", token[:-1], " " + token, token + "\n"),
        *(token.replace("rt_1_", f"rt_{user}_") for user in ("2", "3", "01", "-1", "", "9" * 16)),
        token.replace("rt_1_", "rt_" + "9" * 17 + "_"),
        changed_at(token, 5),  # another family
        token[:27] + "é" + token[28:],
        token[:27] + "\udcff" + token[28:],
        next_token(other.refresh_token, "salt"),
    ]
    assert {await gateway.renewed(text) for text in made_up[:-1]} == {UNKNOWN}
    assert isinstance(await gateway.renewed(token), Grant)
    # Who has the family's part of a token has had one of it.
    assert await gateway.renewed(made_up[-1]) == REUSED


async def test_redis_holds_no_refresh_token_in_the_clear(store: Store):
    gateway = TokenGateway(store, grace=10)
    first = await gateway.sign_in()
    second = await gateway.next(first)
    held = " ".join(" ".join(pair) for pair in (await fields(store)).items())
    for token in (first.refresh_token, second.refresh_token):
        assert token is not None
        assert token[5:27] not in held
        assert token[27:] not in held
        assert token not in repr((first, second))


async def test_a_user_has_so_many_sessions_and_the_one_unused_longest_goes(store: Store):
    gateway = TokenGateway(store)
    grants = []
    for _ in range(MOST_SESSIONS):
        gateway.now += 1
        grants.append(await gateway.sign_in())
    gateway.now += 1
    grants[0] = await gateway.next(grants[0])
    newest = await gateway.sign_in()
    assert len([name for name in await fields(store) if name.startswith("session:")]) == 20
    assert await gateway.renewed(grants[1].refresh_token) == UNKNOWN
    assert await gateway.refusal(grants[1].access_token) == "revoked_token"
    for grant in (grants[0], *grants[2:], newest):
        assert await gateway.refusal((await gateway.next(grant)).access_token) is None


async def test_sessions_that_are_over_leave_the_record_at_the_next_sign_in(store: Store):
    gateway = TokenGateway(store)
    for _ in range(3):
        await gateway.sign_in()
    gateway.now += IDLE
    await gateway.sign_in()
    names = [name for name in await fields(store) if name.startswith("session:")]
    assert len(names) == 1
    assert "revoked_tokens" not in await fields(store)


@pytest.mark.parametrize("behind", [5, 20])
async def test_a_gateway_whose_clock_is_behind_renews_to_good_tokens(store: Store, behind: float):
    here, elsewhere = TokenGateway(store), TokenGateway(store, ahead=-behind)
    await here.sign_in()
    await here.users.revoke_tokens(1)
    grant = await elsewhere.next(await here.sign_in())
    assert await here.refusal(grant.access_token) is None
    await elsewhere.users.revoke_tokens(1)
    assert await here.refusal(grant.access_token) == "revoked_token"
    assert await here.renewed(grant.refresh_token) == REVOKED


@pytest.mark.parametrize("text", ["", "soon", "a b c", "x " * 10, "1 nan inf 3 4 5 6 7 8 9"])
async def test_a_session_that_cannot_be_read_is_none(store: Store, text: str):
    gateway = TokenGateway(store)
    grant = await gateway.sign_in()
    (name,) = (name for name in await fields(store) if name.startswith("session:"))
    await store.client.hset("gw:user:1", name, text)
    assert await gateway.renewed(grant.refresh_token) == UNKNOWN
    await gateway.sign_in()
    assert name not in await fields(store)
