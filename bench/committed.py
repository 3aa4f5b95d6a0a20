"""A measurement beside the one that is committed."""


def heading(what: str) -> None:
    print(f"{what:<40}{'committed':>10}{'now':>10}")


def grew(name: str, before: float | None, now: float, tolerance: float) -> bool:
    """Print both; return whether the number grew by a larger part than `tolerance`."""
    if before is None:
        print(f"{name:<40}{'-':>10}{now:>10.3f}  not committed: run with --update", flush=True)
        return True
    change = now / before - 1
    said = f"  {change:+.1%}" if abs(change) > tolerance else ""
    print(f"{name:<40}{before:>10.3f}{now:>10.3f}{said}", flush=True)
    return change > tolerance
