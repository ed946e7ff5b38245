"""The order of the house: who may import whom, how long a file may be, what is pinned.

Imports run downwards only. A part of the package is a file at its top or a folder with all in it;
parts of one layer don't know each other. Types for the checker alone (`if TYPE_CHECKING`) are no
imports.
"""

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "gateway"
MAX_LINES = 400

LAYERS = (
    ("__main__",),
    ("cli",),
    ("server", "schemas"),
    ("reloading",),
    ("processes",),
    ("worker",),
    ("live",),
    ("admin", "build", "listener"),
    ("parts",),
    ("pipeline",),
    ("auth",),
    ("identity", "vault"),
    ("proxy",),
    ("limits",),
    ("store", "observe", "wellformed"),
    ("control", "exchange"),
    ("routefile", "tls"),
    ("jsonbody", "routechecks"),
    ("ownendpoints",),
    ("routespec",),
    ("settings", "upstreamspec"),
    ("sections",),
    ("tokenfile",),
    ("complaints", "fields"),
    ("networks",),
    ("filestate", "memory", "routing", "secretfile", "yamlfile"),
    ("errors",),
    ("__init__",),
)
RANK = {part: rank for rank, layer in enumerate(LAYERS) for part in layer}
# The demo stands aside: it starts the gateway as a user would, and the gateway doesn't know it.
ASIDE = "demo"
MAY_IMPORT_ASIDE = {"cli/demo.py"}

FILES = {str(path.relative_to(PACKAGE)): path for path in sorted(PACKAGE.rglob("*.py"))}
LOCKS = {path.name: path for path in sorted(ROOT.glob("requirements*.txt"))}


def part_of(file: str) -> str:
    return Path(file).parts[0].removesuffix(".py")


def imports(source: str) -> Iterator[str]:
    """What a source file imports of the gateway, as dotted names below `gateway`."""
    pending: list[ast.AST] = [ast.parse(source)]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            pending.extend(node.orelse)
            continue
        pending.extend(ast.iter_child_nodes(node))
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (name.removeprefix("gateway.") for name in names if name.startswith("gateway."))


def upward(file: str, source: str) -> list[str]:
    """The imports of `file` that don't run downwards."""
    own = part_of(file)
    wrong = []
    for name in imports(source):
        part = name.partition(".")[0]
        if ASIDE in {part, own}:
            fine = part == own or file in MAY_IMPORT_ASIDE or own == ASIDE != part
        elif part not in RANK:  # a name that `gateway/__init__.py` itself defines
            fine = True
        else:
            fine = part == own or RANK[part] > RANK[own]
        if not fine:
            wrong.append(name)
    return wrong


@pytest.mark.parametrize(
    ("file", "source", "wrong"),
    [
        ("pipeline.py", "from gateway.auth.base import Authenticator", []),
        ("auth/base.py", "import gateway.pipeline", ["pipeline"]),
        (
            "auth/base.py",
            "def f():\n    from gateway.pipeline import Gateway",
            ["pipeline.Gateway"],
        ),
        ("store/keys.py", "from gateway import limits", ["limits"]),
        ("store/keys.py", "from gateway.store.redis import Store", []),
        (
            "store/keys.py",
            "from gateway.observe.metrics import Metrics",
            ["observe.metrics.Metrics"],
        ),
        ("exchange.py", "if TYPE_CHECKING:\n    from gateway.limits import Decision", []),
        ("build.py", "from gateway.demo.run import run_demo", ["demo.run.run_demo"]),
        ("cli/demo.py", "from gateway.demo.run import run_demo", []),
        ("errors.py", "from gateway import VERSION", []),
    ],
)
def test_an_upward_import_is_found(file: str, source: str, wrong: list[str]) -> None:
    assert upward(file, source) == wrong


@pytest.mark.parametrize("file", FILES)
def test_imports_run_downwards_only(file: str) -> None:
    assert part_of(file) in {*RANK, ASIDE}, "a new part: give it a place in LAYERS"
    assert upward(file, FILES[file].read_text()) == []


def test_every_part_in_the_layers_exists() -> None:
    assert {part_of(file) for file in FILES} == {*RANK, ASIDE}


def test_patterns_never_import_each_other() -> None:
    patterns = {f"auth.{path.stem}" for path in (PACKAGE / "auth").glob("[!_]*.py")} - {"auth.base"}
    assert len(patterns) == 5
    for pattern in patterns:
        source = FILES[pattern.replace(".", "/") + ".py"].read_text()
        known = {".".join(name.split(".")[:2]) for name in imports(source)}
        assert not known & (patterns - {pattern}), pattern


@pytest.mark.parametrize("file", FILES)
def test_a_file_has_one_job_and_says_which(file: str) -> None:
    source = FILES[file].read_text()
    lines = len(source.splitlines())
    assert lines <= MAX_LINES, "past 400 lines it has two jobs: split it"
    assert not source.strip() or ast.get_docstring(ast.parse(source)), "it opens with a docstring"


@pytest.mark.parametrize("file", FILES)
def test_no_event_loop_is_in_debug_mode_whatever_the_environment_says(file: str) -> None:
    """It would log arguments and results: who may run a command may not read all it sees."""
    for node in ast.walk(ast.parse(FILES[file].read_text())):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in (
            "asyncio.run",
            "asyncio.Runner",
        ):
            said = {word.arg: ast.unparse(word.value) for word in node.keywords}
            assert said.get("debug") == "False" or part_of(file) == ASIDE


def pinned(lock: str) -> Iterator[tuple[Requirement, list[str]]]:
    """Each requirement of a lock file, and its hashes."""
    for line in LOCKS[lock].read_text().replace("\\\n", "").splitlines():
        requirement, *hashes = line.split("--hash=")
        yield Requirement(requirement), [text.strip() for text in hashes]


def pins(lock: str) -> dict[str, str]:
    """The version of each package of a lock file."""
    return {item.name: str(item.specifier).removeprefix("==") for item, _ in pinned(lock)}


@pytest.mark.parametrize("lock", LOCKS)
def test_every_requirement_is_pinned_by_hashes_and_names_no_address(lock: str) -> None:
    assert list(pinned(lock))
    for requirement, hashes in pinned(lock):
        assert re.fullmatch(r"==[0-9][^,*]*", str(requirement.specifier)), requirement
        assert hashes, requirement
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", text) for text in hashes), requirement
    assert "://" not in LOCKS[lock].read_text()


def test_the_pins_are_what_the_project_asks_for() -> None:
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    project = pyproject["project"]
    wanted = {
        "requirements-build.txt": pyproject["build-system"]["requires"],
        "requirements.txt": project["dependencies"],
        "requirements-dev.txt": project["dependencies"] + project["optional-dependencies"]["dev"],
        "requirements-fuzz.txt": project["optional-dependencies"]["fuzz"],
    }
    assert wanted.keys() == LOCKS.keys()
    for lock, requirements in wanted.items():
        versions = pins(lock)
        for requirement in map(Requirement, requirements):
            assert requirement.specifier.contains(versions[requirement.name.lower()]), requirement


def test_tests_run_on_the_versions_that_are_shipped() -> None:
    assert pins("requirements.txt").items() <= pins("requirements-dev.txt").items()
