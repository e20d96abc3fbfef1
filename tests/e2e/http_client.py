"""A small, strict HTTP/1.1 client: it fails on any byte that is not framed as it should be."""

import json
import re
import socket
import struct
import time

PIECE_BYTES = 1 << 18


class Reply:
    """A whole reply."""

    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def json(self):
        return json.loads(self.body)

    def error(self):
        """The error object of a body in OpenAI's form."""
        error = self.json()["error"]
        assert set(error) == {"message", "type", "param", "code"}, error
        assert error["message"] and isinstance(error["code"], str), error
        return error

    def text(self):
        """What the model said in a chat completion."""
        return self.json()["choices"][0]["message"]["content"]

    def __repr__(self):
        return f"<{self.status} {self.body[:2000]!r}>"


def request_bytes(method, path, body=None, headers=()):
    """`body`: bytes, or anything else for JSON."""
    fields = {"Host": "localhost", **dict(headers)}
    if body is not None and not isinstance(body, bytes):
        body = json.dumps(body).encode()
        fields["Content-Type"] = "application/json"
    if body is not None and "Transfer-Encoding" not in fields:
        fields.setdefault("Content-Length", str(len(body)))
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + (body or b"")


def data_of(event):
    """The payload of a server-sent event; none of a comment."""
    lines = [line[6:] for line in event.decode().split("\n") if line.startswith("data: ")]
    return "\n".join(lines) if lines else None


class Connection:
    """One connection. A request and its reply together may take `limit_s`."""

    def __init__(self, port, limit_s=30, receive_buffer=None):
        self.socket = socket.socket()
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.limit_s = limit_s
        self._start_clock()
        try:
            self.socket.connect(("127.0.0.1", port))
        except OSError:
            self.socket.close()
            raise
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = bytearray()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    def reset(self):
        """Leaves with a reset in place of an orderly end."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def send(self, method, path, body=None, headers=()):
        self._start_clock()
        self.socket.sendall(request_bytes(method, path, body, headers))

    def ask(self, method, path, body=None, headers=()):
        self.send(method, path, body, headers)
        return self.reply()

    def reply(self):
        """Reads a whole reply."""
        status, headers = self.head()
        return Reply(status, headers, b"".join(self.pieces(headers)))

    def head(self):
        lines = self.read_until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        status = int(re.fullmatch(r"HTTP/1\.1 (\d{3}) .+", lines[0])[1])
        headers = {}
        for line in lines[1:]:
            name, value = line.split(": ", 1)
            assert name.lower() not in headers, f"{name} stands twice in the head"
            headers[name.lower()] = value
        assert not {"content-length", "transfer-encoding"} <= set(headers), headers
        return status, headers

    def pieces(self, headers):
        """The pieces of a reply's body: its chunks, if it is chunked."""
        if "content-length" in headers:
            left = int(headers["content-length"])
            while left > 0:
                piece = self._take(min(left, PIECE_BYTES))
                left -= len(piece)
                yield piece
            return
        assert headers.get("transfer-encoding") == "chunked", headers
        while size := int(self.read_until(b"\r\n"), 16):
            yield self._take(size)
            assert self._take(2) == b"\r\n"
        assert self._take(2) == b"\r\n"

    def events(self):
        """Reads the reply as an event stream: the payload of each event, "[DONE]" among them."""
        status, headers = self.head()
        if status != 200:
            raise AssertionError(Reply(status, headers, b"".join(self.pieces(headers))))
        yield from self.payloads(headers)

    def payloads(self, headers):
        """The rest of events(), when the head is read already."""
        assert headers["content-type"].startswith("text/event-stream"), headers
        text = bytearray()
        for piece in self.pieces(headers):
            looked_at = max(len(text) - 1, 0)
            text += piece
            while (end := text.find(b"\n\n", looked_at)) >= 0:
                data = data_of(text[:end])
                del text[: end + 2]
                looked_at = 0
                if data is not None:
                    yield data
        assert not text, f"the stream ends within an event: {bytes(text[-200:])!r}"

    def at_end(self):
        """True if the peer has ended the connection and nothing is left to read."""
        try:
            return not self.buffer and self.socket.recv(1, socket.MSG_PEEK) == b""
        except ConnectionResetError:
            return True

    def _start_clock(self):
        self.deadline = time.monotonic() + self.limit_s
        self.socket.settimeout(self.limit_s)

    def _fill(self):
        self.socket.settimeout(max(self.deadline - time.monotonic(), 0.001))
        data = self.socket.recv(PIECE_BYTES)
        if not data:
            raise EOFError(f"the connection ended behind {bytes(self.buffer[-200:])!r}")
        self.buffer += data

    def read_until(self, mark):
        while (end := self.buffer.find(mark)) < 0:
            self._fill()
        text = bytes(self.buffer[:end])
        del self.buffer[: end + len(mark)]
        return text

    def _take(self, size):
        while len(self.buffer) < size:
            self._fill()
        data = bytes(self.buffer[:size])
        del self.buffer[:size]
        return data
