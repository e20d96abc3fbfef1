"""A link between llama-server and a worker that a test can make slow, or break, at a chosen byte.

It forwards TCP connections of a port of its own to the worker, and knows as much of the protocol as
it takes to change a reply: each is 8 bytes of length and so many bytes.
"""

import contextlib
import random
import select
import socket
import struct
import threading
import time

UP, DOWN = "up", "down"  # To the worker, and from it.
PIECE_BYTES = 1 << 16
LENGTH = struct.Struct("<Q")
POLL_S = 0.05
BURST_S = 0.02  # A throttled link sends what it may send in so much time.


class Cut(Exception):
    """Ends the connection."""


def with_length(length, content):
    return LENGTH.pack(length) + content


# What can become of a reply, given its content: the bytes that are sent in its place.

def too_long(content):
    return with_length(len(content) + 1, content + b"\0")


def too_short(content):
    return with_length(len(content) - 1, content[:-1])


def huge(content):
    return with_length(2**60, content)


def empty(content):
    return with_length(0, b"")


def garbage(content):
    return random.Random(1).randbytes(LENGTH.size + len(content))


def saying(*values):
    """The reply starts with these bytes."""
    def change(content):
        return with_length(len(content), bytes(values) + content[len(values):])

    return change


class _Replies:
    """Cuts the bytes from a worker into replies."""

    def __init__(self):
        self.pending = b""

    def split(self, data):
        """Yields the content of each reply that is complete."""
        self.pending += data
        while len(self.pending) >= LENGTH.size:
            (length,) = LENGTH.unpack_from(self.pending)
            end = LENGTH.size + length
            if len(self.pending) < end:
                return
            content, self.pending = self.pending[LENGTH.size:end], self.pending[end:]
            yield content


class FaultyLink:
    """`passed`: the bytes that went each way, of all connections. Every method may be called at any
    time from any thread."""

    def __init__(self, worker_port):
        self.worker_port = worker_port
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.endpoint = f"127.0.0.1:{self.port}"
        self.passed = {UP: 0, DOWN: 0}
        self.replies = 0
        self.connections = 0
        self.delay_s = 0.0
        self.rate = None         # Bytes a second each way.
        self.piece = PIECE_BYTES  # The most that is sent at once.
        self.struck = threading.Event()
        self._stalled = {UP: threading.Event(), DOWN: threading.Event()}
        self._fault = {UP: None, DOWN: None}  # (byte, action)
        self._change = None                   # (number of the reply, change)
        self._lock = threading.Lock()
        self._sockets = set()
        self._closed = False
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.refuse()
        self.cut()

    def refuse(self):
        """From now on nothing listens. (To close it would not wake the thread that accepts.)"""
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    # Faults

    def cut(self):
        """Ends all connections; new ones are accepted and ended."""
        self._closed = True
        self.struck.set()
        with self._lock:
            for each in self._sockets:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

    def reset(self):
        """As cut, but with a reset, as of a machine that has started anew."""
        with self._lock:
            for each in self._sockets:
                with contextlib.suppress(OSError):
                    each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.cut()

    def stall(self, *directions):
        """Stops forwarding, both ways if none is given."""
        for direction in directions or (UP, DOWN):
            self._stalled[direction].set()
        self.struck.set()

    def when_passed(self, direction, more, action):
        """Calls `action` when `more` bytes have passed from now; they pass, no later one does
        before it returns."""
        with self._lock:
            self._fault[direction] = (self.passed[direction] + more, action)

    def change_reply(self, number, change):
        """Of the replies from now the one with that number, 0 the next, becomes what `change`
        makes of its content."""
        with self._lock:
            self._change = (self.replies + number, change)

    # Forwarding

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            try:
                if self._closed:
                    raise ConnectionAbortedError
                worker = socket.create_connection(("127.0.0.1", self.worker_port))
            except OSError:
                client.close()
                continue
            for each in (client, worker):
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self.connections += 1
                self._sockets |= {client, worker}
            threading.Thread(target=self._serve, args=(client, worker), daemon=True).start()

    def _serve(self, client, worker):
        upwards = threading.Thread(target=self._pump, args=(client, worker, UP), daemon=True)
        upwards.start()
        self._pump(worker, client, DOWN)
        upwards.join()
        with self._lock:
            self._sockets -= {client, worker}
        client.close()
        worker.close()

    def _pump(self, source, target, direction):
        replies = _Replies()
        with contextlib.suppress(OSError, Cut):
            while data := self._receive(source, direction):
                if direction == DOWN:
                    data = self._changed(replies, data)
                self._send(target, data, direction)
        for each in (source, target):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _receive(self, source, direction):
        """While stalled, doesn't read either, so that the sender's buffers fill up."""
        while not self._closed:
            if self._stalled[direction].is_set():
                time.sleep(POLL_S)
                continue
            if select.select([source], [], [], POLL_S)[0]:
                return source.recv(PIECE_BYTES)
        return b""

    def _changed(self, replies, data):
        out = b""
        for content in replies.split(data):
            with self._lock:
                number, change = self.replies, self._change
                self.replies += 1
            if change is not None and change[0] == number:
                self.struck.set()
                out += change[1](content)
            else:
                out += with_length(len(content), content)
        return out

    def _send(self, target, data, direction):
        while data:
            with self._lock:
                fault = self._fault[direction]
                size = min(len(data), self.piece)
                if self.rate:
                    size = min(size, max(1, int(self.rate * BURST_S)))
                if fault:
                    size = min(size, fault[0] - self.passed[direction])
            if self.delay_s:
                time.sleep(self.delay_s)
            if self.rate:
                time.sleep(size / self.rate)
            target.sendall(data[:size])
            data = data[size:]
            with self._lock:
                self.passed[direction] += size
                due = fault and self.passed[direction] >= fault[0]
                if due:
                    self._fault[direction] = None
            if due:
                fault[1]()
            while self._stalled[direction].is_set() and not self._closed:
                time.sleep(POLL_S)
            if self._closed:
                raise Cut
