"""The options that go after any command, and how examples stand in `--help`."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

DEFAULT_CONFIG = Path("config/gateway.yaml")
DEFAULT_ROUTES = Path("routes.yaml")


class Output(StrEnum):
    """How results and errors are written."""

    TEXT = "text"
    JSON = "json"


ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        envvar="GATEWAY_CONFIG",
        help=f"Settings; {DEFAULT_CONFIG} if it is there, else the defaults.",
    ),
]
RoutesFile = Annotated[
    Path, typer.Option("--routes", metavar="FILE", envvar="GATEWAY_ROUTES", help="Route table.")
]
OutputForm = Annotated[
    Output, typer.Option("--output", metavar="text|json", help="For people, or for programs.")
]


@dataclass(frozen=True, slots=True)
class Options:
    """What a command was told of where things are, and how to answer."""

    config: Path | None
    routes: Path
    output: Output

    @property
    def settings_path(self) -> Path | None:
        """The settings file; None: the built-in defaults."""
        if self.config is None and DEFAULT_CONFIG.is_file():
            return DEFAULT_CONFIG
        return self.config


def group(help_text: str, *examples: str) -> typer.Typer:
    """An empty group of commands; `examples` end its own help."""
    return typer.Typer(
        help=help_text,
        epilog=example(*examples) if examples else None,
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,  # plain help: the same in a terminal and in a file, and fast
        pretty_exceptions_enable=False,  # they would show the values of variables
    )


def example(*lines: str) -> str:
    """The end of a command's help; the backspace keeps its lines as they are."""
    return "\b\nExample:\n" + "\n".join(f"  {line}" for line in lines)
