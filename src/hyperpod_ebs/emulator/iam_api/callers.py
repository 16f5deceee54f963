"""The user that a request without a user's name is about: the caller, who needs the permission on itself."""

from hyperpod_ebs.emulator.iam_api.faults import validation_error
from hyperpod_ebs.emulator.iam_api.needs import IamNeeds
from hyperpod_ebs.emulator.identity.authorizer import Authorizer
from hyperpod_ebs.emulator.state.store import Store
from hyperpod_ebs.emulator.wire.operations import Call, Parameters


class Callers:
    """Finds the users behind access keys."""

    def __init__(self, store: Store, authorizer: Authorizer, needs: IamNeeds) -> None:
        self._store = store
        self._authorizer = authorizer
        self._needs = needs

    def user_name(self, parameters: Parameters, call: Call) -> str:
        """The user's name in the request, or the caller's.

        Raises:
            AwsFault: The caller is a role session, or no policy allows the call on the caller.
        """
        if (name := parameters.get("UserName")) is not None:
            return str(name)
        name = self._caller(call.key_id)
        self._authorizer.require(call, self._needs.needs(call.operation, {**parameters, "UserName": name}))
        return name

    def _caller(self, key_id: str) -> str:
        if (key := self._store.access_keys.get(key_id)) is not None:
            return key.user
        session = self._store.sessions.get(key_id)
        if session is None or not session.user:
            raise validation_error("Must specify userName when calling with non-User credentials")
        return session.user
