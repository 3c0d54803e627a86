import os
import pwd
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from palatine.daemon.privileges import Identity, PermissionRefusedError, _give, find_identity
from palatine.errors import ConfigError

TINY = Path(__file__).parent / "daemon_programs" / "tiny.py"


def test_nobody_asked_for_is_nobody() -> None:
    assert find_identity(None, None) is None


def test_names_and_numbers_are_understood() -> None:
    nobody = pwd.getpwnam("nobody")
    by_name = find_identity("nobody", None)
    assert by_name
    assert (by_name.uid, by_name.gid) == (nobody.pw_uid, nobody.pw_gid)
    assert find_identity("123456", "654321") == Identity(123456, 654321, (654321, *dict.fromkeys([os.getegid()])))


@pytest.mark.parametrize(("user", "group"), [("no-such-user", None), (None, "no-such-group")])
def test_unknown_names_are_refused(user: str | None, group: str | None) -> None:
    with pytest.raises(ConfigError, match="there is no"):
        find_identity(user, group)


@pytest.fixture
def shared() -> Iterator[Path]:
    """A directory other users reach, unlike pytest's."""
    with tempfile.TemporaryDirectory(prefix="palatine-test-") as name:
        path = Path(name)
        path.chmod(0o777)
        yield path


@pytest.mark.root
def test_a_daemon_becomes_another_user_for_good(shared: Path) -> None:
    state = shared / "state" / "tiny"
    state.mkdir(parents=True)
    (state / "journal").write_text("root's")
    command = [sys.executable, str(TINY), "--user", "nobody", "--runtime-dir", f"{shared}/run"]
    command += ["--state-dir", f"{shared}/state"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        for line in process.stderr:
            if "daemon.ready" in line:
                break
        status = Path(f"/proc/{process.pid}/status").read_text()
        process.send_signal(signal.SIGTERM)
        process.stderr.read()
    nobody = pwd.getpwnam("nobody")
    assert process.returncode == 0
    assert f"Uid:\t{nobody.pw_uid}\t{nobody.pw_uid}\t{nobody.pw_uid}" in status
    assert f"Gid:\t{nobody.pw_gid}\t{nobody.pw_gid}\t{nobody.pw_gid}" in status
    for path in (shared / "run" / "tiny", state, state / "journal"):
        assert path.stat().st_uid == nobody.pw_uid


@pytest.mark.root
def test_links_and_what_belongs_to_others_are_not_given_away(shared: Path) -> None:
    ours, theirs, target = shared / "ours", shared / "theirs", shared / "target"
    for path in (ours, theirs):
        path.mkdir()
    target.touch()
    (ours / "link").symlink_to(target)
    os.chown(theirs, 12345, 12345)
    _give(ours, Identity(54321, 54321, ()))
    assert (ours.stat().st_uid, (ours / "link").lstat().st_uid, target.stat().st_uid) == (54321, 54321, 0)
    with pytest.raises(PermissionRefusedError, match="belongs to uid 12345"):
        _give(theirs, Identity(54321, 54321, ()))


@pytest.mark.root
def test_who_is_not_root_cannot_become_another(shared: Path) -> None:
    program = f"import os, runpy; tiny = runpy.run_path({str(TINY)!r}); os.setresuid(65534, 65534, 65534)\n"
    program += f"raise SystemExit(tiny['run'](tiny['SPEC'], ['--user=root', '--runtime-dir={shared}/run', "
    program += f"'--state-dir={shared}/state']))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 77
    assert "only root may become uid 0" in done.stderr
