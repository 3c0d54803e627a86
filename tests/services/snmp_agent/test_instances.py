import os
import shutil
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog
import trio

from palatine.bus import Handler, Request, Role, serve_requests
from palatine.codec import snmp
from palatine.codec.snmp import PduType
from palatine.handoff import Giver, Offer
from palatine.schema import AGENT
from palatine_snmp_agent.forwarding import MAX_PAYLOAD, MAX_WAITING, Forwarder
from palatine_snmp_agent.instances import Instances
from palatine_snmp_agent.tally import Tally
from snmp_master import StandInMaster, plant, request, set_requests, shown, stand_in

(TABLE,) = AGENT
ONE = (0, 0, [("1.1", snmp.counter64(1))])


class Agent:
    """The agent's inside, in this process."""

    def __init__(self, runtime: Path) -> None:
        self.cells = memoryview(bytearray(8 * len(TABLE.fields))).cast("Q")
        self.tally = Tally(self.cells, TABLE.word)
        self.instances = Instances(runtime, self.tally)

    def count(self, field: str) -> int:
        return self.cells[TABLE.word(field)]

    async def until(self, probe: Callable[[], object], what: str) -> None:
        with trio.move_on_after(8):
            while not probe():  # noqa: ASYNC110 - states of other threads and programs, nobody tells us of them
                await trio.sleep(0.005)
            return
        pytest.fail(f"{what}: {self.instances.statistics()}")

    async def until_serving(self, sockets: int) -> None:
        await self.until(lambda: self.count("endpoints") == sockets, f"{sockets} sockets served")


@asynccontextmanager
async def running(runtime: Path) -> AsyncIterator[Agent]:
    agent = Agent(runtime)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(agent.instances.run)
        yield agent
        nursery.cancel_scope.cancel()
    assert agent.count("endpoints") == 0


@pytest.fixture
def events() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs() as captured:
        yield captured


async def ask(port: int, datagram: bytes) -> bytes:
    """The reply to a datagram, which may have to wait for an agent but is never refused."""
    manager = trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with manager, trio.fail_after(8):
        await manager.connect(("127.0.0.1", port))
        await manager.send(datagram)
        reply: bytes = await manager.recv(65_535)
        return reply


async def test_an_instance_is_served_whichever_started_first(tmp_path: Path) -> None:
    with stand_in(tmp_path, "before") as before:
        async with running(tmp_path) as agent:
            assert shown(await ask(before.port, request(PduType.GET, "1.1"))) == ONE
            with stand_in(tmp_path, "after") as after:
                assert shown(await ask(after.port, request(PduType.GET, "1.1"))) == ONE
                await agent.until_serving(2)
                assert len(agent.instances) == 2


async def test_a_socket_without_an_agent_keeps_what_is_asked_until_there_is_one(tmp_path: Path) -> None:
    with stand_in(tmp_path) as master:
        async with trio.open_nursery() as nursery:
            replies: list[bytes] = []

            async def manager() -> None:
                replies.append(await ask(master.port, request(PduType.GET, "1.1")))

            nursery.start_soon(manager)
            await trio.testing.wait_all_tasks_blocked()
            async with running(tmp_path) as agent:
                await agent.until(lambda: replies, "the question asked before is answered")
        assert shown(replies[0]) == ONE


async def test_instances_share_nothing(tmp_path: Path) -> None:
    with stand_in(tmp_path, "one") as one, stand_in(tmp_path, "two", community="bar") as two:
        set_requests(two.segment, 0, 5)
        async with running(tmp_path) as agent:
            await agent.until_serving(2)
            assert shown(await ask(one.port, request(PduType.GET, "1.1"))) == ONE
            reply = await ask(two.port, request(PduType.GET, "1.1", community=b"bar"))
            assert shown(reply) == (0, 0, [("1.1", snmp.counter64(5))])
            with pytest.raises(trio.TooSlowError), trio.fail_after(0.2):
                await ask(two.port, request(PduType.GET, "1.1"))
            assert agent.count("in_bad_community_names") == 1


async def test_a_master_that_goes_and_comes_back_keeps_its_socket_answered(tmp_path: Path) -> None:
    with stand_in(tmp_path) as master:
        async with running(tmp_path) as agent:
            for _ in range(3):
                await agent.until_serving(1)
                assert shown(await ask(master.port, request(PduType.GET, "1.1"))) == ONE
                await trio.to_thread.run_sync(master.fall_silent)
                await agent.until_serving(0)
                master.hand_over()


