"""Reads settings and routes for commands, and tells what is wrong with them."""

import os
from typing import TYPE_CHECKING

from gateway.cli.options import Options
from gateway.cli.output import Failure

if TYPE_CHECKING:
    from gateway.routefile import RouteFile
    from gateway.settings import Settings


def read_settings(options: Options, *, token_file: bool = True) -> "Settings":
    """The settings alone. Raises Failure with all that is wrong with them.

    `token_file` is for `load_settings`.
    """
    from gateway.errors import ConfigurationError  # noqa: PLC0415  # `--help` needs none of it
    from gateway.settings import load_settings  # noqa: PLC0415

    try:
        return load_settings(options.settings_path, os.environ, token_file=token_file)
    except ConfigurationError as error:
        raise _wrong(error.complaints) from None


def read_routes(options: Options) -> "tuple[Settings, RouteFile]":
    """Both, whether or not the secrets that running them takes are there. Raises Failure."""
    from gateway.errors import ConfigurationError  # noqa: PLC0415  # `--help` needs none of it
    from gateway.routefile import load_routes  # noqa: PLC0415

    settings = read_settings(options)
    try:
        return settings, load_routes(options.routes, settings, os.environ)
    except ConfigurationError as error:
        raise _wrong(error.complaints) from None


def read_all(options: Options) -> "tuple[Settings, RouteFile]":
    """Both, with every check. Raises Failure with all that is wrong with either."""
    from gateway.errors import ConfigurationError  # noqa: PLC0415  # `--help` needs none of it
    from gateway.routefile import load_configuration  # noqa: PLC0415

    try:
        settings, route_file = load_configuration(options.settings_path, options.routes, os.environ)
        if settings.listen.tls is not None:
            from gateway.tls import server_tls  # noqa: PLC0415

            server_tls(settings)  # it reads the files
    except ConfigurationError as error:
        raise _wrong(error.complaints) from None
    return settings, route_file


def _wrong(complaints: tuple[str, ...]) -> Failure:
    count = "1 problem" if len(complaints) == 1 else f"{len(complaints)} problems"
    return Failure(f"{count} in the configuration", complaints=complaints)
