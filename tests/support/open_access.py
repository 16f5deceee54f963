"""A gate that knows one access key, whose owner may do everything: for servers of a test's own services."""

from hyperpod_ebs.emulator.identity.identities import Identity, SigningKey
from hyperpod_ebs.emulator.wire.operations import AwsFault, Call, Parameters
from hyperpod_ebs.iam.decision import Policies
from hyperpod_ebs.iam.request import Principal, PrincipalType

ACCOUNT = "123456789012"


class OpenAccess:
    """Knows one access key."""

    def __init__(self, key_id: str = "AKIDEXAMPLE", secret: str = "a secret", region: str | None = None) -> None:  # noqa: S107 - a test's own
        """Know the key; `region` is the only region that requests may be signed for."""
        self._key_id = key_id
        self._secret = secret
        self._region = region

    def signing_key(self, key_id: str) -> SigningKey | None:
        """The key."""
        return SigningKey(secret=self._secret) if key_id == self._key_id else None

    def accepts_region(self, service: str, region: str) -> bool:  # noqa: ARG002 - the gate's signature
        """Whether requests may be signed for the region."""
        return self._region in {None, region}

    def caller(self, key_id: str) -> Identity:  # noqa: ARG002 - the gate's signature
        """The owner of the key."""
        arn = f"arn:aws:iam::{ACCOUNT}:user/me"
        principal = Principal(type=PrincipalType.USER, arn=arn, account=ACCOUNT)
        return Identity(principal=principal, user_id="AIDME", policies=Policies(), context={})

    def check(self, call: Call, parameters: Parameters) -> None:
        """Allow every call."""

    def planned_denial(self, call: Call, parameters: Parameters) -> AwsFault:  # noqa: ARG002 - the gate's signature
        """The error of a planned denial."""
        return AwsFault("AccessDenied", f"{call.operation} is denied", 403)
