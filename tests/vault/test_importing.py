"""`vault import`: plaintext keys in, sealed before Redis sees them."""

import json

import pytest
from pydantic import SecretStr

from gateway.sections import VaultKey, VaultSettings
from gateway.vault import Credentials, Vault
from gateway.vault.importing import take

SECRET = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="


@pytest.fixture
def vault(store):
    key = VaultKey(id="v1", secret=SecretStr(SECRET))
    return Vault(store, VaultSettings(encryption_keys=(key,)))


def line(number: int = 1, **changes: object) -> str:
    given = {"email": f"user{number}@example.com"}
    given |= {"api_key": f"key-{number}", "api_secret": f"canary-{number}"}
    return json.dumps(given | changes) + "\n"


async def counts(vault, lines: list[str], **more) -> dict[str, int]:
    tally = await take(vault, lines, **more)
    names = ("new", "changed", "same", "kept", "refused")
    return {name: count for name in names if (count := getattr(tally, name))}


async def test_keys_come_in_sealed_and_are_handed_out(vault, store):
    assert await counts(vault, [line(1), "\n", line(2, email=" USER2@example.com")]) == {"new": 2}
    for number in (1, 2):
        credentials = Credentials(f"key-{number}", f"canary-{number}")
        assert await vault.credentials(f"user{number}@example.com") == credentials
        fields = await store.client.hgetall(store.key("vault", f"user{number}@example.com"))
        assert "canary" not in str(fields)
    assert (await vault.show("user1@example.com"))["verification_status"] == "unverified"


async def test_the_same_lines_again_change_nothing(vault, store):
    await take(vault, [line(1)])
    before = await store.client.hgetall(store.key("vault", "user1@example.com"))
    assert await counts(vault, [line(1), line(2)]) == {"new": 1, "same": 1}
    assert await counts(vault, [line(1), line(2)], overwrite=True) == {"same": 2}
    assert await store.client.hgetall(store.key("vault", "user1@example.com")) == before


async def test_a_key_that_is_here_stays_unless_the_lines_go_before_it(vault):
    await vault.add("user1@example.com", "own-key", "own-secret")
    assert await counts(vault, [line(1)]) == {"kept": 1}
    assert await vault.credentials("user1@example.com") == Credentials("own-key", "own-secret")
    assert await counts(vault, [line(1)], overwrite=True) == {"changed": 1}
    assert await vault.credentials("user1@example.com") == Credentials("key-1", "canary-1")


@pytest.mark.parametrize("taken_away", [False, True])
async def test_what_is_switched_off_stays_so(vault, taken_away):
    await vault.add("user1@example.com", "own-key", "own-secret")
    await vault.switch("user1@example.com", on=False)
    if taken_away:
        await vault.withdraw("user1@example.com")
    assert await counts(vault, [line(1)]) == {"kept": 1}
    assert await counts(vault, [line(1)], overwrite=True) == {"changed": 1}
    assert await vault.credentials("user1@example.com") is None
    await vault.switch("user1@example.com", on=True)
    assert await vault.credentials("user1@example.com") == Credentials("key-1", "canary-1")


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ("canary\n", "must be a JSON object in UTF-8, with no name twice"),
        ("[]\n", "must be a JSON object in UTF-8, with no name twice"),
        ("[" * 4000, "must be a JSON object in UTF-8, with no name twice"),
        ('{"email": "a@b", "email": "c@d"}', "must be a JSON object in UTF-8, with no name twice"),
        ("\udcffcanary", "must be a JSON object in UTF-8, with no name twice"),
        ('{"canary": 1}', "must be an object with email, api_key and api_secret, nothing else"),
        (line(canary=1), "must be an object with email, api_key and api_secret, nothing else"),
        (line(email="canary"), "email must be an email address"),
        (line(email=["canary"]), "email must be an email address"),
        (line(api_key=1), "api_key must be at most 256 visible ASCII characters"),
        (line(api_secret="canary é"), "api_secret must be at most 256 visible ASCII characters"),
        (line(api_secret=""), "api_secret must be at most 256 visible ASCII characters"),
        ("x" * 5000, "must have at most 4096 characters"),
    ],
)
async def test_a_bad_line_is_told_by_its_number_alone_and_the_others_are_taken(vault, bad, why):
    tally = await take(vault, [line(1), "\n", bad, line(2)], first=7)
    assert tally.complaints == [(9, why)]
    assert (tally.new, tally.refused, tally.lines) == (2, 1, 4)


async def test_an_email_that_comes_twice_is_told(vault):
    tally = await take(vault, [line(1), line(1, api_key="other")])
    assert tally.complaints == [(2, "email stands in line 1 too; leave one out")]
    assert await vault.credentials("user1@example.com") == Credentials("key-1", "canary-1")


async def test_a_key_that_is_registered_meanwhile_stays(vault):
    swap = vault.records.swap

    async def registered_meanwhile(changes, extent):
        await vault.add("user1@example.com", "own-key", "own-secret")
        return await swap(changes, extent)

    vault.records.swap = registered_meanwhile
    tally = await take(vault, [line(1), line(2)])
    assert [number for number, _ in tally.complaints] == [1]
    assert "meanwhile" in tally.complaints[0][1]
    assert tally.new == 1
    assert await vault.credentials("user1@example.com") == Credentials("own-key", "own-secret")


async def test_a_record_that_can_not_be_read_is_told(vault, store):
    await store.client.set(store.key("vault", "user1@example.com"), "not a hash")
    tally = await take(vault, [line(1), line(2)], overwrite=True)
    assert tally.complaints == [(1, "what is here under this email can't be read")]
    assert tally.new == 1
