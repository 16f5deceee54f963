"""The attach limits that the controller asks EC2 for, with the chart's rights and a real API server."""

import pytest

from localcluster.cloud import EC2_INSTANCE_TYPE
from tests.support.live_cluster import SYSTEM, LiveCluster
from tests.support.waiting import wait_for_cluster


@pytest.mark.requirement("node.new-type")
@pytest.mark.requirement("chart.least-rights")
async def test_the_controller_publishes_the_limit_of_a_type_that_the_table_lacks(live: LiveCluster) -> None:
    """The table leaves out usual types, such as that of the EC2 node; the HyperPod nodes' type is in the table."""

    async def entries() -> dict[str, str] | None:
        configmap = await live.kubectl.get("configmap", "ebs-csi-attach-limits", f"--namespace={SYSTEM}")
        data: dict[str, str] | None = configmap.get("data")
        return data

    assert await wait_for_cluster(entries) == {EC2_INSTANCE_TYPE: "27 shared"}
