"""Whether volumes of the cluster are left over, as `hyperpod-ebs leftovers` judges."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Final

from hyperpod_ebs.access.doctor.checks import Check
from hyperpod_ebs.access.doctor.context import Context
from hyperpod_ebs.access.doctor.findings import Finding, may_fail
from hyperpod_ebs.access.doctor.kubernetes_checks.objects import name_list
from hyperpod_ebs.access.leftovers import prices
from hyperpod_ebs.access.leftovers.cluster_objects import LISTS, parse_objects
from hyperpod_ebs.access.leftovers.judgement import Rules, judge
from hyperpod_ebs.access.leftovers.world import World

_RULES: Final = Rules(older_than=timedelta(days=7))


async def _check_leftovers(context: Context) -> AsyncIterator[Finding]:
    aws = await context.aws()
    volumes = await context.volumes()
    lists = {path: await context.objects(path) for path in LISTS}
    world = World(now=datetime.now(UTC), region=aws.region, volumes=tuple(volumes), kubernetes=parse_objects(lists))
    found = [each for each in judge(world, _RULES) if each.kind == "volume" and each.is_leftover]
    if found:
        cost = sum(each.monthly_cost for each in found)
        yield may_fail(
            f"volume {name_list(each.id for each in found)}",
            "the driver made it for this cluster more than 7 days ago, it is not attached, and no object names it",
            f"AWS charges about {cost:.2f} USD a month (estimate by list prices of {prices.AS_OF})",
            "`hyperpod-ebs leftovers`, and to delete it `hyperpod-ebs leftovers --delete`",
        )


CHECKS: Final = (Check(name="leftovers", promise="no old volume of the cluster is left over", run=_check_leftovers),)
