"""Tokens in another form than the compact one, or spelled so that two readers read two things.

RFC 7515 §2, §3.1, §4 and §5.2, RFC 8259 §4 and §8: three segments of base64url without padding or
spare bits, whose JSON is UTF-8 without a mark and names everything once. What is odd inside is
signed as it is: the refusal is for the form.
"""

import base64
import gzip
import json
from collections.abc import Callable
from typing import Any

from attack import Forge, Made, Row, control, segment, token

Change = Callable[[str], Made]

# The good token, spelled in another way.
SPELLINGS: dict[str, Change] = {
    "padded": lambda good: good + "=",
    "padded twice": lambda good: good + "==",
    "every part padded": lambda good: ".".join(part + "=" for part in good.split(".")),
    "padding in the header's middle": lambda good: good[:8] + "=" + good[8:],
    "padding, encoded": lambda good: good + "%3D",
    "a blank inside": lambda good: good[:20] + " " + good[20:],
    "a tab inside": lambda good: good[:20] + "\t" + good[20:],
    "a blank behind a dot": lambda good: good.replace(".", ". ", 1),
    "a word behind it": lambda good: good + " x",
    "a comma behind it": lambda good: good + ",",
    "a semicolon behind it": lambda good: good + ";",
    "dots, encoded": lambda good: good.replace(".", "%2E"),
    "dots of another kind": lambda good: good.replace(".", "\u2024"),
    "dots in full width": lambda good: good.replace(".", "\uff0e"),
    "a letter in full width": lambda good: "\uff45" + good[1:],
    "a letter that looks alike": lambda good: "\u0435" + good[1:],
    "a blank of no width": lambda good: good[:20] + "\u200b" + good[20:],
    "a mark that turns the direction": lambda good: "\u202e" + good,
    "a byte-order mark before it": lambda good: "\ufeff" + good,
    "a byte that is no UTF-8": lambda good: good.encode() + b"\xff",
    "in UTF-16 behind a mark": lambda good: good[:20].encode("utf-16-le").replace(b"\0", b"\xfe"),
    "in quotes": lambda good: f'"{good}"',
    "in angle brackets": lambda good: f"<{good}>",
    "in upper case": lambda good: good.upper(),
    "backwards": lambda good: good[::-1],
    "in base64 once more": lambda good: segment(good.encode()),
    "in hex": lambda good: good.encode().hex(),
    "with a name": lambda good: f"token={good}",
    "a scheme within": lambda good: f"Bearer {good}",
    "as a JSON text of five parts": lambda good: f"{good}..",
    "four parts": lambda good: good + ".e30",
    "five parts, as encrypted tokens have": lambda good: good + ".e30.e30",
    "a dot behind it": lambda good: good + ".",
    "a dot before it": lambda good: "." + good,
    "two dots between": lambda good: good.replace(".", "..", 1),
    "two parts": lambda good: good.rpartition(".")[0],
    "one part": lambda good: good.partition(".")[0],
    "no header": lambda good: "." + good.partition(".")[2],
    "no claims": lambda good: "{0}..{2}".format(*good.split(".")),
    "no signature": lambda good: good.rpartition(".")[0] + ".",
    "dots alone": lambda _good: "..",
    "a dot": lambda _good: ".",
    "flattened JSON": lambda good: json.dumps(
        dict(zip(("protected", "payload", "signature"), good.split("."), strict=True))
    ),
    "general JSON": lambda good: json.dumps(
        {
            "payload": good.split(".")[1],
            "signatures": [{"protected": good.split(".")[0], "signature": good.split(".")[2]}],
        }
    ),
    "spare bits in the signature": lambda good: good[:-1] + spare(good[-1], 2),
    "a signature with another letter": lambda good: good[:-2] + flipped(good[-2]) + good[-1],
    "one letter too many": lambda good: good + "A",
    "one letter too few": lambda good: good[:-1],
}

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

