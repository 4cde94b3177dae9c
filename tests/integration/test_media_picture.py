"""What the terminal sees: streams passed through, transcoded or chosen by name, or a card."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest

from sipmediadeploy.gateway.media.api import IceServers
from sipmediadeploy.gateway.media.gstreamer import Gst, GstSdp, GstVideo, GstWebRTC
from tests.harness.waiting import until
from tests.integration.media_terminal import BLUE, GREEN, RED, Colour
from tests.integration.test_media_call import HIGH, LOW, THIRD, Side, connect, side

pytestmark = pytest.mark.integration

CARD = (28, 36, 51)
"""Its background; the writing brightens the mean a little."""
H264 = (
    "a=rtpmap:107 H264/90000\r\na=fmtp:107 packetization-mode=1;profile-level-id=42e01f\r\n"
    "a=rtcp-fb:107 nack pli\r\na=rtpmap:96"
)


class Vp8Sender:
    """A peer connection that sends one VP8 picture of one colour, as a browser without H.264 does."""

    def __init__(self, colour: Colour) -> None:
        red, green, blue = colour
        self._pipeline = Gst.parse_launch(
            "webrtcbin name=w bundle-policy=max-bundle videotestsrc is-live=true pattern=solid-color"
            f" foreground-color={0xFF000000 | red << 16 | green << 8 | blue}"
            " ! video/x-raw,format=I420,width=640,height=360,framerate=15/1 ! valve name=valve"
            " ! vp8enc name=encoder deadline=1 cpu-used=8 threads=1 keyframe-max-dist=100000"
            " ! rtpvp8pay pt=96 picture-id-mode=15-bit"
            " ! application/x-rtp,media=video,encoding-name=VP8,payload=96,rtcp-fb-nack-pli=true ! w."
        )
        self._webrtc = self._pipeline.get_by_name("w")
        self.keyframes_asked = 0
        self._pipeline.get_by_name("encoder").get_static_pad("src").add_probe(
            Gst.PadProbeType.EVENT_UPSTREAM, self._upstream
        )

    async def connect(self, receiver: Side, *, h264_too: bool = False) -> None:
        """Offer VP8, or H.264 and VP8 as a bridge does that forwards what others send; take the answer."""
        self._pipeline.set_state(Gst.State.PLAYING)
        encoder = self._pipeline.get_by_name("encoder").get_static_pad("src")
        await until("the sender's caps are known", encoder.get_current_caps)
        await receiver.worker.create_peer("vp8", IceServers(), send=h264_too)
        reply = self._ask("create-offer", None)  # owns the offer
        self._ask("set-local-description", reply.get_value("offer"))
        state = GstWebRTC.WebRTCICEGatheringState.COMPLETE
        await until("candidates", lambda: self._webrtc.get_property("ice-gathering-state") == state)
        description = self._webrtc.get_property("local-description").sdp.as_text()
        if h264_too:
            description = description.replace("SAVPF 96", "SAVPF 107 96").replace("a=rtpmap:96", H264, 1)
        said = await receiver.worker.answer("vp8", description)
        if h264_too:
            assert "a=rtpmap:107 H264" in said
            said = re.sub(r"a=(fmtp|rtcp-fb):107[^\r]*\r\n", "", said.replace("SAVPF 107", "SAVPF 96"))
            said = said.replace("a=rtpmap:107 H264", "a=rtcp-fb:96 nack pli\r\na=rtpmap:96 VP8")
        _, answer = GstSdp.SDPMessage.new_from_text(said)
        self._ask(
            "set-remote-description",
            GstWebRTC.WebRTCSessionDescription.new(GstWebRTC.WebRTCSDPType.ANSWER, answer),
        )

    def mute(self, muted: bool) -> None:
        """Stop or go on sending."""
        self._pipeline.get_by_name("valve").set_property("drop", muted)

    def close(self) -> None:
        """Stop."""
        self._pipeline.set_state(Gst.State.NULL)

    def _ask(self, action: str, argument: Any) -> Any:
        promise = Gst.Promise.new()
        self._webrtc.emit(action, argument, promise)
        promise.wait()
        return promise.get_reply()

    def _upstream(self, _pad: Any, info: Any) -> Any:
        self.keyframes_asked += GstVideo.video_event_is_force_key_unit(info.get_event())
        return Gst.PadProbeReturn.OK


@contextmanager
def vp8(colour: Colour) -> Iterator[Vp8Sender]:
    sender = Vp8Sender(colour)
    try:
        yield sender
    finally:
        sender.close()


async def test_a_card_is_shown_until_somebody_sends_and_again_when_he_stops() -> None:
    async with side(HIGH, BLUE) as b, side(LOW, RED) as a:
        await b.worker.describe("Room demo", ["Nobody else is here yet"])
        await until("b sees the card", lambda: b.terminal.sees(CARD) and b.terminal.frames_received > 3)
        await connect(a, b)
        await until("b sees red", lambda: b.terminal.sees(RED))
        a.terminal.mute(True)
        await until("b sees the card again", lambda: b.terminal.sees(CARD))
        frames = b.terminal.frames_received
        await until("the card is no frozen frame", lambda: b.terminal.frames_received > frames + 5)
        a.terminal.mute(False)
        await until("b sees red again", lambda: b.terminal.sees(RED))


async def test_vp8_is_transcoded_and_switched_with_what_is_passed_through() -> None:
    with vp8(GREEN) as green:
        async with side(HIGH, BLUE) as b, side(LOW, RED) as a:
            await green.connect(b)
            await until("b sees green", lambda: b.terminal.sees(GREEN))
            await connect(a, b)
            await until("b sees red, which is newer", lambda: b.terminal.sees(RED))
            await a.worker.close_peer("a")
            await b.worker.close_peer("a")
            await until("b sees green again", lambda: b.terminal.sees(GREEN))
            asked = b.terminal.keyframes_received
            b.terminal.ask_keyframe()
            await until("b gets a key frame", lambda: b.terminal.keyframes_received > asked, 3)


async def test_vp8_is_shown_where_the_worker_itself_sends_h264() -> None:
    with vp8(GREEN) as green:
        async with side(HIGH, BLUE) as b:
            await green.connect(b, h264_too=True)
            await until("b sees green", lambda: b.terminal.sees(GREEN))


async def test_the_stream_that_is_named_is_shown() -> None:
    async with side(LOW, RED) as a, side(HIGH, BLUE) as b, side(THIRD, GREEN) as c:
        ssrcs = []
        for sender, name, colour in ((a, "ac", RED), (b, "bc", BLUE)):
            await sender.worker.create_peer(name, IceServers(), send=True)
            await c.worker.create_peer(name, IceServers(), send=False)
            offer = await sender.worker.offer(name)
            ssrcs.append(int(re.findall(r"a=ssrc:(\d+)", offer.partition("m=video")[2])[0]))
            await sender.worker.set_answer(name, await c.worker.answer(name, offer))
            # One after the other: the newest is the one whose packets began last.
            await until("c sees the newest", partial(c.terminal.sees, colour))
        await c.worker.show_video(ssrcs[0])
        await until("c sees red", lambda: c.terminal.sees(RED))
        await c.worker.show_video(ssrcs[1])
        await until("c sees blue", lambda: c.terminal.sees(BLUE))
        await c.worker.describe("Room demo", [])
        await c.worker.show_video(1)
        await until("nothing of that name: c sees the card", lambda: c.terminal.sees(CARD))
        await c.worker.show_video(None)
        await until("c sees one of them", lambda: c.terminal.sees(RED) or c.terminal.sees(BLUE))


async def test_strange_words_on_the_card_cost_nothing() -> None:
    async with side(HIGH, BLUE) as b:
        await b.worker.describe(
            "R\x00oom\n" + "x" * 5000, ["\ud83d\ude00", "", "会议室", *map(str, range(500))]
        )
        await until("b sees the card", lambda: b.terminal.frames_received > 3)
        await asyncio.gather(*(b.worker.describe("Room", [str(n)]) for n in range(5)))
        assert b.worker.alive
