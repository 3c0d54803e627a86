"""The build of the same source whose hot modules are C: it serves as the pure one does, by the pure one's own tests."""

import ast
import os
import subprocess
import sys
import sysconfig
import tempfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

from running import run

pytestmark = [pytest.mark.interop, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]
PIP = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
#: What is compiled, what subclasses it, and whole servers: requests, reloads, harakiri, kept connections, TLS.
SLICE = [
    "shared/test_http_head.py",
    "shared/test_counters_cache.py",
    "services/app_server/test_response.py",
    "services/app_server/test_static_files.py",
    "services/app_server/test_worker_clients.py",
    "services/app_server/test_worker_http.py",
    "services/app_server/test_worker_wsgi.py",
    "services/app_server/test_server_routes.py",
    "services/app_server/test_server_tls.py",
    "services/app_server/test_server_crashes.py",
    "services/app_server/test_server_harakiri.py",
    "services/app_server/test_server_life.py",
]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled build; it takes half a minute."""
    home = tmp_path_factory.mktemp("wheel")
    environ = os.environ | {"PALATINE_COMPILE": "1"}
    words = [*PIP, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(home), str(ROOT)]
    done = subprocess.run(words, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return next(home.glob("*.whl"))


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The interpreter of an environment with the compiled build, and the libraries the tests need from this one."""
    home = tmp_path_factory.mktemp("compiled")
    venv.create(home)
    made = home / "bin" / "python"
    subprocess.run([*PIP, "--python", str(made), "install", "--no-deps", str(wheel)], check=True)
    site = next(home.glob("lib/python*/site-packages"))
    # behind it on the path, and without the line there that leads to this checkout
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return str(made)


def test_it_says_what_it_is(python: str) -> None:
    assert " compiled (uWSGI" in run(python, "-m", "palatine_app_server", "--version").stdout
    where = "import palatine_app_server.serving.reactor as reactor; print(reactor.__file__)"
    assert run(python, "-P", "-c", where).stdout.strip().endswith(".so")


def test_it_needs_nothing_of_the_compiler(wheel: Path, tmp_path: Path) -> None:
    """Where a wheel is installed there is no mypy."""
    zipfile.ZipFile(wheel).extractall(tmp_path)
    modules = ("serving.worker", "serving.tls_connection", "routing.routed_front")
    names = [f"palatine_app_server.{module}" for module in modules]
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import {', '.join(names)}"
    run(sys.executable, "-I", "-S", "-c", code)


def test_what_derives_from_a_compiled_class_is_compiled() -> None:
    """Python could not make one otherwise, and says so only when it is to."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        modules = tomllib.load(file)["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]["custom"]["modules"]
    bases: dict[str, set[str]] = {}
    pure: dict[str, set[str]] = {}
    for path in (ROOT / "services").glob("palatine_app_server/**/*.py"):
        name = str(path.relative_to(ROOT / "services"))
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                found = {base.id for base in node.bases if isinstance(base, ast.Name)}
                (bases if name in modules else pure)[f"{name}: {node.name}"] = found
    compiled = {name.partition(": ")[2] for name in bases}
    assert {"Connection", "Response"} < compiled
    assert [name for name, found in pure.items() if found & compiled] == []


def test_the_tests_of_the_pure_build_pass(python: str) -> None:
    with tempfile.TemporaryDirectory(prefix="compiled-") as home:  # UNIX sockets have short names
        words = ["-m", "pytest", "-q", "-n2", "-p", "no:cacheprovider", f"--basetemp={home}/t"]
        done = subprocess.run(
            [python, *words, *(str(ROOT / "tests" / each) for each in SLICE)],
            cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:]
