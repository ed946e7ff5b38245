"""What a load says to wrk, and what it takes for a failure."""

import json
import subprocess

import pytest
from bench.load import HttpLoad, Sample, addresses_file, quoted, summary
from bench.machine import Failed

CLEAN = {"requests": 100, "microseconds": 10**6, "bytes": 9000, "refused": 0, "broken": 0}


@pytest.mark.parametrize(
    ("status", "found", "is_fine"),
    [
        (200, {}, True),
        (200, {"refused": 1}, False),
        (200, {"refused": 100}, False),
        (200, {"broken": 1}, False),
        (200, {"requests": 0, "bytes": 0}, False),
        (200, {"requests": 0}, True),  # a large answer that is still coming
        (401, {"refused": 100}, True),
        (429, {"refused": 99}, False),
        (429, {}, False),
        (429, {"refused": 100, "broken": 1}, False),
    ],
)
def test_every_answer_has_to_be_as_expected(status, found, is_fine):
    load = HttpLoad(status=status)
    if is_fine:
        assert load.judged(CLEAN | found) == CLEAN | found
    else:
        with pytest.raises(Failed):
            load.judged(CLEAN | found)


def test_the_summary_is_the_last_line_of_what_wrk_says():
    assert summary(f"Running 1s test\n  1 threads\n{json.dumps(CLEAN)}\n") == CLEAN


def test_a_sample_tells_requests_of_all_time_and_of_cpu_time():
    sample = Sample.of(1000, 2.0, 0.5, megabytes=1.0, p50_ms=1.0, p99_ms=2.0)
    assert (sample.rate, sample.cpu_us, sample.per_cpu_second) == (500, 500, 2000)
    assert sample.busy == 0.25


def test_cpu_time_below_a_tick_is_taken_for_a_tick():
    assert Sample.of(10, 1.0, 0.0, megabytes=0, p50_ms=0, p99_ms=0).per_cpu_second < 10_000


def test_text_stays_what_it_is_in_lua():
    assert quoted('{"a": "b\\n"}') == '"{\\"a\\": \\"b\\\\n\\"}"'


def test_addresses_are_all_different(tmp_path):
    lines = addresses_file(tmp_path, 100_000).read_text().splitlines()
    assert len(set(lines)) == len(lines) == 100_000
    assert lines[-1] == "10.1.134.159"


def test_a_script_names_method_fields_body_and_values_in_turn(tmp_path):
    load = HttpLoad(method="POST", fields=(("A", "b"),), body=b'{"c": 1}')
    script = load.script()
    assert 'wrk.method = "POST"' in script
    assert 'wrk.headers["A"] = "b"' in script
    assert 'wrk.body = "{\\"c\\": 1}"' in script
    assert "request = function" not in script  # wrk is fastest where all requests are alike
    turns = HttpLoad(turns=(("X-Forwarded-For", tmp_path / "values"),)).script()
    assert f'["X-Forwarded-For"] = "{tmp_path}/values"' in turns
    assert "request = function" in turns


def test_a_process_that_wrote_nothing_yet_has_used_some_cpu():
    from bench.machine import cpu_seconds, family, resident_bytes

    child = subprocess.Popen(["sleep", "60"])
    try:
        assert family(child.pid) == [child.pid]
        assert cpu_seconds([child.pid]) >= 0
        assert resident_bytes(child.pid) > 0
    finally:
        child.kill()
        child.wait()
