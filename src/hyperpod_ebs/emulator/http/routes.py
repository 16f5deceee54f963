"""Plain HTTP beside the AWS wire: what there is, and when it came into which state."""

from aiohttp import web

from hyperpod_ebs.emulator.ec2.describe_volumes import volume_state
from hyperpod_ebs.emulator.state.world import World


def routes(world: World) -> list[web.RouteDef]:
    """Status and history."""

    async def status(_: web.Request) -> web.Response:
        await world.clock.run_due_steps()
        return web.json_response(await world.acknowledge(_status(world)))

    async def history(_: web.Request) -> web.Response:
        await world.clock.run_due_steps()
        moments = [
            {"subject": one.subject, "state": one.state, "instant": one.at} for one in world.store.moments.values()
        ]
        return web.json_response(await world.acknowledge({"history": moments}))

    return [web.get("/_emulator/status", status), web.get("/_emulator/history", history)]


def _status(world: World) -> dict[str, list[dict[str, str | int | float | None]]]:
    store = world.store
    return {
        "volumes": [
            {
                "id": one.id,
                "state": volume_state(world, one),
                "size_gib": one.size_gib,
                "type": one.kind,
                "zone": one.zone,
            }
            for one in store.volumes.values()
        ],
        "snapshots": [
            {"id": one.id, "state": one.state, "volume": one.volume, "stored_bytes": one.stored_bytes}
            for one in store.snapshots.values()
        ],
        "attachments": [
            {
                "volume": one.volume,
                "instance": one.instance,
                "device": one.device,
                "state": one.state,
                "loop": str(world.bindings.device(one) or ""),
            }
            for one in store.attachments.values()
        ],
        "instances": [
            {"id": one.id, "state": one.state, "type": one.kind, "zone": one.zone, "cluster": one.cluster}
            for one in store.instances.values()
        ],
        "clusters": [{"id": one.id, "name": one.name, "state": one.state} for one in store.clusters.values()],
    }
