"""Counter segments, words one process stores and others read: the only code that maps them; it never resizes one."""

from palatine.codec.segment import NotReadyError
from palatine.counters.latch import TextLatch
from palatine.counters.locks import SharedLock
from palatine.counters.view import SegmentView
from palatine.counters.writer import Segment

__all__ = ["NotReadyError", "Segment", "SegmentView", "SharedLock", "TextLatch"]
