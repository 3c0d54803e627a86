"""uWSGI's anti-storm rule: an alarm says the same thing twice only after `freq` seconds. Pure."""

import attrs


@attrs.frozen
class Last:
    """What an alarm last delivered, and when (unix seconds); one slot per alarm, as uWSGI has it."""

    message: bytes
    at: float


@attrs.frozen
class Verdict:
    """Whether to raise, why not, and what to remember."""

    raised: bool
    last: Last
    reason: str = ""


def judge(last: Last | None, message: bytes, now: float, freq: float) -> Verdict:
    """Whether `message` is raised at `now`; dropped messages do not prolong the silence."""
    if last is not None and last.message == message and 0 <= now - last.at < freq:
        return Verdict(raised=False, last=last, reason=f"the same message was raised {now - last.at:.3g} s before")
    return Verdict(raised=True, last=Last(message, now))
