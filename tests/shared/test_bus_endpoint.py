import os
import subprocess
import sys
from pathlib import Path

import pytest

from palatine.bus import _libzmq, claim
from palatine.bus.endpoint import PATH_BYTES, address
from palatine.errors import AlreadyRunningError, ConfigError


def of_length(directory: Path, length: int) -> Path:
    return directory / ("x" * (length - len(os.fsencode(directory)) - 1))


def test_the_longest_path_the_kernel_takes(tmp_path: Path) -> None:
    path = of_length(tmp_path, PATH_BYTES)
    assert address(path) == f"ipc://{path}"


def test_a_longer_path_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"at most 107 bytes, this has 108: shorten") as raised:
        address(of_length(tmp_path, PATH_BYTES + 1))
    assert raised.value.exit_status == 78


def test_the_length_is_counted_in_bytes(tmp_path: Path) -> None:
    path = of_length(tmp_path, PATH_BYTES)
    with pytest.raises(ConfigError):
        address(path.with_name(path.name[:-1] + "é"))


def test_one_owner_at_a_time(tmp_path: Path) -> None:
    held = claim(tmp_path / "ctl")
    with pytest.raises(AlreadyRunningError, match=rf"owned by a live process \(pid {os.getpid()}\)") as raised:
        claim(tmp_path / "ctl")
    assert raised.value.exit_status == 75
    held.close()
    claim(tmp_path / "ctl").close()


def test_a_claim_is_a_context_and_closes_twice(tmp_path: Path) -> None:
    with claim(tmp_path / "ctl") as held:
        held.close()
    with claim(tmp_path / "ctl"):
        pass


def test_the_kernel_frees_the_claim_of_a_killed_owner(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib\nfrom palatine.bus import claim\n"
        "held = claim(pathlib.Path(sys.argv[1]))\nprint('held', flush=True)\nsys.stdin.read()"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "ctl")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "held\n"
        with pytest.raises(AlreadyRunningError, match=f"pid {owner.pid}"):
            claim(tmp_path / "ctl")
        owner.kill()
    claim(tmp_path / "ctl").close()


def test_a_claim_outlives_the_cleaning_of_its_directory(tmp_path: Path) -> None:
    first = claim(tmp_path / "ctl")
    (tmp_path / "ctl.lock").unlink()
    with claim(tmp_path / "ctl"), pytest.raises(AlreadyRunningError):
        claim(tmp_path / "ctl")
    first.close()


def test_a_lock_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "ctl.lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match=r"ctl\.lock: cannot be opened"):
        claim(tmp_path / "ctl")
    assert not (tmp_path / "elsewhere").exists()


def test_a_claim_without_its_directory_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        claim(tmp_path / "absent" / "ctl")


@pytest.mark.parametrize("found", [(4, 3, 5), (4, 4, 0), (5, 0, 0)])
def test_libzmq_that_will_do(found: tuple[int, int, int]) -> None:
    _libzmq.require(found)


def test_libzmq_that_is_too_old_is_named() -> None:
    with pytest.raises(ConfigError, match=r"linked with libzmq 4\.3\.4: palatine needs 4\.3\.5 or later"):
        _libzmq.require((4, 3, 4))
