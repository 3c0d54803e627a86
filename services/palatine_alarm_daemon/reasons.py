"""What an exception of a network library says, for logs and listings; it must never be empty."""


def reason_of(error: BaseException) -> str:
    """The error's own words, else those of what caused it, else its name: wrappers of trio and httpx are often mute."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        if str(cause):
            return str(cause)
        cause = cause.__cause__ or cause.__context__
    return type(error).__name__
