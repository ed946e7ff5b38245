import pytest

from gateway.identity.user import parse

NOW = 1777464000.0  # 2026-04-29T12:00:00


@pytest.mark.parametrize(
    ("fields", "is_vip"),
    [
        ({}, False),
        ({"is_vip": "0", "vip_expires_at": "2026-04-29T12:00:01"}, False),
        ({"is_vip": "true"}, False),
        ({"is_vip": "1"}, True),
        ({"is_vip": "1", "vip_expires_at": ""}, True),
        ({"is_vip": "1", "vip_expires_at": "2026-04-29T12:00:01"}, True),
        ({"is_vip": "1", "vip_expires_at": "2026-04-29T12:00:00"}, False),
        ({"is_vip": "1", "vip_expires_at": "2026-04-29"}, False),
        ({"is_vip": "1", "vip_expires_at": "one day"}, False),
    ],
)
def test_a_vip_is_one_until_the_end_that_can_be_read(fields, is_vip) -> None:
    assert parse("1", fields).is_vip_at(NOW) is is_vip
