"""The control routes that show all resources, throttled calls, problems, and the history of the resources' states."""

from aiohttp import web

from hyperpod_ebs.emulator.call_log import CallLog
from hyperpod_ebs.emulator.ec2.describe_volumes import volume_state
from hyperpod_ebs.emulator.http.metadata_listeners import MetadataListeners
from hyperpod_ebs.emulator.state.world import World


def routes(world: World, listeners: MetadataListeners, call_log: CallLog) -> list[web.RouteDef]:
    """The routes for status and history."""

    async def show_status(_: web.Request) -> web.Response:
        await world.clock.run_due_steps()
        return web.json_response(await world.acknowledge(_status(world, listeners, call_log)))

    async def show_history(_: web.Request) -> web.Response:
        await world.clock.run_due_steps()
        moments = [
            {"subject": moment.subject, "state": moment.state, "instant": moment.at}
            for moment in world.store.moments.values()
        ]
        return web.json_response(await world.acknowledge({"history": moments}))

    return [web.get("/_emulator/status", show_status), web.get("/_emulator/history", show_history)]


def _status(
    world: World, listeners: MetadataListeners, call_log: CallLog
) -> dict[str, list[dict[str, str | int | float | None]]]:
    store = world.store
    return {
        "volumes": [
            {
                "id": volume.id,
                "state": volume_state(store.attachments, volume),
                "size_gib": volume.size_gib,
                "type": volume.kind,
                "zone": volume.zone,
            }
            for volume in store.volumes.values()
        ],
        "snapshots": [
            {
                "id": snapshot.id,
                "state": snapshot.state,
                "volume": snapshot.volume,
                "stored_bytes": snapshot.stored_bytes,
            }
            for snapshot in store.snapshots.values()
        ],
        "attachments": [
            {
                "volume": attachment.volume,
                "instance": attachment.instance,
                "device": attachment.device,
                "state": attachment.state,
                "loop": str(world.bindings.device(attachment) or ""),
            }
            for attachment in store.attachments.values()
        ],
        "instances": [
            {
                "id": instance.id,
                "state": instance.state,
                "type": instance.kind,
                "zone": instance.zone,
                "cluster": instance.cluster,
                "metadata": listeners.url(instance) if instance.is_alive and listeners.is_served(instance) else None,
            }
            for instance in store.instances.values()
        ],
        "clusters": [
            {"id": cluster.id, "name": cluster.name, "state": cluster.state} for cluster in store.clusters.values()
        ],
        "addons": [
            {"name": addon.name, "state": addon.state, "cluster": addon.cluster} for addon in store.addons.values()
        ],
        "throttled": [
            {"operation": operation, "calls": call_log.counts[operation], "throttled": throttled}
            for operation, throttled in call_log.throttled.items()
        ],
        "problems": [{"subject": id_, "problem": problem} for id_, problem in listeners.problems.items()],
    }
