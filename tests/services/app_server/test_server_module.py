"""Every name of uWSGI 2.0.31's module: it works, or says what to use instead; the decorators over them."""

import re
from pathlib import Path
from urllib.parse import quote

from api_app import CALLING_APP, call, events, wait_event
from app_server import AppServer, alive
from palatine_app_server.uwsgi_module import refused
from running import Runner, wait_until

#: What `dir(uwsgi)` says in a uWSGI 2.0.31 with SNMP, a spooler, a queue, a sharedarea, mules and farms.
NAMES = """
SPOOL_IGNORE SPOOL_OK SPOOL_RETRY SymbolsImporter SymbolsZipImporter ZipImporter accepting add_cron add_file_monitor
add_rb_timer add_timer add_var alarm applications async_connect async_sleep buffer_size cache_clear cache_dec
cache_del cache_div cache_exists cache_get cache_inc cache_keys cache_mul cache_num cache_set cache_update call
chunked_read chunked_read_nb cl close connect connection_fd cores disconnect embedded_data env extract farm_get_msg
farm_msg get_logvar green_schedule has_threads hostname i_am_the_lord i_am_the_spooler in_farm is_a_reload
is_connected is_locked listen_queue lock log log_this_request logsize loop lord_scroll magic_table masterpid mem
metric_dec metric_div metric_get metric_inc metric_mul metric_set metric_set_max metric_set_min micros mule_get_msg
mule_id mule_msg numproc offload opt parsefile pidfile queue_get queue_last queue_pop queue_pull queue_pull_slot
queue_push queue_set queue_size queue_slot ready ready_fd recv register_rpc register_signal reload request_id rpc
rpc_list scrolls send send_to_spooler sendfile set_logvar set_spooler_frequency set_user_harakiri
set_warning_message setprocname sharedarea_dec32 sharedarea_dec64 sharedarea_inc32 sharedarea_inc64
sharedarea_inclong sharedarea_memoryview sharedarea_object sharedarea_read sharedarea_read16 sharedarea_read32
sharedarea_read64 sharedarea_read8 sharedarea_readbyte sharedarea_readlong sharedarea_rlock sharedarea_unlock
sharedarea_wlock sharedarea_write sharedarea_write16 sharedarea_write32 sharedarea_write64 sharedarea_write8
sharedarea_writebyte sharedarea_writelong signal signal_received signal_registered signal_wait snmp_decr_counter32
snmp_decr_counter64 snmp_decr_gauge snmp_incr_counter32 snmp_incr_counter64 snmp_incr_gauge snmp_set_community
snmp_set_counter32 snmp_set_counter64 snmp_set_gauge sockets spool spooler_get_task spooler_jobs spooler_pid
spooler_pids spoolers start_response started_on stop suspend total_requests unbit unlock version version_info
wait_fd_read wait_fd_write websocket_handshake websocket_recv websocket_recv_nb websocket_send websocket_send_binary
worker_id workers
"""
WORDS = ("--snmp", "--spooler", "spool", "--queue", "10", "--sharedarea", "1", "--mules", "1", "--farm", "f:1")


def test_every_name_is_there(programs: Runner) -> None:
    server = AppServer(programs, *WORDS, "--enable-metrics", app=CALLING_APP)
    theirs = set(NAMES.split())
    ours = set(call(server, "dir(uwsgi)"))
    assert theirs - ours == set()
    assert set(refused.functions()) - theirs == {"erlang_register_process"}
    for name in refused.functions():
        answer = call(server, f"uwsgi.{name}(1, 2)")
        assert re.match(rf"NotImplementedError: uwsgi\.{name} is not served by palatine: use ", answer)
    print(f"{len(theirs)} names, {len(refused.functions())} of them refused: {', '.join(sorted(refused.functions()))}")


def test_the_reference_names_them_all() -> None:
    page = (Path(__file__).parents[3] / "docs" / "api.md").read_text()
    refusals = page.partition("Refused,")[2].partition("##")[0]
    assert set(re.findall(r"`(\w+)`", refusals)) - {"NotImplementedError"} == set(refused.functions())


