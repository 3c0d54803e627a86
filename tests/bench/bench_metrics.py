"""CPU of one `/metrics` page for a host of many instances, and how much of it is reading counters.

    python tests/bench/bench_metrics.py [instances] [rounds]

The instances are planted segments of four workers with two cores each, in /dev/shm as in life. Nothing is compared:
uwsgi_exporter needs a process and a scrape for each instance.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from palatine.counters import Segment
from palatine.discovery import InstanceRef
from palatine_stats_exporter.board import Board
from palatine_stats_exporter.instances import Served
from palatine_stats_exporter.metrics_page import metrics_page
from stats_planting import plant, sample, store


def milliseconds(do: Callable[[], object], rounds: int) -> float:
    """CPU of one call, the median."""
    found = []
    for _ in range(rounds):
        began = time.process_time_ns()
        do()
        found.append((time.process_time_ns() - began) / 1e6)
    return statistics.median(found)


def main() -> None:
    """Measure and print."""
    instances = int(sys.argv[1]) if len(sys.argv) > 1 else 300
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 9
    captured = sample("stats_hello_under_load.json")
    served: dict[str, Served] = {}
    segments: list[Segment] = []
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        for number in range(instances):
            directory = Path(name) / f"app-{number}"
            directory.mkdir()
            segment = plant(directory / "seg", captured)
            segment.publish()
            segments.append(segment)
            served[directory.name] = Served(InstanceRef(directory.name, directory, directory.stat().st_uid))
        board = Board(served)

        def moved() -> bytes:
            for segment in segments:
                store(segment, "cores", 0, 1, requests=time.monotonic_ns(), running_time=time.monotonic_ns())
            return metrics_page(*board.look())

        page = metrics_page(*board.look())
        read = milliseconds(board.look, rounds)
        resting, moving = milliseconds(lambda: metrics_page(*board.look()), rounds), milliseconds(moved, rounds)
        board.close()
        for segment in segments:
            segment.close(unlink=True)
    print(f"{instances} x 4 workers x 2 cores, {len(page)} bytes: reading {read:.0f} ms,", end=" ")
    print(f"page {resting:.0f} ms at rest, {moving:.0f} ms with every instance moving")


if __name__ == "__main__":
    main()
