"""The page `palatine --help` shows; must never grow beyond one screen."""

from palatine import __version__
from palatine.cli.words import COMMANDS


def page(*, colour: bool) -> str:
    """The help page."""

    def bold(text: str) -> str:
        return f"\033[1m{text}\033[0m" if colour else text

    commands = "\n".join(f"  {bold(f'{name:<11}')} {about}" for name, about in COMMANDS.items())
    return f"""\
{bold("palatine")} {__version__} - runs WSGI apps and watches over them, the way uwsgi does

{bold("Run an app")}, with the words you would give to uwsgi:
  palatine hello.ini
  palatine --http :9090 --wsgi-file hello.py --master --processes 4
  palatine --emperor /etc/vassals

{bold("Run and operate a machine")}:
{commands}

  palatine help COMMAND      all about one of them
  palatine-app-server --help all about an app's options; likewise palatine-snmp-agent,
                             -stats-exporter, -alarm-daemon and -emperor

{bold("Try it")}:  palatine up hello.ini      then, in another terminal:  palatine status

Called by a link named uwsgi, every word is uwsgi's. Runtime files are found by --runtime-dir,
$PALATINE_RUNTIME_DIR, or in /run/palatine, $XDG_RUNTIME_DIR/palatine and /tmp/palatine-UID.
"""