def test_facts(programs: Runner) -> None:
    server = AppServer(programs, "--pidfile", "pid", app=CALLING_APP, processes=2, threads=2)
    worker = call(server, "uwsgi.workers()[uwsgi.worker_id() - 1]")
    assert worker["pid"] in server.pids()
    assert worker["status"] == b"busy"
    assert (worker["respawn_count"], worker["apps"][0]["requests"]) == (0, 1)
    wait_until(lambda: call(server, "sum(each['requests'] for each in uwsgi.workers())") > 0, "the first one's end")
    assert call(server, "uwsgi.mem()[0] > 2**20 and uwsgi.mem()[1] > uwsgi.mem()[0]") is True
    assert call(server, "(uwsgi.ready(), uwsgi.is_a_reload, uwsgi.listen_queue())") == (True, False, 0)
    assert call(server, "uwsgi.listen_queue(9)") == "ValueError: unable to find socket 9"
    assert call(server, "abs(uwsgi.micros() - time.time_ns() // 1000) < 10**7") is True
    assert call(server, "uwsgi.logsize()") > 0
    assert call(server, "(uwsgi.pidfile, len(uwsgi.sockets))") == (b"pid", 1)
    assert call(server, "uwsgi.setprocname('renamed') or open('/proc/thread-self/comm').read()") == "renamed\n"
    packet = server.home / "packet"
    packet.write_bytes(b"\0\x06\0\0\x01\0a\x01\0001body")
    assert call(server, f"uwsgi.parsefile({str(packet)!r})") == {b"a": b"1"}
    assert call(server, "uwsgi.parsefile('/nowhere')") is None
    assert call(server, f"uwsgi.extract({str(packet)!r})") == packet.read_bytes()
    assert call(server, "uwsgi.extract('/nowhere')") is None
    assert call(server, "uwsgi.accepting(0)") is None


def test_the_running_request(programs: Runner) -> None:
    words = ("--log-format", "%(uri) %(mine) %(var.ADDED)", "--threads", "2")
    server = AppServer(programs, *words, app=CALLING_APP)
    assert call(server, "uwsgi.set_logvar('mine', 'value') or uwsgi.get_logvar('mine')") == b"value"
    wait_until(lambda: re.search(r"^/call\S+ value -$", server.running.output(), re.MULTILINE), "the variable logged")
    assert call(server, "uwsgi.get_logvar('unknown')") is None
    assert call(server, "uwsgi.add_var('ADDED', 'x')") is True
    wait_until(lambda: re.search(r"^/call\S+ - x$", server.running.output(), re.MULTILINE), "the added one logged")
    assert call(server, "uwsgi.log_this_request()") is None
    assert call(server, "[uwsgi.request_id() for _ in range(2)]")[0] >= 0
    assert call(server, "uwsgi.env['PATH_INFO']") == "/call"
    assert call(server, "uwsgi.is_connected(uwsgi.connection_fd())") is True
    path = "/call?" + quote("(uwsgi.cl(), uwsgi.chunked_read(), uwsgi.chunked_read())")
    with server.connect() as client:
        client.send(f"POST {path} HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello".encode())
        assert client.response()[1] == b"(5, b'hello', b'')"


SENDING = """
import threading
def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/outside":
        found = []
        def outside():
            try:
                uwsgi.request_id()
            except RuntimeError as error:
                found.append(str(error))
        thread = threading.Thread(target=outside)
        thread.start()
        thread.join()
        start_response("200 OK", [])
        return [found[0].encode()]
    start_response("200 OK", [("Content-Type", "text/plain")])
    if path == "/sendfile":
        return uwsgi.sendfile(__file__)
    if path == "/offload":
        return uwsgi.offload(__file__)
    if path == "/part":
        with open(__file__, "rb") as file:
            return uwsgi.sendfile(file, 0, 5, 10)
    if path == "/send":
        uwsgi.send("one ")
        uwsgi.send(b"two")
        return []
    if path == "/disconnect":
        uwsgi.send(b"bye")
        uwsgi.disconnect()
        while not os.path.exists(os.path.join(HERE, "go")):
            time.sleep(0.01)
        open(os.path.join(HERE, "after"), "w").close()
    return []
"""


def test_sending_by_hand(programs: Runner) -> None:
    server = AppServer(programs, app=SENDING)
    source = (server.home / "app.py").read_bytes()
    for path in ("/sendfile", "/offload"):
        assert server.get(path) == source
    assert server.get("/part") == source[5:15]
    assert server.get("/send") == b"one two"
    assert server.get("/outside") == b"this thread is in no request"
    with server.connect() as client:
        client.send(b"GET /disconnect HTTP/1.0\r\n\r\n")
        assert client.rest().endswith(b"bye")
    (server.home / "go").touch()
    wait_until((server.home / "after").exists, "the rest of the app")
    assert server.get("/send") == b"one two"


