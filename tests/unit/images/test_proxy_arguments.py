"""What a build is told of this host's proxies."""

from __future__ import annotations

from sipmediadeploy.images.build import proxy_arguments


def test_a_build_gets_its_packages_as_this_host_does() -> None:
    environment = {"http_proxy": "http://proxy.example.org:3128", "no_proxy": "localhost", "HOME": "/root"}
    assert proxy_arguments(environment) == {
        "http_proxy": "http://proxy.example.org:3128",
        "no_proxy": "localhost",
    }


def test_what_needs_no_proxy_does_not_make_everything_be_built_anew_where_there_is_none() -> None:
    assert proxy_arguments({"no_proxy": "198.18.77.2", "NO_PROXY": "198.18.77.2", "http_proxy": ""}) == {}
