"""What the SIP side's sound is on its way into the conference."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

pytest.importorskip("gi")

from sipmediadeploy.gateway.media import gstreamer, sip_stream
from sipmediadeploy.gateway.media.api import AudioStream, IceServers
from sipmediadeploy.gateway.media.graph import MediaGraph
from sipmediadeploy.gateway.media.gstreamer import GLib, Gst
from tests.harness.waiting import until
from tests.integration.media_terminal import BLUE, Terminal

pytestmark = pytest.mark.integration

PACKET_MS = 20


def packets(pipeline: Any, arrivals_ms: list[float], without: int) -> Any:
    """A source of PCMA packets that came at these times, one of them lost."""
    caps = "application/x-rtp,media=audio,encoding-name=PCMA,clock-rate=8000,payload=8"
    source = gstreamer.make("appsrc", caps=Gst.Caps.from_string(caps), format=Gst.Format.TIME)
    pipeline.add(source)
    for n, arrival in enumerate(arrivals_ms):
        if n != without:
            head = bytes([0x80, 8]) + n.to_bytes(2, "big") + (160 * n).to_bytes(4, "big") + bytes(4)
            buffer = Gst.Buffer.new_wrapped(head + bytes([0xD5] * 160))
            buffer.pts = int(arrival * Gst.MSECOND)
            source.emit("push-buffer", buffer)
    return source


async def test_timestamps_count_samples_whatever_arrival_times_do_and_show_a_lost_packet() -> None:
    gstreamer.start()
    pipeline = Gst.Pipeline.new(None)
    wander = (0, 3, -2, 0.02, 7, -5, 60, 55, 30, 10)
    arrivals = [1000 + PACKET_MS * n + wander[n % 10] for n in range(50)] + [2000 + 20 * n for n in range(50)]
    receive = sip_stream._receive_chain(AudioStream("PCMA", 8, 5004, "127.0.0.1", 5006))
    pay = gstreamer.make("rtpopuspay")
    times: list[int] = []

    def note(_pad: Any, info: Any) -> Any:
        data = info.get_buffer().extract_dup(4, 4)
        times.append(int.from_bytes(data, "big"))
        return Gst.PadProbeReturn.OK

    pay.get_static_pad("src").add_probe(Gst.PadProbeType.BUFFER, note)
    sink = gstreamer.make("fakesink", sync=False, **{"async": False})
    for element in (receive, pay, sink):
        pipeline.add(element)
    source = packets(pipeline, arrivals, without=70)
    first = receive.get_by_name("first").request_pad_simple("sink_%u")
    gstreamer.link(source.get_static_pad("src"), gstreamer.ghost(receive, "sink", first))
    last = receive.get_by_name("last").get_static_pad("src")
    gstreamer.link(gstreamer.ghost(receive, "src", last), pay.get_static_pad("sink"))
    pay.link(sink)
    pipeline.set_state(Gst.State.PLAYING)
    try:
        await until("98 packets have come through", lambda: len(times) >= 98)
    finally:
        pipeline.set_state(Gst.State.NULL)
    steps = [(b - a) % 2**32 for a, b in itertools.pairwise(times[1:])]  # the first packet is shorter
    assert sorted(steps)[:-1] == [960] * (len(steps) - 1)
    assert 1900 < max(steps) < 1940


async def test_nothing_in_a_peer_connection_holds_packets_back() -> None:
    gstreamer.start()
    terminal, graph, far = Terminal(440, BLUE), MediaGraph(lambda *_: None), MediaGraph(lambda *_: None)
    try:
        graph.start_sip(terminal.media(), 0)
        graph.create_peer("up", IceServers(), send=True)
        far.create_peer("down", IceServers(), send=False)
        graph.peer("up").set_answer(far.peer("down").answer(graph.peer("up").offer()))
        terminal.start()
        await until("streams are joined to the transport", lambda: len(_clocksyncs(graph)) >= 3)
        assert not any(element.get_property("sync") for element in _clocksyncs(graph))
    finally:
        for one in (graph, far):
            one._pipeline.set_state(Gst.State.NULL)
        terminal.close()


def _clocksyncs(graph: MediaGraph) -> list[Any]:
    """One each for sound, picture and the transport."""
    GLib.MainContext.default().iteration(False)  # the worker's main loop
    found = []
    elements = graph._pipeline.iterate_recurse()
    while (step := elements.next())[0] == Gst.IteratorResult.OK:
        factory = step[1].get_factory()  # None for some bins
        if factory is not None and factory.get_name() == "clocksync":
            found.append(step[1])
    return found
