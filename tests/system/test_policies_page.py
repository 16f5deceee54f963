"""The page of policies is true: each policy is tried without each of its parts."""

from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from tests.support import policies_page
from tests.support.permissions_page import section_of
from tests.support.policies_page import HEAD, INLINE_HEADING, PROOFS, Place, attach_proof, detach_proof

PAGE: Final = Path(__file__).parents[2] / policies_page.PAGE


@pytest.mark.requirement("policies.used-and-needed")
@pytest.mark.parametrize("heading", PROOFS)
async def test_each_part_of_a_policy_is_used_and_needed(heading: str) -> None:
    """SageMaker Developer Guide, "Using the Amazon EBS CSI driver on SageMaker HyperPod EKS clusters"."""
    made = await policies_page.section(heading)

    assert made.strip() == section_of(PAGE.read_text(), heading).strip(), "run make permissions"


@pytest.mark.parametrize("region", ["us-west-2", "cn-north-1", "us-gov-west-1"])
async def test_callers_work_in_every_partition_and_with_policies_for_all_clusters(region: str) -> None:
    """AWS General Reference, "Amazon Resource Names": aws, aws-cn and aws-us-gov."""
    async with Place.start(region) as place:
        await (await attach_proof(place)).run()
        every = replace(place, setting=place.setting.for_account)
        await (await detach_proof(every)).run()


@pytest.mark.timeout(300)
@pytest.mark.requirement("policies.used-and-needed")
async def test_the_driver_uses_all_of_its_policies_and_needs_each_statement(short_path: Path) -> None:
    """AWS managed policy reference, AmazonEBSCSIDriverPolicyV2; make permissions takes away the rest as well."""
    made = await policies_page.inline_section(short_path, is_brief=True)

    written = section_of(PAGE.read_text(), INLINE_HEADING).splitlines()
    assert [line for line in made.splitlines() if line not in written] == [], "run make permissions"


def test_the_page_begins_with_what_it_proves() -> None:
    assert PAGE.read_text().startswith(HEAD), "run make permissions"
