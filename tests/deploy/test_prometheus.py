"""Prometheus scrapes the gateway's admin port, and its alerts ask for metrics that exist."""

import re
from pathlib import Path

import pytest
import yaml

from gateway.observe.metrics import Metrics
from gateway.settings import Settings

FOLDER = Path(__file__).parents[2] / "deploy"
PROMETHEUS = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
RULES = {
    rule["alert"]: rule
    for group in yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"]
    for rule in group["rules"]
}


def labels_by_series():
    """Every series name that a scrape can show, and the labels it has."""
    found = {"up": {"job", "instance"}}
    for collector in Metrics()._registry._collector_to_names:
        name, labels = collector._name, set(collector._labelnames)
        if collector._type == "counter":
            found[f"{name}_total"] = labels
        elif collector._type == "histogram":
            found[f"{name}_bucket"] = {*labels, "le"}
            found[f"{name}_count"] = found[f"{name}_sum"] = labels
        else:
            found[name] = labels
    return found


def test_it_scrapes_the_admin_port_of_the_gateway():
    services = yaml.safe_load((FOLDER / "compose.yaml").read_text())["services"]
    (job,) = PROMETHEUS["scrape_configs"]
    (target,) = job["static_configs"][0]["targets"]
    host, port = target.split(":")
    assert int(port) == Settings().admin.port
    assert set(services[host]["networks"]) & set(services["prometheus"]["networks"])


def test_the_files_it_names_are_mounted_beside_it():
    services = yaml.safe_load((FOLDER / "compose.yaml").read_text())["services"]
    mounted = {mount.split(":")[1] for mount in services["prometheus"]["volumes"]}
    for name in ["prometheus.yml", *PROMETHEUS["rule_files"]]:
        assert (FOLDER / name).is_file()
        assert f"/etc/prometheus/{name}" in mounted


@pytest.mark.parametrize("alert", RULES)
def test_an_alert_asks_for_series_and_labels_that_exist(alert):
    rule = RULES[alert]
    known = labels_by_series()
    series = set(re.findall(r"\b(?:gateway_\w+|up\b)", rule["expr"]))
    assert series <= known.keys()
    labels = set().union(*(known[name] for name in series))
    named = set(re.findall(r"(\w+)=\"", rule["expr"]))
    for group in re.findall(r"by \(([^)]*)\)", rule["expr"]):
        named |= set(group.split(", "))
    assert series
    assert named <= labels
    shown = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
    assert shown <= labels | {"instance"}


def test_the_job_that_alerts_name_is_scraped():
    jobs = {job["job_name"] for job in PROMETHEUS["scrape_configs"]}
    named = {name for rule in RULES.values() for name in re.findall(r'job="(\w+)"', rule["expr"])}
    assert named <= jobs
