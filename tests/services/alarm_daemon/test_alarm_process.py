import re
import signal
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import trio

from palatine.counters import SegmentView
from palatine.errors import PeerError

Links = Callable[..., Awaitable[Any]]
Until = Callable[..., Awaitable[None]]

MAIL = "mail -s 'uWSGI alarm' -a 'From: foobar@example.com' admin@example.com"
SEED: dict[str, Any] = {
    "alarms": [
        {"name": "mailme", "action": "cmd", "arg": MAIL},
        {"name": "cachefull", "action": "signal", "arg": "17"},
    ],
    "rules": [
        {"alarms": ["cachefull", "mailme"], "regexp": "uWSGI listen queue of socket", "negate": False},
        {"alarms": ["mailme"], "regexp": "HARAKIRI ON WORKER", "negate": False},
    ],
    "freq": 3,
}
QUEUE = '*** uWSGI listen queue of socket ":3031" (fd: 3) full !!! (101/100) ***'


async def test_seed_002s_alarms_are_raised_in_the_app(daemon: Any, links: Links) -> None:
    await daemon.start()
    link = await links("app", config=SEED)
    link.print("nothing to see", QUEUE)
    await link.delivered(2)
    assert sorted((call["action"], call["arg"], call["message"]) for call in link.calls) == [
        ("cmd", MAIL, f"{QUEUE}\n"),
        ("signal", "17", f"{QUEUE}\n"),
    ]
    link.print("*** HARAKIRI ON WORKER 1 (pid: 7, try: 1) ***")
    await link.delivered(3)
    assert link.calls[2]["action"] == "cmd"
    await daemon.idle()
    totals = await daemon.totals()
    assert (totals["log_lines"], totals["matched"], totals["raised"], totals["delivered"]) == (3, 2, 3, 3)


async def test_a_thousand_lines_arrive_exactly_once(daemon: Any, links: Links) -> None:
    await daemon.start()
    link = await links()
    for number in range(1000):
        link.print(f"TERRIBLE ALARM {number}")
    await link.delivered(1000)
    await daemon.idle()
    assert link.messages == [f"TERRIBLE ALARM {number}\n" for number in range(1000)]
    assert len(link.calls) == 1000


@pytest.mark.parametrize("after", [0, 150, 600])
async def test_a_thousand_lines_arrive_across_a_kill(daemon: Any, links: Links, after: int) -> None:
    await daemon.start()
    link = await links()
    for number in range(500):
        link.print(f"TERRIBLE ALARM {number}")
    await link.delivered(min(after, 400))
    for number in range(500, 1000):
        link.print(f"TERRIBLE ALARM {number}")
    await link.delivered(after)
    daemon.kill()
    await daemon.start()
    await link.delivered(1000, 30)
    await daemon.idle()
    # what the journal did not yet know as done comes again with its id, so the app-server runs it once
    assert link.messages == [f"TERRIBLE ALARM {number}\n" for number in range(1000)]


async def test_an_instance_that_has_gone_gets_its_alarms_when_it_returns(daemon: Any, links: Links) -> None:
    await daemon.start()
    link = await links()
    refused = trio.Event()

    async def refuse(_: dict[str, Any]) -> dict[str, Any]:
        refused.set()
        raise PeerError("stopping", "stopping")

    link.answer = refuse
    link.print("TERRIBLE ALARM 1", "TERRIBLE ALARM 2")
    with trio.fail_after(10):
        await refused.wait()
    await link.stop()
    await daemon.until(lambda: any(e["what"] == "vanished" for e in daemon.events("instance.seen")), "vanishing")
    daemon.kill()
    await daemon.start()
    waiting = await daemon.pending()
    assert [(one["message"], one["present"], one["doing"]) for one in waiting] == [
        ("TERRIBLE ALARM 1\n", False, "waiting"),
        ("TERRIBLE ALARM 2\n", False, "queued"),
    ]
    again = await links()
    await again.delivered(2)
    assert again.messages == ["TERRIBLE ALARM 1\n", "TERRIBLE ALARM 2\n"]
    await daemon.idle()


async def test_a_hanging_instance_holds_up_nobody(daemon: Any, links: Links, until: Until) -> None:
    await daemon.start()
    hanging, well = await links("hanging"), await links("well")

    async def hang(_: dict[str, Any]) -> dict[str, Any]:
        await trio.sleep_forever()
        raise AssertionError

    hanging.answer = hang
    hanging.print("TERRIBLE ALARM stuck")
    await until(lambda: bool(hanging.calls))
    for number in range(100):
        well.print(f"TERRIBLE ALARM {number}")
    await well.delivered(100, 4)  # less than the deadline of the one that hangs
    assert [one["doing"] for one in await daemon.pending()] == ["attempting"]
    hanging.answer = hanging.accept
    await daemon.idle(30)
    assert set(hanging.ids.values()) == {2}  # tried twice under one id


