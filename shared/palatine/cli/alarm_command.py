"""`palatine alarm list|raise|pending`: what the alarm-daemon answers; must never touch its journal."""

import argparse
import sys
import time
from typing import Any, Final

from palatine.cli.asking import ask, show_json, show_table
from palatine.cli.text import duration
from palatine.exits import FAILURE, OK

_DAEMON: Final = "alarm-daemon"


def main(name: str, words: list[str]) -> int:
    """0, or 1 if an alarm to be raised was not."""
    parser = argparse.ArgumentParser(prog=f"palatine {name}", description="Alarms and what becomes of them.")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--runtime-dir", metavar="DIR", help="look here only")
    common.add_argument("--json", action="store_true", help="the answer as it came")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    for action, about in (("list", "alarms and rules, by instance"), ("pending", "what is not delivered yet")):
        asking = actions.add_parser(action, parents=[common], help=about, description=f"Alarms: {about}.")
        asking.add_argument("instance", nargs="?", default="", metavar="INSTANCE", help="only those of this app")
    about = "raise an alarm, to see whether it arrives"
    raising = actions.add_parser("raise", parents=[common], help=about, description=f"Alarms: {about}.")
    raising.add_argument("instance", metavar="INSTANCE", help="an app, as `palatine status` shows it")
    raising.add_argument("alarm", metavar="ALARM", help="the name of one of its alarms: `palatine alarm list`")
    default = "palatine alarm raise: a test"
    raising.add_argument("message", nargs="?", default=default, metavar="MESSAGE", help="what it says (%(default)s)")
    args = parser.parse_args(words)
    body: dict[str, Any] = {"instance": args.instance}
    if args.action == "raise":
        body |= {"alarm": args.alarm, "message": args.message}
    answer = ask(_DAEMON, f"alarm.{args.action}", body, args.runtime_dir)
    if args.json:
        show_json(answer)
    elif args.action == "list":
        _show_list(answer)
    elif args.action == "pending":
        _show_pending(answer)
    elif answer["raised"]:
        sys.stdout.write(f"raised, id {answer['id']}\n")
    else:
        sys.stdout.write(f"not raised: {answer.get('reason', 'no reason given')}\n")
    return OK if args.action != "raise" or answer["raised"] else FAILURE


def _show_list(answer: dict[str, Any]) -> None:
    rows: list[tuple[str, ...]] = [("INSTANCE", "ALARM", "ACTION", "RAISED BY")]
    problems: list[str] = []
    for ruled in [*answer["instances"], {"instance": "(host)", **answer["host"]}]:
        problems += [f"{ruled['instance']}: {problem}" for problem in ruled["problems"]]
        for alarm in ruled["alarms"]:
            rules = [rule for rule in ruled["rules"] if alarm["name"] in rule["alarms"]]
            by = ", ".join(f"{'not ' * rule['negate']}/{rule['regexp']}/" for rule in rules) or "the app only"
            rows.append((ruled["instance"], alarm["name"], f"{alarm['action']}:{alarm['arg']}", by))
    show_table(rows, "no alarms are configured")
    sys.stderr.writelines(f"{problem}\n" for problem in problems)


def _show_pending(answer: dict[str, Any]) -> None:
    now = time.time()
    rows: list[tuple[str, ...]] = [("INSTANCE", "ALARM", "ACTION", "WAITING", "TRIED", "WHY, AND MESSAGE")]
    for one in answer["pending"]:
        waiting, tried = duration(now - one["raised_at"]), f"{one['attempts']} times"
        why = f"{one['reason'] or one['doing']}: {one['message'].splitlines()[0] if one['message'] else ''}"
        rows.append((one["instance"], one["alarm"], one["action"], waiting, tried, why))
    show_table(rows, "every alarm has been delivered")
    if answer["total"] > len(answer["pending"]):
        sys.stdout.write(f"... and {answer['total'] - len(answer['pending'])} more\n")
