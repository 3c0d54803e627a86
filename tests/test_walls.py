"""The import walls stand, and each of them bites: a planted violation is refused by its contract."""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LINTER = Path(sys.executable).with_name("lint-imports")

#: Contract → (file to spoil, line that spoils it).
VIOLATIONS = {
    "daemons": ("services/palatine_snmp_agent/__init__.py", "import palatine_emperor"),
    "library": ("shared/palatine/places.py", "import palatine_app_server"),
    "codecs": ("shared/palatine/codec/ber.py", "import socket"),
    "plain": ("shared/palatine/errors.py", "import attrs"),
    "segments": ("services/palatine_stats_exporter/__init__.py", "import mmap"),
    "bus": ("services/palatine_alarm_daemon/__init__.py", "import zmq"),
    "asyncio": ("services/palatine_emperor/__init__.py", "import asyncio"),
    "policies": ("services/palatine_app_server/supervision/reload_policy.py", "import time"),
}


def contracts() -> list[dict[str, object]]:
    with (ROOT / "pyproject.toml").open("rb") as file:
        found: list[dict[str, object]] = tomllib.load(file)["tool"]["importlinter"]["contracts"]
        return found


def lint(root: Path, contract: str) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "PYTHONPATH": f"{root / 'services'}:{root / 'shared'}"}
    command = [str(LINTER), "--no-cache", "--contract", contract]
    return subprocess.run(command, cwd=root, env=environ, capture_output=True, text=True, check=False)


def test_every_wall_has_a_violation_to_prove_it() -> None:
    assert {contract["id"] for contract in contracts()} == set(VIOLATIONS)


@pytest.mark.parametrize("contract", VIOLATIONS)
def test_a_wall_bites(contract: str, tmp_path: Path) -> None:
    for name in ("services", "shared"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    assert lint(tmp_path, contract).returncode == 0
    spoiled, line = VIOLATIONS[contract]
    with (tmp_path / spoiled).open("a") as file:
        file.write(f"\n{line}\n")
    refused = lint(tmp_path, contract)
    assert refused.returncode == 1, refused.stdout
    assert "BROKEN" in refused.stdout


def test_every_policy_module_is_behind_the_wall() -> None:
    (policies,) = (contract["source_modules"] for contract in contracts() if contract["id"] == "policies")
    found = {
        ".".join(path.relative_to(ROOT / top).with_suffix("").parts)
        for top in ("services", "shared")
        for path in (ROOT / top).rglob("*_policy.py")
    }
    assert found == set(policies)  # type: ignore[call-overload]


def test_what_the_app_meets_is_its_own() -> None:
    """Importing everything a worker runs loads nothing from site-packages but palatine itself."""
    code = (
        "import sys; import palatine_app_server.__main__, palatine_app_server.supervision.zygote;"
        "print([n for n, m in sys.modules.items() if 'site-packages' in (getattr(m, '__file__', '') or '')"
        " and not n.startswith(('palatine', '_palatine', '__editable__', '_distutils_hack'))])"
    )
    printed = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"
