"""What is taken out of everything that is written down: the last line of defence for secrets.

Two strengths. `safe_path` knows that its text is a request's path, and takes out all that could
be personal or secret. `redact` goes over free text (messages, tracebacks), and takes out what has
the form of a credential or stands behind the name of one.

What is written instead always holds `***`.
"""

import re
from urllib.parse import unquote

MAX_PATH_LENGTH = 2048
MAX_DECODINGS = 4

# What needs no second look: no percent signs, no long run of letters and digits.
_PLAIN = re.compile(r"(?:[A-Za-z0-9_-]{0,39}[/.])*[A-Za-z0-9_-]{0,39}").fullmatch
_NOT_PRINTABLE = re.compile(r"[^!#-\[\]-~]")  # and not the two that JSON escapes

_KEY = re.compile(r"pk_[0-9A-Za-z]+")
_JWT = re.compile(r"eyJ[0-9A-Za-z_-]*(?:\.[0-9A-Za-z_-]*)*")
_REFRESH = re.compile(r"rt_[0-9]+_[0-9A-Za-z_-]+")
_LONG_RUN = re.compile(r"[0-9A-Za-z_+~-]{40,}")
_QUERY = re.compile(r"[?#].*", re.DOTALL)
_VALUE = re.compile(r"=[^&;,]*")

_CREDENTIAL_NAME = (
    r"(?:[\w-]{0,20}(?:secret(?:[_-]?key)?|passw(?:or)?d|api[_-]?key|token|signature)"
    r"|x-backend-key|authorization|encryption_keys?)"
)
_FREE_TEXT = (
    (re.compile(r"pk_[0-9A-Za-z]{6,}"), "pk_***"),
    (re.compile(r"eyJ[0-9A-Za-z_-]{6,}(?:\.[0-9A-Za-z_-]*)*"), "eyJ***"),
    (re.compile(r"rt_[0-9]+_[0-9A-Za-z_-]{6,}"), "rt_***"),
    (re.compile(r"\b(bearer|basic)\s+(?!realm=)[^\s\"',;]+", re.IGNORECASE), r"\1 ***"),
    # A name and its quoted value: JSON (also JSON within a string), a dict, a pair of bytes.
    (
        re.compile(
            rf"(\b{_CREDENTIAL_NAME}\\*[\"']?\s*[:=,]\s*b?)(\\*[\"'])(?:(?!\2)(?:\\.|.))*(?:\2|$)",
            re.IGNORECASE | re.DOTALL,
        ),
        r"\1\2***\2",
    ),
    (re.compile(rf"(\b{_CREDENTIAL_NAME}=)(?![\\\"'*])[^\s&,;)\"']+", re.IGNORECASE), r"\1***"),
    (
        re.compile(
            r"(\b(?:x-primit-api-key|x-backend-key|x-mbx-apikey|authorization)\s*:\s*)[^\"'\r\n]+",
            re.IGNORECASE,
        ),
        r"\1***",
    ),
    # A pydantic error repeats what it was given.
    (re.compile(r"input_value=.{0,400}?, input_type=", re.DOTALL), "input_value=***, input_type="),
    (re.compile(r"://[^\s/@]+@"), "://***@"),
)


def redact(text: str) -> str:
    """`text` without anything that looks like a credential."""
    for pattern, replacement in _FREE_TEXT:
        text = pattern.sub(replacement, text)
    return text


def safe_path(path: str) -> str:
    """A path as it may stand in the log: printable ASCII without `"` and backslash, bounded.

    The local part of an email, keys, tokens, values behind a `=` and long runs that could be a
    secret are masked, percent-encoded or not. What is not printable is percent-encoded.
    """
    if len(path) <= MAX_PATH_LENGTH and _is_plain(path):
        return path
    segments: list[str] = []
    length = 0
    for segment in path.split("/"):
        segments.append(segment if _is_plain(segment) else _safe_segment(segment))
        length += len(segments[-1]) + 1
        if length > MAX_PATH_LENGTH:
            break
    return printable("/".join(segments), MAX_PATH_LENGTH)


def safe_word(word: str, max_length: int = 128) -> str:
    """A name or id as it may stand in the log: printable as in `safe_path`, and no credential."""
    return printable(_without_credentials(word), max_length)


def printable(text: str, max_length: int) -> str:
    """`text` with all but printable ASCII, and `"` and backslash, percent-encoded."""
    return _NOT_PRINTABLE.sub(_percent_encoded, text)[:max_length]


def _is_plain(path: str) -> bool:
    is_plain = _PLAIN(path) is not None
    return is_plain and "pk_" not in path and "eyJ" not in path and "rt_" not in path


def _without_credentials(text: str) -> str:
    """Without what begins as ours do."""
    return _JWT.sub("eyJ***", _REFRESH.sub("rt_***", _KEY.sub("pk_***", text)))


def _percent_encoded(match: re.Match[str]) -> str:
    character = match[0]
    if "\udc80" <= character <= "\udcff":  # a byte that was not UTF-8, kept by the parser
        return f"%{ord(character) - 0xDC00:02X}"
    return "".join(f"%{byte:02X}" for byte in character.encode("utf-8", "surrogatepass"))


def _safe_segment(segment: str) -> str:
    """The segment as it came, or its decoded form with the secrets masked."""
    decoded = segment
    for _ in range(MAX_DECODINGS):
        before, decoded = decoded, unquote(decoded, errors="surrogateescape")
        if before == decoded:
            break
    else:
        return "***"
    masked = _QUERY.sub("?***", decoded)
    local, at, domain = masked.rpartition("@")
    if at:
        masked = f"{local[:1]}***@{domain}"
    masked = _VALUE.sub("=***", _without_credentials(masked))
    masked = _LONG_RUN.sub("***", masked)
    return segment if masked == decoded else masked
