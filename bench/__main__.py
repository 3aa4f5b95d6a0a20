"""Measure the goals: ``python -m bench [ROW ...] [--write docs/performance.md]``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from .measure import Lab
from .report import outcome, tally, text_table, write
from .rows import CASES, row_names


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="ROW", help="all of them by default")
    parser.add_argument("--seconds", type=float, default=Lab.seconds, help="budget of each case")
    parser.add_argument("--quick", action="store_true", help="only show that it works")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="put the table into this page")
    args = parser.parse_args()
    unknown = set(args.rows) - set(row_names())
    if unknown:
        parser.error(f"ROW must be one of {', '.join(row_names())}, but got {', '.join(unknown)}")
    if args.write and (args.quick or args.rows):
        parser.error("--write takes every row, measured in full")

    lab, results = Lab(args.seconds, args.quick), []
    chosen = [case for case in CASES if not args.rows or case.row in args.rows]
    for i, case in enumerate(chosen):
        print(f"{i + 1} of {len(chosen)}: {case.id}", file=sys.stderr, flush=True)
        results.append(outcome(case, lab))
    print("\n".join([*text_table(results), "", tally(results)]))
    if args.write:
        write(args.write, results)


if __name__ == "__main__":
    main()
