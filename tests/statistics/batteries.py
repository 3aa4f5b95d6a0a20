"""Run TestU01 and dieharder over masks, and keep each p-value in p-values.tsv beside this file.

    python tests/statistics/batteries.py list             the rows: a stream, and tests of it
    python tests/statistics/batteries.py run 0 5-9        run these and print their p-values
    python tests/statistics/batteries.py run 0 5-9 --keep and write them to the file
    python tests/statistics/batteries.py summary          what the file says

Each row starts its stream afresh and has seeds of its own, so a row gives the same p-values on
every machine. Needs `dieharder` and TestU01 (Debian: dieharder, and libtestu01-0-dev of the section
non-free), and `crush` in the path, which the head of crush.c says how to compile.
"""

from __future__ import annotations

import argparse
import itertools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
FILE = HERE / "p-values.tsv"
# A row's number is in its seeds, so new generators are new groups at the end.
GROUPS = [["philox4x32", "philox", "pcg64"], ["ars4x32"]]

# dieharder's tests that take a length, and the lengths that `dieharder -a` gives them, but for
# test 208's length 1, at which dieharder 3.31.1 crashes.
LENGTHS = {200: range(1, 13), 201: range(2, 6), 202: range(2, 6), 203: range(33), 208: range(1)}
# All but 14, of which dieharder says "Do Not Use".
DIEHARDER = [*range(14), 15, 16, 17, 100, 101, 102, *range(200, 210)]


def rows() -> list[tuple[str, str]]:
    """Return what can be run: stream.py's arguments, and the command that tests it."""
    found = itertools.chain.from_iterable(map(_rows, GROUPS))
    return [(f"{stream} --seed {1000 + n}", test) for n, (stream, test) in enumerate(found)]


def _rows(generators: list[str]) -> Iterator[tuple[str, str]]:
    for rng in generators:
        related = "seeds" if rng == "pcg64" else "keys"
        for what in ["", " --p 0.1", " --p 0.75", " --of children", f" --of {related}"]:
            for battery in ["small", "-r small", "rabbit", "alphabit"]:
                yield rng + what, f"crush {battery}"
    for rng in generators:
        for number in range(1, 97):
            yield rng, f"crush crush {number}"
    for rng in generators:
        for test in DIEHARDER:
            for length in LENGTHS.get(test, [None]):
                option = "" if length is None else f" -n {length}"
                yield rng, f"dieharder -g 200 -d {test}{option}"


def run(stream: str, test: str) -> list[tuple[str, str]]:
    """Return the names and p-values of the statistics of one row."""
    with subprocess.Popen(
        [sys.executable, HERE / "stream.py", *stream.split()], stdout=subprocess.PIPE
    ) as source:
        report = subprocess.run(
            test.split(), stdin=source.stdout, capture_output=True, text=True, check=True
        ).stdout
        source.kill()
    found = list(_dieharder(report) if test.startswith("dieharder") else _crush(report))
    if not found:
        raise RuntimeError(f"no p-value in what {test} printed:\n{report}")
    return found


def _crush(report: str) -> Iterator[tuple[str, str]]:
    for line in report.splitlines():
        if not line.startswith("read "):
            p_value, _, name = line.partition(" ")
            yield name, p_value


def _dieharder(report: str) -> Iterator[tuple[str, str]]:
    for line in report.splitlines():
        fields = [field.strip() for field in line.split("|")]
        if not line.startswith("#") and len(fields) == 6 and fields[0] != "test_name":
            yield f"{fields[0]} {fields[1]}", fields[4]


def summary() -> None:
    """Print, for each battery, how many p-values there are, and how many are extreme."""
    kept = [line.split("\t") for line in FILE.read_text().splitlines()]
    batteries: dict[str, list[float]] = {}
    for _, _, test, _, p_value in kept:
        p = float(p_value)
        name = " ".join(test.removeprefix("crush ").replace("-r ", "").split()[:1])
        batteries.setdefault(name, []).append(2 * min(p, 1 - p))
    for name, tails in batteries.items():
        limits = (0.1, 0.01, 1e-3, 1e-4)
        counts = " ".join(f"{sum(tail < limit for tail in tails):5d}" for limit in limits)
        print(f"{name:10} {len(tails):5d} two-sided; below .1 .01 .001 .0001: {counts}")
    for row, stream, test, name, p_value in kept:
        if 2 * min(float(p_value), 1 - float(p_value)) < 1e-3:
            print(row, stream, test, name, p_value, sep=" | ")


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("command", choices=["list", "run", "summary"])
    parser.add_argument("rows", nargs="*", help="numbers, and ranges as 5-9")
    parser.add_argument("--keep", action="store_true", help="write to p-values.tsv")
    args = parser.parse_args()
    if args.command == "summary":
        return summary()
    everything = rows()
    if args.command == "list":
        for number, (stream, test) in enumerate(everything):
            print(number, stream, test, sep="\t")
        return None
    for piece in args.rows:
        first, _, last = piece.partition("-")
        for number in range(int(first), int(last or first) + 1):
            for name, p_value in run(*everything[number]):
                line = "\t".join([str(number), *everything[number], name, p_value])
                print(line, flush=True)
                if args.keep:
                    with FILE.open("a") as file:
                        file.write(line + "\n")
    return None


if __name__ == "__main__":
    main()
