"""The attack table for app tokens, against a gateway process, over raw sockets."""

import json
from dataclasses import replace
from pathlib import Path

import attack_keys
import pytest
from arena import Arena, arena, fight
from attack import Row
from attack_issuers import LEGACY_SECRET
from attack_table import TOKENS as ROWS
from redis_process import RedisProcess

DETAILS = {
    401: {"Invalid or expired token", "Not authenticated", "More than one Authorization header"}
}


@pytest.mark.parametrize("kept", [False, True], ids=["closing", "kept"])
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_an_attack_is_refused_as_the_table_says_and_nothing_reaches_the_backend(
    field: Arena, row: Row, *, kept: bool
) -> None:
    outcome = fight(field, row, kept=kept)
    assert outcome.is_as(row), outcome
    if not row.passes:
        detail = json.loads(outcome.body)["detail"]
        assert isinstance(detail, str)
        assert detail in DETAILS.get(row.status, {detail})


def test_where_tokens_of_before_are_taken_the_table_is_the_same_but_for_those(
    redis_server: RedisProcess, tmp_path: Path
) -> None:
    legacy = {"secret": LEGACY_SECRET, "until": "2999-01-01T00:00:00"}
    with arena(tmp_path, redis_server, app_tokens={"legacy": legacy}) as lenient:
        other = {row.name for row in ROWS if not fight(lenient, row).is_as(row)}
    assert other == {"issuer: ourselves, before"}


def test_nothing_in_a_token_is_ever_followed(field: Arena) -> None:
    for row in attack_keys.ROWS:
        fight(field, row)
    assert field.attacker.connections == 0


def test_the_table_is_long_and_no_row_stands_in_it_twice(field: Arena) -> None:
    assert len({row.name for row in ROWS}) == len(ROWS)
    forge = replace(field.forge, clock=lambda: 1_800_000_000)
    assert len({row.make(forge) for row in ROWS}) == len(ROWS)
    refused = [row for row in ROWS if not row.passes]
    assert len(refused) >= 300
    assert len(ROWS) - len(refused) >= 20, "controls, which show that the table can fail"
