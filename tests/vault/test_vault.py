import base64

import pytest
from aiohttp import ClientSession
from binance_stand_in import BinanceStandIn
from pydantic import SecretStr
from stand_ins import Fault

from gateway.errors import BinanceFailed, DependencyUnavailable, StoreUnavailable
from gateway.sections import StoreSettings, VaultKey, VaultSettings
from gateway.store.redis import Store
from gateway.vault import Credentials, Vault, Verification
from gateway.vault.binance import Binance, Judgement

EMAIL = "user@example.com"
NOW = 1_777_464_000.9  # 2026-04-29T12:00:00
CREDENTIALS = Credentials("binance-key", "binance-secret")


def settings(*ids: str, **more) -> VaultSettings:
    return VaultSettings(
        **more,
        encryption_keys=tuple(
            VaultKey(id=name, secret=SecretStr(base64.b64encode(name.encode() * 16).decode()))
            for name in ids
        ),
    )


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
async def stand_in():
    async with BinanceStandIn() as started:
        yield started


@pytest.fixture
async def vault(store, stand_in, clock):
    async with ClientSession() as session:
        chosen = settings("v1", binance_url=stand_in.base_url)
        yield Vault(store, chosen, Binance(session, chosen), clock=clock)


@pytest.fixture
async def registered(vault):
    await vault.add(EMAIL, "binance-key", "binance-secret")
    return vault


@pytest.fixture
def record(store):
    return store.key("vault", EMAIL)


SHOWN = {
    "email": EMAIL,
    "master_key_id": "v1",
    "verification_status": "unverified",
    "last_verified": None,
    "created_at": "2026-04-29T12:00:00",
    "is_active": True,
    "permissions": None,
    "can_withdraw": None,
}
TAKEN = {"permissions": ["enableFutures", "enableReading"], "can_withdraw": False}


async def test_a_key_that_was_added_is_handed_out(vault):
    assert await vault.add(EMAIL, "binance-key", "binance-secret") == SHOWN
    assert await vault.credentials(EMAIL) == CREDENTIALS
    assert await vault.show(EMAIL) == SHOWN


async def test_the_record_in_redis_is_as_documented_and_holds_no_secret(registered, store, record):
    fields = await store.client.hgetall(record)
    ciphertext = fields.pop("ciphertext")
    assert fields == {
        "master_key_id": "v1",
        "verification_status": "unverified",
        "created_at": "2026-04-29T12:00:00",
        "is_active": "1",
    }
    raw = base64.b64decode(ciphertext)
    assert b"binance" not in raw
    assert record == "gw:vault:user@example.com"


@pytest.mark.parametrize("spelling", [" User@Example.COM ", "USER@EXAMPLE.COM\n"])
async def test_an_email_is_the_same_in_any_spelling(vault, spelling):
    await vault.add(spelling, "binance-key", "binance-secret")
    assert await vault.show(EMAIL) == SHOWN
    assert await vault.credentials(spelling) == CREDENTIALS
    assert await vault.remove(spelling) is True
    assert await vault.show(EMAIL) is None


@pytest.mark.parametrize("email", ["nobody@example.com", "", "nobody", "a b@c", "\ud800@x"])
async def test_who_has_no_key_has_none(registered, email):
    assert await registered.credentials(email) is None
    assert await registered.status(email) is None
    assert await registered.show(email) is None
    assert await registered.remove(email) is False
    assert await registered.verify(email) is Verification.NOT_REGISTERED


async def test_a_removed_key_is_gone(registered, store, record):
    assert await registered.remove(EMAIL) is True
    assert await registered.credentials(EMAIL) is None
    assert await registered.remove(EMAIL) is False
    assert not await store.client.exists(record)


async def test_adding_again_replaces_all_of_the_record(registered, store, record, clock):
    await store.client.hset(record, mapping={"is_active": "0", "last_verified": "x"})
    clock.now += 60
    await registered.add(EMAIL, "second-key", "second-secret")
    assert await registered.credentials(EMAIL) == Credentials("second-key", "second-secret")
    assert await registered.show(EMAIL) == SHOWN | {"created_at": "2026-04-29T12:01:00"}


@pytest.mark.parametrize(
    ("email", "api_key", "api_secret"),
    [
        ("nobody", "canary", "canary"),
        (EMAIL, "", "canary"),
        (EMAIL, "canary", ""),
        (EMAIL, "canary\r\n", "canary"),
        (EMAIL, "canary", "canary "),
        (EMAIL, "canaryé", "canary"),
        (EMAIL, "canary" * 50, "canary"),
    ],
)
async def test_what_can_not_be_a_key_is_refused_without_quoting_it(
    vault, email, api_key, api_secret
):
    with pytest.raises(ValueError, match=r"email|ASCII") as caught:
        await vault.add(email, api_key, api_secret)
    assert "canary" not in str(caught.value)
    assert await vault.show(EMAIL) is None


@pytest.mark.parametrize("is_active", ["0", "", "true", None])
async def test_a_key_that_is_switched_off_is_not_handed_out(
    registered, store, record, stand_in, is_active
):
    if is_active is None:
        await store.client.hdel(record, "is_active")
    else:
        await store.client.hset(record, "is_active", is_active)
    assert await registered.credentials(EMAIL) is None
    assert (await registered.show(EMAIL))["is_active"] is False
    assert await registered.verify(EMAIL) is Verification.INACTIVE
    assert stand_in.asked == 0


