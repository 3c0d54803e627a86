"""The `uwsgidecorators` module apps import: decorators over the `uwsgi` module, with uWSGI's names and behaviour.

It is imported by the app, in a process where `uwsgi` exists; it owns `uwsgi.spooler`, `uwsgi.post_fork_hook` and
`uwsgi.mule_msg_hook`. Task and message contents are pickled, as uWSGI's are, so that both read each other's.
"""

import functools
import pickle
import sys
from collections.abc import Callable
from threading import Thread
from typing import Any, NoReturn

import uwsgi  # type: ignore[import-untyped]  # the server puts it into sys.modules

Function = Callable[..., Any]

#: uWSGI's own state of this module, by its names: apps look into it.
spooler_functions: dict[str, Function] = {}
mule_functions: dict[str, Function] = {}
postfork_chain: list[Function] = []

#: What `spool` keeps for itself, where arguments are passed on.
_SPOOL_KEYS = ("message_dict", "spooler", "priority", "at", "body")


def get_free_signal() -> int:
    """The lowest signal nobody has registered in this process."""
    for number in range(256):
        if not uwsgi.signal_registered(number):
            return number
    raise Exception("No free uwsgi signal available")  # noqa: TRY002 - what apps catch


# ---------------------------------------------------------------- spooler


def manage_spool_request(task: dict[Any, Any]) -> int:
    """The spooler function: run the function a task was made by."""
    values = {_text(key): value for key, value in task.items()}
    arguments = ()
    named: dict[str, Any] = {}
    if passed := "args" in values:
        arguments = pickle.loads(values.pop("args"))  # noqa: S301 - written by this app
        named = pickle.loads(values.pop("kwargs"))  # noqa: S301 - likewise
    values = {key: _text(value) for key, value in values.items()}
    function = spooler_functions[values["ud_spool_func"]]
    result = function(*arguments, **named) if passed else function(values)
    decided: Any = values.get("ud_spool_ret", result)
    return int(decided)


class _SpoolRaw:
    """A function whose call puts a task into the spool; what it returns decides about the task."""

    result: int | None = None

    def __init__(self, function: Function, pass_arguments: bool) -> None:  # noqa: FBT001 - uWSGI's signature
        if "spooler" not in uwsgi.opt:
            raise Exception(  # noqa: TRY002 - what apps catch
                f"you have to enable the uWSGI spooler to use @{type(self).__name__} decorator"
            )
        self.f = function
        self.pass_arguments = pass_arguments
        self.base_dict = {"ud_spool_func": function.__name__}
        spooler_functions[function.__name__] = function
        function.spool = self.__call__  # type: ignore[attr-defined]  # the older way to call it

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        task: dict[Any, Any] = dict(self.base_dict)
        if self.result is not None:
            task["ud_spool_ret"] = str(self.result)
        if self.pass_arguments:
            task |= {key: named.pop(key) for key in _SPOOL_KEYS if key in named}
            task |= {"args": pickle.dumps(arguments), "kwargs": pickle.dumps(named)}
        else:
            task |= (arguments[0] if arguments else {}) | named
        return uwsgi.spool({_bytes(key): _bytes(value) for key, value in task.items()})

    def spool(self, *arguments: Any, **named: Any) -> Any:
        """The older way to call it."""
        return self(*arguments, **named)


class _Spool(_SpoolRaw):
    """Likewise, and the task is done when the function returns."""

    result = uwsgi.SPOOL_OK


class _SpoolForever(_SpoolRaw):
    """Likewise, and the task is run again and again."""

    result = uwsgi.SPOOL_RETRY


def _spooling(kind: type[_SpoolRaw]) -> Function:
    def decorate(f: Function | None = None, pass_arguments: bool = False) -> Any:  # noqa: FBT001, FBT002 - uWSGI's
        if f is None:
            return functools.partial(kind, pass_arguments=pass_arguments)
        return kind(f, pass_arguments)

    return decorate


spoolraw = _spooling(_SpoolRaw)
spool = _spooling(_Spool)
spoolforever = _spooling(_SpoolForever)


# ---------------------------------------------------------------- mules and farms


class mulefunc:  # noqa: N801 - uWSGI's name
    """Calls of the function run in a mule: in any, or in that of the number or farm given."""

    def __init__(self, f: Any) -> None:
        self.mule: Any = 0
        self.fname: str | None = None
        if callable(f):
            self._take(f)
        else:
            self.mule = f

    def _take(self, function: Function) -> None:
        self.fname = function.__name__
        mule_functions[self.fname] = function

    def real_call(self, *arguments: Any, **named: Any) -> None:
        """Send the call to the mule."""
        call = {"service": "uwsgi_mulefunc", "func": self.fname, "args": arguments, "kwargs": named}
        uwsgi.mule_msg(pickle.dumps(call), self.mule)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Decorate, where a mule was named; else send the call."""
        if self.fname is None:
            self._take(arguments[0])
            return self.real_call
        return self.real_call(*arguments, **named)


def mule_msg_dispatcher(message: bytes) -> Any:
    """The mules' message hook: run the call in a message."""
    call = pickle.loads(message)  # noqa: S301 - written by this app
    if call["service"] == "uwsgi_mulefunc":
        return mule_functions[call["func"]](*call["args"], **call["kwargs"])
    return None


