"""The attack tables for plan keys and for credentials in bodies, over raw sockets."""

import json

import pytest
from arena import Arena, fight
from attack import Row
from attack_table import BODIES, PLAN_KEYS

ROWS: tuple[Row, ...] = (*PLAN_KEYS, *BODIES)


@pytest.mark.parametrize("kept", [False, True], ids=["closing", "kept"])
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_an_attack_is_refused_as_the_table_says_and_nothing_reaches_the_backend(
    field: Arena, row: Row, *, kept: bool
) -> None:
    outcome = fight(field, row, kept=kept)
    assert outcome.is_as(row), outcome
    if row.status == 422:
        problems = json.loads(outcome.body)["detail"]
        assert all(problem.keys() == {"loc", "msg", "type"} for problem in problems)
    elif not row.passes:
        assert isinstance(json.loads(outcome.body)["detail"], str)


def test_the_tables_are_long_and_no_row_stands_in_them_twice(field: Arena) -> None:
    assert len({row.name for row in ROWS}) == len(ROWS)
    assert len({row.make(field.forge) for row in ROWS}) == len(ROWS)
    assert len(ROWS) >= 120
