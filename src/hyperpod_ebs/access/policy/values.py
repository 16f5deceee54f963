"""The values that policy documents contain: given by flags, or else found at AWS.

AWS is called only for what no flag gives, so with all flags a command needs neither credentials nor a network.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from cyclopts import Group, Parameter

from hyperpod_ebs.access.aws.clusters import describe_oidc_issuer, find_cluster
from hyperpod_ebs.access.aws.session import ANY_CALLER, Aws, AwsOptions, open_aws, partition_of
from hyperpod_ebs.access.console import note
from hyperpod_ebs.access.policy.statements import EVERY, Setting
from hyperpod_ebs.driver.model import errors

Scope = Literal["cluster", "account"]

_PATIENCE: Final = 1.0
_ASKING: Final = "AWS is asked for the values that no flag gives"

_VALUES: Final = Group("Values", help="AWS is asked for those that are not given.", sort_key=80)

_FORMS: Final[Mapping[str, tuple[str, str]]] = {
    "--partition": (r"aws(-[a-z]+)*", "a partition such as aws, aws-cn or aws-us-gov"),
    "--account": (r"[0-9]{12}", "twelve digits"),
    "--region": (r"[a-z]+(-[a-z]+)*-[0-9]+", "a region such as us-west-2"),
    "--eks-cluster": (r"[0-9A-Za-z][0-9A-Za-z_-]{0,99}", "the name or the ARN of an EKS cluster"),
    "--service-account": (r"[a-z0-9-]{1,63}/[a-z0-9.-]{1,253}", "NAMESPACE/NAME"),
    "--issuer": (r"https://[A-Za-z0-9.-]+(/[A-Za-z0-9._~/-]*)?", "the https URL of an OIDC issuer"),
    "--role": (r"[\w+=,.@-]{1,64}", "the name of a role, without its path"),
    "--key": (
        r"(arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:)?(key/)?(mrk-[0-9a-f]{32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})",
        "the id or the ARN of a KMS key; `aws kms describe-key --key-id ALIAS` prints that of an alias",
    ),
}
"""The form of each value, as a pattern and in words."""

_CLUSTER_ARN: Final = re.compile(
    r"arn:(?P<partition>aws[a-z-]*):sagemaker:(?P<region>[a-z0-9-]+):(?P<account>[0-9]{12}):cluster/(?P<id>[a-z0-9]{12})"
)
_EKS_ARN: Final = re.compile(
    r"arn:(?P<partition>aws[a-z-]*):eks:(?P<region>[a-z0-9-]+):(?P<account>[0-9]{12}):cluster/(?P<name>.+)"
)
_KEY_ARN: Final = re.compile(
    r"arn:(?P<partition>aws[a-z-]*):kms:(?P<region>[a-z0-9-]+):(?P<account>[0-9]{12}):key/(?P<id>.+)"
)
_PRINCIPAL_ARN: Final = re.compile(
    r"arn:(?P<partition>aws[a-z-]*):iam::(?P<account>[0-9]{12}):(role|user)/([\x21-\x7e]+/)?[\w+=,.@-]{1,64}", re.ASCII
)


@Parameter(name="*", group=_VALUES)
@dataclass(frozen=True, slots=True, kw_only=True)
class AccountValues:
    """What a user gives of the account and its partition."""

    account: str | None = None
    """The AWS account's twelve digits."""

    partition: str | None = None
    """The AWS partition; by default the region's."""


@Parameter(name="*", group=_VALUES)
@dataclass(frozen=True, slots=True, kw_only=True)
class Values(AccountValues):
    """What a user gives of the values in the documents."""

    scope: Scope = "cluster"
    """Whose nodes the policy is about: those of one cluster, or of all clusters of the account in the region."""

    cluster: str | None = None
    """The HyperPod cluster, by name or ARN; by default the region's only one."""

    eks_cluster: str | None = None
    """The EKS cluster that orchestrates it, by name or ARN."""


FIND_ACCOUNT: Final = AccountValues()
FIND_ALL: Final = Values()


