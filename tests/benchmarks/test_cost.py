"""When a count of instructions is a regression."""

import pytest
from bench.cost import TOLERANCE, compare


@pytest.mark.parametrize(
    ("now", "holds"),
    [
        ({"public": 1000, "plan key": 2000}, True),
        ({"public": int(1000 * TOLERANCE), "plan key": 100}, True),
        ({"public": int(1000 * TOLERANCE) + 1, "plan key": 100}, False),
        ({"public": 500, "plan key": 2100}, False),
        ({"public": 1000, "plan key": 2000, "never accepted": 1}, False),
    ],
)
def test_a_regression_is_more_than_the_tolerance_in_any_kind(now, holds):
    assert compare(now, {"public": 1000, "plan key": 2000}) is holds


def test_where_nothing_is_accepted_nothing_is_worse(capsys):
    assert compare({"public": 1000}, None)
    assert "make cost ARGS=--accept" in capsys.readouterr().out
