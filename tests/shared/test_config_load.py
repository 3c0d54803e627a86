"""What `load` makes of whole configurations, without touching a file, a clock or the host."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from palatine.codec.config_math import evaluate, expand
from palatine.config import Config, ConfigExit, Kind, Origin, inspect, load
from palatine.config.magic import Host, path_hash
from palatine.config.show import show
from palatine.config.yaml_child import parse_yaml_here
from palatine.errors import ConfigError

FACTS = {"h": "box", "k": "2", "t": "1700000000", "T": "1700000000000000", "u": "0", "U": "root", "g": "0", "G": "root"}
CWD = "/nowhere/demo"


def read(
    files: Mapping[str, str | bytes], *argv: str, environ: Mapping[str, str] | None = None, reload: bool = False
) -> Config:
    def reader(name: str) -> bytes:
        if name not in files:
            raise ConfigError(f"cannot read {name}: No such file or directory")
        data = files[name]
        return data if isinstance(data, bytes) else data.encode()

    def stdin(_: str) -> bytes:
        return reader("-")

    return inspect(
        argv or ["--ini", "x.ini"],
        environ or {},
        cwd=CWD,
        readers={"": reader, "-": stdin, "exec": lambda rest: reader("exec://" + rest), "http": reader},
        host=Host(CWD, FACTS),
        yaml=parse_yaml_here,
        is_reload=reload,
    )


def options(config: Config) -> list[tuple[str, str | None]]:
    return [(option.name, option.value) for option in config.options]


def after(body: str, **environ: str) -> list[tuple[str, str | None]]:
    """The options an ini section ends up with, without the `ini` that named it."""
    return options(read({"x.ini": "[uwsgi]\n" + body}, environ=environ))[1:]


PASSES = [
    ("a = 1\nb = %(a)%(a)\n", [("a", "1"), ("b", "11")]),
    ("b = %(a)\na = 1\n", [("b", "1"), ("a", "1")]),
    ("a = 1\na = 2\nb = %(a)", [("a", "1"), ("a", "2"), ("b", "1")]),
    ("a = $(HOME)/x\nb = $(NOPE)/x", [("a", "/root/x"), ("b", "$(NOPE)/x")]),
    ("a = @(t.txt)|@(t2.txt)", [("a", "text|two\n")]),
    ("a = b\nc = x%(%(a))\nb = 7", [("a", "b"), ("c", "x7"), ("b", "7")]),
    ("a = %(nope) %() %(", [("a", "%(nope) %() %(")]),
    ("n = 4\nm = %(n + 3)\np = %(n ++)\nq = %(n n)\nr = %(n * 2 - 1)", [
        ("n", "4"), ("m", "7"), ("p", "5"), ("q", "44"), ("r", "7"),
    ]),
    ("a = %n|%s|%d|%p|%c|%e|%o|%x|%v|%V|%h|%k|%0|%1|%2|%t|%u|%G|%z|%%", [
        ("a", f"x|x.ini|{CWD}/|{CWD}/x.ini|demo|ini|x.ini||{CWD}|2.0.31|box|2|nowhere|demo||1700000000|0|root||%"),
    ]),
    ("set = a=%(b)\nset-ph = c=3\nb = 2", [("set", "a=%(b)"), ("a", "2"), ("set-ph", "c=3"), ("c", "3"), ("b", "2")]),
    ("include = i.ini\na = %(q)", [("include", "i.ini"), ("q", "i/x"), ("a", "i/x")]),
    ("inherit = i.ini\na = %(q)", [("inherit", "i.ini"), ("a", "%(q)"), ("q", "i/x")]),
    ("ini = :sec\na = 1", [("ini", ":sec"), ("s", "sec x"), ("a", "1")]),
    ("ini = y.ini:other\nini = :other", [("ini", "y.ini:other"), ("o", "y"), ("ini", ":other"), ("o", "y")]),
    ("yaml = c.yaml\nxml = c.xml\njson = c.json", [
        ("yaml", "c.yaml"), ("y", "1"), ("xml", "c.xml"), ("z", "1"), ("json", "c.json"), ("j", "1"),
    ]),
    ("declare-option = foo=socket=:$1;env=A=$2\nfoo = 1 2", [
        ("declare-option", "foo=socket=:$1;env=A=$2"), ("foo", "1 2"),
    ]),
    ("listen = %(n)\nn = 9", [("listen", "9"), ("n", "9")]),
    ("inject-before = pre\ninject-after = post\nini = y.ini:other", [
        ("inject-before", "pre"), ("inject-after", "post"), ("ini", "y.ini:other"), ("p", "y"), ("o", "y"), ("l", "y"),
    ]),
]  # fmt: skip

FILES: dict[str, str] = {
    "t.txt": "text\n",
    "t2.txt": "two\n\n",
    "i.ini": "[uwsgi]\nq = %n/%N\n",
    "y.ini": "[other]\no = %n\n",
    "c.yaml": "uwsgi: {y: 1}",
    "c.xml": "<uwsgi><z>1</z></uwsgi>",
    "c.json": '{"uwsgi": {"j": 1}}',
    "pre": "[other]\np = %n\n",
    "post": "l = %n\n",
    "lines.txt": "l1\nl2\r\n\nl4\n",
}


@pytest.mark.parametrize(("body", "expected"), PASSES)
def test_the_passes(body: str, expected: list[tuple[str, str]]) -> None:
    text = f"[uwsgi]\n{body}\n[sec]\ns = %x %n\n"
    assert options(read({**FILES, "x.ini": text}, environ={"HOME": "/root"}))[1:] == expected


LOGIC = [
    ("for = x  y", ["vx", "vy"]),
    ("for =", []),
    ("for-times = 3", ["v1", "v2", "v3"]),
    ("for-times = x", []),
    ("for-readline = lines.txt", ["vl1", "vl2", "v", "vl4"]),
    ("for-glob = /nowhere/at/all*", ["v/nowhere/at/all*"]),
    ("if-env = HOME", ["v/root"]),
    ("if-env = HOME=/root", ["v/root"]),
    ("if-env = HOME=/x", []),
    ("if-env = NOPE", []),
    ("ifenv = HOME", ["v/root"]),
    ("if-not-env = HOME", []),
    ("if-not-env = HOME=/x", ["v/root"]),
    ("if-not-env = NOPE", ["v%(_)"]),
    ("if-opt = first", ["v1"]),
    ("if-opt = first=1", ["v1"]),
    ("if-opt = first=2", []),
    ("if-opt = later", []),
    ("if-not-opt = later", ["v%(_)"]),
    ("if-not-opt = first=2", ["v1"]),
    ("if-reload =", []),
    ("if-not-reload =", ["v%(_)"]),
    ("if-hostname = box", ["vbox"]),
    ("if-hostname = other", []),
    ("if-not-hostname = other", ["vother"]),
    ("if-hostname-match = ^b.x$", ["v^b.x$"]),
    ("if-not-hostname-match = ^b", []),
    ("if-plugin = python3", ["vpython3"]),
    ("if-not-plugin = python3", []),
    ("if-exists = /proc/self/stat", ["v/proc/self/stat"]),
    ("if-not-exists = /proc/self/stat", []),
    ("if-file = /proc", []),
    ("if-not-file = /proc", ["v/proc"]),
    ("if-dir = /proc", ["v/proc"]),
    ("if-directory = /proc", ["v/proc"]),
    ("if-not-dir = /proc", []),
]


@pytest.mark.parametrize(("condition", "expected"), LOGIC)
@pytest.mark.parametrize("end", ["end", "endif =", "end-for"])
def test_logic(condition: str, expected: list[str], end: str) -> None:
    text = f"[uwsgi]\nfirst = 1\n{condition}\nr = v%(_)\n{end}\nlater = %(_)\n"
    config = read({**FILES, "x.ini": text}, environ={"HOME": "/root"})
    assert [value for name, value in options(config) if name == "r"] == expected
    assert options(config)[-1] == ("later", "%(_)")


def test_logic_on_a_reload() -> None:
    text = "[uwsgi]\nif-reload =\na = 1\nendif\nif-not-reload =\nb = 1\nendif\n"
    assert ("a", "1") in options(read({"x.ini": text}, reload=True))
    assert ("b", "1") not in options(read({"x.ini": text}, reload=True))


def test_logic_on_the_command_line_spans_a_file() -> None:
    config = read(
        {"x.ini": "[uwsgi]\na = %(_)\n"}, "--if-env", "HOME", "--ini", "x.ini", "--endif", environ={"HOME": "h"}
    )
    assert options(config) == [("if-env", "HOME"), ("ini", "x.ini"), ("a", "%(_)"), ("endif", None)]
    skipped = read({}, "--if-env", "HOME", "--ini", "missing.ini", "--endif")
    assert options(skipped) == [("if-env", "HOME"), ("endif", None)]


def test_environment_then_command_line_then_bare_files() -> None:
    config = read(
        {"x.ini": "[uwsgi]\nprocesses = 4\n"},
        "x.ini",
        "-Mp",
        "2",
        "[label]",
        environ={"UWSGI_HTTP_SOCKET": ":1", "UWSGI_RELOADS": "3", "UWSGI_EMPEROR_FD": "5", "OTHER": "x"},
    )
    assert options(config) == [("http-socket", ":1"), ("master", None), ("processes", "2"), ("processes", "4")]
    assert [str(option.origin) for option in config.options] == [
        "environment UWSGI_HTTP_SOCKET",
        "command line",
        "command line",
        "x.ini:2:1",
    ]
    assert config.settings.integer("workers") == 4


def test_upper_case_variables_are_those_of_the_first_file_that_is_no_template() -> None:
    files = {
        "main.ini": "[uwsgi]\ninclude = t.ini\nini = sub.ini\n",
        "t.ini": "[uwsgi]\nt = %n%N\n",
        "sub.ini": "[uwsgi]\ns = %n%N\n",
    }
    assert options(read(files, "--ini", "main.ini"))[2::2] == [("t", "tmain"), ("s", "submain")]
    assert options(read(files, "main.ini"))[1::2] == [("t", "t"), ("s", "sub")]


def test_stdin_and_urls_set_only_the_name_as_given() -> None:
    assert options(read({"-": "[uwsgi]\na = %o|%n|%v\n"}, "--ini", "-"))[1] == ("a", f"-||{CWD}")
    config = read(
        {"exec://gen a.ini": "[uwsgi]\na = %o|%n\n[two]\nb = 1"}, "--ini", "exec://gen a.ini", "--ini", ":two"
    )
    assert options(config)[1::2] == [("a", "exec://gen a.ini|"), ("b", "1")]
    assert read({"h/x.ini": "[uwsgi]\na = 1"}, "--ini", "http://h/x.ini").options[1].origin == Origin(
        "http://h/x.ini", 2, 1
    )


def test_a_declared_option_sets_what_it_stands_for_without_being_shown() -> None:
    config = read({"x.ini": "[uwsgi]\ndeclare-option = web=http-socket=:$1;processes=$2;plugins=rack\nweb = 80 3\n"})
    assert config.settings.integer("processes") == 3
    assert [item.value for item in config.settings.items("http-socket")] == [":80"]
    assert config.verdicts[2].status == "refused"


def test_own_options_of_a_program() -> None:
    extra = {"frobnicate": Kind("frobnicate", "req", "int", ("master",))}
    config = load(["--frobnicate", "3", "--name=blog"], {}, cwd=CWD, extra_options=extra)
    assert config.settings.integer("frobnicate") == 3
    assert config.settings.flag("master")
    assert config.settings.text("name") == "blog"
    # a placeholder that was there before palatine had an option of that name goes on working
    assert after("set-ph = name=x\nsocket = /tmp/%(name)")[-1] == ("socket", "/tmp/x")


def test_show_is_what_show_config_prints() -> None:
    config = read({"x.ini": "[uwsgi]\nmaster\na = 1\n"}, "-T", "--ini", "x.ini")
    assert show(config) == (
        "\n;uWSGI instance configuration\n[uwsgi]\nenable-threads = true\nini = x.ini\nmaster = \na = 1\n"
        ";end of configuration\n\n"
    )


ERRORS = [
    ("include = nope.ini", 2, "cannot read nope.ini: No such file"),
    ("\ninclude = foo.conf", 3, "unable to load configuration from foo.conf"),
    ("include = a.ini:b", 2, "a section is chosen with --ini a.ini:b"),
    ("a = @(nope)", 2, "cannot read nope"),
    ("a = x%(a)", 2, "refer to itself"),
    ("x = 1\na = %(b)\nb = -%(c)\nc = -%(b)", 3, "refer to itself"),
    ("include = x.ini", 2, "more than 16 deep"),
    ("inherit = x.ini", 2, "more than 16 deep"),
    ("a = 1\n" * 19_990 + "ini = :uwsgi", 10, "more than 20000 options"),
    ("for-times = 1000000\na = 1", 3, "more than 20000 options"),
    ("for = a\nif-env = HOME", 3, '"if-env" inside "for" (x.ini:2:1): logic does not nest'),
    ("if-hostname-match = (\na = 1", 2, "no regular expression"),
    ("set = novalue", 2, "invalid set value"),
    ("set-ph = master=1", 2, "you cannot use master as a placeholder"),
    ("blacklist = a\nA = 1", 3, 'forbidden option "A" (by blacklist)'),
    ("whitelist = a\nb = 1", 3, 'forbidden option "b" (by whitelist)'),
    ("declare-option = foo", 2, "newoption=template"),
    ("json = :x", 2, "no json file was read before"),
    ("yaml = bad.yaml", 1, "no YAML"),
    ("a = \0", 2, "NUL"),
    ("ini = call://x", 2, "not that binary"),
    ("ini = fd://x", 2, "names no descriptor"),
    ("ini = emperor://x", 2, "is for vassals"),
    ("for-readline = nope\na = 1", 2, "cannot read nope"),
    ("early-envdir = /nowhere/env", 2, "cannot read envdir"),
    ("resolve = x", 2, "placeholder=domain"),
]


@pytest.mark.parametrize(("body", "line", "message"), ERRORS)
def test_errors_name_the_place(body: str, line: int, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read({"x.ini": "[uwsgi]\n" + body, "bad.yaml": "a: @"})
    assert message in caught.value.message
    assert caught.value.line == line
    assert caught.value.path in {"x.ini", "bad.yaml"}
    assert caught.value.exit_status == 78


def test_files_that_include_each_other_often_stop_at_a_total() -> None:
    big = "#" * 1_000_000
    files = {"x.ini": "[uwsgi]\n" + "ini = y.ini\n" * 20, "y.ini": "[uwsgi]\na = 1\n" + big}
    with pytest.raises(ConfigError, match="more than 16777216 bytes"):
        read(files)
    files["x.ini"] = "[uwsgi]\nini = y.ini\n" + "ini = :uwsgi\n" * 20
    with pytest.raises(ConfigError, match="more than 16777216 bytes"):
        read(files)


def test_https_is_refused_unless_somebody_fetches() -> None:
    with pytest.raises(ConfigError, match="over http is not available"):
        load(["--ini", "https://host/x.ini"], {}, cwd=CWD)


def test_exit_ends_with_its_status() -> None:
    with pytest.raises(ConfigExit) as caught:
        read({"x.ini": "[uwsgi]\nif-not-file = /nowhere/x\nexit = 17\nendif\n"})
    assert (caught.value.exit_status, caught.value.line) == (17, 3)


UNKNOWN = [
    ("procesess = 4", 'x.ini:2:1: unknown option "procesess", kept as a placeholder; did you mean "processes"?'),
    (
        "max_requests = 4",
        'x.ini:2:1: unknown option "max_requests", kept as a placeholder; did you mean "max-requests"?',
    ),
    ("  qqq = 4", 'x.ini:2:3: unknown option "qqq", kept as a placeholder'),
]


@pytest.mark.parametrize(("body", "warning"), UNKNOWN)
def test_unknown_options_are_placeholders_with_a_warning(body: str, warning: str) -> None:
    config = read({"x.ini": "[uwsgi]\n" + body})
    assert config.warnings == [warning]
    assert config.verdicts[1].status == "unknown"


@pytest.mark.parametrize(
    "body", ["base = /srv\nchdir = %(base)/x", "base = 1\nif-opt = base=1\nmaster = 1\nendif", "set-ph = q=1"]
)
def test_placeholders_that_are_used_are_no_mistake(body: str) -> None:
    config = read({"x.ini": "[uwsgi]\n" + body})
    assert config.warnings == []
    assert "unknown" not in {verdict.status for verdict in config.verdicts}


@pytest.mark.parametrize("body", ["strict = true\nfoo = 1", "foo = 1\nstrict =", "strict = 1\nset = foo=1"])
def test_strict_refuses_unknown_options(body: str) -> None:
    config = read({"x.ini": "[uwsgi]\n" + body})
    reasons = [verdict.reason for verdict in config.verdicts if verdict.status == "refused"]
    assert [reason.message for reason in reasons if reason] == ["[strict-mode] unknown config directive: foo"]


def test_strict_allows_placeholders_that_say_so() -> None:
    config = read({"x.ini": "[uwsgi]\nstrict = true\nset-ph = foo=1\nenv = A=%(foo)\n"})
    assert config.options[-1].value == "A=1"
    assert "refused" not in {verdict.status for verdict in config.verdicts}
    assert read({"x.ini": "[uwsgi]\nstrict = false\nfoo = 1\n"}).verdicts[2].status == "unknown"


PLUGINS = [
    ("plugins = python3,http", "option", ""),
    ("plugin = 0:python, /usr/lib/uwsgi/plugins/emperor_pg_plugin.so,stats_pusher_statsd", "option", ""),
    ("plugins = rack", "refused", "plugin 'rack' needs uWSGI's ruby runtime"),
    ("plugins = python3,psgi", "refused", "plugin 'psgi' needs uWSGI's perl runtime"),
    ("need-plugin = php7", "refused", "run the app with php-fpm"),
    ("need-plugins = mine", "refused", "palatine has no plugin 'mine'"),
    ("rack = config.ru", "refused", "option 'rack' needs uWSGI's ruby runtime"),
    ("cgi = /x=/y", "refused", "option 'cgi' needs uWSGI's cgi runtime"),
    ("processes = -1", "refused", "must not be negative"),
]


@pytest.mark.parametrize(("body", "status", "reason"), PLUGINS)
def test_plugins_and_options_of_other_languages(body: str, status: str, reason: str) -> None:
    config = read({"x.ini": "[uwsgi]\n" + body})
    verdict = config.verdicts[1]
    assert verdict.status == status
    assert reason in str(verdict.reason or "")
    assert config.warnings == []


def test_a_plugin_nobody_has_is_a_warning() -> None:
    config = read({"x.ini": "[uwsgi]\nplugins = pyton3\n"})
    assert config.warnings == [
        "x.ini:2:1: palatine has no plugin 'pyton3' and cannot load uWSGI's; did you mean \"python3\"?"
    ]


def test_missing_sections_and_open_logic_are_warnings() -> None:
    config = read({"x.ini": "[uwsgi]\nini = :nope\nif-env = HOME\n"}, environ={"HOME": "x"})
    assert config.warnings == [
        'x.ini: there is no section "nope" with options in this file',
        'x.ini:3:1: "if-env" is never ended',
    ]


EXPANSIONS = [
    ("$(A)", "$(B)"),  # what begins a value is not looked at again
    ("x$(A)", "xb"),
    ("$(A)$(A)", "$(B)b"),
    ("$$(C)", "$c"),
    ("x$(X$(C))", "xxc"),
    ("$(X$(C))", "$(Xc)"),
    ("$(", "$("),
    ("$()", "$()"),
    ("$(N(C))", "$(N(C))"),
    ("$(P(q))", "paren"),
    ("$(C$C)", "$(C$C)"),
    ("$(NO) $(C)", "$(NO) c"),
]


@pytest.mark.parametrize(("value", "expected"), EXPANSIONS)
def test_references(value: str, expected: str) -> None:
    known = {"A": "$(B)", "B": "b", "C": "c", "Xc": "xc", "P(q)": "paren"}
    assert [value, *expand(value, "$", known.get)][-1] == expected


SUMS = [
    ("a", "7"),
    ("nope", None),
    ("a + 3", "10"),
    ("a - 10", "-3"),
    ("a * 3 / 2", "10"),
    ("a / 0", "0"),
    ("0 - 7", "-7"),
    ("m / 2", "-3"),
    ("a a", "77"),
    ("a a + 1", "78"),
    ("a ++", "8"),
    ("a -- 5", "65"),
    ("++ a", "7"),
    ("nope + 1", "1"),
    ("text + 1", "13"),
    (" ", None),
    ("9223372036854775807 + 1", "-9223372036854775808"),
    ("99999999999999999999999 + 0", "9223372036854775807"),
    ("000000000000000000000000000012 + 0", "12"),
    ("-3 + 1", "1"),
]


@pytest.mark.parametrize(("expression", "expected"), SUMS)
def test_placeholder_arithmetic(expression: str, expected: str | None) -> None:
    assert evaluate(expression, {"a": "7", "m": "-7", "text": " 12 monkeys"}.get) == expected


def test_path_hash_is_uwsgis() -> None:
    assert path_hash("/tmp/x.ini") == "F4E954AE"


def test_the_captured_sample() -> None:
    """What uWSGI 2.0.21 printed for it in a directory later renamed to /srv/demo, on a host called vm."""
    samples = Path(__file__).with_name("config_samples")
    cwd = "/tmp/research/spec_a/run"
    facts = FACTS | {"h": "vm", "V": "2.0.21-debian"}
    data = {"cfg.ini": (samples / "features.ini").read_bytes(), "/etc/hostname": b"vm\n"}
    config = load(
        ["--ini", "cfg.ini", "--show-config", "--no-server"],
        {"HOME": "/root"},
        cwd=cwd,
        readers={"": data.__getitem__},
        host=Host(cwd, facts),
    )
    printed = show(config).replace(";uWSGI instance configuration\n", "").replace(cwd, "/srv/demo").strip("\n")
    expected = (samples / "features.expanded").read_text().strip("\n")
    assert printed == expected


def test_the_alarm_options_of_the_seed_keep_their_quotes_and_order() -> None:
    config = read({
        "x.ini": "[uwsgi]\nalarm = mailme cmd:mail -s 'uWSGI alarm' -a 'From: foobar@example.com' admin@example.com\n"
        "alarm = cachefull signal:17\nlog-alarm = cachefull,mailme uWSGI listen queue of socket\n"
        "not-alarm-log = mailme x\nalarm-log = mailme HARAKIRI ON WORKER\n"
    })  # fmt: skip
    assert [item.value for item in config.settings.items("alarm")] == [
        "mailme cmd:mail -s 'uWSGI alarm' -a 'From: foobar@example.com' admin@example.com",
        "cachefull signal:17",
    ]
    assert [(item.name, item.value) for item in config.settings.items("log-alarm")] == [
        ("log-alarm", "cachefull,mailme uWSGI listen queue of socket"),
        ("alarm-log", "mailme HARAKIRI ON WORKER"),
    ]
    assert config.settings.flag("log-master")
