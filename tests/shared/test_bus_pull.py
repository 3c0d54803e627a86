"""The PULL socket of the zmq:// monitor: batches, cancellation, limits, one owner."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
import trio.testing
import zmq

from palatine.bus.pull import open_pull
from palatine.errors import AlreadyRunningError, ConfigError


@pytest.fixture
def push() -> Iterator[zmq.Socket[bytes]]:
    context = zmq.Context()
    socket = context.socket(zmq.PUSH)
    yield socket
    socket.close(linger=0)
    context.term()


async def test_everything_sent_arrives_in_order_and_in_batches(push: zmq.Socket[bytes]) -> None:
    async with open_pull("tcp://127.0.0.1:*") as pull:
        push.connect(pull.address)
        for number in range(1000):
            push.send_multipart([b"touch", b"%d" % number, b""])
        got: list[list[bytes]] = []
        batches = 0
        with trio.fail_after(10):
            while len(got) < 1000:
                got += await pull.receive()
                batches += 1
    assert got == [[b"touch", b"%d" % number, b""] for number in range(1000)]
    assert batches < 1000


async def test_cancelling_loses_nothing(push: zmq.Socket[bytes]) -> None:
    async with open_pull("tcp://127.0.0.1:*") as pull:
        push.connect(pull.address)
        got: list[list[bytes]] = []
        with trio.fail_after(20):
            for number in range(500):
                push.send(b"%d" % number)
                with trio.move_on_after(0.0005 * (number % 3)):
                    got += await pull.receive()
            while len(got) < 500:
                got += await pull.receive()
    assert [int(parts[0]) for parts in got] == list(range(500))


async def test_two_tasks_on_one_socket_are_an_error() -> None:
    async with open_pull("tcp://127.0.0.1:*") as pull, trio.open_nursery() as nursery:
        nursery.start_soon(pull.receive)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError):
            await pull.receive()
        nursery.cancel_scope.cancel()


async def test_an_oversize_frame_closes_its_connection_and_no_other(push: zmq.Socket[bytes]) -> None:
    async with open_pull("tcp://127.0.0.1:*") as pull:
        with zmq.Context() as context, context.socket(zmq.PUSH) as hostile:
            hostile.connect(pull.address)
            hostile.send(b"x" * 300_000)
            push.connect(pull.address)
            push.send(b"fine")
            with trio.fail_after(10):
                assert await pull.receive() == [[b"fine"]]
            hostile.close(linger=0)


async def test_an_ipc_path_has_one_owner(tmp_path: Path) -> None:
    address = f"ipc://{tmp_path}/pull"
    async with open_pull(address):
        with pytest.raises(AlreadyRunningError):
            async with open_pull(address):
                pass
    async with open_pull(address) as again:
        assert again.address == address


async def test_an_address_that_cannot_be_bound_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match=r"tcp://192\.0\.2\.1:1: cannot be bound"):
        async with open_pull("tcp://192.0.2.1:1"):
            pass
    with pytest.raises(ConfigError, match="nonsense: cannot be bound"):
        async with open_pull("nonsense"):
            pass


async def test_curve_lets_only_those_in_who_know_the_key(push: zmq.Socket[bytes]) -> None:
    public, secret = zmq.curve_keypair()
    async with open_pull("tcp://127.0.0.1:*", curve_secret=secret) as pull:
        with zmq.Context() as context, context.socket(zmq.PUSH) as plain:
            plain.connect(pull.address)
            plain.send(b"plain")
            push.curve_serverkey = public
            push.curve_publickey, push.curve_secretkey = zmq.curve_keypair()
            push.connect(pull.address)
            push.send(b"curve")
            with trio.fail_after(10):
                assert await pull.receive() == [[b"curve"]]
            plain.close(linger=0)


async def test_a_key_that_is_none_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="cannot be bound"):
        async with open_pull("tcp://127.0.0.1:*", curve_secret=b"short"):
            pytest.fail("opened")
