"""Removes all of a stack from this host and nothing else: only what carries the stack's label."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import docker
import requests
from docker.errors import APIError, DockerException, NotFound

from sipmediadeploy.providers.base import ProviderError
from sipmediadeploy.providers.docker import labels
from sipmediadeploy.providers.docker.engine import reason
from sipmediadeploy.providers.docker.provider import stop_and_remove
from sipmediadeploy.providers.docker.publish import remove_published
from sipmediadeploy.stack import Role

Report = Callable[[str], None]

_SIDE_BY_SIDE = 8
_ROUNDS = 3


def remove_stack(client: docker.DockerClient, stack: str, report: Report = lambda _line: None) -> int:
    """Remove the stack's port map, containers, volumes and network. Blocking; repeatable, also after Ctrl-C.

    Returns:
        How many things were removed.

    Raises:
        ProviderError: something of the stack could not be removed; repeating is safe.
    """
    try:
        return _remove(client, stack, report)
    except (DockerException, requests.RequestException) as e:
        raise ProviderError(
            f"stack {stack} could not be removed completely: {reason(e)}", hint="try again"
        ) from None


def _remove(client: docker.DockerClient, stack: str, report: Report) -> int:
    wanted = labels.stack_filter(stack)
    # Scalers go first: they would replace what is removed after them. Their last orders may still be carried
    # out, so look again until nothing is left.
    removed = _remove_containers(client, [f"{labels.STACK}={stack}", f"{labels.ROLE}={Role.SCALER}"], report)
    remove_published(client, stack)
    for _ in range(_ROUNDS):
        count = _remove_containers(client, [wanted["label"]], report)
        removed += count
        if not count:
            break
    for volume in client.volumes.list(filters=wanted):
        volume.remove(force=True)
        removed += 1
        report(f"removed volume {volume.name}")
    for network in client.api.networks(filters=wanted):
        _remove_network(client, network["Id"])
        removed += 1
        report(f"removed network {network['Name']}")
    return removed


def _remove_containers(client: docker.DockerClient, wanted: list[str], report: Report) -> int:
    found = client.api.containers(all=True, filters={"label": wanted})

    def remove(container: dict[str, object]) -> None:
        stop_and_remove(client, str(container["Id"]))
        report(f"removed {str(container['Names'][0]).lstrip('/')}")  # type: ignore[index]

    with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
        list(pool.map(remove, found))
    return len(found)


def _remove_network(client: docker.DockerClient, network: str, patience_s: float = 10.0) -> None:
    deadline = time.monotonic() + patience_s
    while True:
        try:
            client.api.remove_network(network)
        except NotFound:
            return
        except APIError:  # an endpoint of a container that is just going
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
        else:
            return
