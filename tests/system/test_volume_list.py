"""`hyperpod-ebs volume list` as a process: what is attached where, and which claims the volumes belong to."""

import stat
from dataclasses import replace
from pathlib import Path

from hyperpod_ebs.emulator.emulator import Emulator
from tests.support.emulator_clients import GROUP, ZONE, Aws
from tests.support.volume_commands import VolumeCommands

PERSISTENT_VOLUME = """\
{"items": [{"metadata": {"name": "pv-1"}, "spec": {
  "csi": {"driver": "ebs.csi.aws.com", "volumeHandle": "%s"}, "claimRef": {"namespace": "ml", "name": "weights"}
}}], "metadata": {}}
"""


def put_kubectl(directory: Path, script: str) -> dict[str, str]:
    """Put a program of this name on PATH, for clusters that no test can have; the environment variables for it."""
    path, kubeconfig = directory / "bin" / "kubectl", directory / "kubeconfig"
    path.parent.mkdir()
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    kubeconfig.touch()
    return {"PATH": f"{path.parent}:/usr/bin:/bin", "KUBECONFIG": str(kubeconfig)}


async def test_list_shows_holders_of_both_kinds(emulator: Emulator, aws: Aws, tmp_path: Path) -> None:
    """EC2 API reference, VolumeAttachment: a managed resource has AssociatedResource and no InstanceId."""
    cluster, (node,) = await aws.create_cluster(InstanceGroups=[GROUP])
    hyperpod = f"hyperpod-{cluster.rpartition('/')[2]}-{node}"
    instance = await aws.run_instance(Placement={"AvailabilityZone": ZONE})
    on_node, on_instance, free = [await aws.create_volume(Size=size) for size in (1, 2, 3)]
    await aws.attach_to_node(cluster, node, on_node)
    await aws.ec2("attach_volume", VolumeId=on_instance, InstanceId=instance, Device="/dev/xvdba")
    await aws.ec2("create_tags", Resources=[free], Tags=[{"Key": "Name", "Value": "Gewichte für Müller"}])
    described = await aws.ec2("describe_instances", InstanceIds=[instance])
    commands = VolumeCommands(env=emulator.env, home=tmp_path)

    table = await commands.run("list")
    everything = {each["volume"]: each for each in (await commands.run("list", "--output", "json")).json}
    by_name = [
        [each["volume"] for each in (await commands.run("list", *words, "--output", "json")).json]
        for words in (
            ["--cluster", "hp"],
            ["--cluster", cluster],
            ["--node", f"hyperpod-{node}"],
            ["--node", hyperpod],
            ["--node", node],
            ["--node", instance],
            ["--node", described["Reservations"][0]["Instances"][0]["PrivateDnsName"]],
        )
    ]

    line = next(line for line in table.out.splitlines() if on_node in line)
    assert hyperpod in line
    assert "1 GiB" in line
    assert "Gewichte für Müller" in table.out
    assert "kubectl" in table.err or "kubeconfig" in table.err
    assert everything[on_node]["attachments"][0]["node"] == hyperpod
    assert everything[on_node]["attachments"][0]["resource"] == f"{cluster}-{node}"
    assert everything[on_instance]["attachments"][0]["device"] == "/dev/xvdba"
    assert everything[free]["attachments"] == []
    assert all(on_node in each and free not in each for each in by_name[:-2])
    assert on_instance in by_name[-2]
    assert by_name[-1] == by_name[-2]


async def test_a_name_that_two_instances_have_is_refused_with_their_ids(
    emulator: Emulator, aws: Aws, tmp_path: Path
) -> None:
    """Two VPCs may have the same addresses, and instances in them the same private DNS name (VPC User Guide)."""
    instances = emulator.world.store.instances
    first, second = [await aws.run_instance(Placement={"AvailabilityZone": ZONE}) for _ in range(2)]
    instances.put(replace(instances[second], address=instances[first].address))
    described = await aws.ec2("describe_instances", InstanceIds=[first])
    name = described["Reservations"][0]["Instances"][0]["PrivateDnsName"]
    volume = await aws.create_volume()
    commands = VolumeCommands(env=emulator.env, home=tmp_path)

    attach = await commands.run("attach", volume, name, code=2)

    assert name in attach.err
    assert f"{min(first, second)}, {max(first, second)}: give one of these ids" in attach.err
    assert (await aws.ec2("describe_volumes", VolumeIds=[volume]))["Volumes"][0]["State"] == "available"


async def test_list_shows_claims_and_waits_for_no_api_server(emulator: Emulator, aws: Aws, tmp_path: Path) -> None:
    """A persistent volume names its EBS volume; without an API server that answers, the driver's tags do."""
    named, tagged = await aws.create_volume(), await aws.create_volume()
    tags = {"kubernetes.io/created-for/pvc/name": "logs", "kubernetes.io/created-for/pvc/namespace": "web"}
    await aws.ec2("create_tags", Resources=[tagged], Tags=[{"Key": key, "Value": tags[key]} for key in tags])
    kubectl = put_kubectl(tmp_path, f"cat <<'EOF'\n{PERSISTENT_VOLUME % named}EOF")
    commands = VolumeCommands(env=emulator.env, home=tmp_path, extra=kubectl)

    claims = {each["volume"]: each["claim"] for each in (await commands.run("list", "--output", "json")).json}
    (tmp_path / "bin" / "kubectl").write_text("#!/bin/sh\nexec cat /dev/zero >/dev/null\n")
    hanging = await commands.run("list", "--output", "json")

    assert claims == {named: "ml/weights", tagged: "web/logs"}
    assert {each["volume"]: each["claim"] for each in hanging.json} == {named: "", tagged: "web/logs"}
    assert "does not answer" in hanging.err


async def test_list_reads_a_thousand_volumes(emulator: Emulator, aws: Aws, tmp_path: Path) -> None:
    """EC2 API reference, DescribeVolumes: results come in pages."""
    commands = VolumeCommands(env=emulator.env, home=tmp_path)
    first = await aws.create_volume()
    store = emulator.world.store
    volume = store.volumes[first]
    for number in range(999):
        store.volumes.put(replace(volume, id=f"vol-{number:017x}"))

    listed = await commands.run("list", "--output", "json")

    assert len(listed.json) == 1000


async def test_names_cannot_control_the_terminal(emulator: Emulator, aws: Aws, tmp_path: Path) -> None:
    """Unicode Standard Annex 9: U+202E reverses the text after it. ECMA-48: U+001B begins an escape sequence."""
    await aws.ec2("create_tags", Resources=[await aws.create_volume()], Tags=[{"Key": "Name", "Value": "a\u202eb"}])
    commands = VolumeCommands(env=emulator.env, home=tmp_path)

    table = await commands.run("list")
    refused = await commands.run("list", "--node", "i-\x1b[31m", code=2)

    assert r"a\u202eb" in table.out
    assert r"\x1b[31m" in refused.err
    assert "\x1b" not in refused.err
