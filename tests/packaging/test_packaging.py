"""What is built from a checkout: the sdist, the wheels, and what the build does where it cannot.

Built without isolation, by the setuptools and Cython that are installed, from a copy.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path
from runpy import run_path
from typing import Any

import pytest
from paths import ROOT

FOLDERS = ["fastdrop", "tests", "examples", "docs", "bench"]
BUILT = ["__pycache__", "*.py[cod]", "*.so", "_core.c", "build", "dist", "*.egg-info"]
BUILT += [".*_cache", ".hypothesis", ".benchmarks"]

pytestmark = pytest.mark.skipif(
    not (ROOT / "setup.py").exists(), reason="only a source tree can be packaged"
)


def build(tree: Path, what: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Have setuptools build an "sdist" or a "wheel" in `tree`/dist."""
    code = f"import setuptools.build_meta as b; b.build_{what}('dist')"
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=tree,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )


def built(tree: Path, what: str, **environment: str) -> Path:
    """Return the file that is built."""
    result = build(tree, what, **environment)
    assert result.returncode == 0, result.stdout + result.stderr
    [file] = (tree / "dist").glob("*.tar.gz" if what == "sdist" else "*.whl")
    return file


def files_below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a clean copy, with no git around it."""
    pytest.importorskip("setuptools", "77")
    pytest.importorskip("Cython", "3.1")
    copy = tmp_path_factory.mktemp("checkout")
    for path in ROOT.iterdir():
        if path.name in FOLDERS:
            shutil.copytree(path, copy / path.name, ignore=shutil.ignore_patterns(*BUILT))
        elif path.is_file():
            shutil.copy(path, copy)
    return copy


@pytest.fixture(scope="module")
def sdist(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an unpacked sdist."""
    folder = tmp_path_factory.mktemp("sdist")
    with tarfile.open(built(checkout, "sdist", FASTDROP_KERNELS="none")) as archive:
        archive.extractall(folder, filter="data")
    [unpacked] = folder.iterdir()
    return unpacked


@pytest.fixture
def tree(sdist: Path, tmp_path: Path) -> Path:
    """Return a copy of the sdist to build in."""
    return Path(shutil.copytree(sdist, tmp_path / "tree"))


def test_sdist_has_all_sources_and_nothing_built(checkout: Path, sdist: Path) -> None:
    found = files_below(sdist)
    for folder in FOLDERS:
        expected = {f"{folder}/{name}" for name in files_below(checkout / folder)}
        assert expected
        assert {name for name in found if name.startswith(f"{folder}/")} == expected
    top = {name for name in found if "/" not in name}
    assert top >= {"setup.py", "pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md"}
    assert not [name for name in found if name.endswith((".so", ".pyc", "/_core.c"))]


def modules(checkout: Path) -> set[str]:
    """Return what every wheel has of the package."""
    names = {f"fastdrop/{name}" for name in files_below(checkout / "fastdrop")}
    python = {name for name in names if name.endswith(".py")}
    return python | {
        "fastdrop/py.typed",
        "fastdrop/__init__.pxd",
        "fastdrop/_cy/include/fastdrop_rng.h",
        "fastdrop/_cy/include/fastdrop.h",
    }


def contents(wheel: Path) -> set[str]:
    """Return a wheel's files but for its metadata."""
    names = zipfile.ZipFile(wheel).namelist()
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    return {name for name in names if ".dist-info/" not in name}


def test_wheel_without_kernels_is_for_one_platform(checkout: Path, tree: Path) -> None:
    """As on Windows. As a wheel for any, pip would take it where the kernels could be built."""
    wheel = built(tree, "wheel", FASTDROP_KERNELS="none")
    platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
    assert wheel.name.endswith(f"-py3-none-{platform}.whl")
    assert contents(wheel) == modules(checkout)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows has no compiler for the kernels")
@pytest.mark.parametrize("compiler", ["cc", "clang"])
def test_wheel_with_kernels_has_them_and_no_sources(
    checkout: Path, tree: Path, compiler: str
) -> None:
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed")
    wheel = built(tree, "wheel", FASTDROP_KERNELS="required", CC=compiler)
    [extension] = contents(wheel) - modules(checkout)
    assert extension == f"fastdrop/_cy/_core{sysconfig.get_config_var('EXT_SUFFIX')}"
    site = tree / "site"
    zipfile.ZipFile(wheel).extractall(site)
    code = "import fastdrop; print(fastdrop.__file__, fastdrop.get_backend())"
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tree / "dist",
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
    )
    assert result.stdout.split() == [str(site / "fastdrop" / "__init__.py"), "cython"]


@pytest.mark.skipif(os.name == "nt", reason="Windows does not try")
def test_without_a_compiler_the_install_falls_back_and_says_so(checkout: Path, tree: Path) -> None:
    result = build(tree, "wheel", FASTDROP_KERNELS="optional", CC="/nonexistent/cc")
    assert result.returncode == 0
    assert 'building extension "fastdrop._cy._core" failed' in result.stdout + result.stderr
    [wheel] = (tree / "dist").glob("*.whl")
    assert contents(wheel) == modules(checkout)

    result = build(tree, "wheel", FASTDROP_KERNELS="required", CC="/nonexistent/cc")
    assert result.returncode != 0
    assert "/nonexistent/cc" in result.stdout + result.stderr


