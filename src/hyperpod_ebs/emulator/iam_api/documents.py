"""Policy documents in requests and answers: validated and stored as written, URL-encoded in answers."""

from urllib.parse import quote

from hyperpod_ebs.emulator.iam_api.faults import malformed_policy
from hyperpod_ebs.iam import documents
from hyperpod_ebs.iam.documents import Kind, MalformedPolicy, Policy


def compile_document(document: str, kind: Kind) -> Policy:
    """The compiled document of a request.

    Raises:
        AwsFault: The document is not a policy of this kind.
    """
    try:
        return documents.parse(document, kind=kind)
    except MalformedPolicy as error:
        raise malformed_policy(str(error)) from error


def size(document: str) -> int:
    """The characters of a document that count: all but white space (IAM User Guide, "IAM and AWS STS quotas")."""
    return sum(map(len, document.split()))


def url_encode(document: str) -> str:
    """A document as answers have it, encoded after RFC 3986."""
    return quote(document, safe="-_.~")
