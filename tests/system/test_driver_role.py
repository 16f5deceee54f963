"""The role that the driver has on the local cluster, and the one that the guide to the installation creates."""

import json
from pathlib import Path
from string import Template
from typing import Final

import aiohttp
import pytest

from hyperpod_ebs.demo.emulator_client import EmulatorClient
from localcluster.cloud import NAME, EksCluster
from localcluster.driver_role import create_driver_role
from tests.support.emulator_clients import cloud
from tests.support.guide_commands import GUIDES, Page

ACCOUNT: Final = "123456789012"


@pytest.mark.requirement("guides.true")
async def test_the_driver_of_the_local_cluster_has_the_guides_role_for_irsa(short_path: Path) -> None:
    """The tests of the cluster work under this role; the guide's own commands end with the role for Pod Identity."""
    async with cloud(short_path / "state") as (emulator, aws), aiohttp.ClientSession(emulator.url) as http:
        client = EmulatorClient(emulator.state, emulator.env, http)
        created = await client.create_eks_cluster(NAME)
        issuer = created["identity"]["oidc"]["issuer"]
        eks = EksCluster(arn=created["arn"], issuer=issuer, keys=emulator.state / "eks" / NAME)

        name = (await create_driver_role(client, eks)).rpartition("/")[2]

        trust = (await aws("iam", "get_role", RoleName=name))["Role"]["AssumeRolePolicyDocument"]
        added = await aws("iam", "get_role_policy", RoleName=name, PolicyName="hyperpod")
    values = {"ACCOUNT": ACCOUNT, "CLUSTER": NAME, "ISSUER": issuer.partition("://")[2], "REGION": "us-west-2"}
    files = [each for block in Page.read(GUIDES / "install.md").blocks for each in block.files.items()]
    documents = [json.loads(Template(text).substitute(values)) for file, text in files if file.endswith(".json")]
    assert trust in documents
    assert added["PolicyDocument"] in documents