async def test_an_alarm_nobody_takes_expires(daemon: Any, links: Links) -> None:
    daemon.state.mkdir()
    daemon.config.write_text("expire: 0.5\nretry-first: 0.1\n")
    await daemon.start()
    link = await links()

    async def refuse(_: dict[str, Any]) -> dict[str, Any]:
        raise PeerError("no time", "busy")

    link.answer = refuse
    link.print("TERRIBLE ALARM")
    await daemon.until(lambda: bool(daemon.events("delivery.given_up")), "expiry")
    assert daemon.events("delivery.given_up")[0]["outcome"] == "expired"
    assert len(link.calls) >= 2
    assert len(set(link.ids)) == 1
    await daemon.idle()
    assert (await daemon.totals())["failed"] == 1


async def test_what_cannot_be_served_disturbs_nobody_else(daemon: Any, links: Links) -> None:
    await daemon.start()
    config = {
        "alarms": [
            {"name": "jabber", "action": "xmpp", "arg": "me@example.com;secret;you@example.com"},
            {"name": "ftp", "action": "curl", "arg": "ftp://example.com/x"},
            {"name": "note", "action": "log", "arg": ""},
        ],
        "rules": [
            {"alarms": ["note"], "regexp": "(unbalanced", "negate": False},
            {"alarms": ["jabber", "note"], "regexp": "BOTH", "negate": False},
            {"alarms": ["jabber"], "regexp": "ONLY", "negate": False},
        ],
    }
    link = await links("app", config=config)
    other = await links("other")
    link.print("(unbalanced", "ONLY jabber", "BOTH of them")
    other.print("TERRIBLE ALARM")
    await link.delivered(1)
    await other.delivered(1)
    assert link.messages == ["BOTH of them\n"]
    problems = "\n".join(event["problem"] for event in daemon.events("config.not_served"))
    assert "alarm jabber: not served yet: xmpp" in problems
    assert "alarm ftp: not served yet: curl with ftp://" in problems
    assert "(unbalanced: missing closing parenthesis" in problems
    assert "secret" not in daemon.log.read_text()
    assert (await daemon.totals())["rule_errors"] == 4


async def test_alarms_of_the_api_and_of_the_operator(daemon: Any, links: Links) -> None:
    await daemon.start()
    link = await links()
    link.put("raise", {"alarm": "note", "message": "caf\xe9 \xff", "source": "api"})
    link.put("raise", {"alarm": "nosuch", "message": "x", "source": "api"})
    await link.delivered(1)
    assert link.messages == ["caf\xe9 \xff"]
    raised = await daemon.ask("alarm.raise", {"instance": "app", "alarm": "sig", "message": "by hand"})
    assert raised["raised"]
    await link.delivered(2)
    assert link.calls[1]["action"] == "signal"
    assert link.calls[1]["id"] == raised["id"]
    again = await daemon.ask("alarm.raise", {"instance": "app", "alarm": "sig", "message": "by hand"})
    assert not again["raised"]
    assert "same message" in again["reason"]
    for body, code in [
        ({"instance": "app", "alarm": "nosuch", "message": ""}, "not-found"),
        ({"instance": "nosuch", "alarm": "note", "message": ""}, "not-found"),
        ({"instance": "app"}, "invalid"),
    ]:
        with pytest.raises(PeerError) as refused:
            await daemon.ask("alarm.raise", body)
        assert refused.value.code == code


async def test_the_list_shows_rules_and_masks_secrets(daemon: Any, links: Links) -> None:
    await daemon.start()
    config = {
        "alarms": [{"name": "web", "action": "curl", "arg": "http://u:pw1@h/x;auth_pass=pw2"}],
        "rules": [{"alarms": ["web"], "regexp": "^a(?=b)", "negate": False}],
    }
    link = await links("app", config=config)
    await daemon.until(lambda: bool(daemon.events("config.taken")), "config")
    listed = await daemon.ask("alarm.list")
    [instance] = listed["instances"]
    assert instance["alarms"] == [{"name": "web", "action": "curl", "arg": "http://u:***@h/x;auth_pass=***"}]
    assert instance["rules"] == [{"alarms": ["web"], "regexp": "^a(?=b)", "negate": False, "engine": "pcre2"}]
    assert (await daemon.ask("alarm.list", {"instance": "nosuch"}))["instances"] == []
    assert link.name == instance["instance"]


async def test_rules_survive_the_daemon_and_a_lost_journal_is_asked_for_again(daemon: Any, links: Links) -> None:
    await daemon.start()
    link = await links()
    link.print("TERRIBLE ALARM 1")
    await link.delivered(1)
    await daemon.idle()
    daemon.kill()
    await daemon.start()
    link.print("TERRIBLE ALARM 2")  # the config event was acknowledged long ago
    await link.delivered(2)
    daemon.kill()
    for file in (daemon.state / "alarm-daemon").glob("alarms.sqlite*"):
        file.unlink()
    await daemon.start()
    link.print("lost: it only makes the daemon ask")
    await daemon.until(lambda: len(daemon.events("config.taken")) >= 3, "config asked for")
    link.print("TERRIBLE ALARM 3")
    await link.delivered(3)