@dataclass(slots=True, kw_only=True)
class Lookup:
    """Opens the connection to AWS when the first value has to be found."""

    options: AwsOptions = ANY_CALLER
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    _aws: Aws | None = None

    @classmethod
    @asynccontextmanager
    async def open(cls, options: AwsOptions) -> AsyncGenerator["Lookup"]:
        """A lookup whose connection is closed with the block."""
        lookup = cls(options=options)
        async with lookup._stack:
            yield lookup

    async def aws(self, region: str | None = None) -> Aws:
        """AWS, in this region if it is known already.

        Raises:
            Refused: There are no credentials or no region.
        """
        if self._aws is None:
            timer = asyncio.get_running_loop().call_later(_PATIENCE, note, _ASKING)
            self._stack.callback(timer.cancel)
            options = replace(self.options, region=region or self.options.region)
            self._aws = await self._stack.enter_async_context(open_aws(options))
        return self._aws

    async def setting(self, values: Values) -> Setting:
        """The setting of the documents.

        Raises:
            Error: A value is wrong or contradicts another one, or it is not given and cannot be found.
        """
        known = known_values(values, self.options.region)
        if values.scope == "account":
            region, account, partition = await self._scope(known)
            return Setting(partition=partition, region=region, account=account)
        if "id" not in known:
            cluster = await find_cluster(await self.aws(known.get("region")), values.cluster)
            known = combine(known, _CLUSTER_ARN, cluster.arn, f"HyperPod cluster {cluster.name}")
            known = _with_eks_cluster_of(known, cluster.name, cluster.eks_cluster)
        elif "name" not in known:
            cluster = await find_cluster(await self.aws(known["region"]), values.cluster)
            known = _with_eks_cluster_of(known, cluster.name, cluster.eks_cluster)
        return Setting(
            partition=known["partition"],
            region=known["region"],
            account=known["account"],
            eks_cluster=known["name"],
            hyperpod_cluster=known["id"],
        )

    async def key_setting(self, values: AccountValues, key: str | None) -> Setting:
        """The setting of a key's policy, in which no cluster has a part.

        Raises:
            Error: A value is wrong or contradicts another one, or it is not given and cannot be found.
        """
        known = _known_account(values, None)
        if key and key.startswith("arn:"):
            known = combine(known, _KEY_ARN, key, f"--key {key}")
        known = {**_known_account(FIND_ACCOUNT, self.options.region), **known}
        region, account, partition = await self._scope(known)
        return Setting(partition=partition, region=region, account=account)

    async def issuer(self, setting: Setting) -> str:
        """The OIDC issuer of the setting's EKS cluster.

        Raises:
            Error: The setting is for all clusters, or AWS does not show the issuer.
        """
        if setting.eks_cluster == EVERY:
            raise errors.InvalidRequest("--scope account has no cluster whose OIDC issuer IRSA needs; give --issuer")
        return await describe_oidc_issuer(await self.aws(setting.region), setting.eks_cluster)

    async def _scope(self, known: Mapping[str, str]) -> tuple[str, str, str]:
        """Region, account and partition."""
        region = known.get("region") or (await self.aws()).region
        account = known.get("account") or (await (await self.aws(region)).caller()).account
        return region, account, known.get("partition") or await partition_of(region)


def require_form(flag: str, value: str) -> str:
    """The value, which has the flag's form.

    Raises:
        InvalidRequest: It has another form.
    """
    pattern, form = _FORMS[flag]
    if not re.fullmatch(pattern, value, re.ASCII):
        raise errors.InvalidRequest(f"{flag} is {value!r}; it must be {form}")
    return value


def principal_arn(setting: Setting, flag: str, name_or_arn: str) -> str:
    """The ARN of a role named by name, or of a role or user named by ARN, in the setting's account.

    Raises:
        InvalidRequest: It is neither, or in another account.
    """
    if not name_or_arn.startswith("arn:"):
        if not re.fullmatch(_FORMS["--role"][0], name_or_arn, re.ASCII):
            raise errors.InvalidRequest(
                f"{flag} is {name_or_arn!r}; it must be a role's name, or a role's or user's ARN"
            )
        return setting.iam_arn(f"role/{name_or_arn}")
    if not (match := _PRINCIPAL_ARN.fullmatch(name_or_arn)):
        raise errors.InvalidRequest(
            f"{flag} is {name_or_arn!r}; it must be a role's name, or the ARN of a role or user and not of a session"
        )
    for name, value in (("partition", setting.partition), ("account", setting.account)):
        if match[name] != value:
            raise errors.InvalidRequest(
                f"{flag} {name_or_arn} is in {name} {match[name]}, but the key is in {value}; HyperPod attaches only "
                "volumes of the cluster's own account"
            )
    return name_or_arn


def known_values(values: Values, region: str | None) -> dict[str, str]:
    """What the flags say: partition, region, account, the HyperPod cluster's id and the EKS cluster's name.

    A region in an ARN wins over `region`, which may come from the environment.

    Raises:
        InvalidRequest: A value is wrong, or two contradict each other.
    """
    known = _known_account(values, None)
    if values.cluster and values.cluster.startswith("arn:"):
        known = combine(known, _CLUSTER_ARN, values.cluster, f"--cluster {values.cluster}")
    if values.eks_cluster and values.eks_cluster.startswith("arn:"):
        known = combine(known, _EKS_ARN, values.eks_cluster, f"--eks-cluster {values.eks_cluster}")
    elif values.eks_cluster:
        known["name"] = values.eks_cluster
    if "name" in known:
        require_form("--eks-cluster", known["name"])
    if region:
        known.setdefault("region", require_form("--region", region))
    return known


def _known_account(values: AccountValues, region: str | None) -> dict[str, str]:
    given = {"partition": values.partition, "account": values.account, "region": region}
    return {name: require_form(f"--{name}", value) for name, value in given.items() if value}


def combine(known: Mapping[str, str], pattern: re.Pattern[str], arn: str, where: str) -> dict[str, str]:
    """The known values with the parts of an ARN.

    Raises:
        InvalidRequest: The ARN has another form, or contradicts what is known.
    """
    if not (match := pattern.fullmatch(arn)):
        raise errors.InvalidRequest(f"{where} is not an ARN of the right kind; it must match {_form(pattern)}")
    for name, value in match.groupdict().items():
        if known.get(name, value) != value:
            raise errors.InvalidRequest(
                f"{where} has {name} {value}, but another value has {name} {known[name]}; correct one of them"
            )
    return {**known, **match.groupdict()}


def _with_eks_cluster_of(known: Mapping[str, str], hyperpod_cluster: str, arn: str) -> dict[str, str]:
    if not arn:
        raise errors.Refused(
            f"HyperPod cluster {hyperpod_cluster} is not orchestrated by EKS; volumes are attached only to clusters "
            "that are"
        )
    return combine(known, _EKS_ARN, arn, f"HyperPod cluster {hyperpod_cluster}'s EKS cluster")


def _form(pattern: re.Pattern[str]) -> str:
    """An ARN's form with the names of its parts."""
    return re.sub(r"\(\?P<(\w+)>[^)]*\)", lambda match: match[1].upper(), pattern.pattern)