# What stands in the segments: JSON that is odd, well signed.
HEADERS: dict[str, bytes] = {
    "behind a byte-order mark": b'\xef\xbb\xbf{"alg":"HS256","kid":"k1"}',
    "with a NUL behind it": b'{"alg":"HS256","kid":"k1"}\0',
    "with more behind it": b'{"alg":"HS256","kid":"k1"}{"alg":"none"}',
    "alg twice": b'{"alg":"none","alg":"HS256","kid":"k1"}',
    "alg twice, the other way": b'{"alg":"HS256","alg":"none","kid":"k1"}',
    "alg twice, once escaped": b'{"alg":"HS256","\\u0061lg":"none","kid":"k1"}',
    "kid twice": b'{"alg":"HS256","kid":"k3","kid":"k1"}',
    "a comment": b'{"alg":"HS256",/* none */"kid":"k1"}',
    "a comma too many": b'{"alg":"HS256","kid":"k1",}',
    "single quotes": b"{'alg':'HS256','kid':'k1'}",
    "names without quotes": b'{alg:"HS256",kid:"k1"}',
    "a list": b'["HS256","k1"]',
    "a list of one header": b'[{"alg":"HS256","kid":"k1"}]',
    "a text": b'"HS256"',
    "a number": b"256",
    "null": b"null",
    "empty": b"{}",
    "blank": b" ",
    "a letter that is no UTF-8": b'{"alg":"HS256","kid":"k1","x":"\xff"}',
    "an overlong letter": b'{"alg":"HS256","kid":"\xc1\xab1"}',
    "in UTF-16": '{"alg":"HS256","kid":"k1"}'.encode("utf-16"),
    "in UTF-16 without a mark": '{"alg":"HS256","kid":"k1"}'.encode("utf-16-le"),
    "in UTF-32": '{"alg":"HS256","kid":"k1"}'.encode("utf-32"),
    "in UTF-7": b'+AHs-"alg":"HS256","kid":"k1"+AH0-',
    "names in upper case": b'{"ALG":"HS256","KID":"k1"}',
    "NaN": b'{"alg":"HS256","kid":"k1","x":NaN}',
    "brackets without end": b'{"alg":"HS256","kid":"k1","x":' + b"[" * 1500,
    "brackets without end that end": b'{"alg":"HS256","kid":"k1","x":'
    + b"[" * 500
    + b"]" * 500
    + b"}",
}


def spare(letter: str, bits: int) -> str:
    """The letter with its last `bits` changed: a decoder that doesn't look reads the same."""
    return ALPHABET[ALPHABET.index(letter) ^ ((1 << bits) - 1)]


def flipped(letter: str) -> str:
    return "A" if letter != "A" else "B"


def spelled(change: Change) -> Callable[[Forge], Made]:
    return lambda forge: change(forge.sign())


def headed(header: bytes) -> Callable[[Forge], str]:
    return lambda forge: forge.sign(header)


def claiming(change: Callable[[bytes], bytes]) -> Callable[[Forge], str]:
    return lambda forge: forge.sign(claims=change(json.dumps(forge.claims()).encode()))


