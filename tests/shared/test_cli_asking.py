from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from palatine.cli import alarm_command, main, vassal_command

Answer = Callable[[Any], list[Any]]


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> Answer:
    """Have both commands get this answer; returns the list of what was asked."""

    def be(reply: Any) -> list[Any]:
        asked: list[Any] = []

        def ask(daemon: str, kind: str, body: Any, _: str | None) -> Any:
            asked.append((daemon, kind, body))
            return reply

        for command in (alarm_command, vassal_command):
            monkeypatch.setattr(command, "ask", ask)
        return asked

    return be


HOST: dict[str, Any] = {"alarms": [], "rules": [], "problems": [], "freq": 3}


def test_alarms_and_the_rules_that_raise_them(answer: Answer, capsys: pytest.CaptureFixture[str]) -> None:
    alarms = [{"name": "tell", "action": "cmd", "arg": "mail root"}, {"name": "idle", "action": "log", "arg": ""}]
    rules = [
        {"alarms": ["tell"], "regexp": "^BAD", "negate": False},
        {"alarms": ["tell"], "regexp": "fine", "negate": True},
    ]
    shown = {"instance": "app", "alarms": alarms, "rules": rules, "problems": ["rule 3: no such alarm"]}
    asked = answer({"instances": [shown], "host": HOST})
    assert main(["palatine", "alarm", "list", "app"]) == 0
    assert asked == [("alarm-daemon", "alarm.list", {"instance": "app"})]
    captured = capsys.readouterr()
    assert captured.out.splitlines() == [
        "INSTANCE  ALARM  ACTION         RAISED BY",
        "app       tell   cmd:mail root  /^BAD/, not /fine/",
        "app       idle   log:           the app only",
    ]
    assert captured.err == "app: rule 3: no such alarm\n"


def test_no_alarms_at_all(answer: Answer, capsys: pytest.CaptureFixture[str]) -> None:
    answer({"instances": [], "host": HOST})
    assert main(["palatine", "alarm", "list"]) == 0
    assert capsys.readouterr().out == "no alarms are configured\n"


def test_what_is_not_delivered_yet(answer: Answer, capsys: pytest.CaptureFixture[str]) -> None:
    one = {"instance": "app", "alarm": "tell", "action": "curl", "message": "line 1\nline 2", "raised_at": 0}
    answer({"total": 3, "pending": [{**one, "attempts": 2, "reason": "refused", "doing": "waiting"}]})
    assert main(["palatine", "alarm", "pending"]) == 0
    out = capsys.readouterr().out
    assert "2 times  refused: line 1\n" in out
    assert "... and 2 more" in out


@pytest.mark.parametrize(
    ("reply", "code", "text"),
    [
        ({"raised": True, "id": "ab"}, 0, "raised, id ab"),
        ({"raised": False, "reason": "storm"}, 1, "not raised: storm"),
    ],
)
def test_raising(
    answer: Answer, capsys: pytest.CaptureFixture[str], reply: dict[str, Any], code: int, text: str
) -> None:
    asked = answer(reply)
    assert main(["palatine", "alarm", "raise", "app", "tell", "hello"]) == code
    assert asked[0][2] == {"instance": "app", "alarm": "tell", "message": "hello"}
    assert capsys.readouterr().out == f"{text}\n"


def test_vassals(answer: Answer, capsys: pytest.CaptureFixture[str]) -> None:
    answer({"vassals": [{"name": "a.ini", "state": "loyal", "pid": 7}, {"name": "b.ini", "reason": "no such app"}]})
    assert main(["palatine", "vassal", "list"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "NAME   STATE  PID  REASON",
        "a.ini  loyal  7",
        "b.ini              no such app",
    ]


def test_a_vassal_from_a_configuration(answer: Answer, tmp_path: Path) -> None:
    path = tmp_path / "v.ini"
    path.write_text("[uwsgi]\n")
    asked = answer({"touched": 1})
    assert main(["palatine", "vassal", "touch", "v.ini", "--config", str(path)]) == 0
    assert main(["palatine", "vassal", "destroy", "v.ini"]) == 0
    assert asked == [
        ("emperor", "vassal.touch", {"name": "v.ini", "config": "[uwsgi]\n"}),
        ("emperor", "vassal.destroy", {"name": "v.ini"}),
    ]
    assert main(["palatine", "vassal", "touch", "v.ini", "--config", str(tmp_path / "none")]) == 78


def test_the_answer_for_programs(answer: Answer, capsys: pytest.CaptureFixture[str]) -> None:
    answer({"vassals": []})
    assert main(["palatine", "vassal", "list", "--json"]) == 0
    assert capsys.readouterr().out == '{\n  "vassals": []\n}\n'
