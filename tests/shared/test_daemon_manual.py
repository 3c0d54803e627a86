import re
import subprocess
import sys
from pathlib import Path

import pytest

from palatine.daemon import Context, Spec
from palatine.daemon.manual import build_parser, sections

TINY = Path(__file__).parent / "daemon_programs" / "tiny.py"


async def never(ctx: Context) -> None:
    raise AssertionError(ctx)


def test_a_man_page_has_its_sections() -> None:
    found = sections("NAME\n    x - y\n\nEXIT STATUS\n    0  fine\n      more\n")
    assert found == {"NAME": "x - y", "EXIT STATUS": "0  fine\n  more"}
    assert sections("Just a sentence.") == {"": "Just a sentence."}


def test_the_manual_begins_with_the_name(capsys: pytest.CaptureFixture[str]) -> None:
    doc = "The entry; must never do anything.\n\nNAME\n    palatine-tiny - is small\n"
    with pytest.raises(SystemExit):
        build_parser(Spec("tiny", doc, never)).parse_args(["--manual"])
    assert capsys.readouterr().out == "NAME\n    palatine-tiny - is small\n"


def test_help_says_what_it_is_and_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        build_parser(Spec("tiny", "NAME\n    palatine-tiny - is small\n", never)).parse_args(["--help"])
    text = capsys.readouterr().out
    assert "palatine-tiny - is small" in text
    for option in ("--config", "--runtime-dir", "--state-dir", "--user", "--group", "--log-format", "--log-level"):
        assert option in text
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize(
    ("option", "wanted"), [("--help", "Waits until"), ("--manual", "second paragraph"), ("--version", "palatine-tiny")]
)
def test_help_manual_and_version_start_nothing(option: str, wanted: str, tmp_path: Path) -> None:
    command = [sys.executable, str(TINY), option, "--runtime-dir", str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert wanted in done.stdout
    assert not done.stderr
    assert not (tmp_path / "run").exists()
    if option == "--version":
        assert re.fullmatch(r"palatine-tiny \d+\.\d+\.\d+\n", done.stdout)
