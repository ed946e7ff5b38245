"""`users revoke-tokens` ends what was issued before it and nothing after, whatever clocks say."""

import pytest
from exchanges import exchange
from pydantic import SecretStr

from gateway.auth.app_token import AppToken
from gateway.errors import Unauthenticated
from gateway.identity.tokens import AppTokens
from gateway.identity.users import UnknownUserError, Users
from gateway.sections import AppTokenSettings, KeySettings, TokenKey
from gateway.store.plans import Plans
from gateway.store.redis import Store

NOW = 1_790_000_000.25
SETTINGS = AppTokenSettings(
    secrets=(TokenKey(id="k1", secret=SecretStr("a secret of at least 32 bytes, really")),)
)


class Gateway:
    """One that issues, verifies and revokes by a clock of its own."""

    def __init__(self, store: Store, ahead: float = 0) -> None:
        self.now = NOW + ahead
        self.users = Users(store, KeySettings(), lambda: self.now)
        self.tokens = AppTokens(SETTINGS, clock=lambda: self.now)
        self._pattern = AppToken(
            self.tokens, self.users, Plans(self.users, ()), frozenset(), lambda: self.now
        )

    async def sign_in(self) -> str:
        user = await self.users.sign_in("google", "sub", None, email_verified=False, name=None)
        return self.tokens.issue(user)

    async def revoke(self) -> float:
        ended = (await self.users.revoke_tokens(1)).tokens_valid_after
        assert ended is not None
        return ended

    async def admits(self, token: str) -> bool:
        headers = {"Authorization": f"Bearer {token}"}
        try:
            await self._pattern.authenticate(exchange("GET", "/me", headers=headers))
        except Unauthenticated:
            return False
        return True


@pytest.mark.parametrize("ahead", [0, 5, -5, 20, -20])
async def test_a_token_of_before_is_dead_and_one_of_after_is_good(store: Store, ahead: float):
    here, elsewhere = Gateway(store), Gateway(store, ahead)
    before = [await here.sign_in(), await elsewhere.sign_in()]
    assert [await here.admits(token) for token in before] == [True, True]
    await elsewhere.revoke()
    after = [await here.sign_in(), await elsewhere.sign_in()]
    for gateway in (here, elsewhere):
        assert [await gateway.admits(token) for token in before] == [False, False]
        assert [await gateway.admits(token) for token in after] == [True, True]


async def test_each_of_two_revocations_in_a_moment_ends_what_came_between(store: Store):
    gateway = Gateway(store)
    await gateway.sign_in()
    await gateway.revoke()
    between = await gateway.sign_in()
    assert await gateway.admits(between)
    await gateway.revoke()
    assert not await gateway.admits(between)
    assert await gateway.admits(await gateway.sign_in())


async def test_a_token_in_whole_seconds_of_that_very_second_is_dead(store: Store):
    gateway = Gateway(store)
    user = await gateway.users.create("user@example.com")
    gateway.now = float(int(NOW))
    token = gateway.tokens.issue(user)
    gateway.now = NOW
    assert await gateway.admits(token)
    await gateway.revoke()
    assert not await gateway.admits(token)


@pytest.mark.parametrize("written", ["9999999999", "soon", "inf", "nan"])
async def test_who_was_locked_out_stays_so_and_may_be_let_in_again(store: Store, written: str):
    gateway = Gateway(store)
    await gateway.sign_in()
    await store.client.hset("gw:user:1", "tokens_valid_after", written)
    store.changed("gw:user:1")
    assert not await gateway.admits(await gateway.sign_in())
    await store.client.hset("gw:user:1", "tokens_valid_after", str(NOW))
    store.changed("gw:user:1")
    assert await gateway.admits(await gateway.sign_in())


async def test_nobody_has_no_tokens(store: Store):
    with pytest.raises(UnknownUserError):
        await Gateway(store).revoke()
    assert not await store.client.exists("gw:user:1")
