"""What is understood of a config.js, and what hostile ones cost."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sipmediadeploy.gateway.conference.jitsi.config_js import JitsiConfig, parse_config

SIZE = 65_536

PACKAGED = """
/* eslint-disable comma-dangle, no-unused-vars, no-var */
// var config = { hosts: { domain: 'wrong.example.org' } };
var subdir = '<!--# echo var="subdir" default="" -->';
var subdomain = '<!--# echo var="subdomain" default="" -->';
if (subdomain) {
    subdomain = subdomain.substr(0, subdomain.length - 1).split('.')
        .join('_')
        .toLowerCase() + '.';
}
var enableJaaS = false;
var config = {
    // Connection
    hosts: {
        // XMPP domain.
        domain: 'meet.example.org',
        // anonymousdomain: 'guest.example.com',
        muc: 'conference.' + subdomain + 'meet.example.org',
        // focus: 'focus.example.com',
    },
    bosh: 'https://meet.example.org/' + subdir + 'http-bind',
    websocket: 'wss://meet.example.org/' + subdir + 'xmpp-websocket',
    websocketKeepAliveUrl: `https://meet.example.org/${subdir}_unlock`,
    conferenceRequestUrl:
        'https://meet.example.org/' + subdir + 'conference-request/v1',
    testing: { octo: [ 1, 2, { a: "}" } ], f: function(x) { return { hosts: x }; }, },
    toolbarButtons: [ 'camera', ...more ],
    preferBosh: false,
    it: "it's", re: /[^'"]/, ternary: a ? 'b' : 'c',
};
if (enableJaaS) { config.hosts = { domain: 'jaas.example.org' }; }
"""

CONTAINER = """
var config = {};
if (!config.hasOwnProperty('hosts')) config.hosts = {};
config.hosts.domain = 'meet.example';
config.focusUserJid = "focus@auth.meet.example";
var subdomain = "<!--# echo var='subdomain' default='' -->";
if (subdomain.startsWith('<!--')) { subdomain = ''; }
config.hosts['muc'] = 'muc.' + subdomain + 'meet.example';
config.bosh = '//meet.example.org/http-bind';
config.websocket = 'wss://' + window.location.host + '/xmpp-websocket';
config.preferBosh = true
config.hosts = config.hosts || {};
"""


def test_the_file_of_the_packages_is_understood() -> None:
    assert parse_config(PACKAGED) == JitsiConfig(
        domain="meet.example.org",
        muc="conference.meet.example.org",
        websocket="wss://meet.example.org/xmpp-websocket",
        bosh="https://meet.example.org/http-bind",
        request_url="https://meet.example.org/conference-request/v1",
        keep_alive_url="https://meet.example.org/_unlock",
    )


def test_the_file_of_the_containers_is_understood_and_what_is_not_a_literal_is_unknown() -> None:
    found = parse_config(CONTAINER)
    assert (found.domain, found.muc) == ("meet.example", "muc.meet.example")
    assert found.focus_user == "focus@auth.meet.example"
    assert found.bosh == "//meet.example.org/http-bind"
    assert found.websocket is None
    assert found.prefer_bosh


@pytest.mark.parametrize(
    ("text", "domain"),
    [
        ("var config = {hosts: {domain: 'a.example'}}", "a.example"),
        ('config = {"hosts": {"domain": "a\\u002eexample"}};', "a.example"),
        ("const config = {hosts: {domain: ('a.' + 'example')}};", "a.example"),
        ("var d = 'a.example', config = {hosts: {domain: d}};", "a.example"),
        ("var d = {e: 'a.example'}; let config = {hosts: {domain: `${d.e}`}};", "a.example"),
        ("var config = {}; config.hosts = {}; config.hosts.domain = 'a.example'", "a.example"),
        ("var config = {hosts: {domain: f('b.example')}};", None),
        ("var config = {hosts: {domain: x || 'b.example'}};", None),
        ("var config = {hosts: {domain: `${x()}`}};", None),
        ("var config = {hosts: {domain: 'a' + 1}};", None),
        ("var config = 'hosts'; config.hosts.domain = 'x'", None),
        ("<html><body>Not found 'here</body>", None),
        ("", None),
        ("var config = {hosts: {domain: 'a.example", None),
    ],
)
def test_literals_are_understood_and_nothing_else(text: str, domain: str | None) -> None:
    assert parse_config(text).domain == domain


@pytest.mark.parametrize(
    "piece",
    [
        "/*",
        "'",
        "`",
        '"\\',
        "{",
        "[",
        "(",
        "a=[",
        "a={a:",
        "config={hosts:",
        "${a}",
        "`${a}`+",
        "a+",
        "a='x'+a;",
        "a=`${a}${a}`;",
        "\\",
        "<!--#",
        "1.",
        "a.b.",
        "a['b'].",
    ],
)
def test_a_hostile_file_costs_a_bounded_time(piece: str) -> None:
    text = "var a='" + "x" * 4000 + "';" + piece * (SIZE // len(piece))
    begun = time.process_time()
    parse_config(text)
    assert time.process_time() - begun < 3  # in proportion to the size; a square would be minutes


_WORDS = ["config", "hosts", "domain", "=", "{", "}", ":", "'a'", "`${config}`", "[", "]", "(", ")", ";", "+"]


@given(st.lists(st.sampled_from([*_WORDS, ",", ".", "//", "/*", "'", "\n", "var", "if"]), max_size=60))
@settings(max_examples=300, deadline=None)
def test_no_sequence_of_tokens_is_too_much(words: list[str]) -> None:
    assert isinstance(parse_config(" ".join(words)), JitsiConfig)


@given(st.text(max_size=400))
@settings(max_examples=200, deadline=None)
def test_no_text_is_too_much(text: str) -> None:
    parse_config(text)
    parse_config("var config = {hosts: {domain: " + text)
