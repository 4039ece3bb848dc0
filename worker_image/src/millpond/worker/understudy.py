"""A tiny process that stands in for the lease keeper while nothing of the worker's Python runs.

A call into C that keeps the interpreter's lock (a huge `re`, `int` to text, a careless extension) stops every thread,
the keeper's too: after the lease its tasks would go to others while it still works on them. This process shares a table
of what the worker holds (`Table`); the keeper writes a tick into it. When the tick stops, it prolongs the leases, sends
the last heartbeat marked as starved, and has the worker's faulthandler write its stacks, which C can do.

It must not keep a dead worker's tasks: it ends with the worker (closed pipe, other parent), does nothing for one that
is stopped (SIGSTOP), and gives up after `LONGEST`. It imports little, and that from the standard library: it runs
as a script, without site-packages. The few words of NATS that it needs, it speaks itself.
"""

import base64
import json
import mmap
import os
import select
import signal
import socket
import struct
import sys
import time
import zlib

LONGEST = 300.0
"""Seconds for which a worker that gives no sign of life keeps its tasks."""
BEAT_ROOM = 128 * 1024
ENTRY = 384
"""Bytes for one ack subject: names of 63 characters each fit."""
_TICK = struct.Struct("=d")
_HEAD = struct.Struct("=II")
_FIRST = 16 + _HEAD.size + BEAT_ROOM
PROLONG = b"+WPI"
STACK_TIME = 1.0


class Table:
    """Memory that worker and understudy share: the keeper's last tick, the last heartbeat, the leases held.

    Each text has its checksum before it, so a reader that meets a writer in the middle sees nothing, not nonsense.
    """

    def __init__(self, number: int, size: int) -> None:
        self.slots = (size - _FIRST) // ENTRY
        self._memory = mmap.mmap(number, size)

    @staticmethod
    def size_for(slots: int) -> int:
        return _FIRST + slots * ENTRY

    def tick(self, now: float) -> None:
        _TICK.pack_into(self._memory, 0, now)

    def last_tick(self) -> float:
        return float(_TICK.unpack_from(self._memory, 0)[0])

    def write_beat(self, beat: bytes) -> None:
        self._write(16, beat if len(beat) <= BEAT_ROOM else b"")

    def read_beat(self) -> bytes:
        return self._read(16, BEAT_ROOM)

    def write(self, slot: int, subject: bytes) -> None:
        self._write(_FIRST + slot * ENTRY, subject)

    def clear(self, slot: int) -> None:
        _HEAD.pack_into(self._memory, _FIRST + slot * ENTRY, 0, 0)

    def leases(self) -> list[bytes]:
        found = (self._read(_FIRST + slot * ENTRY, ENTRY - _HEAD.size) for slot in range(self.slots))
        return [subject for subject in found if subject]

    def _write(self, place: int, text: bytes) -> None:
        body = place + _HEAD.size
        self._memory[body : body + len(text)] = text
        _HEAD.pack_into(self._memory, place, len(text), zlib.crc32(text))

    def _read(self, place: int, room: int) -> bytes:
        length, checksum = _HEAD.unpack_from(self._memory, place)
        if not 0 < length <= room:
            return b""
        text = bytes(self._memory[place + _HEAD.size : place + _HEAD.size + length])
        return text if zlib.crc32(text) == checksum else b""


class Link:
    """A connection to NATS that only publishes; made when it is needed, again after it broke."""

    def __init__(self, urls: str, name: str, access: "dict[str, str] | None" = None) -> None:
        self._urls, self._name, self._access = urls.split(","), name, access or {}
        self._socket: socket.socket | None = None
        self._rest = b""

    def publish(self, messages: list[tuple[bytes, bytes]]) -> bool:
        """Whether they were written to a server. Answers its pings."""
        try:
            link = self._socket or self._connect()
            self._answer_pings(link)
            link.sendall(b"".join(b"PUB %b %d\r\n%b\r\n" % (to, len(body), body) for to, body in messages))
        except OSError:
            self.close()
            return False
        return True

    def close(self) -> None:
        if self._socket:
            self._socket.close()
        self._socket = None

    def _connect(self) -> socket.socket:
        error = OSError("no server is known")
        for url in self._urls:
            try:
                return self._open(url)
            except OSError as why:
                error = why
        raise error

    def _open(self, url: str) -> socket.socket:
        scheme, _, rest = url.strip().rpartition("://")
        credentials, _, host = rest.rpartition("@")
        host, _, port = host.rstrip("/").rpartition(":") if ":" in host.rpartition("]")[2] else (host, "", "4222")
        link = socket.create_connection((host.strip("[]"), int(port)), timeout=2.0)
        info = json.loads(link.recv(65536).split(b"\r\n", 1)[0].removeprefix(b"INFO "))
        if scheme == "tls" or info.get("tls_required"):
            import ssl  # Here, because it is as large as all of the rest.

            context = ssl.create_default_context(cafile=self._access.get("ca"))
            if "cert" in self._access:
                context.load_cert_chain(self._access["cert"], self._access.get("key"))
            link = context.wrap_socket(link, server_hostname=host.strip("[]"))
        hello: dict[str, object] = {"verbose": False, "pedantic": False, "name": self._name, "lang": "python"}
        user, _, password = credentials.partition(":")
        hello |= {"user": user, "pass": password} if password else {"auth_token": user} if user else {}
        hello |= self._identify(str(info.get("nonce", "")))
        link.sendall(b"CONNECT " + json.dumps(hello).encode() + b"\r\nPING\r\n")
        self._socket, self._rest = link, b""
        return link

    def _identify(self, nonce: str) -> dict[str, object]:
        """What CONNECT says of us, where credentials were given beside the URL."""
        access = self._access
        if "user" in access:
            return {"user": access["user"], "pass": access.get("password", "")}
        if "token" in access:
            return {"auth_token": access["token"]}
        if "creds" not in access:
            return {}
        sys.path.append(access["packages"])
        import nkeys  # type: ignore[import-untyped]  # Here: nothing else needs what is installed.

        with open(access["creds"], "rb") as file:
            lines = file.read().splitlines()
        jwt, seed = (_after(lines, mark) for mark in (b"BEGIN NATS USER JWT", b"BEGIN USER NKEY SEED"))
        signature = nkeys.from_seed(bytearray(seed)).sign(nonce.encode())
        return {"jwt": jwt.decode(), "sig": base64.urlsafe_b64encode(signature).rstrip(b"=").decode()}

    def _answer_pings(self, link: socket.socket) -> None:
        while select.select([link], [], [], 0)[0]:
            heard = link.recv(65536)
            if not heard:
                raise OSError("the server closed the connection")
            self._rest += heard
            if b"PING\r\n" in self._rest:
                link.sendall(b"PONG\r\n")
            if b"-ERR" in self._rest:
                raise OSError("the server refused")
            self._rest = self._rest[-5:] if not self._rest.endswith(b"\r\n") else b""


