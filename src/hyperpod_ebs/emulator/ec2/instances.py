"""StopInstances, StartInstances and TerminateInstances."""

from collections.abc import Callable, Collection
from dataclasses import dataclass

from hyperpod_ebs.emulator.ec2 import request_checks, resource_ids
from hyperpod_ebs.emulator.ec2.describe_instances import render_state
from hyperpod_ebs.emulator.ec2.launch_keys import LaunchKeys
from hyperpod_ebs.emulator.nodes.machines import Machines
from hyperpod_ebs.emulator.records import Instance
from hyperpod_ebs.emulator.state.world import World
from hyperpod_ebs.emulator.wire.operations import Answer, AwsFault, Call, Operations, Parameters


@dataclass(frozen=True, slots=True)
class Instances:
    """Changes of the state of the customer's own instances."""

    world: World
    machines: Machines
    launch_keys: LaunchKeys

    operations = Operations["Instances"]()

    @operations("StopInstances")
    async def stop(self, parameters: Parameters, _: Call) -> Answer:
        """Stop instances, which keep their volumes; those that are stopped already stay so."""
        if parameters.get("Hibernate"):
            raise AwsFault("UnsupportedOperation", "The emulator does not support the parameter Hibernate.")

        instances = self._find(parameters)
        for instance in instances:
            _require_state(instance, {"running", "stopping", "stopped"}, "stopped")
        request_checks.refuse_dry_run(parameters)
        changes = [self._change(each, self.machines.stop, unless={"stopping", "stopped"}) for each in instances]
        return await self.world.acknowledge({"StoppingInstances": changes})

    @operations("StartInstances")
    async def start(self, parameters: Parameters, call: Call) -> Answer:
        """Start stopped instances again; those that run already stay so.

        EC2 uses the volumes' keys only later: an instance that cannot decrypt its volumes is stopped again.
        """
        instances = self._find(parameters)
        for instance in instances:
            _require_state(instance, {"stopped", "pending", "running"}, "started")
        request_checks.refuse_dry_run(parameters)

        def start_again(instance: Instance) -> Instance:
            return self.machines.start_again(instance, failure=self.launch_keys.reopen_volumes(call, instance))

        changes = [self._change(each, start_again, unless={"pending", "running"}) for each in instances]
        return await self.world.acknowledge({"StartingInstances": changes})

    @operations("TerminateInstances")
    async def terminate(self, parameters: Parameters, _: Call) -> Answer:
        """Terminate instances and the volumes that are deleted with them; other volumes are force-detached."""
        instances = self._find(parameters)
        request_checks.refuse_dry_run(parameters)
        ends = {"shutting-down", "terminated"}
        changes = [self._change(each, self.machines.terminate, unless=ends) for each in instances]
        return await self.world.acknowledge({"TerminatingInstances": changes})

    def _find(self, parameters: Parameters) -> list[Instance]:
        if not parameters.get("InstanceIds"):
            raise AwsFault("InvalidParameterCombination", "No instances specified")
        return resource_ids.find_instances(self.world, parameters["InstanceIds"])

    def _change(self, instance: Instance, change: Callable[[Instance], Instance], *, unless: Collection[str]) -> Answer:
        """Change the instance unless it is in one of these states; its states before and after."""
        after = instance if instance.state in unless else change(instance)
        return {
            "InstanceId": instance.id,
            "PreviousState": render_state(instance),
            "CurrentState": render_state(after),
        }


def _require_state(instance: Instance, states: Collection[str], participle: str) -> None:
    if instance.state not in states:
        text = f"The instance '{instance.id}' is not in a state from which it can be {participle}."
        raise AwsFault("IncorrectInstanceState", text)
