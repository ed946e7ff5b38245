"""One token, or all of them, ended before they expire; and nothing that was revoked comes back."""

import logging

import pytest
from redis_process import eventually, news_heard
from token_gateway import LIFETIME, TokenGateway

from gateway.errors import StoreUnavailable
from gateway.identity.revocation import word
from gateway.identity.users import UnknownUserError
from gateway.sections import StoreSettings
from gateway.store.redis import Store

MOST_REVOKED = 100
KEPT_AFTER = 300  # seconds that what has expired is kept, since clocks differ
USER = "gw:user:1"


async def revoked(store: Store) -> list[str]:
    """The ids in the record."""
    text = await store.client.hget(USER, "revoked_tokens") or ""
    return [entry.partition(":")[0] for entry in text.split()]


async def signed_in(gateway: TokenGateway) -> str:
    return (await gateway.sign_in()).access_token


async def test_a_revoked_token_is_dead_on_every_gateway_and_the_users_others_are_good(
    store: Store,
):
    here, elsewhere = TokenGateway(store, grace=None), TokenGateway(store, grace=None)
    one, other = await signed_in(here), await signed_in(here)
    assert [await elsewhere.refusal(token) for token in (one, other)] == [None, None]
    await here.revocation.revoke(here.claims(one))
    await news_heard(store)
    for gateway in (here, elsewhere):
        assert await gateway.refusal(one) == "revoked_token"
        assert await gateway.refusal(other) is None
    await here.revocation.revoke(here.claims(one))
    assert len(await revoked(store)) == 1


async def test_a_valid_token_costs_no_look_up(store: Store):
    gateway = TokenGateway(store)
    one, other = await signed_in(gateway), await signed_in(gateway)
    await gateway.revocation.revoke(gateway.claims(one))
    await gateway.revocation.revoke_all()
    good = await signed_in(gateway)
    await gateway.refusal(good)
    await news_heard(store)
    await gateway.refusal(good)
    misses = gateway.users.copies.misses
    for token in (good, one, other) * 10:
        await gateway.refusal(token)
    assert gateway.users.copies.misses == misses


async def test_what_has_expired_leaves_the_record_at_the_next_revocation(store: Store):
    gateway = TokenGateway(store, grace=None)
    one = await signed_in(gateway)
    await gateway.revocation.revoke(gateway.claims(one))
    gateway.now += LIFETIME + KEPT_AFTER - 1
    two = await signed_in(gateway)
    await gateway.revocation.revoke(gateway.claims(two))
    assert len(await revoked(store)) == 2
    gateway.now += 2
    await gateway.revocation.revoke(gateway.claims(two))
    assert await revoked(store) == [gateway.claims(two).jti]


async def test_an_id_whose_end_nobody_knows_stays(store: Store):
    gateway = TokenGateway(store, grace=None)
    one = await signed_in(gateway)
    await gateway.revocation.revoke_id(1, gateway.claims(one).jti)
    assert await gateway.refusal(one) == "revoked_token"
    await gateway.revocation.revoke(gateway.claims(one))  # which does not make it known
    gateway.now += 10 * LIFETIME
    two = await signed_in(gateway)
    await gateway.revocation.revoke(gateway.claims(two))
    assert len(await revoked(store)) == 2


async def test_beyond_the_bound_no_revoked_token_comes_back(store: Store):
    gateway = TokenGateway(store, grace=None)
    tokens = []
    for _ in range(MOST_REVOKED + 4):
        gateway.now += 1
        tokens.append(await signed_in(gateway))
    old, *ended, young = tokens
    for token in ended[1:]:
        await gateway.revocation.revoke(gateway.claims(token))
    assert len(await revoked(store)) == MOST_REVOKED
    assert [await gateway.refusal(token) for token in (old, ended[0], young)] == [
        "revoked_token",  # as old as one that is not remembered any more
        "revoked_token",
        None,
    ]
    assert {await gateway.refusal(token) for token in ended} == {"revoked_token"}
    assert (await gateway.users.show(1)).tokens_valid_after == pytest.approx(
        gateway.claims(ended[1]).issued_at + 0.001
    )


