"""The package works where its users have it: from a wheel, from a source archive, and without the optional parts."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "mlp.tp"


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    """stdout of a command that must succeed; PYTHONPATH is not inherited."""
    inherited = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    result = subprocess.run(
        [str(c) for c in command], cwd=cwd, env=inherited | environment, capture_output=True, text=True, timeout=600
    )
    assert result.returncode == 0, f"{command}\n{result.stdout}\n{result.stderr}"
    return result.stdout


def build(kind: str, source: Path, out: Path) -> Path:
    """The wheel or sdist of a source tree, built by the declared backend (no network)."""
    pytest.importorskip("hatchling")
    run(sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", out, cwd=source)
    (built,) = out.glob("*.whl" if kind == "wheel" else "*.tar.gz")
    return built


def build_through_sdist(tmp_path: Path) -> Path:
    archive = build("sdist", ROOT, tmp_path / "sdist")
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path / "unpacked", filter="data")
    (source,) = (tmp_path / "unpacked").iterdir()
    return build("wheel", source, tmp_path / "from_sdist")


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist() if not name.endswith("/RECORD")}


@pytest.mark.slow
def test_wheel_holds_the_grammar_the_blocks_and_the_type_marker(tmp_path: Path) -> None:
    files = contents(build("wheel", ROOT, tmp_path))
    assert "tensorprog/grammar/tensorprog.lark" in files
    assert "tensorprog/py.typed" in files
    assert "tensorprog/report/templates/page.html.j2" in files
    assert [name for name in files if name.endswith("/blocks.tp")]
    top = {name.split("/")[0] for name in files}
    assert {name for name in top if not name.endswith(".dist-info")} == {"tensorprog"}
    sources = {p.relative_to(ROOT).as_posix(): p for p in ROOT.glob("tensorprog/**/*.py")}
    sources |= {f"tensorprog/grammar/{p.name}": p for p in ROOT.glob("grammar/*") if p.is_file()}
    assert {name: files.get(name) for name in sources} == {name: p.read_bytes() for name, p in sources.items()}


@pytest.mark.slow
def test_wheel_of_the_source_archive_equals_wheel_of_the_tree(tmp_path: Path) -> None:
    assert contents(build_through_sdist(tmp_path)) == contents(build("wheel", ROOT, tmp_path / "tree"))


@pytest.mark.slow
@pytest.mark.parametrize("origin", ["tree", "sdist"])
def test_installed_wheel_derives_outside_the_checkout(origin: str, tmp_path: Path) -> None:
    wheel = build("wheel", ROOT, tmp_path / "tree") if origin == "tree" else build_through_sdist(tmp_path)
    environment, elsewhere = tmp_path / "venv", tmp_path / "elsewhere"
    venv.create(environment, with_pip=True)
    python = environment / "bin" / "python"
    elsewhere.mkdir()
    shutil.copy(EXAMPLE, elsewhere / "mine.tp")

    run(python, "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt", wheel, cwd=elsewhere)
    run(python, "-m", "pip", "check", cwd=elsewhere)

    where = run(python, "-c", "import tensorprog; print(tensorprog.__file__)", cwd=elsewhere)
    assert Path(where.strip()).is_relative_to(environment)
    assert "W1" in run(environment / "bin" / "tpcalc", "derive", "mine.tp", cwd=elsewhere)
    run(environment / "bin" / "tpcalc", "emit", "mine.tp", "-o", "model.py", cwd=elsewhere)
    assert (elsewhere / "model.py").read_text()


BLOCKED = """
import sys
for name in ("torch", "matplotlib"):
    sys.modules[name] = None
"""


@pytest.mark.slow
def test_symbolic_commands_need_neither_torch_nor_matplotlib(tmp_path: Path) -> None:
    example = str(EXAMPLE)
    commands = (["derive", example], ["explain", example, "W2"], ["emit", example],
                ["graph", example, "--format", "dot"], ["fmt", example, "--check"])  # fmt: skip
    code = f"{BLOCKED}\nfrom tensorprog.cli import main\nsys.exit(max(main(c) for c in {commands!r}))"
    run(sys.executable, "-c", code, cwd=tmp_path, PYTHONPATH=str(ROOT))


def test_every_public_name_is_importable_without_torch(tmp_path: Path) -> None:
    code = f"{BLOCKED}\nimport tensorprog\nfor name in tensorprog.__all__: getattr(tensorprog, name)"
    run(sys.executable, "-c", code, cwd=tmp_path, PYTHONPATH=str(ROOT))


def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom tensorprog.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'sympy', 'torch', 'matplotlib', 'networkx'} & set(sys.modules)\nassert not heavy, heavy"
    )
    run(sys.executable, "-c", code, cwd=tmp_path, PYTHONPATH=str(ROOT))
