import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
import trio.testing
import zmq

from palatine.bus import _libzmq, pump


@pytest.fixture
def sockets(tmp_path: Path) -> Iterator[tuple[zmq.Socket[bytes], zmq.Socket[bytes]]]:
    context = zmq.Context()
    with _libzmq.open_socket(context, zmq.ROUTER) as router, _libzmq.open_socket(context, zmq.DEALER) as dealer:
        router.bind(f"ipc://{tmp_path}/s")
        dealer.connect(f"ipc://{tmp_path}/s")
        yield router, dealer
    context.term()


async def test_every_message_of_a_busy_pair_arrives_though_sends_eat_edges(
    sockets: tuple[zmq.Socket[bytes], zmq.Socket[bytes]],
) -> None:
    router, dealer = sockets
    router_waker, dealer_waker = pump.Waker(), pump.Waker()
    to_dealer: list[list[bytes]] = []
    answers: list[int] = []
    asked = 0
    done = trio.Event()

    def flush_router() -> float:
        while to_dealer and pump.send(router, to_dealer[0]) is pump.Sent.YES:
            del to_dealer[0]
        return trio.current_time() + (0.005 if to_dealer else 60)

    def flush_dealer() -> float:
        nonlocal asked
        while asked < 5000 and asked - len(answers) < 20:
            assert pump.send(dealer, [str(asked).encode()]) is pump.Sent.YES
            asked += 1
        return trio.current_time() + 60

    def received_dealer(message: pump.Message) -> None:
        answers.append(int(message.parts[0]))
        if len(answers) == 5000:
            done.set()

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(
                pump.run, router, router_waker, flush_router, lambda message: to_dealer.append(message.parts)
            )
            nursery.start_soon(pump.run, dealer, dealer_waker, flush_dealer, received_dealer)
            await done.wait()
            nursery.cancel_scope.cancel()
    assert answers == list(range(5000))


async def test_a_full_connection_says_so(sockets: tuple[zmq.Socket[bytes], zmq.Socket[bytes]]) -> None:
    router, dealer = sockets
    router.setsockopt(zmq.ROUTER_MANDATORY, 1)
    assert pump.send(router, [b"nobody", b"x"]) is pump.Sent.GONE
    dealer.send(b"hello")
    assert router.poll(5000)
    message = pump.receive(router)
    assert message is not None
    assert message.parts[1:] == [b"hello"]
    assert message.address.startswith("localhost:")
    assert pump.receive(router) is None
    answers = [pump.send(router, [message.parts[0], bytes(200_000)]) for _ in range(500)]
    assert answers[0] is pump.Sent.YES
    assert pump.Sent.FULL in answers


async def test_a_wake_before_the_wait_is_not_lost() -> None:
    descriptor, other = os.pipe()
    waker = pump.Waker()
    with trio.fail_after(5):
        waker.wake()
        waker.wake()
        await waker.wait_readable(descriptor)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(waker.wait_readable, descriptor)
            await trio.testing.wait_all_tasks_blocked()
            waker.wake()
        await waker.wait_readable(descriptor, trio.current_time() + 0.01)
    with trio.move_on_after(0.05) as scope:
        await waker.wait_readable(descriptor)
    assert scope.cancelled_caught
    os.close(other)
    os.close(descriptor)
