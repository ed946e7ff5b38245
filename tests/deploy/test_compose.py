"""deploy/compose.yaml: its services fit together, and the gateway takes its settings."""

import re
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml
from dockerfile import stages

from gateway.routefile import load_configuration

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy"
COMPOSE = yaml.safe_load((FOLDER / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]
GATEWAY = SERVICES["gateway"]
SECRETS = {
    "GATEWAY_TOKEN_SECRET": "not a secret, but of at least 32 bytes",
    "GATEWAY_VAULT_KEY": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
}
BACKENDS = ["market-data", "strategy"]


def environment():
    """What the gateway's process would see, the secrets given."""
    values = GATEWAY["environment"]
    return {name: SECRETS.get(name, value) for name, value in values.items()}


def configuration():
    return load_configuration(ROOT / "config/gateway.yaml", ROOT / "routes.yaml", environment())


def seconds(text):
    return float(re.fullmatch(r"(\d+)s", text)[1])


def test_it_brings_up_what_the_platform_needs():
    assert list(SERVICES) == ["gateway", "redis", "prometheus", *BACKENDS]


def test_the_gateway_takes_the_settings_of_its_environment():
    settings, _ = configuration()
    store = urlsplit(settings.store.url)
    assert settings.listen.workers == 2
    assert store.scheme == "redis"
    assert store.hostname in SERVICES
    assert set(GATEWAY["networks"]) & set(SERVICES[store.hostname]["networks"])
    assert GATEWAY["depends_on"][store.hostname] == {"condition": "service_healthy"}


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_comes_from_outside_or_nothing_starts(name):
    assert re.fullmatch(r"\$\{" + name + r":\?[^}]+\}", GATEWAY["environment"][name])


@pytest.mark.parametrize("name", SERVICES)
def test_every_image_has_a_tag_that_stays_what_it_is(name):
    tag = SERVICES[name]["image"].rpartition(":")[2]
    assert re.match(r"v?\d+\.\d+\.\d+", tag)


def test_what_is_built_is_what_the_backends_run_too():
    context = (FOLDER / GATEWAY["build"]["context"]).resolve()
    assert context == ROOT
    assert (context / GATEWAY["build"]["dockerfile"]).is_file()
    assert {SERVICES[name]["image"] for name in BACKENDS} == {GATEWAY["image"]}


@pytest.mark.parametrize("name", SERVICES)
def test_mounted_files_and_volumes_exist(name):
    for mount in SERVICES[name].get("volumes", []):
        source, target, *options = mount.split(":")
        assert target.startswith("/")
        if source.startswith("."):
            assert (FOLDER / source).is_file()
            assert options == ["ro"]
        else:
            assert source in COMPOSE["volumes"]


def test_the_gateways_files_are_mounted_where_the_image_looks_for_them():
    image = stages(ROOT / "Dockerfile")[-1].environment()
    targets = {mount.split(":")[1] for mount in GATEWAY["volumes"]}
    assert targets == {image["GATEWAY_CONFIG"], image["GATEWAY_ROUTES"]}


def test_the_clients_port_is_published_and_the_admin_port_is_not():
    settings, _ = configuration()
    assert GATEWAY["ports"] == [f"{settings.listen.port}:{settings.listen.port}"]
    assert "ports" not in SERVICES["redis"]
    assert COMPOSE["networks"]["inside"] == {"internal": True}
    assert SERVICES["redis"]["networks"] == ["inside"]


def test_redis_keeps_what_it_was_given_and_evicts_nothing():
    command = SERVICES["redis"]["command"]
    options = dict(zip(command[1::2], command[2::2], strict=True))
    assert command[0] == "redis-server"
    assert options["--appendonly"] == "yes"
    assert options["--maxmemory-policy"] == "noeviction"
    assert [mount.split(":")[1] for mount in SERVICES["redis"]["volumes"]] == ["/data"]


def test_redis_takes_the_options_it_is_given(tmp_path):
    command = [*SERVICES["redis"]["command"], "--port", "0", "--dir", str(tmp_path)]
    # A socket where none can be: it reads its options, then ends.
    command += ["--unixsocket", str(tmp_path / "no" / "such" / "folder")]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    said = result.stdout + result.stderr
    assert "FATAL CONFIG" not in said
    assert "unix socket" in said.lower()


@pytest.mark.parametrize("name", ["gateway", *BACKENDS])
def test_our_own_containers_may_do_as_little_as_possible(name):
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["tmpfs"] == ["/tmp"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]


def test_no_core_file_is_written_of_the_gateway():
    assert GATEWAY["ulimits"]["core"] == 0


def test_there_is_time_to_drain_before_the_gateway_is_killed():
    settings, _ = configuration()
    drain = settings.shutdown.grace + settings.shutdown.deadline
    assert seconds(GATEWAY["stop_grace_period"]) >= drain + 5


def test_the_gateway_reaches_the_backends_where_the_route_table_says():
    _, route_file = configuration()
    for name in BACKENDS:
        service = SERVICES[name]
        assert service["network_mode"] == "service:gateway"
        words = service["entrypoint"] + service["command"]
        host, port = words[words.index("--host") + 1], words[words.index("--port") + 1]
        targets = [str(target) for target in route_file.upstreams[name].targets]
        assert targets == [f"http://{host}:{port}"]


@pytest.mark.parametrize("name", BACKENDS)
def test_the_backends_start_by_their_command(name):
    program, *words = SERVICES[name]["entrypoint"]
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = str(probe.getsockname()[1])
    words[words.index("--port") + 1] = port
    assert program == "python"
    backend = subprocess.Popen(
        [sys.executable, "-u", *words], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert port in backend.stdout.readline()  # it says where it listens, or ends
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
            assert answer.status == 200
    finally:
        backend.terminate()
        backend.communicate(timeout=10)
