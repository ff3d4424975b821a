"""What is wrong with the way to the data: in words, with a remedy, and whether it may pass.

Faults are told by what obstore, TileDB and requests say of them: each has words of its own, and none a common kind.
"""

from __future__ import annotations

import re

from ..errors import LineError

PASSES, DOUBTFUL, STAYS = "passes", "may pass", "stays"


NETWORK = "check the network"
PROXY = "check HTTP_PROXY, HTTPS_PROXY and NO_PROXY, or vfs.s3.proxy_host"
ADDRESS = "check the address, and vfs.s3.endpoint_override if it is set"
KEYS = "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or vfs.s3.aws_access_key_id"
RIGHTS = (
    "ask for permission to read it, or check the credentials (a public bucket needs vfs.s3.no_sign_request=true), and "
    "check the network: a proxy may answer so"
)
LATER = "try again later"

UNKNOWN_HOST = "the name of the server cannot be looked up (DNS)"
MISSING = "it is not there"
REFUSED = "the connection is refused"

KINDS: tuple[tuple[str, str, str, str], ...] = (
    # what is said; what it is; what to do; whether it passes. The first that fits counts.
    (
        r"\b(ExpiredToken\w*|TokenRefreshRequired|RequestExpired)\b|token.{0,20}expired",
        "the credentials have run out",
        "get new ones, and run again",
        STAYS,
    ),
    (
        r"\b(InvalidAccessKeyId|SignatureDoesNotMatch|InvalidToken|InvalidClientTokenId|UnrecognizedClient\w*)\b",
        "the credentials are not accepted",
        KEYS,
        STAYS,
    ),
    (r"\bRequestTimeTooSkewed\b", "the clock of this computer is wrong", "set it, and run again", STAYS),
    (
        r"\b(PermanentRedirect|TemporaryRedirect|AuthorizationHeaderMalformed|IllegalLocationConstraint\w*)\b"
        r"|incorrectly configured region|(Response Code: |status code: )30[1278]",
        "the bucket is in another region",
        "set tiledb_config={'vfs.s3.region': '...'} to that of the bucket",
        STAYS,
    ),
    (
        r"certificate (verify|has|is|not)|invalid peer certificate|self.signed certificate|curlCode: (51|60|77)\b",
        "the server's certificate is not accepted",
        "name the certificates of a private server: vfs.s3.ca_file",
        STAYS,
    ),
    (
        r"\bAccessDenied\b|(Response Code: |status code: )40[13]|PermissionDenied|Unauthenticated",
        "access is denied",
        RIGHTS,
        STAYS,
    ),
    (r"(Response Code: |status code: )407", "the proxy asks for a password", PROXY, STAYS),
    (
        r"\b(NoSuchBucket|NoSuchKey|NoSuchVersion)\b|(Response Code: |status code: )(404|410)\b",
        MISSING,
        ADDRESS,
        STAYS,
    ),
    (
        r"\b(SlowDown|RequestLimitExceeded|Throttling\w*)\b|(Response Code: |status code: )(429|503)\b",
        "the server asks to slow down (503 SlowDown)",
        LATER,
        PASSES,
    ),
    (
        r"\b(InternalError|ServiceUnavailable|RequestTimeout)\b|(Response Code: |status code: )(408|5\d\d)\b",
        "the server has an error of its own (HTTP 5xx)",
        LATER,
        PASSES,
    ),
    (
        r"dns error|resolve (host|proxy)|failed to resolve|name resolution|getaddrinfo|name or service not known",
        UNKNOWN_HOST,
        f"{NETWORK} and the address",
        DOUBTFUL,
    ),
    (r"curlCode: 35\b|InvalidContentType|wrong version number|HandshakeFailure", "it does not speak TLS", ADDRESS,
     DOUBTFUL),
    (
        r"curlCode: 28\b|\bkind: Timeout|\bTimedOut\b|timed out|Timeout was reached",
        "no answer came in time",
        NETWORK,
        PASSES,
    ),
    (
        r"ConnectionRefused|curlCode: (7|97)\b|connection refused|tunnel error|ProxyError|unsuccessful tunnel",
        REFUSED,
        f"{NETWORK} and the address",
        PASSES,
    ),
    (
        r"curlCode: (16|18|52|55|56|92)\b|\bkind: (Connect|Interrupted|Request|Decode)|IncompleteBody|connection reset"
        r"|ConnectionReset|error sending request|body error|network is unreachable|RemoteDisconnected|BadRecordMac"
        r"|Connection aborted|bad record mac|Broken ?pipe",
        "the connection was cut",
        NETWORK,
        PASSES,
    ),
    (
        r"\bInvalidRange\b|correct number of bytes|UnexpectedRange"
        r"|Requested \d+\.\.\d+, got|Xml Parse Error|Invalid XML|Got invalid",
        "an answer is cut short",
        NETWORK,
        PASSES,
    ),
    (
        r"(Response Code: |status code: )400\b",  # all that is said in answer to HEAD
        "the request is refused (HTTP 400)",
        "the credentials may have run out, or the bucket be in another region than vfs.s3.region",
        STAYS,
    ),
    (r"\bcurlCode: \d+|(Response Code: |status code: )4\d\d", "the request is refused", ADDRESS, STAYS),
)  # fmt: skip


def failure(what: str, error: BaseException) -> LineError | None:
    """Return what is to be raised for a library's error, or None if it is nothing of the way to the data.

    Parameters
    ----------
    what
        What was being done, e.g. "reading s3://bucket/soma/obs".

    Examples
    --------
    >>> print(failure("reading X", OSError("curlCode: 28, Timeout was reached")))
    while reading X: no answer came in time; check the network
    """
    text = str(error)
    for pattern, words, remedy, kind in KINDS:
        if re.search(pattern, text, re.IGNORECASE | re.DOTALL):
            where = re.search(r"x-amz-bucket-region'? ?[=:] ?'?([a-z0-9-]+)", text)
            if "region" in words and where:
                words, remedy = f"{words}, {where[1]}", f"set tiledb_config={{'vfs.s3.region': '{where[1]}'}}"
            return LineError(f"while {what}: {words}; {remedy}", words, kind)
    return None
