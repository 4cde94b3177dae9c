"""What a deployment's ``config.js`` says, without running it. Pure.

The file is JavaScript that every operator edits. It is cut into tokens; assignments of literals (strings and
their concatenations, templates, objects) to ``config`` and to variables are taken, everything else is passed
over. What can't be understood is unknown, and the caller falls back to Jitsi's defaults. Every step consumes
input and nothing is scanned twice, so a hostile file costs time in proportion to its size, which is bounded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

MAX_CHARACTERS = 256 * 1024
MAX_DEPTH = 40
MAX_TEXT = 4096

Value = Any
"""str, float, bool, None, dict; :data:`UNKNOWN` where it can't be told."""


class _Unknown:
    pass


UNKNOWN = _Unknown()


@dataclass(frozen=True, slots=True)
class _Token:
    kind: Literal["name", "text", "template", "number", "sign", "end"]
    text: str
    new_line: bool = False
    """A line begins between this token and the one before."""


_SPACE = re.compile(r"\s++")
_NAME = re.compile(r"[A-Za-z_$][\w$]*+")
_NUMBER = re.compile(r"\d[\w.]*+")
_QUOTED = {
    "'": re.compile(r"'((?:[^'\\\n]|\\[\s\S])*+)'"),
    '"': re.compile(r'"((?:[^"\\\n]|\\[\s\S])*+)"'),
    "`": re.compile(r"`((?:[^`\\]|\\[\s\S])*+)`"),
}
_SIGN = re.compile(r"\|\||&&|===?|!==?|=>|\?\?|\+\+|\+=|[^\w\s]")
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2}|\r?\n|[\s\S])")
_INSERTED = re.compile(r"\$\{([^{}]*+)\}")
_SERVER_SIDE = re.compile(r"<!--#.*?-->")
_END = _Token("end", "")


def _tokens(text: str) -> Iterator[_Token]:
    at, new_line = 0, True
    while at < len(text):
        if found := _SPACE.match(text, at):
            new_line = new_line or "\n" in found[0]
            at = found.end()
            continue
        if text.startswith(("//", "<!--", "-->"), at):
            at = _line_end(text, at)
            continue
        if text.startswith("/*", at):
            end = text.find("*/", at + 2)
            at = len(text) if end < 0 else end + 2
            continue
        one = text[at]
        if one in _QUOTED:
            found = _QUOTED[one].match(text, at)
            if found is None:  # not JavaScript: the line, or for a template the rest, can't be read
                at = len(text) if one == "`" else _line_end(text, at)
                continue
            kind: Literal["template", "text"] = "template" if one == "`" else "text"
            yield _Token(kind, found[1], new_line)
        elif found := _NAME.match(text, at):
            yield _Token("name", found[0], new_line)
        elif found := _NUMBER.match(text, at):
            yield _Token("number", found[0], new_line)
        elif found := _SIGN.match(text, at):
            yield _Token("sign", found[0], new_line)
        at, new_line = (found.end() if found else at + 1), False


def _line_end(text: str, at: int) -> int:
    end = text.find("\n", at)
    return len(text) if end < 0 else end


def _unescaped(text: str) -> str:
    def one(found: re.Match[str]) -> str:
        what = found[1]
        if len(what) > 1 and what[0] in "ux":
            character = chr(int(what[1:], 16))
            return character if character.isprintable() else ""
        return {"n": "\n", "t": "\t", "r": "\r", "\n": "", "\r\n": ""}.get(what, what)

    return _ESCAPE.sub(one, text)