async def test_the_same_message_is_not_raised_again_by_the_next_run(daemon: Any, links: Links) -> None:
    await daemon.start()
    link = await links("app", config={**SEED, "freq": 300})
    link.print("HARAKIRI ON WORKER")
    await link.delivered(1)
    await daemon.idle()
    daemon.kill()
    await daemon.start()
    link.print("HARAKIRI ON WORKER", "HARAKIRI ON WORKER 2")
    await link.delivered(2)
    assert link.messages == ["HARAKIRI ON WORKER\n", "HARAKIRI ON WORKER 2\n"]
    assert (await daemon.totals())["suppressed"] == 1


async def test_a_damaged_journal_is_put_aside(daemon: Any, links: Links) -> None:
    where = daemon.state / "alarm-daemon"
    where.mkdir(parents=True)
    (where / "alarms.sqlite").write_bytes(b"not a database at all, but long enough to be read as one" * 100)
    await daemon.start()
    link = await links()
    link.print("TERRIBLE ALARM")
    await link.delivered(1)
    assert len(list(where.glob("alarms.sqlite.damaged-*"))) == 1
    assert daemon.events("journal.damaged")


async def test_term_lets_the_attempt_under_way_end(daemon: Any, links: Links) -> None:
    await daemon.start()
    link = await links()
    go_on = trio.Event()

    async def slow(call: dict[str, Any]) -> dict[str, Any]:
        await go_on.wait()
        return {"accepted": True, "id": call["id"]}

    link.answer = slow
    link.print("TERRIBLE ALARM 1", "TERRIBLE ALARM 2")
    await link.delivered(1)
    daemon.process.send_signal(signal.SIGTERM)
    await daemon.until(lambda: bool(daemon.events("daemon.draining")), "draining")
    go_on.set()
    await daemon.until(daemon.ended, "end")
    assert daemon.process.wait() == 0
    with closing(sqlite3.connect(daemon.state / "alarm-daemon" / "alarms.sqlite")) as db:
        rows = db.execute("SELECT message, state FROM deliveries ORDER BY number").fetchall()
    assert rows == [(b"TERRIBLE ALARM 1\n", "delivered"), (b"TERRIBLE ALARM 2\n", "pending")]


async def test_the_segment_counts(daemon: Any, links: Links, runtime: Path) -> None:
    await daemon.start()
    link = await links()
    link.print("TERRIBLE ALARM", "TERRIBLE ALARM", "quiet")
    await link.delivered(1)
    await daemon.idle()
    with SegmentView.open(runtime / "alarm-daemon" / "seg") as view:
        totals = view.row("alarm_totals")
        assert {field: totals[field] for field in ("log_lines", "matched", "raised", "suppressed", "delivered")} == {
            "log_lines": 3,
            "matched": 2,
            "raised": 2,
            "suppressed": 1,
            "delivered": 1,
        }
        assert view.text("alarms", 0) == b"app\0note"
        assert view.row("alarms", 0)["delivered"] == 1


async def test_host_rules_run_in_the_daemon_if_root_wrote_them(daemon: Any, links: Links, tmp_path: Path) -> None:
    told = tmp_path / "told"
    daemon.state.mkdir()
    daemon.config.write_text(
        f'alarms: ["ops cmd:cat >> {told}", "lg log:HOST"]\n'
        "rules:\n- not-log-alarm: ops known\n- log-alarm: ops,lg HARAKIRI\n"
    )
    daemon.config.chmod(0o644)
    await daemon.start()
    link = await links()
    link.print("known HARAKIRI", "HARAKIRI ON WORKER")
    await daemon.until(lambda: told.exists() and bool(daemon.events("alarm.host")), "command")
    await daemon.idle()
    assert told.read_text() == "HARAKIRI ON WORKER\n"
    assert daemon.events("alarm.host")[0]["message"] == "HARAKIRI ON WORKER"
    assert not link.calls


async def test_commands_out_of_a_file_others_can_write_are_refused(daemon: Any) -> None:
    daemon.state.mkdir()
    daemon.config.write_text('alarms: ["ops cmd:id"]\nrules: [{log-alarm: "ops x"}]\n')
    daemon.config.chmod(0o666)
    with pytest.raises(AssertionError, match=re.escape("cmd runs only from a file that root owns")):
        await daemon.start()
    assert daemon.process.wait() == 78


async def test_a_wrong_reload_keeps_what_stood(daemon: Any, links: Links) -> None:
    daemon.state.mkdir()
    daemon.config.write_text("expire: 100\n")
    await daemon.start()
    daemon.config.write_text("alarms: [nonsense]\n")
    with pytest.raises(PeerError, match="invalid alarm syntax: nonsense"):
        await daemon.ask("reload")
    link = await links()
    link.print("TERRIBLE ALARM")
    await link.delivered(1)
    assert await daemon.stop() == 0
