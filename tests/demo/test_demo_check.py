"""The check runs real shell lines against a real server, and sees what differs."""

import os

import pytest

from gateway.demo import check
from gateway.demo.lines import Line
from gateway.demo.strategy import strategy_application


@pytest.fixture
async def prepare(aiohttp_server):
    server = await aiohttp_server(strategy_application())
    return f"GW=http://127.0.0.1:{server.port}"


async def run(line, prepare, environment=None):
    return await check.run_line("a group", line, prepare, environment or dict(os.environ))


@pytest.mark.parametrize(
    ("line", "got", "problem"),
    [
        (Line('curl -i "$GW/strategies"', 200), "200", None),
        (Line('curl -i "$GW/strategies"', 200, shows=("[]",)), "200", None),
        (Line('curl -i "$GW/strategies"', 200, shows=("nothing",)), "200", "'nothing' is not in"),
        (Line('curl -i "$GW/strategies"', 404), "200", "expected 404"),
        (Line('curl -i "$GW/nothing"', 200), "404", 'expected 200: {"detail":"Not Found"}'),
        (Line('curl -i "http://127.0.0.1:1/"', 200), "no answer", "expected 200"),
        (Line('curl -i "$GW/strategies"; exit 3', 200), "200", "curl ended with 3"),
        (Line("printf ' 5 a\\n  6 b\\n'", says="x", prints="5 a 6 b"), "5 a 6 b", None),
        (Line("printf 5", says="x", prints="6"), "5", "expected '6'"),
        (Line("NAME=$(printf '')", sets="NAME"), "empty", "nothing came"),
    ],
)
async def test_what_differs_is_told(prepare, line, got, problem):
    outcome = await run(line, prepare)
    assert outcome.got == got
    if problem is None:
        assert outcome.problem is None
    else:
        assert problem in outcome.problem


async def test_a_variable_is_there_for_the_lines_after_it(prepare):
    environment = dict(os.environ)
    outcome = await run(Line("NAME=$(printf 'st%s' rategies)", sets="NAME"), prepare, environment)
    assert outcome.problem is None
    after = await run(Line('curl -i "$GW/$NAME"', 200), prepare, environment)
    assert after.problem is None


async def test_a_line_that_hangs_is_ended(prepare, monkeypatch):
    monkeypatch.setattr(check, "LINE_SECONDS", 0.2)
    outcome = await run(Line("sleep 600 | sleep 600", 200), prepare)
    assert "took more than" in outcome.problem


@pytest.mark.parametrize(
    ("output", "status"),
    [
        ("HTTP/1.1 200 OK\r\n\r\n", 200),
        ("HTTP/2 404 \r\n\r\n", 404),
        ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 422 Unprocessable\r\n\r\n", 422),
        ("", None),
        ("the body says HTTP/1.1 200", None),
    ],
)
def test_the_status_is_that_of_the_final_answer(output, status):
    assert check.status_of(output) == status


async def test_without_curl_the_check_says_so(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(check.DemoError, match="curl, and there is none"):
        async for _ in check.outcomes(None):
            pass
