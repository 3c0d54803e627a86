"""The compiled build: with PALATINE_COMPILE=1 in the environment a wheel carries its hot modules as C, too.

mypyc compiles the modules pyproject.toml lists, from the same source; what comes of each lies beside its `.py` and is
preferred. `sources` are C that Python has no words for. Without the variable a wheel is pure, and needs neither mypy
nor a compiler; editable installs always are.
"""

import os
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

#: The name of the one library all compiled modules share.
LIBRARY = "palatine_compiled"


def wanted() -> bool:
    """Whether the environment asks for the compiled build."""
    return os.environ.get("PALATINE_COMPILE", "") not in {"", "0"}


class CompileHook(BuildHookInterface[Any]):
    """`roots` are the directories packages lie in, `modules` and `sources` (C) the paths below them to compile."""

    PLUGIN_NAME = "custom"

    def dependencies(self) -> list[str]:
        """What pip installs for this build alone."""
        return ["mypy>=1.13", "setuptools>=70"] if wanted() else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and add what came of it to the wheel."""
        if not wanted() or version == "editable":
            return
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
        made = Path(self.root, "build", "mypyc")
        for library in compiled(Path(self.root), self.config, made):
            build_data["force_include"][str(library)] = str(library.relative_to(made / "lib"))


def compiled(root: Path, config: dict[str, list[str]], made: Path) -> list[Path]:
    """Compile what `config` names below `made`; the libraries, at their places below `made`/lib."""
    from mypyc.build import mypycify
    from setuptools import Distribution, Extension

    roots = config["roots"]
    paths = [_below(root, roots, module) for module in config["modules"]]
    plain = [Extension(name[: -len(".c")].replace("/", "."), [_below(root, roots, name)]) for name in config["sources"]]
    before = Path.cwd()
    os.environ["MYPYPATH"] = os.pathsep.join(roots)
    os.chdir(root)
    try:
        options = ["--config-file=", "--ignore-missing-imports", "--follow-imports=silent", f"--cache-dir={made}/cache"]
        extensions = mypycify(
            [*options, *paths], opt_level="3", debug_level="0", group_name=LIBRARY, target_dir=str(made / "c")
        )
        command = Distribution({"name": "palatine", "ext_modules": [*extensions, *plain]}).get_command_obj("build_ext")
        command.build_lib, command.build_temp = str(made / "lib"), str(made / "objects")
        command.ensure_finalized()
        command.run()
    finally:
        os.chdir(before)
    return [Path(output) for output in command.get_outputs()]


def _below(root: Path, roots: list[str], name: str) -> str:
    return next(f"{each}/{name}" for each in roots if (root / each / name).exists())
