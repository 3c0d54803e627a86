"""XML configurations: text in, entries of one `<uwsgi>` element out, each with its place. Must never read a file.

Expat does the parsing; entities and document types are refused, so a small text cannot become a large one.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple
from xml.parsers import expat

from palatine.codec.config_source import Entry, Source
from palatine.errors import ConfigError

#: Elements a document may have; 1 MiB of empty ones would fill the memory.
_MAX_ELEMENTS: Final = 50_000


class _Text(NamedTuple):
    text: str
    cdata: bool


class _Element(NamedTuple):
    name: str
    attributes: dict[str, str]
    at: int
    children: "list[_Element | _Text]"

    def elements(self) -> "Iterator[_Element]":
        return (child for child in self.children if isinstance(child, _Element))


def parse_xml(source: Source, section: str) -> list[Entry]:
    """The options of the root `<uwsgi>`, or of its first child `<uwsgi>` whose id is no other; raises ConfigError.

    An element is an option, its text the untrimmed value, "1" if it is empty. CDATA directly inside is an `eval`;
    `<app mountpoint="/x">module</app>` is `mount = /x=module`. Elements with another `id` are left out.
    """
    root = _Builder(source).build()
    stanza = _choose(root, section)
    if stanza is None:
        wanted = f' with id="{section}"' if section else ""
        raise source.error(f"there is no <uwsgi> element{wanted} in this document", root.at)
    entries: list[Entry] = []
    for child in stanza.children:
        if isinstance(child, _Text):
            if child.cdata:
                entries.append(Entry("eval", child.text, source.place(stanza.at)))
        elif not section or child.attributes.get("id", section) == section:
            origin = source.place(child.at)
            entries += [Entry(name, value, origin) for name, value in _option(child, source)]
    return entries


def _choose(root: _Element, section: str) -> _Element | None:
    if root.name == "uwsgi":
        return root
    for child in root.elements():
        if child.name == "uwsgi" and (not section or child.attributes.get("id", section) == section):
            return child
    return None


def _option(element: _Element, source: Source) -> list[tuple[str, str]]:
    inner = next(element.elements(), None)
    if element.name == "app":
        return _app(element, inner)
    if inner is not None:
        raise source.error(f"<{element.name}> holds text, not other elements", inner.at)
    return [(element.name, _value(element) if element.children else "1")]


def _app(element: _Element, inner: _Element | None) -> list[tuple[str, str]]:
    text = _value(inner or element)
    if not text:
        return [("app", "")]
    if "mountpoint" in element.attributes:
        text = f"{element.attributes['mountpoint']}={text}"
    elif "domain" in element.attributes:
        text = f"{element.attributes['domain']}|={text}"
    return [("mount", text), ("app", "")]


def _value(element: _Element) -> str:
    return "".join(child.text for child in element.children if isinstance(child, _Text))


class _Builder:
    """Makes a tree of the document; expat calls back into it."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._data = source.text.encode("utf-8", "surrogateescape")
        self._parser = expat.ParserCreate("utf-8")
        self._open: list[_Element] = []
        self._root: _Element | None = None
        self._elements = 0
        self._cdata = False
        self._bytes = self._characters = 0  # how far `_offset` has counted

    def build(self) -> _Element:
        parser = self._parser
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text
        parser.StartCdataSectionHandler = self._start_cdata
        parser.EndCdataSectionHandler = self._end_cdata
        parser.StartDoctypeDeclHandler = self._refuse
        try:
            parser.Parse(self._data, True)
        except expat.ExpatError as error:
            raise self._error(f"this is no well-formed XML: {expat.ErrorString(error.code)}") from error
        assert self._root is not None  # expat refuses a document without a root
        return self._root

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._elements += 1
        if self._elements > _MAX_ELEMENTS:
            raise self._error(f"more than {_MAX_ELEMENTS} elements")
        element = _Element(name, attributes, self._offset(self._parser.CurrentByteIndex), [])
        if self._open:
            self._open[-1].children.append(element)
        else:
            self._root = element
        self._open.append(element)

    def _end(self, _: str) -> None:
        self._open.pop()

    def _text(self, text: str) -> None:
        children = self._open[-1].children
        last = children[-1] if children else None
        if isinstance(last, _Text) and last.cdata == self._cdata:
            children[-1] = _Text(last.text + text, self._cdata)
        else:
            children.append(_Text(text, self._cdata))

    def _start_cdata(self) -> None:
        self._cdata = True
        self._open[-1].children.append(_Text("", cdata=True))

    def _end_cdata(self) -> None:
        self._cdata = False

    def _refuse(self, *_: object) -> None:
        raise self._error("a document type and its entities have no place in a configuration")

    def _error(self, message: str) -> ConfigError:
        return self._source.error(message, self._offset(self._parser.ErrorByteIndex))

    def _offset(self, index: int) -> int:
        """A byte offset as a character offset."""
        if index < self._bytes:
            self._bytes = self._characters = 0
        self._characters += len(self._data[self._bytes : index].decode("utf-8", "replace"))
        self._bytes = max(index, 0)
        return self._characters
