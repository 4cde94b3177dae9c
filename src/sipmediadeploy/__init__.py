"""SIP terminals in WebRTC conferences, through a gateway fleet that deploys, scales and heals itself."""

from functools import cache


@cache
def package_version() -> str:
    """The version that was installed. It is looked for once, by those who ask: that takes 30 ms."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("sipmediadeploy")
    except PackageNotFoundError:  # run from a source tree that was never installed
        return "0+unknown"