class Understudy:
    """The loop of the process."""

    def __init__(self, plan: dict[str, object], table: Table) -> None:
        self._lease, self._beat = float(str(plan["lease"])), float(str(plan["beat"]))
        self._beat_subject, self._event_subject = str(plan["beat_subject"]), str(plan["event_subject"])
        self._parent, self._stacks = int(str(plan["parent"])), int(str(plan["stacks"]))
        access = plan.get("access")
        self._table = table
        self._link = Link(str(plan["url"]), str(plan["name"]), access if isinstance(access, dict) else None)
        self._since = self._renewed = self._told = 0.0

    def run(self, pipe: int) -> None:
        """Until the worker has ended."""
        pause = min(1.0, self._lease / 12)
        while os.getppid() == self._parent:
            if select.select([pipe], [], [], pause)[0] and not os.read(pipe, 1):
                return
            self.look(time.monotonic())

    def look(self, now: float) -> None:
        """Stand in, if the keeper's tick is older than a third of the lease."""
        tick = self._table.last_tick()
        if now - tick < self._lease / 3 or tick == 0.0:
            if self._since:
                self._since = 0.0
                self._link.close()
            return
        if now - tick > LONGEST or self._is_stopped():
            return
        first, self._since = not self._since, self._since or tick
        if now - self._renewed >= self._lease / 3:
            # Not before it was sent: a server that is away for a moment must not cost a third of the lease.
            self._renewed = now if self._prolong() else 0.0
        if now - self._told >= self._beat:
            self._told = now
            self._say_beat()
        if first:
            # Last: it takes up to a second, and of a lease a third is gone already.
            self._tell_stacks()

    def _prolong(self) -> bool:
        return self._link.publish([(subject, PROLONG) for subject in self._table.leases()])

    def _say_beat(self) -> None:
        beat = self._table.read_beat()
        if beat:
            said = json.loads(beat) | {"starved": _moment(self._since)}
            self._link.publish([(self._beat_subject.encode(), json.dumps(said).encode())])

    def _tell_stacks(self) -> None:
        """The worker's log of transitions says what holds its interpreter."""
        os.ftruncate(self._stacks, 0)
        os.kill(self._parent, signal.SIGUSR2)
        until, size, before = time.monotonic() + STACK_TIME, 0, -1
        # Written when it has begun and no longer grows.
        while time.monotonic() < until and (size == 0 or size != before):
            time.sleep(0.05)
            size, before = os.fstat(self._stacks).st_size, size
        stacks = os.pread(self._stacks, 8000, 0).decode(errors="replace")
        beat = self._table.read_beat()
        state = json.loads(beat).get("state", "Busy") if beat else "Busy"
        message = f"no Python of this worker runs: a call into C holds the interpreter\n{stacks}"
        event = {"state": state, "at": _moment(self._since), "reason": "Starved", "message": message}
        self._link.publish([(self._event_subject.encode(), json.dumps(event).encode())])

    def _is_stopped(self) -> bool:
        """Stopped by a signal or traced: it does not work on its tasks, so they are not kept for it."""
        try:
            with open(f"/proc/{self._parent}/stat") as stat:
                return stat.read().rpartition(")")[2].split()[0] in "TtZX"
        except OSError:
            return True


def _after(lines: "list[bytes]", mark: bytes) -> bytes:
    """The line below the one that holds the mark."""
    return next((below for line, below in zip(lines, lines[1:]) if mark in line), b"").strip()  # noqa: B905, RUF007


def _moment(at: float) -> str:
    """A moment of the monotonic clock as a date."""
    seconds = time.time() - (time.monotonic() - at)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{int(seconds % 1 * 1000):03d}Z"


def main() -> None:
    """Arguments: the file descriptors of pipe and table. The plan, which holds secrets, comes as JSON on stdin."""
    pipe, memory = int(sys.argv[1]), int(sys.argv[2])
    for number in (signal.SIGTERM, signal.SIGINT):
        # Whoever stops a process group stops the worker; this process ends with it and not before.
        signal.signal(number, signal.SIG_IGN)
    Understudy(json.loads(sys.stdin.buffer.read()), Table(memory, os.fstat(memory).st_size)).run(pipe)


if __name__ == "__main__":
    main()