def test_unknown_wish_for_kernels_is_refused(checkout: Path) -> None:
    result = build(checkout, "sdist", FASTDROP_KERNELS="perhaps")
    assert result.returncode != 0
    message = "FASTDROP_KERNELS must be optional, required or none, but got 'perhaps'"
    assert message in result.stderr


X86 = ["baseline", "aes", "avx2", "vaes", "avx512"]


@pytest.mark.parametrize(
    ("platform", "flags", "expected"),
    [
        ("linux-x86_64", "", X86),
        ("linux-aarch64", "", ["baseline", "aes"]),
        ("linux-ppc64le", "", ["baseline"]),
        ("macosx-11.0-arm64", "", ["baseline"]),
        ("macosx-10.13-x86_64", "", X86),
        ("macosx-10.13-universal2", "", X86),
        ("macosx-10.13-universal2", "-arch arm64", ["baseline"]),
        ("macosx-10.13-universal2", "-arch arm64 -arch x86_64", X86),
        ("macosx-11.0-arm64", "-arch x86_64", X86),
    ],
)
def test_instruction_sets_are_the_targets(
    platform: str, flags: str, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("setuptools", "77")
    instruction_sets = run_path(str(ROOT / "setup.py"))["instruction_sets"]
    mac = platform.startswith("macosx")
    monkeypatch.setattr(sys, "platform", "darwin" if mac else "linux")
    monkeypatch.setattr(sysconfig, "get_platform", lambda: platform)
    monkeypatch.setenv("ARCHFLAGS", flags)
    sets = instruction_sets()
    assert list(sets) == expected
    assert sets["baseline"] == []
    for isa in expected[1:]:
        flags_of_aes = {"-maes", "-march=armv8-a+crypto"}
        assert flags_of_aes & {*sets[isa]}
        assert ("-mavx2" in sets[isa]) == (isa != "aes")
        # A build for two processors hands every flag to both compilers, unless told otherwise.
        assert not mac or sets[isa][::2] == ["-Xarch_x86_64"] * (len(sets[isa]) // 2)


def test_files_are_compiled_again_when_anything_they_are_made_of_is_newer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("setuptools", "77")
    from setuptools import Distribution, Extension

    names = run_path(str(ROOT / "setup.py"))
    compiled: list[str] = []

    class Compiler:
        def object_filenames(self, sources: list[str], output_dir: str) -> list[str]:
            return [f"{output_dir}/{Path(name).stem}.o" for name in sources]

        def compile(self, sources: list[str], output_dir: str, **_: Any) -> None:
            for name in self.object_filenames(sources, output_dir):
                compiled.append(name)
                Path(name).parent.mkdir(exist_ok=True)
                Path(name).touch()
                os.utime(name, (2, 2))

    command = names["BuildKernels"](Distribution())
    command.build_temp, command.compiler = str(tmp_path / "temp"), Compiler()
    sources = {name: tmp_path / name for name in ("kernels.c", "pool.c", "kernels.h")}
    for path in sources.values():
        path.touch()
    kernels = [names["Unit"](str(sources["kernels.c"]), isa) for isa in ("baseline", "avx2")]
    units = [*kernels, names["Unit"](str(sources["pool.c"]))]
    monkeypatch.setenv("FASTDROP_CFLAGS", "-O1")

    def build(**changed: float) -> list[str]:
        compiled.clear()
        settings = command.write_settings()
        for path in sources.values():
            at = changed.get(path.stem if path.suffix == ".c" else "header", 1)
            os.utime(path, (at, at))
        ext = Extension("_core", [], depends=[str(sources["kernels.h"]), settings])
        objects = [command.compile(ext, unit) for unit in units]
        assert len({*objects}) == len(units)
        return compiled[:]

    everything = build()  # nothing was there
    assert len(everything) == len(units)
    os.utime(command.write_settings(), (1, 1))
    assert build() == []
    assert build(header=3) == everything
    assert build() == []
    assert build(pool=3) == everything[-1:]
    assert build() == []
    monkeypatch.setenv("FASTDROP_CFLAGS", "-O2")
    assert build() == everything


def test_the_longest_to_compile_come_first_and_nothing_twice() -> None:
    pytest.importorskip("setuptools", "77")
    units = run_path(str(ROOT / "setup.py"))["units"]({"baseline": [], "wide": ["-mwide"]})
    first = [(Path(unit.source).name, unit.isa, unit.flags) for unit in units[:2]]
    assert first == [("apply.c", "wide", ["-mwide"]), ("apply.c", "baseline", [])]
    assert len({(unit.source, unit.isa) for unit in units}) == len(units)
    files = {str(path.relative_to(ROOT)) for path in (ROOT / "fastdrop/_cy").glob("*/*.c")}
    assert {unit.source for unit in units} == files


def test_a_32_bit_python_is_told_so() -> None:
    code = "import ctypes, numpy; ctypes.sizeof = lambda type: 4; import fastdrop"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode != 0
    assert "ImportError: fastdrop needs a 64-bit Python" in result.stderr
    assert "addresses of this one have 32 bits" in result.stderr
