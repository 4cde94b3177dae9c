"""What an error says and what to do about it are told apart, whatever the cloud's own words are."""

from __future__ import annotations

import pytest

from sipmediadeploy.providers.base import ProviderError
from sipmediadeploy.providers.findings import Level, failed
from sipmediadeploy.providers.openstack.errors import explain_status


def test_a_semicolon_in_the_clouds_own_words_cuts_nothing_off() -> None:
    error = explain_status("port", 409, {}, '{"NeutronError": {"message": "IP in use; by port 7; of Ann"}}')
    found = failed(Level.PROBLEM, "network", error)
    assert found.found == "port: IP in use; by port 7; of Ann"
    assert found.todo == ""


@pytest.mark.parametrize(
    ("status", "body", "todo"),
    [
        (401, "expired; sorry", "renew them, and see that the application credential has not expired"),
        (403, "Quota exceeded; cores", "free some, lower the pools' numbers, or ask for a higher quota"),
        (503, "no; backend", "try again"),
        (429, "", "try again"),
        (400, "wrong; indeed", ""),
    ],
)
def test_what_to_do_about_an_error_is_the_errors_own(status: int, body: str, todo: str) -> None:
    error = explain_status("servers", status, {}, body)
    found = failed(Level.PROBLEM, "Nova", error)
    assert found.todo == todo
    assert found.found == error.said
    assert body in found.found


def test_who_looks_knows_better_what_to_do() -> None:
    error = ProviderError("no network", hint="make one")
    assert failed(Level.WARNING, "network", error, "terraform apply").todo == "terraform apply"


def test_people_read_it_all_in_one_sentence() -> None:
    error = ProviderError("it is full", 7.0, hint="free some", again="it is tried again after 7 s")
    assert str(error) == "it is full; it is tried again after 7 s; free some"
    assert error.retry_after_s == 7.0
    assert str(ProviderError("it is gone")) == "it is gone"
