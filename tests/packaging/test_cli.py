"""The command line, run as users run it: in a process of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import fastdrop

ROOT = Path(fastdrop.__file__).parents[1]
NUMBER = r"\d+\.\d{3}"


def python(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=300,
    )


def cli(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return python("-m", "fastdrop", *arguments, cwd=cwd)


def needs_demo() -> None:
    for module in ("sklearn", "matplotlib", "tqdm"):
        pytest.importorskip(module)


def gaps(table: str) -> dict[str, tuple[float, float]]:
    """Return the gaps in accuracy (percent) and cross-entropy from a demo's table."""
    found = re.findall(r"^(with(?:out)?) dropout((?: +[-\d.]+%?){6})$", table, re.MULTILINE)
    assert len(found) == 2, table
    result = {}
    for name, numbers in found:
        train, test, gap, train_loss, test_loss, loss_gap = (
            float(number.rstrip("%")) for number in numbers.split()
        )
        assert gap == pytest.approx(train - test, abs=0.011)  # rounded each on its own
        assert loss_gap == pytest.approx(test_loss - train_loss, abs=1.1e-4)
        result[name] = (gap, loss_gap)
    return result


def is_png(file: Path) -> bool:
    return file.read_bytes().startswith(b"\x89PNG\r\n") and file.stat().st_size > 10_000


def test_without_arguments_help_starts_with_an_example_that_runs() -> None:
    result = cli()
    assert result.returncode == 0
    assert result.stdout == cli("--help").stdout
    example = result.stdout.splitlines()[:2]
    assert result.stdout.splitlines()[2] == ""
    shown = python("-c", "\n".join(example))
    assert shown.returncode == 0, shown.stderr
    assert set(re.findall(r"\d", shown.stdout)) <= {"0", "2"}
    assert len(re.findall(r"\d", shown.stdout)) == 8


def test_version() -> None:
    assert cli("--version").stdout == f"fastdrop {fastdrop.__version__}\n"


def test_info_is_show_config() -> None:
    shown = python("-c", "import fastdrop; fastdrop.show_config()").stdout
    assert fastdrop.__version__ in shown
    assert cli("info").stdout == shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nonsense"], "invalid choice: 'nonsense'"),
        (["demo", "--p", "1.5"], "has to be between 0 and 1, but got 1.5"),
        (["demo", "--p", "nan"], "has to be between 0 and 1, but got nan"),
        (["demo", "--p", "half"], "could not convert string to float: 'half'"),
        (["demo", "--seed", "-1"], "must be an integer of 0 or more, but got '-1'"),
        (["demo", "--seeds", "1", "x"], "must be an integer of 0 or more, but got 'x'"),
        (["demo", "--epochs", "0"], "must be an integer of 1 or more, but got '0'"),
        (["demo", "--rng", "mt"], "invalid choice: 'mt'"),
        (["demo", "--plot", "no/such/folder.png"], "must be a file that can be written"),
        (["demo", "--plot", "plot.txt"], "must end in one of .png, .pdf, .svg"),
        (["bench", "--sizes", "0"], "must be an integer from 1 to 1e9, but got '0'"),
        (["bench", "--sizes", "1.5"], "must be an integer from 1 to 1e9, but got '1.5'"),
        (["bench", "--sizes", "inf"], "must be an integer from 1 to 1e9, but got 'inf'"),
        (["bench", "--dtype", "int32"], "invalid choice: 'int32'"),
        (["bench", "--backend", "cuda"], "invalid choice: 'cuda'"),
        (["bench", "--threads", "0"], "must be an integer of 1 or more, but got '0'"),
    ],
)
def test_bad_arguments_exit_with_2_and_say_why(arguments: list[str], message: str) -> None:
    result = cli(*arguments)
    assert result.returncode == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("module", "project", "extra", "arguments"),
    [
        ("sklearn", "scikit-learn", "demo", ["demo"]),
        ("matplotlib", "matplotlib", "demo", ["demo"]),
        ("tqdm", "tqdm", "demo", ["demo"]),
        ("matplotlib", "matplotlib", "bench", ["bench", "--quick", "--plot", "b.png"]),
    ],
)
def test_a_missing_package_is_named_in_one_line(
    module: str, project: str, extra: str, arguments: list[str], tmp_path: Path
) -> None:
    program = (
        f"import sys; sys.modules[{module!r}] = None; import fastdrop.cli;"
        f"sys.exit(fastdrop.cli.main({arguments}))"
    )
    result = python("-c", program, cwd=tmp_path)
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1
    assert project in result.stderr
    assert f"pip install 'fastdrop[{extra}]'" in result.stderr
    assert result.stdout == ""
    assert not list(tmp_path.iterdir())


