"""python -m fuzz FINDER: first faults planted on purpose, which it must report, then the kernels.

random      random cases compared with the oracle, at full speed
asan        the same, and the kernel tests, under AddressSanitizer and UBSan
tsan        threads that share the pool, and the tests of threads, under ThreadSanitizer
valgrind    random cases under memcheck
libfuzzer   cases that clang's libFuzzer makes up, under AddressSanitizer and UBSan

gcc is needed, and clang for libfuzzer. --help names the options.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from .build import BUILD, ROOT, package, program

# Faults planted for a finder (planted.c), and what it says of each.
PLANTED = {
    "asan": {
        "overflow": "heap-buffer-overflow",
        "undefined": "signed integer overflow",
        "leak": "detected memory leaks",
    },
    "tsan": {"race": "data race"},
    "valgrind": {
        "overflow": "Invalid write",
        "uninitialised": "uninitialised value",
        "leak": "definitely lost",
    },
}
# Faults planted in results (wrong.c). A byte beyond an array may lie in a page that stops it.
WRONG = {
    "result": "wrong: result",
    "status": "wrong: status",
    "beyond": "",
    "noise": "in noise",
    "attention": "in attention",
}
WRAPPED = [
    f"-Wl,--wrap={name}" for name in ("drop_evaluate", "drop_add_noise", "drop_attend_backward")
]
PLANTED_INPUTS = 1000
INPUTS = {"random": 100_000, "asan": 30_000, "tsan": 30, "valgrind": 2_000, "libfuzzer": 100_000}

KERNEL_TESTS = [
    *("kernels/test_backends", "kernels/test_golden", "kernels/test_pipeline"),
    *("kernels/test_softmax", "layers/test_attention"),
    *("layers/test_dropout", "layers/test_mask", "layers/test_family", "layers/test_family_fused"),
    *("layers/test_family_noise", "layers/test_family_samples", "layers/test_any_mask"),
    *("rng/test_streams", "rng/test_rng", "rng/test_register_rng"),
    *("robustness/test_threads_and_forks", "robustness/test_properties"),
    *("robustness/test_failures", "packaging/test_c_api"),
]
# Others' code is not instrumented: Numba's kernels see nothing of it, and torch does not start
# under it. ThreadSanitizer does not follow a process with threads into a fork.
TESTS = {
    "asan": (KERNEL_TESTS, "not numba and not reference and not torch and not extension"),
    "tsan": (
        ["robustness/test_threads_and_forks", "kernels/test_backends"],
        "cython and thread and not children",
    ),
}
ENVIRONMENT = {
    # Python and NumPy keep what they allocate until they exit; the C programs here are
    # checked for leaks. Tests ask for more memory than there is, and expect to be told.
    "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1",
    "UBSAN_OPTIONS": "print_stacktrace=1",
    "TSAN_OPTIONS": "halt_on_error=1",
    "PYTHONMALLOC": "malloc",  # small objects in blocks of their own
    "PYTHONSAFEPATH": "1",  # not the checkout's fastdrop
}
VALGRIND = ("valgrind", "-q", "--error-exitcode=9", "--leak-check=full")


def main(argv: Sequence[str] | None = None) -> None:
    """Run one finder."""
    parser = argparse.ArgumentParser(
        prog="python -m fuzz",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("finder", choices=INPUTS)
    parser.add_argument("--inputs", type=int, help=f"cases, or rounds for tsan (default: {INPUTS})")
    parser.add_argument("--seed", type=int, default=1, help="of the cases (default: 1)")
    parser.add_argument("--no-tests", action="store_true", help="the C programs only")
    args = parser.parse_args(argv)
    inputs = INPUTS[args.finder] if args.inputs is None else args.inputs
    check_that_faults_are_found(args.finder)
    if args.finder == "libfuzzer":
        fuzz(inputs, args.seed)
    elif args.finder == "tsan":
        call([program("tsan", ["hammer.c"]), inputs])
    else:
        wrapper = VALGRIND if args.finder == "valgrind" else ()
        call([*wrapper, program(args.finder, ["random.c"]), inputs, args.seed])
    if args.finder in TESTS and not args.no_tests:
        run_tests(args.finder)


def check_that_faults_are_found(finder: str) -> None:
    """Exit unless the finder reports each fault that is planted for it."""
    if finder in PLANTED:
        planted = program(finder, ["planted.c"])
        wrapper = VALGRIND if finder == "valgrind" else ()
        for fault, report in PLANTED[finder].items():
            expect([*wrapper, str(planted), fault], report)
    if finder in ("random", "asan", "libfuzzer"):
        main = ["wrong.c"] if finder == "libfuzzer" else ["wrong.c", "random.c"]
        runs = f"-runs={PLANTED_INPUTS}" if finder == "libfuzzer" else str(PLANTED_INPUTS)
        wrong = str(program(finder, main, *WRAPPED))
        for fault, report in WRONG.items():
            expect([wrong, runs, f"-artifact_prefix={BUILD}/"], report, FAULT=fault)


def expect(command: list[str], report: str, **environment: str) -> None:
    """Exit unless a command fails, and says so."""
    result = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | environment, check=False
    )
    if result.returncode == 0 or report not in result.stderr:
        print(result.stdout, result.stderr, file=sys.stderr)
        sys.exit(f"a planted fault was not reported: {command[-1]} {environment or ''}")


def fuzz(inputs: int, seed: int) -> None:
    """Let libFuzzer make up inputs, from those of earlier runs."""
    corpus = BUILD / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    options = [f"-runs={inputs}", f"-seed={seed}", "-max_len=200", f"-artifact_prefix={BUILD}/"]
    call([program("libfuzzer", []), *options, "-verbosity=0", "-print_final_stats=1", corpus])


def run_tests(finder: str) -> None:
    """Run tests with an extension that is built for a sanitizer."""
    folder = package(finder)
    library = {"asan": "libasan.so", "tsan": "libtsan.so"}[finder]
    found = subprocess.run(
        ["gcc", f"-print-file-name={library}"], capture_output=True, text=True, check=True
    )
    environment = {**ENVIRONMENT, "LD_PRELOAD": found.stdout.strip(), "PYTHONPATH": str(folder)}
    check = f"import fastdrop._cy as c; assert c.core.__file__.startswith({str(folder)!r})"
    call([sys.executable, "-c", check], environment)
    names, selection = TESTS[finder]
    files = [ROOT / "tests" / f"{name}.py" for name in names]
    pytest = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--capture=sys"]
    call([*pytest, "-k", selection, *files], environment)


def call(
    command: Sequence[object], environment: dict[str, str] | None = None, cwd: Path = ROOT
) -> None:
    """Run a command and say how long it took; exit if it fails."""
    words = [str(word) for word in command]
    start = time.monotonic()
    result = subprocess.run(words, cwd=cwd, env=os.environ | (environment or {}), check=False)
    if result.returncode != 0:
        sys.exit(f"failed with {result.returncode}: {' '.join(words)}")
    print(f"{Path(words[0]).name}: {time.monotonic() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
