"""Messages of the bridge channel."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipmediadeploy.gateway.conference.jitsi import bridge
from sipmediadeploy.gateway.conference.jitsi.bridge import BadMessage, parse_message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"colibriClass":"ServerHello","version":"2.3"}', bridge.ServerHello("2.3")),
        ('{"colibriClass":"ServerHello"}', bridge.ServerHello()),
        (
            '{"colibriClass":"DominantSpeakerEndpointChangeEvent","dominantSpeakerEndpoint":"a",'
            '"previousSpeakers":["b"],"silence":true}',
            bridge.DominantSpeaker("a", ("b",), True),
        ),
        (
            '{"colibriClass":"ForwardedSources","forwardedSources":["a-v0"]}',
            bridge.ForwardedSources(("a-v0",)),
        ),
        (
            '{"colibriClass":"SenderSourceConstraints", "sourceName":"a-v0", "maxHeight":0}',
            bridge.SenderSourceConstraints("a-v0", 0),
        ),
        (
            '{"colibriClass":"VideoSourcesMap","mappedSources":[{"source":"a-v0","owner":"a","ssrc":5,"rtx":6,'
            '"videoType":"CAMERA"}]}',
            bridge.SourcesMap("video", (bridge.MappedSource("a-v0", "a", 5, 6, "camera"),)),
        ),
        (
            '{"colibriClass":"AudioSourcesMap","mappedSources":[{"source":"a-a0","owner":"a","ssrc":7}]}',
            bridge.SourcesMap("audio", (bridge.MappedSource("a-a0", "a", 7),)),
        ),
        (
            '{"colibriClass":"ConnectionStats","estimatedDownlinkBandwidth":2500000}',
            bridge.ConnectionStats(2_500_000),
        ),
        (
            '{"colibriClass":"EndpointMessage","from":"a","msgPayload":{"type":"e2e-ping-request","id":3}}',
            bridge.PingRequest("a", 3),
        ),
        ('{"colibriClass":"EndpointMessage","from":"a","msgPayload":{"type":"chat"}}', None),
        ('{"colibriClass":"EndpointStats","from":"a","bitrate":{}}', None),
        ('{"colibriClass":"OfTomorrow"}', None),
        ("{}", None),
    ],
)
def test_messages_are_understood_or_passed_over(text: str, message: bridge.Message | None) -> None:
    assert parse_message(text) == message


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nothing",
        "[]",
        "7",
        "[" * 100_000,
        '{"a":' * 50_000,
        '{"colibriClass":"DominantSpeakerEndpointChangeEvent"}',
        '{"colibriClass":"ForwardedSources","forwardedSources":{}}',
        '{"colibriClass":"SenderSourceConstraints","sourceName":"a","maxHeight":"0"}',
        '{"colibriClass":"SenderSourceConstraints","sourceName":"a","maxHeight":true}',
        '{"colibriClass":"VideoSourcesMap","mappedSources":[7]}',
        '{"colibriClass":"VideoSourcesMap","mappedSources":[{"source":"a","ssrc":1e99}]}',
        '{"colibriClass":"ConnectionStats","estimatedDownlinkBandwidth":1' + "0" * 40 + "}",
        '{"colibriClass":"ConnectionStats","estimatedDownlinkBandwidth":1' + "0" * 5000 + "}",
        '{"colibriClass":"EndpointMessage","msgPayload":{"type":"e2e-ping-request","id":[]}}',
        json.dumps({"colibriClass": "VideoSourcesMap", "mappedSources": [{}] * 1000}),
        '{"colibriClass":"ServerHello","version":"' + "x" * 300_000 + '"}',
    ],
    ids=lambda text: text[:40],
)
def test_a_hostile_message_is_refused(text: str) -> None:
    with pytest.raises(BadMessage):
        parse_message(text)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)
_KEYS = [
    "dominantSpeakerEndpoint",
    "forwardedSources",
    "sourceName",
    "maxHeight",
    "mappedSources",
    "msgPayload",
]
_CLASSES = [
    "ServerHello",
    "ForwardedSources",
    "VideoSourcesMap",
    "EndpointMessage",
    "SenderSourceConstraints",
]


@given(st.sampled_from(_CLASSES), st.dictionaries(st.sampled_from([*_KEYS, "from", "version"]), _JSON))
def test_no_value_makes_the_parser_fail_otherwise(name: str, values: dict[str, object]) -> None:
    try:
        parse_message(json.dumps({"colibriClass": name, **values}))
    except BadMessage:
        pass


def test_the_latest_speaker_is_asked_for_and_a_shared_screen_is_pinned() -> None:
    speaker = json.loads(bridge.receiver_constraints(bridge.wanted_of(True, 720, [])))
    assert (speaker["lastN"], speaker["selectedSources"]) == (1, [])
    assert speaker["defaultConstraints"] == {"maxHeight": 720}
    screen = json.loads(bridge.receiver_constraints(bridge.wanted_of(True, 360, ["b-v1", "c-v1"])))
    assert screen["selectedSources"] == screen["onStageSources"] == ["b-v1"]
    assert screen["constraints"] == {"b-v1": {"maxHeight": 360}}
    assert json.loads(bridge.receiver_constraints(bridge.wanted_of(False, 720, ["b-v1"])))["lastN"] == 0


def test_the_map_keeps_what_it_is_not_told_anew_of() -> None:
    ann, bob = bridge.MappedSource("a-v0", "a", 5), bridge.MappedSource("b-v0", "b", 6)
    streams = bridge.streams_after(bridge.streams_after({}, [ann]), [bob])
    assert streams == {"a-v0": 5, "b-v0": 6}
    assert bridge.streams_after(streams, [bridge.MappedSource("c-v0", "c", 5)]) == {"b-v0": 6, "c-v0": 5}


def test_a_ping_is_answered_to_its_sender() -> None:
    answer = json.loads(bridge.ping_response(bridge.PingRequest("a", 3)))
    assert answer["to"] == "a"
    assert answer["msgPayload"] == {"type": "e2e-ping-response", "id": 3}
