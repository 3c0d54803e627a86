"""The config of mules, spoolers, crons, caches, the queue and areas, from words to values and refusals."""

from pathlib import Path

import pytest

from palatine import config
from palatine.errors import ConfigError
from palatine_app_server.config import feature_settings, settings
from palatine_app_server.config.feature_settings import AreaSettings, CacheSettings, CronJob, Features, QueueSettings
from palatine_app_server.scheduling.schedule_policy import CronTime, Timer
from palatine_app_server.sharing import stores
from palatine_app_server.sharing.signals_table import Farm


def read(*words: str) -> Features:
    return feature_settings.read(config.load(words, {}, cwd="/tmp"))


def test_nothing_asked_for() -> None:
    assert read("--master") == Features()


def test_mules_and_farms() -> None:
    mules = read("--mule", "--mule=a.py", "--mules", "2", "--farm", "f:1,4", "--mule-msg-size=9000").mules
    assert mules.programs == ("", "a.py", "", "")
    assert mules.farms == (Farm("f", (1, 4)),)
    assert mules.queue_bytes == 9000


def test_spoolers() -> None:
    spoolers = read("-Q", "a", "--spooler-processes", "2", "--spooler", "b", "--spooler-external", "c").spoolers
    assert spoolers.directories == ("a", "a", "b", "b")
    assert spoolers.external == ("c",)


def test_crons() -> None:
    features = read(
        "--cron", "1 2 3 4 5 echo  two  spaces", "--unique-cron", "-1 -1 -1 -1 -1 x",
        "--cron2", "minute=-5,unique=1,harakiri=9 y z", "--cron2", "every minute", "--cron-harakiri", "7",
    )  # fmt: skip
    always = CronTime(-1, -1, -1, -1, -1)
    assert features.crons == (
        CronJob(CronTime(1, 2, 3, 4, 5), "echo  two  spaces", harakiri_seconds=7),
        CronJob(always, "x", unique=True, harakiri_seconds=7),
        CronJob(always._replace(minute=-5), "y z", unique=True, harakiri_seconds=9),
        CronJob(always, "every minute", harakiri_seconds=7),
    )


def test_timers() -> None:
    assert read("--timer", "5 60", "--signal-rbtimer", "6 1").timers == (Timer(5, 60), Timer(6, 1))


def test_stores() -> None:
    features = read(
        "--cache", "5", "--cache2", r"name=a\,b,max_items=7,blocks=9,lru=1,store=x", "--queue", "2",
        "--sharedarea", "2", "--sharedarea", "size=0x1001",
    )  # fmt: skip
    assert features.caches == (
        CacheSettings("default", 5, 5),
        CacheSettings("a,b", 7, 9, purge_lru=True, store="x"),
    )
    assert features.queue == QueueSettings(2)
    assert features.areas == (AreaSettings(8192), AreaSettings(8192))


@pytest.mark.parametrize(
    ("words", "refusal"),
    [
        (("--farm", "f:1"), "invalid mule id: 1"),
        (("--mules", "1", "--farm", "f"), "must be in the form name:mule"),
        (("--mules", "1", "--farm", "f:x"), "must be in the form name:mule"),
        (("--mules", "x"), "mules: x: this is not a number"),
        (("--mules", "1000"), "at most 256"),
        (("--cron", "nonsense"), "invalid cron syntax"),
        (("--cron", "1 2 3 4 x command"), "invalid cron syntax"),
        (("--cron2", "week=x true"), "week=x"),
        (("--cron2", "week=1"), "unable to parse cron definition"),
        (("--cron2", "legion=l true"), "legions are not served"),
        (("--timer", "5"), "invalid signal timer syntax"),
        (("--rbtimer", "256 1"), "invalid signal timer syntax"),
        (("--cache2", "items=5"), "a cache needs name= and items="),
        (("--cache2", "name=x,items=0"), "items=0: it must be at least 1"),
        (("--cache2", "name=x,items"), "not of the form key=value"),
        (("--cache2", "name=x,items=5,blocks=2"), "invalid number of cache blocks"),
        (("--cache2", "name=x,items=5,keysize=70000"), "invalid cache keysize"),
        (("--cache2", "name=x,items=5,frobnicate=2"), "unknown key 'frobnicate'"),
        (("--cache2", "name=x,items=5,nodes=1.2.3.4:5"), "not replicated"),
        (("--cache2", "name=x,items=5", "--cache2", "name=x,items=6"), "two caches are called x"),
        (("--queue", "3", "--queue-blocksize", "1000"), "must be a multiple of memory page size"),
        (("--sharedarea", "file=nowhere"), "you need to set a size"),
        (("--sharedarea", "fd=3,size=1"), "memory or a file"),
        (("--sharedarea", "x"), "pages=x"),
    ],
)
def test_refusals_name_their_place(words: tuple[str, ...], refusal: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(*words)
    assert refusal in str(caught.value)
    assert "--mules" in words or caught.value.path == "command line"


@pytest.mark.parametrize(
    ("words", "refusal"),
    [
        (("--sharedarea", "file=/nowhere,size=4096"), "/nowhere"),
        (("--cache2", "name=x,items=5,store=/no/where"), "/no/where"),
        (("--queue", "2", "--queue-store", "/no/where"), "/no/where"),
    ],
)
def test_what_cannot_be_made(tmp_path: Path, words: tuple[str, ...], refusal: str) -> None:
    with pytest.raises(ConfigError) as caught:
        stores.make(read(*words), str(tmp_path), tmp_path / "lock")
    assert refusal in str(caught.value)


def test_a_store_that_does_not_fit_may_be_thrown_away(tmp_path: Path) -> None:
    (tmp_path / "store").write_bytes(b"x" * 100)
    words = "name=x,items=5,store=store"
    with pytest.raises(ConfigError, match="invalid store file"):
        stores.make(read("--cache2", words), str(tmp_path), tmp_path / "lock")
    made = stores.make(read("--cache2", f"{words},store_delete=1"), str(tmp_path), tmp_path / "lock")
    made.caches[0][1].release_in_child()


def test_the_modules_options_are_what_apps_know(tmp_path: Path) -> None:
    """As in uWSGI: a bare flag of the command line is True, a bare key of a file is empty."""
    (tmp_path / "a.ini").write_text("[uwsgi]\nbare\nempty =\nfull = x\nthreads = 2\nthreads = 3\n")
    words = ("--ini", "a.ini", "--disable-logging", "--http-socket", "127.0.0.1:0")
    options = settings.read(config.load(words, {}, cwd=str(tmp_path))).options
    assert (options["bare"], options["empty"], options["full"], options["threads"]) == (b"", b"", b"x", b"3")
    assert options["disable-logging"] is True
