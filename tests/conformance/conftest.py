"""The proxy runs on uvloop; `tests/proxy` runs on both loops."""

import uvloop


def pytest_asyncio_loop_factories(config, item):
    return {"uvloop": uvloop.new_event_loop}
