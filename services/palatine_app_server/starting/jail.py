"""How a zygote gives up its rights: into the jail the config describes, then to the app's user. Plain.

With a jail, or with drop-after-apps, the master runs as the app's user but may still lend root to each zygote it forks
(see privileges.step_down), because every reload brings a new one; the zygote gives that up here, before any request.
Where the jail has another root, it must hold the Python and the palatine the app's processes go on with.
"""

import os
import time
from typing import Final

from palatine.errors import ConfigError, PeerError
from palatine_app_server.config.settings import AppSettings
from palatine_app_server.config.start_settings import JailSettings
from palatine_app_server.starting import gates, hooks, kernel_jails, privileges
from palatine_app_server.starting.namespace_door import GREETING
from palatine_app_server.supervision import foundation
from palatine_app_server.system import descriptor_gifts, linux, own_lines

_JOIN_SECONDS: Final = 30.0
_LOOK_SECONDS: Final = 0.1


def give_up_rights(settings: AppSettings, master_pid: int) -> None:
    """Enter the jail and become the app's user, for ever. ConfigError, GateError or HookError end the zygote."""
    process = settings.process
    if not process.start.steps_down:
        if process.rights.master_as_root:
            foundation.become_app(settings)
            linux.die_with_parent(master_pid)  # setuid(2) has forgotten it
        return
    privileges.step_up()
    try:
        _enter(process.start.jail, settings.app.chdir)
    except OSError as error:
        raise ConfigError(f"{error.strerror}: {error.filename}" if error.filename else str(error.strerror)) from error
    for gate in process.start.gates:
        gates.wait(gate)
    hooks.run(process.hooks_at("as-root"), "as-root")
    if not process.rights.master_as_root or settings.uid or settings.gid:
        foundation.become_app(settings)
    linux.die_with_parent(master_pid)
    if process.start.namespace_door:
        linux.stay_dumpable()  # or the master could not open our namespaces
    hooks.run(process.hooks_at("as-user"), "as-user")


def _enter(jail: JailSettings, directory: str) -> None:
    if jail.wanted and os.geteuid() != 0:
        raise ConfigError("cannot chroot(), unshare() or pivot_root() as non-root user")
    here = os.getcwd()
    for address in jail.joined:
        _join(address)
        os.chdir(here)  # another mount namespace begins at its root
    if jail.unshare:
        _unshare(jail.unshare)
    if jail.root:
        own_lines.say(f"chroot() to {jail.root}")
        below = os.path.relpath(here, jail.root)
        os.chroot(jail.root)
        os.chdir(directory or ("/" if below.startswith("..") else f"/{below}"))
    if jail.pivot:
        kernel_jails.attach("", "", "/", kernel_jails.RECURSIVE | kernel_jails.PRIVATE)
        new, old = jail.pivot
        os.chdir(new)
        kernel_jails.change_root(old)
        os.chdir(directory or "/")
    if jail.unshare_after:
        _unshare(jail.unshare_after)


def _unshare(flags: int) -> None:
    kernel_jails.make_namespaces(flags)
    own_lines.say(f"[linux-namespace] applied unshare() mask: {flags}")


def _join(address: str) -> None:
    """Enter the namespaces another instance gives away (setns-socket, ours or uWSGI's)."""
    own_lines.say(f"joining namespaces from {address} ...")
    for descriptor in _given_away(address, time.monotonic() + _JOIN_SECONDS):
        kernel_jails.join_namespace(descriptor)
        os.close(descriptor)


def _given_away(address: str, deadline: float) -> list[int]:
    while True:
        try:
            return descriptor_gifts.fetch(address, GREETING, _JOIN_SECONDS).descriptors
        except PeerError as error:
            raise ConfigError(f"setns: {address} gives no namespaces away") from error
        except OSError as error:
            if time.monotonic() >= deadline:
                raise ConfigError(f"setns: {address}: {error}") from error
        time.sleep(_LOOK_SECONDS)
