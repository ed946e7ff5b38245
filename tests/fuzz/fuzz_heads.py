"""Coverage-guided (atheris): heads and bodies through the real client connection.

python tests/fuzz/fuzz_heads.py [libFuzzer's options] CORPUS...
"""

import asyncio
import sys

import atheris

with atheris.instrument_imports(include=["gateway", "drive", "reference", "rules"]):
    from drive import Driver, cut
    from rules import check_carried

RUNNER = asyncio.Runner()


async def drive(data: bytes) -> None:
    carried, _ = await Driver().feed(*filter(None, cut(data)))
    check_carried(data[1:], carried)


def one_input(data: bytes) -> None:
    if data:
        RUNNER.run(drive(data))


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
