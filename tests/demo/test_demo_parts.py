"""Ports, settings and routes that the demo makes before it starts anything."""

import socket

import pytest
import yaml

from gateway.demo.gateway_process import Secrets, environment, routes_for, settings_text
from gateway.demo.ports import DemoError, Ports, bind, port_of


def test_a_taken_port_is_named_with_the_option_to_choose_another():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(DemoError) as refused:
            bind(port, "--port")
    assert str(refused.value) == f"port {port} is in use by another program; use --port"


def test_port_zero_is_any_free_one():
    with bind(0, "--port") as first, bind(0, "--port") as second:
        assert port_of(first) != port_of(second)


def test_the_gateway_gets_the_demos_secrets_by_environment_and_no_foreign_settings():
    own = Secrets()
    made = environment({"PATH": "/bin", "GATEWAY_LISTEN__PORT": "1"}, own)
    assert made == {"PATH": "/bin", **own.environment()}
    text = settings_text(Ports())
    assert not any(secret in text or secret in repr(own) for secret in own.environment().values())


def test_the_shipped_routes_are_used_as_they_are_with_the_usual_ports(tmp_path):
    shipped = tmp_path / "shipped.yaml"
    assert routes_for(shipped, Ports(), tmp_path) == shipped


def test_other_ports_change_the_targets_alone(tmp_path):
    table = {
        "version": 1,
        "upstreams": {
            "market-data": {"targets": ["http://127.0.0.1:9001"], "timeout": {"read": 30}},
            "strategy": {"targets": ["http://127.0.0.1:9002"]},
        },
        "routes": [{"name": "me", "path": "/users/me", "auth": "app_token"}],
    }
    shipped = tmp_path / "shipped.yaml"
    shipped.write_text(yaml.safe_dump(table))
    copy = routes_for(shipped, Ports(market_data=1234, strategy=5678), tmp_path)
    table["upstreams"]["market-data"]["targets"] = ["http://127.0.0.1:1234"]
    table["upstreams"]["strategy"]["targets"] = ["http://127.0.0.1:5678"]
    assert yaml.safe_load(copy.read_text()) == table


@pytest.mark.parametrize(
    "text", ["", "[]", "upstreams: {}", "a: [b", "upstreams: {market-data: 1}"]
)
def test_a_table_without_the_demos_upstreams_is_refused(tmp_path, text):
    shipped = tmp_path / "shipped.yaml"
    shipped.write_text(text)
    with pytest.raises(DemoError, match="can't be used for the demo"):
        routes_for(shipped, Ports.free(), tmp_path)
