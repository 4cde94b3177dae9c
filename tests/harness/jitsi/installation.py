"""Where this machine has Jitsi: jicofo, JVB and the client library, in packages or in given class paths."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

PACKAGES = Path("/usr/share")
LOBBY_MODULE = "mod_muc_lobby_rooms.lua"


class NoJitsi(Exception):
    """Something is missing; the text says all that is, and how to tell where it is."""


@dataclass(frozen=True, slots=True)
class Installation:
    """What the back end is started from."""

    jvb: str
    """Class path of the bridge."""
    jicofo: str
    """Class path of the focus."""
    library: Path
    """``lib-jitsi-meet.min.js``."""
    java_options: tuple[str, ...] = ()
    plugins: Path | None = None
    """Jitsi's own Prosody modules, which lobbies need; None: there are none."""


def find_installation(environment: Mapping[str, str], packages: Path = PACKAGES) -> Installation:
    """Look where ``JVB_CP``, ``JICOFO_CP`` and ``LJM`` say, else where Debian's packages of Jitsi have it.

    ``JITSI_JAVA_OPTIONS``: more options for both Java processes; ``PROSODY_PLUGINS``: Jitsi's modules.

    Raises:
        NoJitsi: something is missing.
    """
    jvb = environment.get("JVB_CP") or _class_path(packages / "jitsi-videobridge")
    jicofo = environment.get("JICOFO_CP") or _class_path(packages / "jicofo")
    library = Path(environment.get("LJM") or packages / "jitsi-meet/libs/lib-jitsi-meet.min.js")
    missing = [f"the command {name}" for name in ("prosody", "java", "openssl", "ip") if not _command(name)]
    if not jvb:
        missing.append(f"the bridge: JVB_CP is not set, and {packages}/jitsi-videobridge has no *.jar")
    if not jicofo:
        missing.append(f"the focus: JICOFO_CP is not set, and {packages}/jicofo has no *.jar")
    if not library.is_file():
        missing.append(f"the client library: {library} (LJM says where it is)")
    if os.geteuid() != 0:
        missing.append("root, to give this machine an address for the bridge")
    if missing:
        raise NoJitsi("no Jitsi to call; missing: " + "; ".join(missing))
    options = tuple(shlex.split(environment.get("JITSI_JAVA_OPTIONS", "")))
    plugins = Path(environment.get("PROSODY_PLUGINS") or packages / "jitsi-meet/prosody-plugins")
    lobbies = (plugins / LOBBY_MODULE).is_file()
    return Installation(jvb, jicofo, library, options, plugins if lobbies else None)


def _command(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def _class_path(directory: Path) -> str:
    """All jars there and in its ``lib``; empty when there are none."""
    places = [place for place in (directory, directory / "lib") if any(place.glob("*.jar"))]
    return ":".join(f"{place}/*" for place in places)