CLAIMS: dict[str, Callable[[bytes], bytes]] = {
    "behind a byte-order mark": lambda good: b"\xef\xbb\xbf" + good,
    "with a NUL behind them": lambda good: good + b"\0",
    "with more behind them": lambda good: good + b"{}",
    "in UTF-16": lambda good: good.decode().encode("utf-16"),
    "in UTF-16 without a mark": lambda good: good.decode().encode("utf-16-be"),
    "in Latin-1": lambda good: good[:-1] + b', "name": "Jos\xe9"}',
    "sub twice": lambda good: good[:-1] + b', "sub": "45"}',
    "sub twice, ours last": lambda good: b'{"sub": "45", ' + good[1:],
    "sub twice, once escaped": lambda good: good[:-1] + b', "s\\u0075b": "45"}',
    "exp twice": lambda good: good[:-1] + b', "exp": 9999999999}',
    "iss twice, the same": lambda good: good[:-1] + b', "iss": "primit"}',
    "a name twice further in": lambda good: good[:-1] + b', "x": {"a": 1, "a": 2}}',
    "in a list": lambda good: b"[" + good + b"]",
    "in a text": lambda good: json.dumps(good.decode()).encode(),
    "a list": lambda _good: b'["primit", "primit-app", "42"]',
    "a number": lambda _good: b"42",
    "null": lambda _good: b"null",
    "empty": lambda _good: b"{}",
    "blank": lambda _good: b" ",
    "not JSON": lambda _good: b"sub=42&aud=primit-app",
    "XML": lambda _good: b"<claims><sub>42</sub></claims>",
    "cut": lambda good: good[:-1],
    "with a comment": lambda good: good[:-1] + b" /* */}",
    "NaN": lambda good: good[:-1] + b', "x": NaN}',
    "Infinity": lambda good: good[:-1] + b', "x": -Infinity}',
    "a number beyond all": lambda good: good[:-1] + b', "x": 1e999}',
    "a number that is cut": lambda good: good[:-1] + b', "x": 1e}',
    "brackets without end": lambda good: good[:-1] + b', "x": ' + b"[" * 1500,
    "gzip": gzip.compress,
    "in base64 once more": base64.urlsafe_b64encode,
}


def standard_alphabet(forge: Forge) -> str:
    """With `+` and `/`, of which a token is made that has at least one of each."""
    claims = forge.claims(jti="\u00ff\u00fe\u00fb\u00ff?>?>?>~~~\u00bf\u00ef")
    text = json.dumps(claims, ensure_ascii=False).encode()
    made = forge.sign(claims=text)
    assert {"-", "_"} <= set(made)
    return made.replace("-", "+").replace("_", "/")


def signed_as_spelled(part: int) -> Callable[[Forge], str]:
    """Spare bits in the header or the claims, and the signature is over just that."""

    def make(forge: Forge) -> str:
        parts = [with_spare_bits(forge.header()), with_spare_bits(forge.claims())]
        parts[1 - part] = segment((forge.header(), forge.claims())[1 - part])
        shown = ".".join(parts)
        return f"{shown}.{segment(forge.mac(shown))}"

    return make


def with_spare_bits(value: dict[str, Any]) -> str:
    text = json.dumps(value)
    while len(text) % 3 == 0:
        text += " "
    made = segment(text.encode())
    return made[:-1] + spare(made[-1], 4 if len(text) % 3 == 1 else 2)


def padded_and_signed(forge: Forge) -> str:
    parts = [segment(each) for each in (forge.header(x="1"), forge.claims())]
    shown = ".".join(part + "=" * (-len(part) % 4 or 1) for part in parts)
    return f"{shown}.{segment(forge.mac(shown))}"


ROWS: tuple[Row, ...] = (
    *(token(f"spelled: {name}", spelled(change)) for name, change in SPELLINGS.items()),
    token("spelled: the standard alphabet", standard_alphabet),
    token("spelled: spare bits in the header, signed so", signed_as_spelled(0)),
    token("spelled: spare bits in the claims, signed so", signed_as_spelled(1)),
    token("spelled: padded, signed so", padded_and_signed),
    *(token(f"header: {name}", headed(header)) for name, header in HEADERS.items()),
    *(token(f"claims: {name}", claiming(change)) for name, change in CLAIMS.items()),
    control(
        "claims beyond ASCII, as UTF-8",
        lambda forge: forge.sign(
            claims='{"x": "é你", '.encode() + json.dumps(forge.claims()).encode()[1:]
        ),
    ),
    control(
        "blanks around the claims",
        claiming(lambda good: b" \n" + good.replace(b", ", b" ,\t") + b"\r\n"),
    ),
)
