"""SIP terminals in WebRTC conferences, through a gateway fleet that deploys, scales and heals itself."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("sipmediadeploy")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0+unknown"
