"""`wsgi.file_wrapper` (PEP 3333): what an app wraps a file in. It sends nothing itself."""

from typing import Any

from palatine_app_server.serving.file_parts import FilePart, part_of


class FileWrapper:
    """`wsgi.file_wrapper`: iterates a file in blocks and closes it."""

    def __init__(self, file: Any, block_size: int = 65536) -> None:
        self._file = file
        self._block_size = block_size
        self.sent = False  # by the kernel: nobody read it here
        if hasattr(file, "close"):
            self.close = file.close

    def part(self) -> FilePart | None:
        """What it wraps, where that is a regular file."""
        return part_of(self._file)

    def __iter__(self) -> "FileWrapper":
        return self

    def __next__(self) -> bytes:
        block: bytes = self._file.read(self._block_size)
        if not block:
            raise StopIteration
        return block


class ReadingFileWrapper(FileWrapper):
    """The same where `disable-sendfile` wants files read: some file systems do not know better."""

    def part(self) -> None:
        """The kernel is not asked."""
