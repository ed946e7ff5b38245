import pytest

from gateway.store.times import has_passed, iso_utc, unix_seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01T00:00:00", 0),
        ("2026-04-29T12:00:00", 1777464000),
        ("2026-04-29", 1777420800),
        ("2026-04-29T12:00:00.5", 1777464000.5),
        ("2026-04-29T12:00:00Z", 1777464000),
        ("2026-04-29T14:00:00+02:00", 1777464000),
    ],
)
def test_times_are_read_as_utc(text: str, seconds: float):
    assert unix_seconds(text) == seconds


def test_times_are_written_without_offset_or_fraction():
    assert iso_utc(1777464000.9) == "2026-04-29T12:00:00"


@pytest.mark.parametrize(
    ("text", "passed"),
    [
        (None, False),
        ("1970-01-01T00:16:41", False),
        ("1970-01-01T00:16:40", True),
        ("1970-01-01T00:16:39", True),
        ("", True),
        ("soon", True),
        ("0001-01-01T00:00:00+23:59", True),
    ],
)
def test_a_time_that_cannot_be_read_has_passed(text, passed):
    assert has_passed(text, 1000.0) is passed