async def test_a_key_that_binance_takes_is_verified(registered, clock):
    clock.now += 3600
    assert await registered.verify(EMAIL) is Verification.VERIFIED
    assert await registered.show(EMAIL) == SHOWN | TAKEN | {
        "verification_status": "verified",
        "last_verified": "2026-04-29T13:00:00",
    }


async def test_a_key_that_binance_refuses_is_invalid_and_still_handed_out(
    registered, stand_in, clock
):
    stand_in.keys.clear()
    assert await registered.verify(EMAIL) is Verification.REFUSED
    assert await registered.show(EMAIL) == SHOWN | {
        "verification_status": "invalid",
        "last_verified": "2026-04-29T12:00:00",
    }
    assert await registered.credentials(EMAIL) == CREDENTIALS


async def test_binance_being_away_leaves_the_record_as_it_was(registered, stand_in, clock):
    await registered.verify(EMAIL)
    before = await registered.show(EMAIL)
    clock.now += 60
    stand_in.fault = Fault.DOWN
    with pytest.raises(BinanceFailed):
        await registered.verify(EMAIL)
    assert await registered.show(EMAIL) == before


class Meanwhile:
    """Binance, and something that happens while it is asked."""

    def __init__(self, happening) -> None:
        self._happening = happening

    async def judge(self, credentials: Credentials) -> Judgement:
        assert credentials == CREDENTIALS
        await self._happening()
        return Judgement(taken=True)


async def test_a_key_replaced_during_its_verification_is_not_called_verified(
    store, registered, clock
):
    async def replace() -> None:
        await registered.add(EMAIL, "second-key", "second-secret")

    vault = Vault(store, settings("v1"), Meanwhile(replace), clock=clock)
    assert await vault.verify(EMAIL) is Verification.VERIFIED
    assert (await vault.show(EMAIL))["verification_status"] == "unverified"


async def test_a_key_removed_during_its_verification_does_not_come_back(
    store, registered, record, clock
):
    async def remove() -> None:
        await registered.remove(EMAIL)

    vault = Vault(store, settings("v1"), Meanwhile(remove), clock=clock)
    await vault.verify(EMAIL)
    assert not await store.client.exists(record)


async def test_a_vault_with_a_new_first_key_opens_the_old_records(registered, store):
    rotated = Vault(store, settings("v2", "v1"))
    assert await rotated.credentials(EMAIL) == CREDENTIALS
    assert (await rotated.add(EMAIL, "k", "s"))["master_key_id"] == "v2"


@pytest.mark.parametrize(
    "changed",
    [
        {"ciphertext": "AAAA"},
        {"ciphertext": base64.b64encode(bytes(60)).decode()},
        {"master_key_id": "v9"},
    ],
)
async def test_a_record_that_can_not_be_opened_is_our_trouble_and_not_a_missing_key(
    registered, store, record, stand_in, caplog, changed
):
    await store.client.hset(record, mapping=changed)
    for asked in (registered.credentials, registered.verify):
        with pytest.raises(DependencyUnavailable) as caught:
            await asked(EMAIL)
        assert caught.value.status == 503
        assert caught.value.reason == "vault_undecryptable"
    assert stand_in.asked == 0
    assert [entry.levelname for entry in caplog.records if entry.name == "gateway.vault"] == [
        "ERROR",
        "ERROR",
    ]
    assert EMAIL not in caplog.text
    assert (await registered.show(EMAIL))["is_active"] is True


async def test_another_emails_ciphertext_is_not_handed_out(registered, store):
    stolen = await store.client.hgetall(store.key("vault", EMAIL))
    await store.client.hset(store.key("vault", "thief@example.com"), mapping=stolen)
    with pytest.raises(DependencyUnavailable):
        await registered.credentials("thief@example.com")


async def test_redis_being_away_is_a_503_and_not_a_missing_key(redis_process, stand_in):
    opened = await Store.open(StoreSettings(url=redis_process.url, timeout=2))
    async with ClientSession() as session:
        chosen = settings("v1", binance_url=stand_in.base_url)
        vault = Vault(opened, chosen, Binance(session, chosen))
        await vault.add(EMAIL, "binance-key", "binance-secret")
        redis_process.stop()
        for asked in (vault.credentials, vault.status, vault.show, vault.verify, vault.remove):
            with pytest.raises(StoreUnavailable):
                await asked(EMAIL)
        with pytest.raises(StoreUnavailable):
            await vault.add(EMAIL, "binance-key", "binance-secret")
    assert stand_in.asked == 0
    await opened.close()


async def test_without_a_master_key_nothing_is_added(store):
    vault = Vault(store, VaultSettings())
    with pytest.raises(DependencyUnavailable) as caught:
        await vault.add(EMAIL, "k", "s")
    assert caught.value.reason == "vault_key_unset"
    assert await vault.show(EMAIL) is None


async def test_no_secret_is_logged_or_left_in_redis(registered, store, stand_in, caplog):
    caplog.set_level("DEBUG")
    await registered.verify(EMAIL)
    await registered.credentials(EMAIL)
    dump = [
        repr((key, await store.client.hgetall(key)))
        async for keys in store.scan(store.key("vault", "*"))
        for key in keys
    ]
    assert len(dump) == 1
    for secret in ("binance-key", "binance-secret"):
        assert secret not in caplog.text
        assert secret not in dump[0]
