"""`gateway demo --scale`: a short run keeps what it promises, and what differs is noticed."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_demo_whole import DEADLINE_SECONDS, PROCESSES, children_of

from gateway.demo.ports import free_port
from gateway.demo.scale_load import (
    ADMITTED,
    NOTHING,
    REFUSED,
    Backend,
    Balancer,
    Ledger,
    addresses,
)
from gateway.demo.scale_table import Row

COMMAND = [sys.executable, "-m", "gateway", "demo", "--scale"]


def test_a_short_run_loses_nothing_and_admits_what_is_promised():
    ran = subprocess.run(
        [*COMMAND, "--seconds", "4", "--output", "json"],
        capture_output=True,
        text=True,
        check=False,
        timeout=2 * DEADLINE_SECONDS,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    told = json.loads(ran.stdout)
    assert told["problems"] == []
    assert told["totals"]["lost"] == 0
    assert told["totals"]["seen by the backend"] >= told["totals"]["admitted"]
    first, *_, quiet, blocked = told["steps"]
    assert (first["admitted"], first["clients"]) == (1000, 1)
    assert first["refused"] == first["sent"] - 1000 >= 500
    assert quiet["admitted"] == quiet["sent"] > 0
    assert blocked["admitted"] == 0 < blocked["refused"]


@pytest.mark.skipif(not (PROCESSES / "self").is_dir(), reason="asks /proc for processes")
def test_ctrl_c_ends_everything_that_was_started():
    with subprocess.Popen(
        COMMAND, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as demo:
        try:
            for line in demo.stdout:
                if line.startswith("1 client"):
                    break
            started = children_of(demo.pid)
            assert len(started) == 5, "Redis, its replica, a Sentinel, two gateways"
            workers = [child for each in started for child in children_of(int(each.name))]
            assert len(workers) >= 4
            demo.send_signal(signal.SIGINT)
            _, errors = demo.communicate(timeout=DEADLINE_SECONDS)
        finally:
            demo.kill()
    assert demo.returncode == 1
    assert "Traceback" not in errors
    assert not any(process.exists() for process in started + workers)


def test_without_redis_server_it_says_what_to_install(tmp_path: Path):
    ran = subprocess.run(
        COMMAND,
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE_SECONDS,
        env={**os.environ, "PATH": str(tmp_path)},
    )
    assert ran.returncode == 1
    assert "no redis-server on PATH: install it" in ran.stderr
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"sent": 5, "admitted": 5}, None),
        ({"sent": 5, "admitted": 4, "refused": 1}, "1 refused"),
        ({"sent": 5, "admitted": 4}, "1 lost"),
        ({"most": 3, "least": 3, "sent": 5, "admitted": 3, "refused": 2}, None),
        ({"most": 3, "least": 3, "sent": 5, "admitted": 4, "refused": 1}, "1 too many"),
        ({"most": 3, "least": 3, "sent": 5, "admitted": 2, "refused": 3}, "1 too few"),
        ({"most": 3, "least": 3, "sent": 5, "admitted": 2, "refused": 3, "again": 1}, None),
        ({"most": 3, "least": 3, "sent": 2, "admitted": 2}, None),
        ({"most": 3, "least": 3, "sent": 5, "admitted": 3, "refused": 1}, "1 lost"),
    ],
)
def test_a_row_names_what_is_not_as_promised(row, problem):
    assert Row("a step", 1, **row).problem == problem


@pytest.mark.parametrize(
    ("told", "seen", "sent", "difference"),
    [
        (ADMITTED, 1, 1, None),
        (REFUSED, 0, 1, None),
        (NOTHING, 0, 1, None),  # lost, as its row says
        (ADMITTED, 2, 2, None),
        (REFUSED, 1, 2, None),
        (ADMITTED, 0, 1, "admitted, and the backend never saw it"),
        (REFUSED, 1, 1, "refused, and the backend saw it"),
        (ADMITTED, 2, 1, "sent once, and the backend saw it twice"),
    ],
)
def test_books_that_differ_are_noticed(told, seen, sent, difference):
    ledger = Ledger(bytearray([told]), bytearray([seen]), bytearray([sent]))
    found = [what for what, number in ledger.differences().items() if number]
    assert found == ([] if difference is None else [difference])


class Breaking(Backend):
    """A gateway that dies with the request it has just passed on."""

    def connection_made(self, transport):
        super().connection_made(transport)
        transport.write = lambda _: transport.abort()


async def test_a_request_whose_gateway_dies_goes_to_the_other():
    ledger, loop = Ledger(), asyncio.get_running_loop()
    whole = await loop.create_server(lambda: Backend(ledger), "127.0.0.1", 0)
    breaking = await loop.create_server(lambda: Breaking(ledger), "127.0.0.1", 0)
    ports = [server.sockets[0].getsockname()[1] for server in (whole, breaking)]
    balancer = Balancer((*ports, free_port()), ledger)
    for _ in range(6):
        assert await balancer.ask("203.0.113.1") == (200, 1)
    assert list(ledger.sent) == list(ledger.seen) == [2] * 6
    balancer.close()
    for server in (whole, breaking):
        server.close()


async def test_a_request_that_no_gateway_answers_is_lost(monkeypatch):
    monkeypatch.setattr("gateway.demo.scale_load.GIVE_UP_SECONDS", 0.1)
    ledger = Ledger()
    began = time.monotonic()
    assert await Balancer((free_port(),), ledger).ask("203.0.113.1") == (0, 0)
    assert time.monotonic() - began < DEADLINE_SECONDS
    assert list(ledger.told) == [NOTHING]


def test_clients_of_different_steps_are_different():
    for number in (100, 100_000):
        one, other = (
            {next(names) for _ in range(2 * number)}
            for names in (addresses(0, number), addresses(1, number))
        )
        assert len(one) == len(other) == number
        assert not one & other
