"""`vault rotate`: all records under the first master key, while they are written and read."""

import base64

import pytest
from pydantic import SecretStr

from gateway.sections import VaultKey, VaultSettings
from gateway.vault import Credentials, Vault, Verification
from gateway.vault.binance import Judgement
from gateway.vault.records import Change
from gateway.vault.resealing import Resealing

RAW = {name: base64.b64encode(name.encode() * 16).decode() for name in ("v1", "v2", "v9")}


def settings(*ids: str) -> VaultSettings:
    keys = tuple(VaultKey(id=name, secret=SecretStr(RAW[name])) for name in ids)
    return VaultSettings(encryption_keys=keys)


def knowing(store, *ids: str) -> Vault:
    return Vault(store, settings(*ids))


def email(number: int) -> str:
    return f"user{number}@example.com"


async def filled(store, count: int) -> Vault:
    vault = knowing(store, "v1")
    for number in range(count):
        await vault.add(email(number), f"key-{number}", f"secret-{number}")
    return vault


async def rotated(store, *ids: str) -> dict[str, object]:
    rotation = Resealing(knowing(store, *ids))
    async for _ in rotation.run():
        pass
    shown = rotation.tally.shown()
    assert shown["records"] == shown["rotated"] + shown["current"] + shown["left"]
    return shown


async def hashes(store) -> dict[str, dict[str, str]]:
    names = [name async for names in store.scan(store.key("vault", "*")) for name in names]
    return {name: await store.client.hgetall(name) for name in names}


async def test_every_record_opens_with_the_new_key_alone_and_else_nothing_changed(store):
    await filled(store, 30)
    await store.client.hset(store.key("vault", email(3)), mapping={"is_active": "0", "other": "x"})
    before = await hashes(store)
    assert (await rotated(store, "v2", "v1"))["rotated"] == 30
    after = await hashes(store)
    new = knowing(store, "v2")
    for number in range(30):
        name = store.key("vault", email(number))
        assert after[name]["master_key_id"] == "v2"
        assert after[name]["ciphertext"] != before[name]["ciphertext"]
        changed = {"master_key_id", "ciphertext"}
        assert {k: v for k, v in after[name].items() if k not in changed} == {
            k: v for k, v in before[name].items() if k not in changed
        }
        expected = None if number == 3 else Credentials(f"key-{number}", f"secret-{number}")
        assert await new.credentials(email(number)) == expected


async def test_again_it_changes_nothing(store):
    await filled(store, 5)
    await rotated(store, "v2", "v1")
    before = await hashes(store)
    again = await rotated(store, "v2", "v1")
    assert (again["rotated"], again["current"]) == (0, 5)
    assert await hashes(store) == before


async def test_it_goes_on_where_it_was_cut_off(store):
    await filled(store, 1200)
    rotation = Resealing(knowing(store, "v2", "v1"))
    async for _ in rotation.run():
        break
    done = rotation.tally.rotated
    assert 0 < done < 1200
    again = await rotated(store, "v2", "v1")
    assert (again["rotated"], again["current"]) == (1200 - done, done)


async def test_a_record_that_can_not_be_opened_is_named_and_left(store):
    await filled(store, 2)
    await knowing(store, "v9").add("lost@example.com", "k", "s")
    stolen = await store.client.hgetall(store.key("vault", email(0)))
    await store.client.hset(store.key("vault", "thief@example.com"), mapping=stolen)
    await store.client.set(store.key("vault", "odd@example.com"), "not a hash")
    before = await store.client.hgetall(store.key("vault", "lost@example.com"))
    tally = await rotated(store, "v2", "v1")
    assert (tally["rotated"], tally["left"]) == (2, 3)
    assert sorted(tally["complaints"]) == [
        "l***@example.com can't be opened with master key 'v9': unknown master key",
        "o***@example.com can't be read",
        (
            "t***@example.com can't be opened with master key 'v1': "
            "not sealed by this key for this email"
        ),
    ]
    assert await store.client.hgetall(store.key("vault", "lost@example.com")) == before


async def test_the_mark_of_a_key_that_was_taken_away_stays(store):
    vault = await filled(store, 1)
    await vault.switch(email(0), on=False)
    await vault.withdraw(email(0))
    assert (await rotated(store, "v2", "v1"))["current"] == 1
    assert list((await hashes(store)).values()) == [{"is_active": "0"}]


class Meanwhile:
    """A vault's records, to which something happens between the reading and the writing."""

    def __init__(self, records, happening) -> None:
        self._records = records
        self._happening = happening
        self.emails = records.emails
        self.read_all = records.read_all

    async def swap(self, changes: list[Change]) -> list[bool]:
        await self._happening()
        return await self._records.swap(changes)


@pytest.mark.parametrize("what", ["registered", "verified", "removed", "switched off"])
async def test_what_happens_to_a_record_meanwhile_is_not_undone(store, what):
    old = await filled(store, 3)
    happened: list[str] = []

    async def happening() -> None:
        if happened:
            return
        happened.append(what)
        match what:
            case "registered":  # by a gateway that has the old key first
                await old.add(email(1), "new-key", "new-secret")
            case "verified":
                await store.client.hset(
                    store.key("vault", email(1)), "verification_status", "verified"
                )
            case "removed":
                await old.remove(email(1))
            case "switched off":
                await old.switch(email(1), on=False)

    rotation = Resealing(knowing(store, "v2", "v1"))
    rotation._records = Meanwhile(rotation._records, happening)
    async for _ in rotation.run():
        pass
    new = knowing(store, "v2")
    record = await new.status(email(1))
    assert rotation.tally.left == 0
    assert rotation.tally.rotated == (2 if what == "removed" else 3)
    match what:
        case "registered":
            assert await new.credentials(email(1)) == Credentials("new-key", "new-secret")
        case "verified":
            assert record.verification_status == "verified"
        case "removed":
            assert record is None
        case "switched off":
            assert record.is_active is False
    assert await new.credentials(email(2)) == Credentials("key-2", "secret-2")


class Rotating:
    """Binance, and a rotation while it is asked."""

    def __init__(self, store) -> None:
        self._store = store

    async def judge(self, _credentials: Credentials) -> Judgement:
        await rotated(self._store, "v2", "v1")
        return Judgement(taken=True, permissions=("enableReading",))


async def test_binances_word_on_a_key_that_is_rotated_meanwhile_is_kept(store):
    await filled(store, 1)
    vault = Vault(store, settings("v1", "v2"), Rotating(store))
    assert await vault.verify(email(0)) is Verification.VERIFIED
    record = await vault.status(email(0))
    assert (record.master_key_id, record.verification_status) == ("v2", "verified")
    assert record.permissions == ("enableReading",)
    assert await knowing(store, "v2").credentials(email(0)) == Credentials("key-0", "secret-0")