def test_packages_are_imported_only_when_needed() -> None:
    program = (
        "import sys, fastdrop; assert 'fastdrop.cli' not in sys.modules, 'import fastdrop';"
        "import fastdrop.cli; fastdrop.cli.main(['info']);"
        "early = {'torch', 'matplotlib', 'sklearn', 'tqdm'} & set(sys.modules);"
        "assert not early, early"
    )
    result = python("-c", program)
    assert result.returncode == 0, result.stderr


def test_demo_prints_a_table_and_saves_a_plot(tmp_path: Path) -> None:
    needs_demo()
    result = cli("demo", "--epochs", "2", "--seed", "7", "--rng", "pcg64", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "p = 0.5, rng pcg64, seeds 7" in result.stdout
    assert set(gaps(result.stdout)) == {"without", "with"}
    assert f"plot saved to {(tmp_path / 'fastdrop-demo.png').resolve()}" in result.stdout
    assert is_png(tmp_path / "fastdrop-demo.png")
    assert "epoch" in result.stderr  # the progress bar


@pytest.mark.slow
def test_demo_without_dropout_is_the_same_run_twice(tmp_path: Path) -> None:
    needs_demo()
    result = cli("demo", "--epochs", "2", "--seed", "7", "--p", "0", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    both = gaps(result.stdout)
    assert both["with"] == both["without"]


@pytest.mark.slow
def test_demo_narrows_the_gap_over_its_default_seeds(tmp_path: Path) -> None:
    needs_demo()
    result = cli("demo", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    both = gaps(result.stdout)
    assert both["with"][0] < both["without"][0]
    assert both["with"][1] < both["without"][1]


def test_bench_prints_a_row_for_each_size_and_saves_a_plot(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    arguments = ["bench", "--quick", "--sizes", "1e3", "5e4", "--threads", "2", "--p", "0.1"]
    result = cli(*arguments, "--plot", "b.png", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    for name in ("1 thread", "2 threads", "new array", "idiom", "copyto", "multiply"):
        assert name in result.stdout
    has_torch = "F.dropout" in result.stdout
    assert has_torch != ("torch is not installed" in result.stdout)
    columns = 7 if has_torch else 6
    for size in ("1,000", "50,000"):
        assert re.search(rf"^ *{size}( +{NUMBER}){{{columns}}}$", result.stdout, re.MULTILINE)
    assert "timing 50,000 elements (2 of 2)" in result.stderr
    assert is_png(tmp_path / "b.png")


def test_bench_without_torch_says_so_and_runs_other_dtypes_and_backends() -> None:
    program = (
        "import sys; sys.modules['torch'] = None; import fastdrop.cli;"
        "fastdrop.cli.main(['bench', '--quick', '--sizes', '1000', '--dtype', 'float64',"
        "'--backend', 'reference', '--threads', '1', '--rng', 'philox'])"
    )
    result = python("-c", program)
    assert result.returncode == 0, result.stderr
    assert "torch is not installed" in result.stdout
    assert "reference backend" in result.stdout
    assert "p = 0.5, float64, rng philox, 1 thread(s)" in result.stdout
    assert re.search(rf"^ *1,000( +{NUMBER}){{5}}$", result.stdout, re.MULTILINE)
