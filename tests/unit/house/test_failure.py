"""A failed test shows the end of its stack's logs, without secrets and without failing itself."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from tests.harness import failure


@dataclass
class Stack:
    name: str
    logs: dict[str, str] | None

    def last_lines(self) -> dict[str, str]:
        if self.logs is None:
            raise AssertionError("docker: not there")
        return self.logs


def test_each_replicas_log_is_shown_once_for_each_stack() -> None:
    stack = Stack("one", {"one-kamailio-0": "event=a\n", "one-coturn-0": "event=b\n"})
    ((title, text),) = failure.sections([stack, 3, "text", None, stack])
    assert title == "last log lines of stack one"
    assert text == "--- one-kamailio-0\nevent=a\n--- one-coturn-0\nevent=b"


def test_logs_that_cannot_be_read_are_told_of() -> None:
    assert failure.text(Stack("one", None)) == "stack one: its logs can't be read: docker: not there"
    assert failure.text(Stack("one", {})) == "stack one: there is no replica"


@pytest.mark.parametrize(
    ("log", "shown"),
    [
        ("token=0123456789abcdef0123456789abcdef end", "token=*** end"),
        ("Authorization: Bearer abc.def", "Authorization: Bearer ***"),
        ("password 3q2+7wAAAAAAAAAAAAAAAAAAAAA= end", "password *** end"),
        ("event=drained replica=one-gateway-0 calls=0", "event=drained replica=one-gateway-0 calls=0"),
    ],
)
def test_what_may_be_a_secret_is_masked(log: str, shown: str) -> None:
    assert failure.masked(log) == shown
