"""All fuzzers, one after the other, for so many seconds together. Exits 1 on a finding.

    make fuzz            (FUZZ_SECONDS=60)

They begin with the kept corpus and with the requests of the conformance rows. A finding's bytes
are printed: put them into tests/fuzz/corpus, and test_fuzz.py has them forever.
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
MAX_BYTES = 4096
ON_A_FINDING = ("crash-*", "timeout-*", "oom-*")


def guided(name: str, corpus: str, seconds: int) -> bool:
    """Run an atheris fuzzer; is it without a finding?"""
    with tempfile.TemporaryDirectory() as folder:
        found, seeds = Path(folder, "found"), Path(folder, "seeds")
        found.mkdir()
        seeds.mkdir()
        if corpus == "heads":
            write_seeds(seeds)
        done = subprocess.run(
            [
                *(sys.executable, str(HERE / name), f"-max_total_time={seconds}"),
                *(f"-max_len={MAX_BYTES}", f"-dict={HERE / 'words.dict'}", "-verbosity=0"),
                *("-print_final_stats=1", f"-artifact_prefix={folder}/", "-timeout=20"),
                *(str(found), str(HERE / "corpus" / corpus), str(seeds)),
            ],
            check=False,
        )
        for pattern in ON_A_FINDING:
            for path in Path(folder).glob(pattern):
                print(f"{name} found: {path.read_bytes()!r}")
    return done.returncode == 0


def write_seeds(folder: Path) -> None:
    """What the conformance rows send, as far as it is short."""
    sys.path.insert(0, str(HERE.parent / "conformance"))
    from table import CASES

    for number, case in enumerate(CASES):
        if len(case.send) < MAX_BYTES:
            Path(folder, str(number)).write_bytes(b"\xff" + case.send)


def by_grammar(seconds: int) -> bool:
    """Run the hypothesis tests anew, with other seeds, until the time is over."""
    end = time.monotonic() + seconds
    while True:
        seed = str(random.getrandbits(32))
        command = [sys.executable, "-m", "pytest", "-q", str(HERE), "--hypothesis-seed", seed]
        if subprocess.run(
            command, check=False, env=os.environ | {"FUZZ_EXAMPLES": "400"}
        ).returncode:
            print(f"found with --hypothesis-seed {seed} and FUZZ_EXAMPLES=400")
            return False
        if time.monotonic() > end:
            return True


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=60)
    seconds = parser.parse_args().seconds
    fine = guided("fuzz_heads.py", "heads", max(1, seconds * 5 // 10))
    fine &= guided("fuzz_fields.py", "fields", max(1, seconds * 2 // 10))
    fine &= by_grammar(seconds * 2 // 10)
    print("no finding" if fine else "a rule was broken: see above")
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
