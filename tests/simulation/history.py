"""A history: a stack lives through minutes of faults and calls, all of them from one seed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from sipmediadeploy.stack import Role
from tests.simulation.theatre import Theatre, stack
from tests.simulation.world import API, Machine, World


async def history(seed: int, theatre: Theatre | None = None) -> None:
    """A stack comes up, lives through minutes of faults and calls, and is whole again afterwards."""
    theatre = theatre or Theatre(stack(), seed)
    theatre.speeds = True
    theatre.world.floating = {Role.KAMAILIO: None, Role.COTURN: None}
    # One stack in four lives where no address may move, and one in four has zones.
    theatre.world.service_addresses = seed % 4 != 1
    theatre.world.zones = ("east", "west") if seed % 4 == 2 else ()
    theatre.world.api_floating_ip = seed % 3 == 0
    async with theatre.going() as world:
        await theatre.until("the stack comes up", 60)
        for _ in range(200):
            await theatre.live(1.0)
            trouble(world)
            trouble_of_scalers(theatre)
            traffic(world)
        calm(theatre)
        # A gateway that is silent at the end may be deleted ten minutes late, but is replaced before.
        await theatre.until("the stack is whole after the faults", 240)


def trouble(world: World) -> None:
    """Now and then something breaks, and some of it heals."""
    chance = world.random.random
    machines = [machine for machine in world.machines.values() if machine.record.role is not Role.SCALER]
    victim = world.random.choice(machines) if machines else None
    if victim is not None and chance() < 0.02:
        world.stop(victim)
    elif victim is not None and chance() < 0.02:
        victim.reachable = not victim.reachable
    elif victim is not None and chance() < 0.01:
        victim.agent_dead = not victim.agent_dead
    elif victim is not None and chance() < 0.01:
        victim.hears_nobody = not victim.hears_nobody
    elif victim is not None and chance() < 0.01:
        victim.broken = not victim.broken
    elif victim is not None and chance() < 0.005:
        world.vanish(victim)
    if chance() < 0.02:
        world.inventory_fails = not world.inventory_fails
    if chance() < 0.02:
        world.creations_fail = not world.creations_fail
    if chance() < 0.01:
        world.never_come_up = not world.never_come_up
    if chance() < 0.01:
        world.api_lies = 0.0 if world.api_lies else 0.2
    if chance() < 0.01:
        world.api_slow_s = 0.0 if world.api_slow_s else world.random.choice((0.5, 2.0, 6.0))
    if chance() < 0.01:
        world.probes_lost = 0.0 if world.probes_lost else 0.2
    if chance() < 0.01:
        world.floating[world.random.choice((Role.KAMAILIO, Role.COTURN))] = None
    if chance() < 0.005:
        for machine in machines:
            machine.reachable = False


def trouble_of_scalers(theatre: Theatre) -> None:
    """Scalers crash, are frozen, cut off and deleted; one machine of them is always left running."""
    world = theatre.world
    chance = world.random.random
    scalers = [m for m in world.of(Role.SCALER) if m.running and m.process is not None]
    if not scalers:
        return
    victim = world.random.choice(scalers)
    process = victim.process
    assert process is not None
    if chance() < 0.01 and process.dies_at is None:
        process.dies_at = process.steps + world.random.randrange(400)
        theatre.restart_when_dead(victim, process, world.random.uniform(0.5, 5.0))
    elif chance() < 0.02:
        theatre.say(victim.record.name, "is frozen")
        process.freeze()
        asyncio.get_running_loop().call_later(world.random.uniform(0.5, 40.0), process.thaw)
    elif chance() < 0.02:
        other = world.random.choice([API, *world.machines])
        theatre.say(victim.record.name, f"is cut off from {other}")
        world.cuts ^= {(process.name, other)}
    elif chance() < 0.005:
        theatre.say(victim.record.name, "is cut off from all replicas")
        world.cuts |= {(process.name, id_) for id_ in world.machines if id_ != victim.record.id}
    elif chance() < 0.02:
        world.cuts.clear()
    elif chance() < 0.01 and _another_stays(world, scalers, victim):
        theatre.say(victim.record.name, "loses power")
        world.stop(victim)
    elif chance() < 0.005 and _another_stays(world, scalers, victim):
        theatre.say(victim.record.name, "is deleted by hand")
        world.vanish(victim)


def _another_stays(world: World, scalers: Sequence[Machine], victim: Machine) -> bool:
    """Without one that a leader is just deleting: both gone at a time is more than two scalers can mend."""
    return any(one is not victim and one.record.id not in world.asked_to_delete for one in scalers)


def traffic(world: World) -> None:
    if world.random.random() < 0.1:
        world.place_call()
    for machine in world.of(Role.GATEWAY):
        if machine.calls and world.random.random() < 0.02:
            machine.calls -= 1


def calm(theatre: Theatre) -> None:
    """Everything outside works again; what is dead stays dead, and what is silent may answer."""
    world = theatre.world
    world.inventory_fails = world.creations_fail = world.never_come_up = False
    world.api_lies = world.api_slow_s = world.probes_lost = 0.0
    world.cuts.clear()
    for machine in world.machines.values():
        machine.reachable, machine.agent_dead, machine.hears_nobody = True, False, False