class _Reader:
    """Assignments of one file, in order."""

    def __init__(self, text: str) -> None:
        self._tokens = list(_tokens(text))
        self._at = 0
        self._blocks = 0
        self.variables: dict[str, Value] = {}

    def read(self) -> None:
        while (token := self._peek()).kind != "end":
            if token.text in ("{", "}") and token.kind == "sign":
                self._blocks = max(0, self._blocks + (1 if token.text == "{" else -1))
            if token.kind == "name" and self._previous().text != ".":
                self._statement()
            else:
                self._at += 1

    def _peek(self, ahead: int = 0) -> _Token:
        at = self._at + ahead
        return self._tokens[at] if at < len(self._tokens) else _END

    def _previous(self) -> _Token:
        return self._tokens[self._at - 1] if self._at else _END

    def _statement(self) -> None:
        path = self._path()
        if (self._peek().kind, self._peek().text) == ("sign", "="):
            self._at += 1
            self._assign(path, self._expression(0))

    def _path(self) -> tuple[str, ...]:
        """``a.b['c']`` as its parts; at a name."""
        parts = [self._peek().text]
        self._at += 1
        while True:
            sign, inner = self._peek(), self._peek(1)
            if sign.kind != "sign":
                break
            if sign.text == "." and inner.kind == "name":
                self._at += 2
            elif sign.text == "[" and inner.kind == "text" and self._peek(2).text == "]":
                self._at += 3
            else:
                break
            parts.append(inner.text)
        return tuple(parts)

    def _assign(self, path: tuple[str, ...], value: Value) -> None:
        place: dict[str, Value] = self.variables
        for part in path[:-1]:
            inner = place.setdefault(part, {})
            if not isinstance(inner, dict):
                return
            place = inner
        last = path[-1]
        if last in place and (self._blocks or (value in ({}, UNKNOWN) and isinstance(place[last], dict))):
            return  # below a condition; or 'config.hosts = config.hosts || {}'
        place[last] = value

    def _expression(self, depth: int) -> Value:
        value = self._primary(depth)
        while self._peek().kind == "sign" and self._peek().text == "+":
            self._at += 1
            right = self._primary(depth)
            value = _joined(value, right)
        token = self._peek()
        if token.kind == "end" or token.new_line or (token.kind == "sign" and token.text in ";,}])"):
            return value
        return UNKNOWN  # '? :', '||', a call, ...: more than a literal

    def _primary(self, depth: int) -> Value:
        token = self._peek()
        if depth > MAX_DEPTH:
            return UNKNOWN
        if token.kind == "name":
            path = self._path()
            return _WORDS[path[0]] if path[0] in _WORDS else self._value_of(path)
        if token.kind == "sign" and token.text not in "{[(":
            return UNKNOWN
        self._at += 1
        match token.kind, token.text:
            case "text", text:
                return _server_side(_unescaped(text))
            case "template", text:
                return self._template(text)
            case "number", text:
                return _number(text)
            case "sign", "{":
                return self._object(depth + 1)
            case "sign", "[":
                return self._array(depth + 1)
            case "sign", "(":
                value = self._expression(depth + 1)
                if self._peek().text == ")":
                    self._at += 1
                    return value
        return UNKNOWN

    def _object(self, depth: int) -> Value:
        made: dict[str, Value] = {}
        while (token := self._peek()).kind != "end":
            self._at += 1
            if token.kind == "sign" and token.text == "}":
                break
            if token.kind in ("name", "text", "number") and self._peek().text == ":":
                self._at += 1
                made[token.text] = self._expression(depth)
                self._skip_to_comma()
            elif token.kind == "sign" and token.text in "{[(":
                self._skip_nested()
        return made

    def _array(self, depth: int) -> Value:
        while (token := self._peek()).kind != "end":
            if token.kind == "sign" and token.text == "]":
                self._at += 1
                break
            at = self._at
            self._expression(depth)
            self._skip_to_comma()
            self._at += self._peek().text == "," or self._at == at
        return UNKNOWN

    def _skip_to_comma(self) -> None:
        """Over what is left of a value."""
        while (token := self._peek()).kind != "end":
            if token.kind == "sign" and token.text in (",", "}", "]", ")"):
                return
            self._at += 1
            if token.kind == "sign" and token.text in "{[(":
                self._skip_nested()

    def _skip_nested(self) -> None:
        depth = 1
        while depth and (token := self._peek()).kind != "end":
            self._at += 1
            if token.kind == "sign":
                depth += (token.text in "{[(") - (token.text in "}])")

    def _value_of(self, path: tuple[str, ...]) -> Value:
        value: Value = self.variables
        for part in path:
            if not isinstance(value, dict) or part not in value:
                return UNKNOWN
            value = value[part]
        return value

    def _template(self, text: str) -> Value:
        known = len(text) <= MAX_TEXT
        if not known:
            return UNKNOWN

        def inserted(found: re.Match[str]) -> str:
            nonlocal known
            value = self._value_of(tuple(found[1].strip().split(".")))
            known = known and isinstance(value, str)
            return value if isinstance(value, str) else ""

        made = _INSERTED.sub(inserted, text)
        return _unescaped(made)[:MAX_TEXT] if known and "${" not in made else UNKNOWN


_WORDS: dict[str, Value] = {"true": True, "false": False, "null": None, "undefined": UNKNOWN}


def _joined(left: Value, right: Value) -> Value:
    if isinstance(left, str) and isinstance(right, str) and len(left) + len(right) <= MAX_TEXT:
        return left + right
    return UNKNOWN


def _number(text: str) -> Value:
    try:
        return float(text)
    except ValueError:
        return UNKNOWN


def _server_side(text: str) -> str:
    """What is left when the web server did not fill in its ``<!--# echo -->``: the empty default."""
    return _SERVER_SIDE.sub("", text) if "<!--#" in text else text


@dataclass(frozen=True, slots=True)
class JitsiConfig:
    """What ``config.js`` tells; None: it does not, or not in a way that is understood."""

    domain: str | None = None
    muc: str | None = None
    focus: str | None = None
    focus_user: str | None = None
    websocket: str | None = None
    bosh: str | None = None
    request_url: str | None = None
    prefer_bosh: bool = False
    keep_alive_url: str | None = None


def parse_config(text: str) -> JitsiConfig:
    """What ``config.js`` says about where things are; never raises."""
    reader = _Reader(text[:MAX_CHARACTERS])
    reader.read()
    config = reader.variables.get("config")
    if not isinstance(config, Mapping):
        return JitsiConfig()
    hosts = config.get("hosts")
    hosts = hosts if isinstance(hosts, Mapping) else {}
    return JitsiConfig(
        domain=_text(hosts, "domain"),
        muc=_text(hosts, "muc"),
        focus=_text(hosts, "focus"),
        focus_user=_text(config, "focusUserJid"),
        websocket=_text(config, "websocket"),
        bosh=_text(config, "bosh"),
        request_url=_text(config, "conferenceRequestUrl"),
        prefer_bosh=config.get("preferBosh") is True,
        keep_alive_url=_text(config, "websocketKeepAliveUrl"),
    )


def _text(values: Mapping[str, Value], key: str) -> str | None:
    value = values.get(key)
    return value if isinstance(value, str) and value.strip() else None
