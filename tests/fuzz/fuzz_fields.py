"""Coverage-guided (atheris): header rewriting, in both directions.

python tests/fuzz/fuzz_fields.py [libFuzzer's options] CORPUS...
"""

import sys

import atheris

with atheris.instrument_imports(include=["gateway", "rules"]):
    from rules import check_rewriting, pairs_in


def one_input(data: bytes) -> None:
    pairs = pairs_in(data)
    for trusted in (False, True):
        check_rewriting(pairs, trusted=trusted)


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
