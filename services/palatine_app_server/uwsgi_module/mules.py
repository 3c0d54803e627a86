"""Mules and farms: `uwsgi.mule_msg` and its kin. Messages go straight to the mules' queues, past the master."""

from typing import Any

from palatine_app_server.sharing.mule_queues import ANY, MuleQueues
from palatine_app_server.system import own_lines
from palatine_app_server.system.last_words import print_exc
from palatine_app_server.uwsgi_module import arguments
from palatine_app_server.uwsgi_module.seat import Seat


class Mules:
    """What any process may send, and a mule receive; `queues` is None where no mule is configured."""

    def __init__(self, seat: Seat, queues: MuleQueues | None) -> None:
        self._seat = seat
        self._queues = queues
        self._hook: Any = None

    def functions(self) -> dict[str, Any]:
        """What the module offers."""
        return {
            "mule_id": lambda: self._seat.mule.number if self._seat.mule else 0,
            "mule_msg": self._send,
            "farm_msg": self._send_to_farm,
            "mule_get_msg": self._receive,
            "farm_get_msg": self._receive_of_farm,
            "in_farm": self._in_farm,
            "install_mule_msg_hook": self._install,
        }

    def take(self, message: bytes, hook: Any) -> bool:
        """Hand a message to the app's `mule_msg_hook`; False where it has none."""
        chosen = self._hook or hook
        if not callable(chosen):
            return False
        try:
            chosen(message)
        except Exception:  # noqa: BLE001 - the app's hook may raise anything
            print_exc()
        return True

    def _install(self, hook: Any) -> None:
        self._hook = hook

    def _send(self, message: bytes | str, mule: int | str | bytes | None = None) -> bool:
        data = arguments.data(message, "mule_msg")
        if self._queues is None:
            raise ValueError("no mule configured")
        if mule is None or isinstance(mule, int):
            number = ANY if mule is None else mule
            if not 0 <= number <= self._queues.mules:
                raise ValueError("invalid mule number")
            return self._sent(self._queues.send(number, data), number)
        if not isinstance(mule, str | bytes):
            raise ValueError("invalid mule")  # noqa: TRY004 - uWSGI's
        name = mule if isinstance(mule, str) else mule.decode("utf-8", "replace")
        try:
            return self._sent(self._queues.send_to_farm(name, data), ANY)
        except KeyError as error:
            raise ValueError("unknown farm") from error

    def _sent(self, sent: bool, number: int) -> bool:  # noqa: FBT001 - the result passed on
        if not sent and self._queues is not None:
            own_lines.say(
                f"*** MULE MSG QUEUE IS FULL: buffer size {self._queues.size(number)} bytes "
                "(you can tune it with --mule-msg-size) ***"
            )
        return sent

    def _send_to_farm(self, farm: str, message: bytes | str) -> None:
        name, data = arguments.text(farm, "farm_msg"), arguments.data(message, "farm_msg", 2)
        if self._queues is not None and any(known.name == name for known in self._queues.farms):
            self._sent(self._queues.send_to_farm(name, data), ANY)

    def _receive(
        self,
        signals: Any = True,  # noqa: FBT002 - uWSGI's signature
        farms: Any = True,  # noqa: FBT002 - likewise
        buffer_size: int = 65536,
        timeout: int = -1,
    ) -> bytes | None:
        if self._seat.mule is None:
            raise ValueError("you can receive mule messages only in a mule !!!")
        return self._seat.mule.next_message(
            None if timeout < 0 else float(timeout),
            signals=signals not in {None, False},
            farms=farms not in {None, False},
            limit=buffer_size,
        )

    def _receive_of_farm(self) -> bytes | None:
        if self._seat.mule is None:
            raise ValueError("you can receive farm messages only in a mule !!!")
        return self._seat.mule.next_farm_message()

    def _in_farm(self, *name: str) -> bool | None:
        wanted = {None, *(arguments.text(each, "in_farm") for each in name[:1])}
        mule = self._seat.mule
        if mule is None or self._queues is None:
            return None
        found = any(mule.number in farm.mules and wanted <= {None, farm.name} for farm in self._queues.farms)
        return True if found else None