async def test_a_new_segment_is_read_at_once(tmp_path: Path) -> None:
    with stand_in(tmp_path) as master:
        async with running(tmp_path) as agent:
            await agent.until_serving(1)
            first = master.segment
            master.segment = plant(first.path, workers=2)
            set_requests(master.segment, 0, 99)
            master.segment.publish()
            first.close(unlink=False)
            expected = (0, 0, [("1.1", snmp.counter64(99))])
            with trio.fail_after(8):
                while shown(await ask(master.port, request(PduType.GET, "1.1"))) != expected:
                    pass


async def test_an_instance_that_vanishes_is_dropped(tmp_path: Path) -> None:
    async with running(tmp_path) as agent:
        with stand_in(tmp_path) as master:
            await agent.until_serving(1)
            shutil.rmtree(master.directory)
            await agent.until_serving(0)
            await agent.until(lambda: len(agent.instances) == 0, "the instance is forgotten")


def sockets_and_pipes() -> int:
    links = [Path(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd")]
    return sum(os.readlink(link).startswith(("socket:", "pipe:")) for link in links if link.is_symlink())


def hostile_offers(stack: ExitStack) -> dict[str, Offer]:
    tcp = stack.enter_context(socket.socket())
    unix = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
    udp = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    reader, writer = os.pipe()
    stack.callback(os.close, reader)
    stack.callback(os.close, writer)
    return {
        "tcp": Offer("snmp", "tcp", {"community": "foo"}, tcp.fileno()),
        "unix": Offer("snmp", "unix", {"community": "foo"}, unix.fileno()),
        "pipe": Offer("snmp", "pipe", {"community": "foo"}, reader),
        "community": Offer("snmp", "community", {"community": 7}, udp.fileno()),
    }


async def test_offers_that_are_no_udp_sockets_hurt_nobody_else(tmp_path: Path, events: list[Any]) -> None:
    before = sockets_and_pipes()
    with ExitStack() as stack:
        masters = []
        for name, offer in hostile_offers(stack).items():
            master = StandInMaster(tmp_path, f"hostile-{name}")
            stack.callback(master.close)
            master.offer = offer
            master.start()
            masters.append(master)
        good = stack.enter_context(stand_in(tmp_path, "good"))
        async with running(tmp_path) as agent:
            assert shown(await ask(good.port, request(PduType.GET, "1.1"))) == ONE
            await agent.until(lambda: sum(event["event"] == "instance.waiting" for event in events) >= 4, "refusals")
            for master in masters:  # and again, and again
                for _ in range(3):
                    await trio.to_thread.run_sync(master.fall_silent)
                    master.hand_over()
            assert shown(await ask(good.port, request(PduType.GET, "1.1"))) == ONE
    # a master that falls silent just then gives another reason, in between
    reasons = [(event["instance"], event["reason"]) for event in events if event["event"] == "instance.waiting"]
    for instance, words in (
        ("hostile-tcp", "not a UDP socket"),
        ("hostile-unix", "not a UDP socket"),
        ("hostile-community", "community"),
    ):
        assert any(name == instance and words in reason for name, reason in reasons), reasons
    assert len({name for name, _reason in reasons}) == 4
    assert sockets_and_pipes() == before


async def test_a_refusal_is_said_once(tmp_path: Path, events: list[Any]) -> None:
    with ExitStack() as stack:
        master = StandInMaster(tmp_path, "odd")
        stack.callback(master.close)
        master.offer = hostile_offers(stack)["tcp"]
        master.start()
        async with running(tmp_path) as agent:
            asked = 0
            answer = Giver.answer

            def counting(giver: Giver, connection: socket.socket) -> object:
                nonlocal asked
                asked += 1
                return answer(giver, connection)

            stack.enter_context(pytest.MonkeyPatch.context()).setattr(Giver, "answer", counting)
            await agent.until(lambda: asked > 6, "several attempts")
    assert [event["event"] for event in events].count("instance.waiting") == 1


async def test_a_socket_shut_down_by_its_owner_is_let_go(tmp_path: Path, events: list[Any]) -> None:
    with stand_in(tmp_path, "odd") as odd, stand_in(tmp_path, "good") as good:
        async with running(tmp_path) as agent:
            await agent.until_serving(2)
            with pytest.raises(OSError, match="not connected"):
                odd.socket.shutdown(socket.SHUT_RD)
            await agent.until(lambda: any("shut down" in str(event.get("reason")) for event in events), "let go")
            assert shown(await ask(good.port, request(PduType.GET, "1.1"))) == ONE


async def test_an_instance_without_a_community_is_warned_of(tmp_path: Path, events: list[Any]) -> None:
    with stand_in(tmp_path, community=""):
        async with running(tmp_path) as agent:
            await agent.until_serving(1)
    assert "endpoint.no_community" in [event["event"] for event in events]


async def test_a_long_community_is_cut_as_uwsgi_cuts_it(tmp_path: Path) -> None:
    with stand_in(tmp_path, community="c" * 80) as master:
        async with running(tmp_path):
            assert shown(await ask(master.port, request(PduType.GET, "1.1", community=b"c" * 72))) == ONE


async def test_null_for_unset_values_where_the_app_asks_for_it(tmp_path: Path) -> None:
    with stand_in(tmp_path, null_unset=True) as master:
        async with running(tmp_path):
            assert shown(await ask(master.port, request(PduType.GET, "2.1"))) == (0, 0, [("2.1", snmp.NULL)])


# --- datagrams that are not SNMP ------------------------------------------------------------------------------------


async def serve_ctl(directory: Path, take: Handler, *, task_status: trio.TaskStatus[None]) -> None:
    """An instance's `ctl` that knows one request."""
    handlers = {"udp.datagram": (Role.VIEWER, take)}
    await serve_requests(directory / "ctl", handlers, role_of=lambda _: Role.DEPLOYER, task_status=task_status)


async def test_other_datagrams_on_a_udp_socket_reach_the_instances_ctl(tmp_path: Path) -> None:
    received: list[dict[str, str]] = []

    async def take(asked: Request) -> dict[str, bool]:
        received.append(asked.body)
        return {"logged": True}

    with stand_in(tmp_path, kind="udp", snmp=True) as master, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as app:
        app.connect(("127.0.0.1", master.port))
        peer = f"127.0.0.1:{app.getsockname()[1]}"
        async with trio.open_nursery() as nursery, running(tmp_path) as agent:
            await nursery.start(serve_ctl, master.directory, take)
            app.send(b"hello\n")
            app.send(bytes(range(256)))
            assert shown(await ask(master.port, request(PduType.GET, "1.1"))) == ONE
            await agent.until(lambda: len(received) == 2, "both datagrams arrive")
            await agent.until(lambda: agent.count("udp_forwarded") == 2, "both are counted")
            nursery.cancel_scope.cancel()
    assert [body["payload"] for body in received] == ["hello\n", bytes(range(256)).decode("latin-1")]
    assert {body["peer"] for body in received} == {peer}
    assert {body["instance"] for body in received} == {"app"}


async def test_a_udp_socket_without_snmp_answers_nothing(tmp_path: Path, events: list[Any]) -> None:
    with stand_in(tmp_path, kind="udp", snmp=False) as master:
        async with running(tmp_path) as agent:
            await agent.until_serving(1)
            with pytest.raises(trio.TooSlowError), trio.fail_after(0.2):
                await ask(master.port, request(PduType.GET, "1.1"))
            await agent.until(lambda: agent.count("udp_dropped") == 1, "nobody takes it")
    assert agent.count("in_pkts") == 0
    assert "udp.not_taken" in [event["event"] for event in events]


async def test_what_an_instance_does_not_take_is_dropped_not_kept(tmp_path: Path) -> None:
    agent = Agent(tmp_path)
    forwarder = Forwarder("app", tmp_path / "ctl", agent.tally)
    for _ in range(MAX_WAITING + 7):
        forwarder.put("127.0.0.1:1", b"\xff" * (MAX_PAYLOAD + 1))
    assert agent.count("udp_dropped") == 7


async def test_the_longest_payload_passes_the_bus(tmp_path: Path) -> None:
    lengths: list[int] = []

    async def take(asked: Request) -> None:
        lengths.append(len(asked.body["payload"]))

    agent = Agent(tmp_path)
    forwarder = Forwarder("app", tmp_path / "ctl", agent.tally)
    async with trio.open_nursery() as nursery:
        await nursery.start(serve_ctl, tmp_path, take)
        nursery.start_soon(forwarder.run)
        for octet in (b"\x01", b"\xff", b"a"):
            forwarder.put("127.0.0.1:1", octet * 65_507)
        await agent.until(lambda: agent.count("udp_forwarded") == 3, "all are taken")
        nursery.cancel_scope.cancel()
    assert lengths == [MAX_PAYLOAD] * 3
