"""Stacks that stand on different things."""

from __future__ import annotations

from sipmediadeploy.stack import Stack, parse_stack

STACKS = {
    "smallest": "",
    "without a demo": "conference: {platform: jitsi, url: 'https://meet.example.org'}\n",
    "without service addresses": "openstack: {service_addresses: reassociate}\n",
    "operators' network": "network: {subnet: 10.7.7.0/24}\nopenstack: {network: inner}\n",
    "with operators": "network: {subnet: 10.9.8.0/24}\nsip: {port: 5070}\n"
    "openstack: {ssh_from: [192.0.2.0/25, 198.51.100.7/32], api_from: [192.0.2.0/25], dns_servers: [9.9.9.9],"
    " external_network: public, key_pair: operators}\n",
}


def stack_of(which: str) -> Stack:
    """One of :data:`STACKS`."""
    return parse_stack(f"name: demo\ndomain: sip.example.org\nprovider: openstack\n{STACKS[which]}")
