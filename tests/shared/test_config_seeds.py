"""The configurations and command lines of the seeds, word for word."""

from pathlib import Path

import pytest

from palatine.config import load
from palatine.config.show import inspect_file
from palatine.errors import ConfigError

WERKZEUG = """\
<uwsgi>
    <module>werkzeug.testapp:test_app</module>
    <master/>
    <processes>4</processes>
    <socket>127.0.0.1:3031</socket>
</uwsgi>
"""
TRAC = """\
[uwsgi]
master = true
processes = 2
module = trac.web.main:dispatch_request
env = TRAC_ENV=/opt/project001
socket = 127.0.0.1:3032
"""
RAILS = """\
uwsgi:
    plugins: rack
    rack: config.ru
    master: 1
    processes: 8
    socket: 127.0.0.1:3033
    post-buffering: 4096
    chdir: /opt/railsapp001
"""
DJANGO = """\
[uwsgi]
socket = 127.0.0.1:3034
threads = 40
master = 1
env = DJANGO_SETTINGS_MODULE=myapp.settings
module = django.core.handlers.wsgi:WSGIHandler()
chdir = /opt/djangoapp001
"""
HELLO = """\
[uwsgi]
http-socket = 127.0.0.1:9090
wsgi-file = uwsgi-hello-world.py
master = true
processes = 4
threads = 2 \n\
stats = 127.0.0.1:9191
stats-http = true
"""


def test_werkzeug_xml(tmp_path: Path) -> None:
    (tmp_path / "werkzeug.xml").write_text(WERKZEUG)
    config = load(["--xml", "werkzeug.xml"], {}, cwd=str(tmp_path))
    assert [(option.name, option.value, option.origin.line) for option in config.options[1:]] == [
        ("module", "werkzeug.testapp:test_app", 2),
        ("master", "1", 3),
        ("processes", "4", 4),
        ("socket", "127.0.0.1:3031", 5),
    ]
    assert config.settings.flag("master")
    assert config.warnings == []


def test_trac_ini(tmp_path: Path) -> None:
    (tmp_path / "trac.ini").write_text(TRAC)
    config = load(["--ini", "trac.ini"], {}, cwd=str(tmp_path))
    assert config.settings.text("module") == "trac.web.main:dispatch_request"
    assert [item.value for item in config.settings.items("env")] == ["TRAC_ENV=/opt/project001"]
    assert config.warnings == []


def test_rails_yml_is_refused_with_a_reason_and_an_alternative(tmp_path: Path) -> None:
    (tmp_path / "rails.yml").write_text(RAILS)
    with pytest.raises(ConfigError) as caught:
        load(["--yaml", "rails.yml"], {}, cwd=str(tmp_path))
    assert str(caught.value).startswith("rails.yml:2:5: plugin 'rack' needs uWSGI's ruby runtime")
    assert "--emperor-exec" in str(caught.value)
    assert caught.value.exit_status == 78
    statuses = [verdict.status for verdict in inspect_file("rails.yml", {}, cwd=str(tmp_path)).verdicts[1:]]
    assert statuses == ["refused", "refused", *["option"] * 5]


def test_django_ini(tmp_path: Path) -> None:
    (tmp_path / "django.ini").write_text(DJANGO)
    settings = load(["django.ini"], {}, cwd=str(tmp_path)).settings
    assert settings.integer("threads") == 40
    assert settings.flag("enable-threads")
    assert settings.text("wsgi") == "django.core.handlers.wsgi:WSGIHandler()"
    assert settings.text("chdir") == "/opt/djangoapp001"


def test_hello_world_ini(tmp_path: Path) -> None:
    (tmp_path / "uwsgi-hello-world-configs.ini").write_text(HELLO)
    config = load(["--ini", "uwsgi-hello-world-configs.ini"], {}, cwd=str(tmp_path))
    assert config.settings.integer("threads") == 2
    assert config.settings.flag("stats-http")
    assert config.warnings == []


def test_the_snmp_command_lines() -> None:
    first = "-s :3031 -w staticfilesnmp --udp 192.168.0.1:2222 --snmp --snmp-community foo"
    second = "-s :3031 -w myapp --master --processes 4 --snmp=192.168.0.1:2222 --snmp-community foo"
    settings = load(first.split(), {}, cwd="/").settings
    assert [item.value for item in settings.items("socket")] == [":3031"]
    assert settings.text("module") == "staticfilesnmp"
    assert settings.text("udp") == "192.168.0.1:2222"
    assert settings.given("snmp") is not None
    assert settings.text("snmp-community") == "foo"
    assert settings.flag("master")
    settings = load(second.split(), {}, cwd="/").settings
    assert settings.text("snmp") == "192.168.0.1:2222"
    assert settings.integer("processes") == 4
    assert settings.flag("master")


EMPERORS = [
    ["--emperor", "/etc/uwsgi/vassals"],
    ["--emperor", "/etc/vassals/domains/*/conf/uwsgi.xml"],
    ["--emperor", "/etc/vassals/*.ini"],
    ["--plugin", "emperor_pg", "--emperor", "pg://host=127.0.0.1 user=foobar dbname=emperor;SELECT name FROM vassals"],
    ["--plugin", "emperor_mongodb", "--emperor", "mongodb://127.0.0.1:27107,emperor.vassals,{enabled:1}"],
    ["--plugin", "emperor_amqp", "--emperor", "amqp://192.168.0.1:5672"],
    ["--plugin", "emperor_zeromq", "--emperor", "zmq://tcp://127.0.0.1:5252"],
]


@pytest.mark.parametrize("argv", EMPERORS)
def test_the_emperor_command_lines(argv: list[str]) -> None:
    config = load(argv, {}, cwd="/")
    assert config.settings.text("emperor") == argv[-1]
    assert config.warnings == []


def test_unquoted_globs_of_the_seed() -> None:
    with pytest.raises(ConfigError, match="unable to load configuration from app2"):
        load(["--emperor", "app1", "app2"], {}, cwd="/")


def test_a_config_sent_by_a_client_over_the_wire(tmp_path: Path) -> None:
    (tmp_path / "v.ini").write_text("\n[uwsgi]\nsocket=:3031\nenv = TRAC_ENV=/x\nprocesses = 4")
    assert load(["--ini", "v.ini"], {}, cwd=str(tmp_path)).settings.integer("processes") == 4
