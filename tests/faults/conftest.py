"""A `gateway serve` and a faulty backend, shared by the tests of one file; each test is told by
the request ids that it chose.
"""

from collections.abc import Iterator

import pytest
from backend_process import BackendProcess
from faulty_stage import NO_LIMIT, Stage
from gateway_process import DEADLINE_SECONDS, GatewayProcess, until
from harness import route, upstream

READ_TIMEOUT_SECONDS = 1


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("faults")
    backend = BackendProcess(folder / "backend.log")
    backend.start()
    timeout = {"connect": READ_TIMEOUT_SECONDS, "read": READ_TIMEOUT_SECONDS}
    routes = {
        "version": 1,
        "upstreams": upstream(backend.url, timeout=timeout),
        "routes": [
            route(),
            # For what takes its time on a busy machine.
            route("/patient/{rest...}", name="patient", timeout={"read": DEADLINE_SECONDS}),
        ],
    }
    with GatewayProcess(folder / "gateway", routes=routes, config=NO_LIMIT) as gateway:
        gateway.start()
        yield Stage(gateway, backend)
    backend.kill()


@pytest.fixture
def stage(shared: Stage) -> Iterator[Stage]:
    """The shared one; whatever a test did, no connection of it may be left in the gateway."""
    yield shared
    until(shared.is_quiet, "no connection is left")
