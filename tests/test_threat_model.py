"""THREAT_MODEL.md names what proves it: tests that are there, and settings that can be set."""

import ast
import json
import re
from functools import cache
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "THREAT_MODEL.md").read_text()
PROOF = re.compile(r"`([\w./]+\.py)::(\w+)`")
PROVEN = ("proof", "seen in")
NOT_CLAIMED = {("asset",), ("actor",), ("setting",)}  # by a table's first heading


def tables() -> list[list[list[str]]]:
    """Each table as rows of cells, its headings first."""
    found: list[list[list[str]]] = []
    before = ""
    for line in TEXT.splitlines():
        if line.startswith("|"):
            if not before.startswith("|"):
                found.append([])
            if not set(line) <= set("|-"):
                found[-1].append([cell.strip() for cell in line.strip("|").split("|")])
        before = line
    return found


CLAIMS = [
    (row[-1], " | ".join(row[:-1]))
    for headings, *rows in tables()
    if headings[-1] in PROVEN
    for row in rows
]
SETTINGS = [row[0] for headings, *rows in tables() if headings[0] == "setting" for row in rows]


@cache
def names_in(file: str) -> frozenset[str]:
    tree = ast.parse((ROOT / "tests" / file).read_text())
    return frozenset(
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )


def test_every_table_claims_with_a_proof_or_claims_nothing() -> None:
    assert len(CLAIMS) >= 60
    for headings, *rows in tables():
        assert rows, headings
        assert headings[-1] in PROVEN or (headings[0],) in NOT_CLAIMED, headings
        assert all(len(row) == len(headings) for row in rows), headings


@pytest.mark.parametrize(("proof", "claim"), CLAIMS, ids=[claim[:60] for _, claim in CLAIMS])
def test_what_a_claim_names_as_its_proof_is_there(proof: str, claim: str) -> None:
    named = PROOF.findall(proof)
    assert named, claim
    assert PROOF.sub("", proof).strip(", ") == "", "nothing else stands there"
    for file, name in named:
        assert (ROOT / "tests" / file).is_file(), file
        assert name in names_in(file), f"{file} has no {name} any more"


@pytest.mark.parametrize("cell", SETTINGS)
def test_what_the_operator_is_told_to_set_can_be_set(cell: str) -> None:
    settings = yaml.safe_load((ROOT / "config/gateway.yaml").read_text())
    schema = json.loads((ROOT / "config/routes.schema.json").read_text())
    fields = {
        kind: schema["$defs"][name]["properties"]
        for kind, name in (("route", "RouteSpec"), ("upstream", "UpstreamFields"))
    }
    names = re.findall(r"`([\w.]+)`", cell)
    assert names
    for name in names:
        kind = cell.rpartition(" of a")[2].lstrip("n ").strip()
        if "." in name:
            section, _, field = name.partition(".")
            assert field in settings[section], name
        else:
            assert name in fields[kind], name


def test_the_readme_leads_to_it() -> None:
    assert "(THREAT_MODEL.md)" in (ROOT / "README.md").read_text()
