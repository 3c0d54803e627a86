"""What ps(1) shows of each process: uWSGI's procname options. A title never holds anything of the config but those."""

from typing import NamedTuple

from palatine.process_title import set_title


class TitleSettings(NamedTuple):
    """Options procname-*; nothing is changed where all are empty."""

    auto: bool = False
    prefix: str = ""
    append: str = ""
    name: str = ""
    master: str = ""

    def of(self, role: str) -> str:
        """The title of "master", "worker 1" ...; "" leaves what there is."""
        if not (self.auto or self.name or self.master or self.prefix or self.append):
            return ""
        own = self.master if role == "master" else ""
        return f"{self.prefix}{own or self.name or f'uWSGI {role}'}{self.append}"


def put_on(settings: TitleSettings, role: str) -> None:
    """Give this process its title."""
    title = settings.of(role)
    if title:
        set_title(title)
