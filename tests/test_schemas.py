"""The JSON Schemas in config/: as the types are now, and named by the files they are for."""

from pathlib import Path

import pytest

from gateway.schemas import routes_schema, settings_schema, texts

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("name", texts())
def test_the_schemas_in_the_repository_are_current(name):
    written = (ROOT / "config" / name).read_text(encoding="utf-8")
    assert written == texts()[name], "run `python -m gateway.schemas`"


@pytest.mark.parametrize("file", ["config/gateway.yaml", "routes.yaml"])
def test_editors_find_the_schema_by_the_first_line(file):
    first = (ROOT / file).read_text(encoding="utf-8").partition("\n")[0]
    prefix = "# yaml-language-server: $schema="
    assert first.startswith(prefix)
    assert (ROOT / file).parent.joinpath(first.removeprefix(prefix)).is_file()


def test_every_field_is_explained():
    def undescribed(schema):
        for owner, part in {"": schema, **schema["$defs"]}.items():
            for name, field in part.get("properties", {}).items():
                if "description" not in field:
                    yield f"{owner}.{name}"

    settings_gaps = set(undescribed(settings_schema()))
    assert not settings_gaps
    assert not set(undescribed(routes_schema()))


def test_unknown_fields_are_marked_everywhere():
    for schema in (settings_schema(), routes_schema()):
        for part in (schema, *schema["$defs"].values()):
            assert part["additionalProperties"] is False


def test_defaults_show_the_variables_that_secrets_are_read_from():
    secrets = settings_schema()["$defs"]["AppTokenSettings"]["properties"]["secrets"]
    assert secrets["default"] == [{"id": "k1", "secret": "${GATEWAY_TOKEN_SECRET}"}]


def test_a_body_bound_may_be_a_number_or_a_text():
    field = routes_schema()["$defs"]["RouteSpec"]["properties"]["max_body"]
    kinds = {kind for option in field["anyOf"] for kind in _types(option)}
    assert kinds == {"integer", "string", "null"}


def _types(option):
    return [inner["type"] for inner in option.get("anyOf", [option])]
