"""The media worker process: ``python3 -m sipmediadeploy.gateway.media.worker FD``.

FD is one end of a socket pair that speaks :mod:`~sipmediadeploy.gateway.media.wire`. The process carries one
call and ends when the other end closes or when GStreamer reports an error.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
from dataclasses import asdict
from typing import Any

from sipmediadeploy.gateway.media import wire
from sipmediadeploy.gateway.media.api import MediaError
from sipmediadeploy.gateway.media.card import Card
from sipmediadeploy.gateway.media.graph import MediaGraph
from sipmediadeploy.gateway.media.gstreamer import GLib, start

RELAYS_S = 0.5
"""So long TURN servers may take to end allocations; one that is dead answers never."""
_FATAL_EXIT = 70
"""EX_SOFTWARE of sysexits.h."""


class Worker:
    """Reads requests, hands them to the graph, writes replies and events."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._writing = threading.Lock()
        self._lines = wire.LineSplitter()
        self._graph = MediaGraph(self.emit)
        self._loop = GLib.MainLoop()
        GLib.io_add_watch(sock.fileno(), GLib.PRIORITY_DEFAULT, GLib.IO_IN | GLib.IO_HUP, self._readable)

    def run(self) -> None:
        """Serve until the server closes its end."""
        self.emit("ready")
        self._loop.run()
        self._graph.end(RELAYS_S)

    def emit(self, event: str, *arguments: Any) -> None:
        """Tell the server; a ``fatal`` event ends the process, since the call can't go on."""
        self._write({"event": event, "with": arguments})
        if event == "fatal":
            os._exit(_FATAL_EXIT)

    def _write(self, message: wire.Message) -> None:
        with self._writing, contextlib.suppress(OSError):  # a closed socket ends the loop by itself
            self._socket.sendall(wire.line(message))

    def _readable(self, *_: Any) -> bool:
        data = self._socket.recv(65536)
        if not data:
            self._loop.quit()
            return False
        for line in self._lines.feed(data):
            self._serve(wire.parse(line))
        return True

    def _serve(self, request: wire.Message) -> None:
        try:
            value = self._do(request["do"], request.get("with", {}))
        except MediaError as error:
            self._write({"id": request["id"], "error": str(error)})
        except Exception as error:
            self._write({"id": request["id"], "error": f"{type(error).__name__}: {error}"})
        else:
            self._write({"id": request["id"], "ok": value})

    def _do(self, name: str, given: wire.Message) -> object:
        graph = self._graph
        match name:
            case "start_sip":
                graph.start_sip(wire.sip_media_from_wire(given["media"]), given["rtp_timeout_s"])
            case "create_peer":
                graph.create_peer(given["peer"], wire.ice_from_wire(given["ice"]), given["send"])
            case "open_channel":
                graph.peer(given["peer"]).channel.want(given["label"], given["protocol"])
            case "send_channel":
                graph.peer(given["peer"]).channel.send(given["text"])
            case "offer":
                return graph.peer(given["peer"]).offer(given["receive"])
            case "set_answer":
                graph.peer(given["peer"]).set_answer(given["sdp"])
            case "answer":
                return graph.peer(given["peer"]).answer(given["sdp"])
            case "add_candidate":
                graph.peer(given["peer"]).add_candidate(given["mline"], given["candidate"])
            case "send_uplink":
                graph.send_uplink(given["audio"], given["video"])
            case "video_switched":
                graph.video_switched()
            case "show_video":
                graph.show_video(given["ssrc"])
            case "video_arrives":
                return graph.video_arrives()
            case "describe":
                graph.describe(Card(given["title"], tuple(given["lines"])))
            case "say":
                graph.say(given["file"])
            case "send_keyframe":
                graph.send_keyframe()
            case "close_peer":
                graph.close_peer(given["peer"])
            case "stats":
                return asdict(graph.stats())
            case _:
                raise MediaError(f"unknown request {name}")
        return None


def main() -> None:
    """Run the worker on the socket whose descriptor is the first argument."""
    sock = socket.socket(fileno=int(sys.argv[1]))
    try:
        start()
        worker = Worker(sock)
    except MediaError as error:
        sock.sendall(wire.line({"event": "fatal", "with": [str(error)]}))
        sys.exit(_FATAL_EXIT)
    worker.run()
    os._exit(0)  # the pipeline ends with the process; tearing it down first only takes time


if __name__ == "__main__":
    main()
