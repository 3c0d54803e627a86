"""What an Emperor says, in uWSGI's words where uWSGI has any: operators' scripts look for them, byte for byte."""

from palatine_emperor.vassal import Say


def spawned(name: str) -> Say:
    """Its master runs."""
    return Say("vassal.spawned", f"[emperor] vassal {name} has been spawned")


def ready(name: str) -> Say:
    """Its first worker serves."""
    return Say("vassal.accepting", f"[emperor] vassal {name} is ready to accept requests")


def loyal(name: str) -> Say:
    """It has served a request."""
    return Say("vassal.loyal", f"[emperor] vassal {name} is now loyal")


def reload(name: str) -> Say:
    """It is told to reload."""
    return Say("vassal.reload", f"[emperor] reload the uwsgi instance {name}")


def stop(name: str) -> Say:
    """It is told to stop."""
    return Say("vassal.stop", f"[emperor] stop the uwsgi instance {name}")


def curse(name: str, pid: int) -> Say:
    """It closed its pipe or died without being told to."""
    return Say("vassal.cursed", f"[emperor] curse the uwsgi instance {name} (pid: {pid})")


def removed(name: str) -> Say:
    """Its process is gone."""
    return Say("vassal.removed", f"[emperor] removed uwsgi instance {name}")


def throttling(name: str) -> Say:
    """It failed too often."""
    return Say("vassal.throttled", f"[emperor] unloyal bad behaving vassal found: {name} throttling it...")


def maximum_throttle(name: str) -> Say:
    """It failed so often that its wait is halved."""
    return Say("vassal.throttle_maximum", f"[emperor] maximum throttle level for vassal {name} reached !!!")


def no_heartbeat(name: str, seconds: float) -> Say:
    """It stopped sending heartbeats."""
    text = f"[emperor] vassal {name} sent no heartbeat in last {seconds:g} seconds, brutally respawning it..."
    return Say("vassal.heartbeat_lost", text, stamped=False)


def no_mercy(name: str) -> Say:
    """The Emperor leaves and waits no longer."""
    return Say("vassal.no_mercy", f"[emperor] NO MERCY for vassal {name} !!!")


def on_demand(name: str, address: str) -> Say:
    """Its socket is bound."""
    text = f'[uwsgi-emperor] {name} -> "on demand" instance detected, waiting for connections on socket "{address}" ...'
    return Say("vassal.waiting", text, stamped=False)


def back_on_demand(name: str, address: str) -> Say:
    """It ended, and its socket is watched again."""
    text = f'[uwsgi-emperor] {name} -> back to "on demand" mode, waiting for connections on socket "{address}" ...'
    return Say("vassal.waiting", text, stamped=False)


def bringing_back(name: str) -> Say:
    """It asked to leave because it is idle."""
    return Say("vassal.idle", f"[emperor] bringing back instance {name} to on-demand mode")


def updated_on_demand(name: str) -> Say:
    """Its config changed while nobody needed it."""
    return Say("vassal.updated", f'[emperor] updated configuration for "on demand" instance {name}')


def moved(name: str, *, on_demand: bool) -> Say:
    """Its on-demand socket came, went or changed."""
    if on_demand:
        return Say("vassal.moved", f'[emperor] requested move to "on demand" mode for instance {name}')
    return Say("vassal.moved", f'[emperor] asked for leaving "on demand" mode for instance {name}')


def permissions_changed(name: str) -> Say:
    """Its owner under a tyrant is another one now."""
    text = f"!!! permissions of file {name} changed. stopping the instance... !!!"
    return Say("vassal.owner_changed", text, stamped=False)


def broodlord(name: str) -> Say:
    """It asked for help, and gets a zerg."""
    return Say("vassal.broodlord", f"[emperor] going in broodlord mode: launching zergs for {name}")


# What uWSGI has no words for.


def refused(name: str, reason: str) -> Say:
    """It said its config is bad."""
    text = f"[emperor] vassal {name} refuses its configuration and is not started before it changes: {reason}"
    return Say("vassal.refused", text)


def foreign(name: str, reason: str) -> Say:
    """It said its config is bad, and there is a program for such."""
    return Say("vassal.foreign", f"[emperor] vassal {name} is left to the emperor-exec program: {reason}")


def not_started(name: str, reason: str) -> Say:
    """The keeper could not fork it."""
    return Say("vassal.start_failed", f"[emperor] vassal {name} could not be started: {reason}")


def not_bound(name: str, reason: str) -> Say:
    """Its on-demand socket could not be bound."""
    return Say("vassal.bind_failed", f"[emperor] the socket of vassal {name} could not be bound: {reason}")


def will_not_stop(name: str, seconds: float) -> Say:
    """It was told to stop long ago."""
    return Say("vassal.killed", f"[emperor] vassal {name} did not stop within {seconds:g} seconds, killing it")
