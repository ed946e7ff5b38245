"""JSON Schemas of gateway.yaml and routes.yaml, made from the types that read them.

Editors complete and check by them (the first line of each file names its schema). They say less
than `gateway check`: what concerns two fields, or the environment, no schema can say.
`python -m gateway.schemas` writes them anew into `config/`; a test tells when that is due.
"""

import json
import sys
from pathlib import Path
from typing import Any

from gateway.routespec import RoutesDocument
from gateway.settings import DEFAULT_SECRETS, Settings

DIALECT = "https://json-schema.org/draft/2020-12/schema"
FOLDER = Path("config")


def settings_schema() -> dict[str, Any]:
    """The schema of config/gateway.yaml."""
    schema = _finished(Settings.model_json_schema(), "primit-gateway settings")
    for (section, field), default in DEFAULT_SECRETS.items():
        owner = schema["properties"][section]["$ref"].rpartition("/")[2]
        schema["$defs"][owner]["properties"][field]["default"] = default
    return schema


def routes_schema() -> dict[str, Any]:
    """The schema of routes.yaml."""
    return _finished(RoutesDocument.model_json_schema(), "primit-gateway routes")


def texts() -> dict[str, str]:
    """Each schema's file name, and what the file holds."""
    schemas = {"gateway.schema.json": settings_schema(), "routes.schema.json": routes_schema()}
    return {
        name: json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
        for name, schema in schemas.items()
    }


def _finished(schema: dict[str, Any], title: str) -> dict[str, Any]:
    # What a section is by default follows from its fields; said twice, it would hide them.
    for field in schema["properties"].values():
        if "$ref" in field:
            field.pop("default", None)
    _drop_titles(schema)
    return {"$schema": DIALECT, "title": title, **schema}


def _drop_titles(value: Any) -> None:
    """Titles that pydantic makes from names say nothing that the names don't."""
    if isinstance(value, list):
        for item in value:
            _drop_titles(item)
    if isinstance(value, dict):
        if isinstance(value.get("title"), str):
            del value["title"]
        for item in value.values():
            _drop_titles(item)


def main() -> None:
    for name, text in texts().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
        sys.stdout.write(f"wrote {FOLDER / name}\n")


if __name__ == "__main__":
    main()
