"""Session timers as agreed (RFC 4028, section 9, table 2)."""

from __future__ import annotations

import pytest

from sipmediadeploy.gateway.sip.message import SipRequest
from sipmediadeploy.gateway.sip.session_timer import IntervalTooSmall, SessionTimer, from_request


def asks(expires: str, *, supported: str = "timer", allow: str = "INVITE, UPDATE") -> SipRequest:
    request = SipRequest(method="INVITE", uri="sip:a@b")
    for name, value in (("Session-Expires", expires), ("Supported", supported), ("Allow", allow)):
        request.headers.append(name, value)
    return request


@pytest.mark.parametrize(
    ("expires", "supported", "timer", "answer"),
    [
        ("1800", "timer", SessionTimer(1800, we_refresh=False), "1800;refresher=uac"),
        ("1800;refresher=uas", "timer", SessionTimer(1800, we_refresh=True), "1800;refresher=uas"),
        ("1800;refresher=uac", "timer", SessionTimer(1800, we_refresh=False), "1800;refresher=uac"),
        ("1800", "replaces", SessionTimer(1800, we_refresh=True), "1800;refresher=uas"),
        ("30", "replaces", SessionTimer(90, we_refresh=True), "90;refresher=uas"),
        (
            " 1800 ; Refresher=UAS;x",
            "100rel, timer",
            SessionTimer(1800, we_refresh=True),
            "1800;refresher=uas",
        ),
    ],
)
def test_who_refreshes(expires: str, supported: str, timer: SessionTimer, answer: str) -> None:
    agreed, headers = from_request(asks(expires, supported=supported))
    assert agreed == timer
    assert dict(headers)["Session-Expires"] == answer
    assert ("Require" in dict(headers)) == ("timer" in supported)


def test_too_short_an_interval_is_refused() -> None:
    with pytest.raises(IntervalTooSmall):
        from_request(asks("60"))


@pytest.mark.parametrize("expires", ["", "x", "-1", "9" * 40, "²"])
def test_nonsense_is_no_timer(expires: str) -> None:
    assert from_request(asks(expires)) == (None, ())


def test_the_refresher_refreshes_at_half_time_and_the_other_gives_up_before_the_end() -> None:
    assert SessionTimer(1800, we_refresh=True).delay == 900
    assert SessionTimer(1800, we_refresh=False).delay == 1768
    assert SessionTimer(90, we_refresh=False).delay == 60


def test_without_update_the_refresh_is_a_re_invite() -> None:
    agreed, _ = from_request(asks("1800;refresher=uas", allow="INVITE, BYE"))
    assert agreed == SessionTimer(1800, we_refresh=True, by_update=False)
