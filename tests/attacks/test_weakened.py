"""The attack tables find a verifier with a hole: one check after the other is taken out."""

from collections.abc import Callable
from pathlib import Path

import pytest
import weakened
from arena import arena, fight
from attack_table import BODIES, PLAN_KEYS, TOKENS
from redis_process import RedisProcess

BY_NAME = {row.name: row for row in (*TOKENS, *PLAN_KEYS, *BODIES)}
PROGRAM = str(Path(__file__).with_name("weakened.py"))


@pytest.mark.parametrize("weakness", weakened.DOORS, ids=lambda weakness: weakness.__name__)
def test_rows_fail_when_a_check_is_taken_out(
    redis_server: RedisProcess, tmp_path: Path, weakness: Callable[[], None]
) -> None:
    with arena(tmp_path, redis_server, program=(PROGRAM, weakness.__name__)) as field:
        for name in weakened.DOORS[weakness]:
            outcome = fight(field, BY_NAME[name])
            assert not outcome.is_as(BY_NAME[name]), name
            assert (outcome.status, outcome.reached) == (200, 1), name