def _in_mule(number: int, run: Function) -> None:
    """Have `run` called in mule `number`, which ends when it raises."""

    def life() -> None:
        if uwsgi.mule_id() != number:
            return
        try:
            run()
        except Exception:  # noqa: BLE001 - the app's: the mule is started again
            sys.excepthook(*sys.exc_info())
            sys.exit(1)

    postfork_chain.append(life)


def mule(num: int) -> Function:
    """Run the function once in the mule of a number."""
    return functools.partial(_in_mule, num)


def muleloop(num: int) -> Function:
    """Run the function for ever in the mule of a number."""

    def decorate(f: Function) -> None:
        def loop() -> NoReturn:
            while True:
                f()

        _in_mule(num, loop)

    return decorate


def mulemsg(num: int) -> Function:
    """Run the function for each message to the mule of a number."""

    def decorate(f: Function) -> None:
        def loop() -> NoReturn:
            while True:
                message = uwsgi.mule_get_msg()
                if message:
                    f(message)

        _in_mule(num, loop)

    return decorate


def farm(name: str | None = None, **_named: Any) -> Function:
    """Run the function for each message to a farm, in its mules."""

    def decorate(f: Function) -> None:
        def loop() -> None:
            if not uwsgi.mule_id() or not uwsgi.in_farm(name):
                return
            while True:
                message = uwsgi.farm_get_msg()
                if message:
                    f(message)

        postfork_chain.append(loop)

    return decorate


# ---------------------------------------------------------------- forks


def postfork_chain_hook() -> None:
    """The post-fork hook: run what asked for it, in order."""
    for function in postfork_chain:
        function()


class postfork:  # noqa: N801 - likewise
    """Run the function in every process after its fork, or in the worker of the number given."""

    def __init__(self, f: Any) -> None:
        self.f: Function | None = f if callable(f) else None
        self.wid = 0 if callable(f) else f
        postfork_chain.append(self)

    def __call__(self, *arguments: Any, **_named: Any) -> Any:
        """Decorate, where a worker was named; else run."""
        if self.f is None:
            self.f = arguments[0]
            return None
        if self.wid > 0 and self.wid != uwsgi.worker_id():
            return None
        return self.f()


# ---------------------------------------------------------------- signals


def signal(num: int, **named: Any) -> Function:
    """Run the function when a signal comes."""

    def decorate(f: Function) -> Function:
        uwsgi.register_signal(num, named.get("target", ""), f)
        return f

    return decorate


def _scheduling(name: str, what_for: str) -> Function:
    """A decorator that runs its function when a signal of its own comes, which `uwsgi.NAME` has the master send."""

    def scheduled(*what: Any, **named: Any) -> Function:
        number = named["signum"] if "signum" in named else get_free_signal()

        def decorate(f: Function) -> Function:
            uwsgi.register_signal(number, named.get("target", ""), f)
            getattr(uwsgi, name)(number, *what)
            return f

        return decorate

    scheduled.__doc__ = f"Run the function {what_for}."
    return scheduled


timer = _scheduling("add_timer", "every so many seconds")
mstimer = _scheduling("add_ms_timer", "every so many milliseconds")
rbtimer = _scheduling("add_rb_timer", "every so many seconds, so often")
cron = _scheduling("add_cron", "by minute, hour, day, month and day of the week")
filemon = _scheduling("add_file_monitor", "when a file or directory changes")


# ---------------------------------------------------------------- the rest


def rpc(name: str) -> Function:
    """Not served: says so when it decorates."""
    return functools.partial(uwsgi.register_rpc, name)


def erlang(name: str) -> Function:
    """Not served: says so when it decorates."""
    return functools.partial(uwsgi.erlang_register_process, name)


def lock(f: Function) -> Function:
    """Run the function under lock 0, in one process at a time; in the spooler not at all."""

    @functools.wraps(f)
    def locked(*arguments: Any, **named: Any) -> Any:
        if uwsgi.i_am_the_spooler():
            return None
        uwsgi.lock()
        try:
            return f(*arguments, **named)
        finally:
            uwsgi.unlock()

    return locked


def thread(f: Function) -> Function:
    """Run the function in a thread of its own; a call returns the function."""

    @functools.wraps(f)
    def started(*arguments: Any) -> Function:
        Thread(target=f, args=arguments, daemon=True).start()
        return f

    return started


def harakiri(seconds: int) -> Function:
    """End the process when the function takes longer than so many seconds."""

    def decorate(f: Function) -> Function:
        @functools.wraps(f)
        def hurried(*arguments: Any, **named: Any) -> Any:
            uwsgi.set_user_harakiri(seconds)
            try:
                return f(*arguments, **named)
            finally:
                uwsgi.set_user_harakiri(0)

        return hurried

    return decorate


def _text(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value


def _bytes(value: Any) -> Any:
    return value.encode() if isinstance(value, str) else value


uwsgi.spooler = manage_spool_request
uwsgi.post_fork_hook = postfork_chain_hook
uwsgi.mule_msg_hook = mule_msg_dispatcher