async def test_below_the_bound_no_other_token_ends(store: Store):
    gateway = TokenGateway(store, grace=None)
    tokens = [await signed_in(gateway) for _ in range(MOST_REVOKED + 1)]
    for token in tokens[1:]:
        await gateway.revocation.revoke(gateway.claims(token))
    assert await gateway.refusal(tokens[0]) is None
    assert {await gateway.refusal(token) for token in tokens[1:]} == {"revoked_token"}


@pytest.mark.parametrize("token_id", ["two words", "a:b", "x" * 65, "ключ", "", "a\nb"])
async def test_an_id_of_an_odd_form_can_be_revoked_too(store: Store, token_id: str):
    gateway = TokenGateway(store)
    await gateway.sign_in()
    await gateway.revocation.revoke_id(1, token_id)
    assert await revoked(store) == [word(token_id)]
    assert (await gateway.users.show(1)).revoked_tokens == {word(token_id)}


async def test_what_others_wrote_into_the_record_counts(store: Store):
    gateway = TokenGateway(store, grace=None)
    one, two = await signed_in(gateway), await signed_in(gateway)
    jti = gateway.claims(one).jti
    await store.client.hset(USER, "revoked_tokens", f" x:soon:nan  {jti} ::: ")
    store.changed(USER)
    assert await gateway.refusal(one) == "revoked_token"
    await gateway.revocation.revoke(gateway.claims(two))
    assert {jti, "x", gateway.claims(two).jti} <= set(await revoked(store))


@pytest.mark.parametrize("ahead", [0, 20, -20])
async def test_all_tokens_of_all_end_and_those_of_later_sign_ins_are_good(
    store: Store, ahead: float
):
    here, elsewhere = TokenGateway(store), TokenGateway(store, ahead=ahead)
    for generation in (1, 2):
        before = [
            (await gateway.sign_in(subject)).access_token
            for gateway in (here, elsewhere)
            for subject in ("one", "other")
        ]
        assert {await here.refusal(token) for token in before} == {None}
        assert await elsewhere.revocation.revoke_all() == generation
        await news_heard(store)
        for gateway in (here, elsewhere):
            assert {await gateway.refusal(token) for token in before} == {"revoked_token"}
            grant = await gateway.sign_in()
            assert await here.refusal(grant.access_token) is None
            assert await elsewhere.refusal((await here.next(grant)).access_token) is None


async def test_when_what_holds_for_all_cannot_be_read_nobody_is_called_a_fraud(
    store: Store, caplog: pytest.LogCaptureFixture
):
    gateway = TokenGateway(store)
    token = await signed_in(gateway)
    for name, value in (("hset", ("tokens_generation", "soon")), ("set", ("x",))):
        await store.client.delete("gw:user:all")
        await getattr(store.client, name)("gw:user:all", *value)
        store.changed("gw:user:all")
        with caplog.at_level(logging.ERROR), pytest.raises(StoreUnavailable):
            await gateway.refusal(token)
        with pytest.raises(StoreUnavailable):
            await gateway.sign_in()
    assert "gw:user:all: tokens_generation is no number" in caplog.text
    await store.client.delete("gw:user:all")
    store.changed("gw:user:all")
    assert await gateway.refusal(token) is None


async def test_redis_away_ends_nothing_and_says_so(redis_process):
    store = await Store.open(StoreSettings(url=redis_process.url, timeout=2))
    gateway = TokenGateway(store)
    grant = await gateway.sign_in()
    assert await gateway.refusal(grant.access_token) is None
    redis_process.kill()
    await eventually(lambda: not store.available)
    for ending in (
        gateway.revocation.revoke(gateway.claims(grant.access_token)),
        gateway.revocation.revoke_id(1, "x"),
        gateway.revocation.revoke_all(),
        gateway.sessions.renew(str(grant.refresh_token)),
    ):
        with pytest.raises(StoreUnavailable):
            await ending
    assert await gateway.refusal(grant.access_token) is None  # from the copy
    await store.close()


@pytest.mark.parametrize("gone", ["never there", "deleted"])
async def test_nobody_has_no_tokens_to_revoke(store: Store, gone: str):
    gateway = TokenGateway(store)
    if gone == "deleted":
        await store.client.hset(USER, "deleted_at", "2026-01-01T00:00:00")
    with pytest.raises(UnknownUserError):
        await gateway.revocation.revoke_id(1, "x")
    assert await revoked(store) == []
