"""Runs uWSGI's passes over environment, command line and the files they name, and collects the options in order.

Must never apply an option or touch the machine itself: files and conditions go through what the caller hands in,
and what a directive does to the passes is in `directives`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from palatine.codec.config_math import evaluate, expand
from palatine.codec.config_source import Entry, Origin
from palatine.config import logic
from palatine.config.commandline import COMMAND_LINE, Word, read_words
from palatine.config.custom import Template, expand_template
from palatine.config.files import Files, format_of
from palatine.config.plugins import foreign, is_built_in
from palatine.config.table import Kind, Table
from palatine.errors import ConfigError

#: Files that include each other stop here.
MAX_DEPTH: Final = 16
#: No configuration has more options than this after all loops are unrolled.
MAX_OPTIONS: Final = 20_000
#: Variables starting with UWSGI_ that are no options.
RESERVED: Final = frozenset(
    {
        "UWSGI_RELOADS",
        "UWSGI_VASSALS_DIR",
        "UWSGI_EMPEROR_FD",
        "UWSGI_BROODLORD_NUM",
        "UWSGI_EMPEROR_FD_CONFIG",
        "UWSGI_EMPEROR_PROXY",
        "UWSGI_JAIL_PID",
        "UWSGI_ORIGINAL_PROC_NAME",
    }
)
#: Options uWSGI reads at once, unexpanded, though their value is a setting like any other; here they are expanded.
LATE: Final = frozenset({"listen", "umask", "spooler-processes", "fallback-config", "plugins-dir"})


class Slot:
    """One option as it changes while the passes run."""

    __slots__ = ("depth", "done", "generated", "kind", "name", "origin", "problem", "used", "value")

    def __init__(self, name: str, value: str | None, origin: Origin, kind: Kind | None) -> None:
        self.name = name
        self.value = value
        self.origin = origin
        self.kind = kind
        self.depth = 0  # of the file it stands in
        self.done = False  # applied already: later passes leave it alone
        self.used = False  # somebody asked for its value as a placeholder
        self.problem: ConfigError | None = None  # why it is refused
        self.generated: list[Entry] = []  # what it stands for, if it is a declared option


class Loader:
    """One reading of one configuration: `run` once, then look at `slots` and `warnings`.

    `actions` holds, by canonical name, what a directive does to the loader. An option that is refused keeps its
    `problem` and does not stop the reading, so that all problems can be shown.
    """

    def __init__(
        self,
        table: Table,
        files: Files,
        actions: Mapping[str, "Action"],
        environ: Mapping[str, str],
        *,
        hostname: Callable[[], str],
        is_reload: bool,
    ) -> None:
        self.table = table
        self.files = files
        self.environ = dict(environ)
        self.slots: list[Slot] = []
        self.warnings: list[str] = []
        self.strict = False
        self.forbidden: dict[str, list[str]] = {}  # "blacklist" and "whitelist", while in force
        self.templates: dict[str, Template] = {}
        self._actions = actions
        self._first: dict[str, Slot] = {}
        self._depth = 0
        self._in_template = False
        self._logic: Slot | None = None
        self._logic_running = False
        self._context = logic.Context(
            environ=self.environ,
            option=self.option,
            hostname=hostname,
            plugin=is_built_in,
            path=files.path,
            read=files.read,
            reload=is_reload,
        )

    def run(self, argv: Sequence[str]) -> None:
        """All passes over the environment and `argv`. Raises ConfigError for what cannot be read at all."""
        for variable, value in list(self.environ.items()):
            if variable.startswith("UWSGI_") and variable not in RESERVED:
                self.add(variable[6:].lower().replace("_", "-"), value, Origin(f"environment {variable}"))
        for word in read_words(argv, self.table):
            if word.name:
                self.add(word.name, word.value, COMMAND_LINE)
            else:
                self._bare(word)
        self._expand("$", self.environ.get)
        self._expand("@", self.files.read_text)
        self._expand("%", lambda key: evaluate(key, self.option))
        self._configure()
        if self._logic:
            self.warnings.append(f'{self._logic.origin}: "{self._logic.name}" is never ended')
        for slot in self.slots if self.strict else ():
            if not slot.kind and not slot.done:
                slot.problem = slot.origin.error(f"[strict-mode] unknown config directive: {slot.name}")

    def option(self, name: str) -> str | None:
        """The value of the first option or placeholder called `name`, as `%(name)` sees it now."""
        slot = self._first.get(name)
        if slot is None:
            return None
        slot.used = True
        return slot.value

    def add(self, name: str, value: str | None, origin: Origin) -> None:
        """Take one option as it stands in a file, through the logic in force; an immediate one acts at once."""
        self._check(name, value, origin)
        if not self._logic_running:
            if name in logic.ENDS:
                self._logic = None
            if self._logic:
                self._repeat(self._logic, name, value, origin)
                return
        kind = self.table.find(name)
        slot = self._append(Slot(name, value, origin, kind))
        if kind and kind.language:
            slot.problem = origin.error(foreign("option", name, kind.language))
        if kind and kind.immediate and kind.name not in LATE:
            slot.done = True
            self._act(slot, kind)

    def add_placeholder(self, name: str, value: str, origin: Origin) -> None:
        """Take a value that is only there for `%(name)`."""
        self._check(name, value, origin)
        if self.table.is_uwsgi(name):
            raise origin.error(f"you cannot use {name} as a placeholder, it is already available as an option")
        slot = self._append(Slot(name, value, origin, None))
        slot.done = slot.used = True

    def load(self, kind: str, name: str, *, template: bool = False) -> None:
        """Expand the file or URL `name` in place; of a `template` the upper-case magic variables do not take note."""
        if self._depth >= MAX_DEPTH:
            raise ConfigError(f"{name}: configuration files include each other more than {MAX_DEPTH} deep")
        was_template = self._in_template
        self._in_template = was_template or template
        self._depth += 1
        try:
            entries, warning = self.files.entries(kind, name, template=self._in_template)
            if warning:
                self.warnings.append(warning)
            for entry in entries:
                self.add(*entry)
        finally:
            self._depth -= 1
            self._in_template = was_template

    def start_logic(self, slot: Slot) -> None:
        """Begin `for-…` or `if-…`; uWSGI has no nesting."""
        if self._logic:
            raise slot.origin.error(
                f'"{slot.name}" inside "{self._logic.name}" ({self._logic.origin}): logic does not nest'
            )
        self._logic = slot

    def _append(self, slot: Slot) -> Slot:
        slot.depth = self._depth
        self.slots.append(slot)
        self._first.setdefault(slot.name, slot)
        if len(self.slots) > MAX_OPTIONS:
            raise slot.origin.error(f"more than {MAX_OPTIONS} options: does a loop or an include run away?")
        return slot

    def _bare(self, word: Word) -> None:
        name = word.value or ""
        if name.startswith("["):
            return  # uWSGI ignores such arguments: some use them to label the process
        try:
            kind = format_of(name)
        except ConfigError as error:
            hint = f"; for --{word.optional} write --{word.optional}={name}" if word.optional else ""
            raise COMMAND_LINE.error(error.message + hint) from error
        self._locate(COMMAND_LINE, lambda: self.load(kind, name, template=True))

    def _check(self, name: str, value: str | None, origin: Origin) -> None:
        text = name + (value or "")
        if "\0" in text or not _encodable(text):
            raise origin.error(f"option {name!a} holds a character no file name or variable can hold")
        for which, names in self.forbidden.items():
            if (name.lower() in names) == (which == "blacklist"):
                raise origin.error(f'forbidden option "{name}" (by {which})')

    def _repeat(self, condition: Slot, name: str, value: str | None, origin: Origin) -> None:
        def repeat() -> None:
            for item in logic.repetitions(condition.name, condition.value or "", self._context):
                self.add(name, value if item is None or value is None else value.replace("%(_)", item), origin)

        self._logic_running = True
        try:
            self._locate(condition.origin, repeat)
        finally:
            self._logic_running = False

    def _expand(self, symbol: str, lookup: Callable[[str], str | None]) -> None:
        for slot in self.slots:
            if slot.value and not slot.done and symbol + "(" in slot.value:
                self._expand_slot(slot, symbol, lookup)

    def _expand_slot(self, slot: Slot, symbol: str, lookup: Callable[[str], str | None]) -> None:
        def work() -> None:
            for value in expand(slot.value or "", symbol, lookup):
                slot.value = value  # at once: the next reference may be to this very option

        self._locate(slot.origin, work)

    def _configure(self) -> None:
        """Apply what is left from top to bottom; `inherit` makes the list longer meanwhile.

        uWSGI starts over when it does; that only matters for options declared after their use.
        """
        at = 0
        while at < len(self.slots):
            slot = self.slots[at]
            at += 1
            if slot.done:
                continue
            slot.kind = self.table.find(slot.name)
            if slot.kind:
                slot.done = True
                declared = len(self.templates)
                self._depth = slot.depth
                self._act(slot, slot.kind)
                at = at if len(self.templates) == declared else 0
        self._depth = 0

    def _act(self, slot: Slot, kind: Kind) -> None:
        action = self._actions.get(kind.name)
        if action:
            self._locate(slot.origin, lambda: action(self, slot, slot.value or ""))
        elif slot.name in self.templates:
            for name, value in expand_template(self.templates[slot.name], slot.value or ""):
                self._generate(slot, name, value)

    def _generate(self, slot: Slot, name: str, value: str) -> None:
        self._check(name, value, slot.origin)
        kind = self.table.find(name)
        if kind is None:
            self.warnings.append(f'{slot.origin}: "{slot.name}" stands for the unknown option "{name}"')
        elif kind.name in self._actions:
            part = Slot(name, value, slot.origin, kind)
            self._actions[kind.name](self, part, value)
            slot.problem = slot.problem or part.problem
        else:
            slot.generated.append(Entry(name, value, slot.origin))

    def _locate(self, origin: Origin, work: Callable[[], None]) -> None:
        """Do `work`; an error that names no place is about `origin`."""
        try:
            work()
        except ConfigError as error:
            if not error.path:
                error.path, error.line, error.column = origin
            raise


#: What a directive does: (loader, its slot, its value).
Action = Callable[[Loader, Slot, str], None]


def _encodable(text: str) -> bool:
    try:
        text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
    return True
