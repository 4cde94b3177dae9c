"""Where a command works: the stack file, the secrets file and the state directory beside it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets as random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sipmediadeploy.cli.errors import CommandError

if TYPE_CHECKING:  # pydantic is heavy, and the command line is parsed without it
    from sipmediadeploy.protocol.secrets import Secrets
    from sipmediadeploy.stack import Stack

_MASTER_VARIABLE = "SMD_MASTER_SECRET"
_SHORTEST_MASTER = 32

STACK_TEXT = """\
# The stack: one deployment. `smd config` prints it with every default filled in.
name: {name}
domain: {domain}
provider: docker

# Everything below is a default. Uncomment what you change.
#
# publish: 198.51.100.7     # an address of this host, to be reached by others on the network
# turn: auto                # TURN for the conference leg: auto, always or never
#
# conference:               # without a url the embedded demo conference is deployed and used
#   platform: jitsi         # or janus, with the address of its WebSocket
#   url: https://meet.example.org
#   alone_limit_s: 3600     # who is alone in a room for so long is hung up; 0: never
#   jwt: {{issuer: gateways, key_file: jitsi.key}}     # for a Jitsi Meet that wants tokens
#
# sip:
#   port: 5060
#   trusted: []             # networks that flood and scanner protection leaves alone
#   allow: []               # networks that may call besides the stack's own; empty: everybody
#
# media:
#   rtp_timeout_s: 30       # no RTP for so long ends a call
#   video_kbps: 1500        # video bit rate asked for
#
# network:
#   subnet: 172.30.0.0/24   # the stack's own network; without it a free one is chosen
#
# pools:
#   kamailio:
#     replicas: 2
#     limits: {{cpus: 1, memory_mib: 512}}
#   coturn:
#     replicas: 2
#     limits: {{cpus: 1, memory_mib: 512}}
#   scaler:
#     replicas: 2
#     limits: {{cpus: 1, memory_mib: 512}}
#   gateway:
#     min: 1                # gateways at least
#     max: 4                # and at most
#     calls: 4              # calls that each takes
#     spare: 2              # free places to keep ready, or a share of the calls: '25%'
#     cooldown_s: 300       # a gateway must have been too many for so long before it goes
#     limits: {{cpus: 2, memory_mib: 1024}}
"""

_SECRETS_TEXT = """\
# Keep this file to yourself: every secret of the stack is derived from it.
master: {master}
"""


@dataclass(frozen=True, slots=True)
class Place:
    """The files of one stack."""

    stack_file: Path

    @property
    def secrets_file(self) -> Path:
        """The secrets, beside the stack file."""
        return self.stack_file.with_name("secrets.yaml")

    @property
    def state(self) -> Path:
        """What commands keep: nothing that can't be made again."""
        return self.stack_file.with_name(".smd")

    def init(self, name: str = "demo", domain: str = "sip.example.org") -> list[Path]:
        """Write the files that are not there; which ones were written. Nothing is overwritten.

        Raises:
            CommandError: a file can't be written.
        """
        written = []
        if _write_new(self.stack_file, STACK_TEXT.format(name=name, domain=domain), 0o644):
            written.append(self.stack_file)
        if _write_new(self.secrets_file, _SECRETS_TEXT.format(master=random.token_urlsafe(32)), 0o600):
            written.append(self.secrets_file)
        return written

    def secrets(self, stack: Stack) -> Secrets:
        """The master secret, what the stack file names for the conference, and how a cloud is reached.

        Raises:
            CommandError: one is missing or can't be used, or others can read it.
            ProviderError: there are no credentials for the cloud.
        """
        secrets = self._own_secrets(stack)
        if stack.openstack is None:
            return secrets
        from sipmediadeploy.providers.openstack.cloud import read_credentials

        return secrets.model_copy(update={"cloud": read_credentials(stack.openstack.cloud)})

    def _own_secrets(self, stack: Stack) -> Secrets:
        from sipmediadeploy.protocol.secrets import Secrets

        conference, master = stack.conference, self.master_secret()
        if conference.token_file is not None:
            token = self._private(conference.token_file, "conference.token_file")
            if token.count(".") != 2:
                raise CommandError(f"conference.token_file: {conference.token_file} holds no JSON Web Token")
            return Secrets(master=master, conference_token=token)
        if conference.jwt is not None:
            key = self._private(conference.jwt.key_file, "conference.jwt.key_file")
            from sipmediadeploy.gateway.conference.jitsi.token import BadKey, algorithm_of

            try:
                algorithm_of(key)
            except BadKey as e:
                raise CommandError(f"conference.jwt.key_file: {conference.jwt.key_file}: {e}") from None
            return Secrets(master=master, conference_key=key)
        return Secrets(master=master)

    def _private(self, name: Path, key: str) -> str:
        """The content of a file beside the stack file that nobody else can read."""
        path = self.stack_file.parent / name
        try:
            text = path.read_text(encoding="utf-8")
            mode = path.stat().st_mode & 0o777
        except (OSError, UnicodeDecodeError) as e:
            why = e.strerror if isinstance(e, OSError) else "it is no text"
            raise CommandError(f"{key}: {path} can't be read: {why}") from None
        if mode & 0o077:
            raise CommandError(f"{key}: others can read {path} (mode {mode:03o}): chmod 600 {path}")
        return text.strip()

    def master_secret(self) -> str:
        """What every other secret of the stack is derived from.

        Raises:
            CommandError: it is missing or can't be used, or others can read it.
        """
        if (given := os.environ.get(_MASTER_VARIABLE)) is not None:
            return _checked(given, _MASTER_VARIABLE)
        import yaml

        path = self.secrets_file
        try:
            mode = path.stat().st_mode & 0o777
            data = yaml.safe_load(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise CommandError(f"{path}: no such file. Write one with: smd init") from None
        except (OSError, UnicodeDecodeError) as e:
            raise CommandError(f"{path}: can't be read: {e}") from None
        except yaml.YAMLError:
            raise CommandError(f"{path}: not valid YAML") from None  # Its message would quote the secret.
        if mode & 0o077:
            raise CommandError(f"{path}: others can read it (mode {mode:03o}): chmod 600 {path}")
        if not isinstance(data, dict) or not isinstance(data.get("master"), str):
            raise CommandError(f"{path}: expected one key, 'master', with the master secret")
        return _checked(data["master"], str(path))

    @contextlib.contextmanager
    def locked(self, name: str = "lock") -> Iterator[None]:
        """Keep others from changing the stack at the same time; from deploying it, with a ``name`` for that.

        Raises:
            CommandError: another command is changing it, or the state directory can't be written.
        """
        try:
            self.state.mkdir(parents=True, exist_ok=True)
            file = (self.state / name).open("a")
        except OSError as e:
            raise CommandError(f"{self.state}: can't be written: {e}") from None
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise CommandError("another smd is bringing this stack up or down; wait for it") from None
            yield


def _write_new(path: Path, text: str, mode: int) -> bool:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except FileExistsError:
        return False
    except OSError as e:
        raise CommandError(f"{path}: can't be written: {e.strerror}") from None
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    return True


def _checked(secret: str, where: str) -> str:
    if len(secret) < _SHORTEST_MASTER:
        raise CommandError(f"{where}: the master secret has fewer than {_SHORTEST_MASTER} characters")
    return secret
