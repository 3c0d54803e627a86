"""The metrics options: what is declared, which thresholds raise alarms, where values are kept. Plain.

ConfigError names the line that is wrong; names are checked against the built-in ones when the table is made.
"""

import re
from collections.abc import Collection
from typing import Final, NamedTuple

from palatine.codec import keyval
from palatine.config import Config
from palatine.errors import ConfigError
from palatine_app_server.config.values import whole_number

#: uWSGI's numbers of the types, and its names.
COUNTER, GAUGE, ABSOLUTE, ALIAS = range(4)
_TYPES: Final = {"counter": COUNTER, "gauge": GAUGE, "absolute": ABSOLUTE, "alias": ALIAS}
#: What a metric made of others may be.
COLLECTORS: Final = frozenset({"sum", "avg", "accumulator", "adder", "multiplier"})

_NAME: Final = re.compile(r"[0-9A-Za-z._-]+")
_OID: Final = re.compile(r"[0-9.]*")
_METRIC_KEYS: Final = {
    key: key
    for keys in (
        "name oid type initial_value collector freq children alias reset_after_push",
        "arg1 arg2 arg3 arg1n arg2n arg3n",
    )
    for key in keys.split()
}
_THRESHOLD_KEYS: Final = {key: key for key in ("key", "value", "alarm", "rate", "reset", "msg")}


class Metric(NamedTuple):
    """A metric the config declares; without `collector` and `alias` the app sets it."""

    name: str
    oid: str = ""
    kind: int = COUNTER
    initial: int = 0
    every: int = 1  # seconds
    collector: str = ""
    file: str = ""
    number: int = 0  # of the field in the file, or the operand of adder and multiplier
    children: tuple[str, ...] = ()
    alias: str = ""
    reset_after_push: bool = False


class Threshold(NamedTuple):
    """An alarm while a metric is at least `value`, once in `rate` seconds at most; then it is set to `reset`."""

    metric: str
    value: int
    alarm: str = ""
    rate: int = 0
    reset: int | None = None
    message: str = ""


#: Options that ask for metrics by being there, as in uWSGI; `carbon` asks for none.
_THEIR_USERS: Final = ("stats-push", "rrdtool", "zabbix-template")


class MetricsSettings(NamedTuple):
    """All of it; without `enabled` there are no metrics."""

    enabled: bool = False
    declared: tuple[Metric, ...] = ()
    thresholds: tuple[Threshold, ...] = ()
    directory: str = ""
    restore: bool = False
    cores: bool = True


def read(config: Config, alarms: Collection[str]) -> MetricsSettings:
    """The settings of `config`; `alarms` are the names of those it has."""
    settings = config.settings
    declared: dict[str, Metric] = {}
    for metric in settings.each("metric", _metric):
        declared[metric.name] = metric  # the last of a name counts
    thresholds = settings.each("metric-threshold", lambda text: _threshold(text, alarms))
    directory = settings.text("metrics-dir", "")
    return MetricsSettings(
        enabled=settings.flag("enable-metrics")
        or bool(declared or thresholds or directory)
        or any(map(settings.given, _THEIR_USERS)),
        declared=tuple(declared.values()),
        thresholds=thresholds,
        directory=directory,
        restore=settings.flag("metrics-dir-restore"),
        cores=not settings.flag("metrics-no-cores"),
    )


def _metric(text: str) -> Metric:
    values = keyval.parse(text, _METRIC_KEYS) if "=" in text else {"name": text}
    metric = Metric(
        name=values.get("name", ""),
        oid=values.get("oid", ""),
        kind=_TYPES.get(values.get("type", "counter"), -1),
        initial=whole_number(values.get("initial_value", "0"), key="initial_value"),
        every=max(1, whole_number(values.get("freq", "0"), key="freq")),
        collector=values.get("collector", ""),
        file=values.get("arg1", ""),
        number=whole_number(values.get("arg1n", "0"), key="arg1n"),
        children=tuple(child for child in values.get("children", "").split(";") if child),
        alias=values.get("alias", ""),
        reset_after_push="reset_after_push" in values,
    )
    if not _NAME.fullmatch(metric.name):
        raise ConfigError("a name of letters, digits, dots, dashes and underscores is needed")
    if not _OID.fullmatch(metric.oid):
        raise ConfigError(f"oid={metric.oid} is not a list of numbers with dots between")
    if metric.kind < 0:
        raise ConfigError(f"type={values['type']}: known are {', '.join(_TYPES)}")
    if metric.collector in {"ptr", "func"}:
        raise ConfigError(f"collector={metric.collector} calls into C: have the app call uwsgi.metric_set instead")
    if metric.collector and metric.collector not in COLLECTORS | {"file"}:
        raise ConfigError(f"unknown collector {metric.collector!r}: known are file, {', '.join(sorted(COLLECTORS))}")
    if (metric.kind == ALIAS) is not bool(metric.alias):
        raise ConfigError("type=alias and alias=NAME belong together")
    return metric


def _threshold(text: str, alarms: Collection[str]) -> Threshold:
    values = keyval.parse(text, _THRESHOLD_KEYS)
    if not values.get("key") or "value" not in values:
        raise ConfigError("a threshold needs key= and value=")
    if values.get("alarm", "") and values["alarm"] not in alarms:
        raise ConfigError(f"unknown alarm: {values['alarm']}")
    return Threshold(
        values["key"],
        whole_number(values["value"], key="value"),
        values.get("alarm", ""),
        whole_number(values.get("rate", "0"), key="rate"),
        whole_number(values["reset"], key="reset") if "reset" in values else None,
        values.get("msg", ""),
    )
