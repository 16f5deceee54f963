#!/opt/hyperpod-ebs/bin/python -IS
"""The command of the chart's probes: ask a driver's process through its CSI socket.

    hyperpod-ebs-probe alive|ready SOCKET SECONDS

`alive` succeeds when the process answers CSI's Probe at all; `ready` when it answers that it is ready.
Either asks again until SECONDS have passed.

Kubelet runs this command on every node all the time, so it loads only built-in modules: `import socket` or
`import typing` doubles its CPU time, and `import grpc` multiplies it by ten. It speaks as much HTTP/2 as one gRPC call
needs (RFC 9113, RFC 7541 §6.2.2, "gRPC over HTTP2").
"""

import sys
import time
from _socket import AF_UNIX, SOCK_STREAM, socket

PATH = b"/csi.v1.Identity/Probe"
READY = b"\n\x02\x08\x01"
"""A ProbeResponse whose `ready` is true."""

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _GOAWAY = 0, 1, 3, 4, 7
_END_STREAM, _END_HEADERS = 1, 4
_STREAM = 1
_HEADER_SIZE = 9
_PREFIX_SIZE = 5
"""Bytes before a gRPC message: whether it is compressed, and its length."""

_PAUSE = 0.2
_HEADERS_OF_CALL = (
    (b":method", b"POST"),
    (b":scheme", b"http"),
    (b":path", PATH),
    (b":authority", b"localhost"),
    (b"te", b"trailers"),
    (b"content-type", b"application/grpc"),
)


class NoAnswer(Exception):  # noqa: N818 - named for what happened
    """The server refused the call, or closed the connection."""


def main() -> None:
    """Ask until the answer is the wanted one; exit with 1 when the time is over."""
    wanted, path, seconds = sys.argv[1:]
    end = time.monotonic() + float(seconds)
    problem = "no time to ask"
    while (remaining := end - time.monotonic()) > 0:
        try:
            answer = probe(path, remaining)
        except (OSError, NoAnswer) as error:
            problem = f"no answer from {path}: {error}"
        else:
            if wanted == "alive" or answer == READY:
                return
            problem = "the driver is not ready; its log says why"
        time.sleep(_PAUSE)
    sys.exit(problem)


def probe(path: str, seconds: float) -> bytes:
    """Call Probe on a CSI socket; the bytes of its answer.

    Raises:
        OSError: The socket does not exist, or nothing answers within `seconds` of the last bytes.
        NoAnswer: The server refused the call.
    """
    headers = b"".join(
        b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value for name, value in _HEADERS_OF_CALL
    )
    connection = socket(AF_UNIX, SOCK_STREAM)
    try:
        connection.settimeout(seconds)
        connection.connect(path)
        connection.sendall(
            _PREFACE
            + _frame(_SETTINGS, 0, 0, b"")
            + _frame(_HEADERS, _END_HEADERS, _STREAM, headers)
            + _frame(_DATA, _END_STREAM, _STREAM, bytes(_PREFIX_SIZE))
        )
        return _receive_message(connection)
    finally:
        connection.close()


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def _receive_message(connection: socket) -> bytes:
    """Receive frames until the call's message is complete."""
    body = b""
    while True:
        header = _receive(connection, _HEADER_SIZE)
        payload = _receive(connection, int.from_bytes(header[:3], "big"))
        kind, flags = header[3], header[4]
        if kind == _DATA:
            body += payload
            if len(body) >= _PREFIX_SIZE + int.from_bytes(body[1:_PREFIX_SIZE], "big"):
                return body[_PREFIX_SIZE:]
        elif kind in {_RST_STREAM, _GOAWAY} or (kind == _HEADERS and flags & _END_STREAM):
            raise NoAnswer("the server refused the call")


def _receive(connection: socket, size: int) -> bytes:
    received = b""
    while len(received) < size:
        if not (more := connection.recv(size - len(received))):
            raise NoAnswer("the server closed the connection")
        received += more
    return received


if __name__ == "__main__":
    main()