def test_a_deadline_of_the_apps_own(programs: Runner) -> None:
    server = AppServer(programs, "--mules", "1", app=CALLING_APP + MULE_HARAKIRI)
    old = server.pids()[0]
    with server.connect() as client:
        client.send(b"GET /call?uwsgi.set_user_harakiri(1)%20or%20waits_for('ever') HTTP/1.1\r\nHost: h\r\n\r\n")
        assert client.response()[0].startswith(b"HTTP/1.1 504 ")
    server.wait_other_worker(old)
    server.wait_ready()
    assert call(server, "uwsgi.set_user_harakiri(1) or uwsgi.set_user_harakiri(0)") is None
    pid = server.pids()[0]
    mule = wait_until(lambda: server.read("mules")[0]["pid"], "the mule")
    call(server, "uwsgi.mule_msg(b'', 1)")
    wait_until(lambda: not alive(mule), "its end", 30)
    assert server.pids()[0] == pid


MULE_HARAKIRI = """
uwsgi.mule_msg_hook = lambda message: uwsgi.set_user_harakiri(1) or waits_for("ever too")
"""
DECORATED = """
import uwsgidecorators
from uwsgidecorators import *

@postfork
def forked():
    note("forked", who())

@postfork(2)
def forked_two():
    note("only", who())

@spool
def spooled(arguments):
    note("spooled", who(), arguments["a"])

@spool(pass_arguments=True)
def passed(*arguments, **named):
    note("passed", arguments, named)

@spoolraw
def raw(arguments):
    note("raw", arguments["a"])
    return uwsgi.SPOOL_OK

@mulefunc
def mulish(*arguments, **named):
    note("mulish", who(), arguments, named)

@mulefunc(2)
def second(text):
    note("second", who(), text)

@signal(30, target="worker1")
def signalled(number):
    note("signalled", number)

@timer(1, target="worker1")
def timed(number):
    note("timed", number)

@rbtimer(1)
def redblack(number):
    pass

@cron(-1, -1, -1, -1, -1)
def minutely(number):
    note("minutely", number)

@filemon(os.path.join(HERE, "watched"))
def changed(number):
    note("changed", number)

@lock
def locked(value):
    return uwsgi.is_locked(), value

@thread
def threaded(text):
    note(text)

@harakiri(60)
def hurried(value):
    return value

@mulemsg(3)
def messages(message):
    note("message", message)

@muleloop(4)
def loop():
    note("loop")
    time.sleep(3600)

@farm("f")
def farmed(message):
    note("farmed", message.decode())

@mule(6)
def brain():
    note("brain")
    raise ValueError("the brain failed")
"""


def test_the_decorators(programs: Runner) -> None:
    words = ("--mules", "6", "--farm", "f:5", "--spooler", "spool")
    server = AppServer(programs, *words, app=CALLING_APP + DECORATED, processes=2)
    for line in ("forked worker1", "forked worker2", "only worker2", "forked spooler", "forked mule1", "loop", "brain"):
        wait_event(server, line)
    server.running.wait_for("ValueError: the brain failed", 30)
    wait_until(lambda: server.read("mules")[5]["respawn_count"] > 1, "the brain's next life", 30)
    assert isinstance(call(server, "spooled({'a': 'dict'})"), bytes)
    call(server, "spooled.spool(a='named')")
    call(server, "passed(1, {'two': 2}, three=3)")
    call(server, "raw(a='x')")
    call(server, "second('text')")
    call(server, "uwsgi.signal(30)")
    call(server, "threaded('in a thread') is not None")
    call(server, "uwsgi.mule_msg('for three', 3)")
    call(server, "uwsgi.farm_msg('f', 'for the farm')")
    (server.home / "watched").touch()
    for line in (
        "spooled spooler dict", "spooled spooler named", "passed (1, {'two': 2}) {'three': 3}", "raw x",
        "second mule2 text", "signalled 30", "in a thread", "message b'for three'", "farmed for the farm",
    ):  # fmt: skip
        wait_event(server, line)

    def mulish() -> bool:
        call(server, "mulish(1, x=2)")  # any mule may take it, also those whose loop knows nothing of it
        return any(re.match(r"mulish mule\d \(1,\) \{'x': 2\}", line) for line in events(server))

    wait_until(mulish, "a mule")
    for word in ("timed", "minutely", "changed"):
        wait_until(lambda word=word: any(line.startswith(word) for line in events(server)), word, 30)
    assert call(server, "locked(5)") == (True, 5)
    assert call(server, "hurried(6)") == 6
    assert call(server, "uwsgidecorators.get_free_signal()") == 4
    assert "palatine_app_server" in call(server, "uwsgidecorators.__file__")
    assert call(server, "rpc('name')(print)").startswith("NotImplementedError: uwsgi.register_rpc is not served")


def test_a_spool_decorator_needs_a_spooler(programs: Runner) -> None:
    server = AppServer(programs, app=CALLING_APP + "import uwsgidecorators")
    assert "you have to enable the uWSGI spooler" in call(server, "uwsgidecorators.spool(print)")
