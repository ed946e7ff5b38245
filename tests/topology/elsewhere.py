"""What holds on one server holds in a cluster: the very same tests, taken from other folders.

`store` is a cluster in this folder (conftest.py). Left out are tests that look at their server.
"""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent.parent
OTHER_SERVERS = {"redis_process", "redis_server", "redis_url", "memory_store"}


def taken_from(source: str) -> dict[str, Any]:
    """The tests and fixtures of a file, by name."""
    path = FOLDER / source
    spec = spec_from_file_location(f"{path.parent.name}_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    names = {}
    for name, value in vars(module).items():
        if name.startswith("test_"):
            arguments = set(value.__code__.co_varnames[: value.__code__.co_argcount])
            if not arguments & OTHER_SERVERS:
                names[name] = value
        elif type(value).__name__ == "FixtureFunctionDefinition":
            names[name] = value
    assert len(names) > 5, source
    return names
