import json
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.observe.redaction import MAX_PATH_LENGTH, redact, safe_path, safe_word

KEY = "pk_4f9QmZ7LxT2vB8nC1kD6sW3yR5hJ0gABCDEF"
REFRESH = "rt_42_b7Kx-2_fQe9ZtYw1LmNp4A" + "s3cR3t-_" * 5 + "abc"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiI0MiJ9.dGhlLXNpZ25hdHVyZQ"
SECRET = "canary7c1f"


@pytest.mark.parametrize(
    ("path", "logged"),
    [
        ("/", "/"),
        ("", ""),
        ("*", "*"),
        ("/fapi/v1/ticker/24hr", "/fapi/v1/ticker/24hr"),
        ("/fapi/v1/topLongShortPositionRatio", "/fapi/v1/topLongShortPositionRatio"),
        ("/strategies/6f1e0a52-8f5c-4d4b-9a57-0c8f1f3f2b11",) * 2,
        ("/a%20b/%E4%BD%A0", "/a%20b/%E4%BD%A0"),
        ("/api-key/status/user@example.com", "/api-key/status/u***@example.com"),
        ("/api-key/status/user%40example.com", "/api-key/status/u***@example.com"),
        ("/api-key/status/user%2540example.com", "/api-key/status/u***@example.com"),
        ("/api-key/status/%75ser%40example.com", "/api-key/status/u***@example.com"),
        ("/api-key/status/first.last+tag@example.com", "/api-key/status/f***@example.com"),
        ("/a,b@example.com,c@example.com/x", "/a***@example.com/x"),
        ("/%40example.com", "/***@example.com"),
        (f"/keys/{KEY}", "/keys/pk_***"),
        (f"/keys/{KEY}/x", "/keys/pk_***/x"),
        (f"/keys/{KEY.replace('_', '%5F')}", "/keys/pk_***"),
        ("/keys/pk_short", "/keys/pk_***"),
        (f"/t/{JWT}", "/t/eyJ***"),
        (f"/r/{REFRESH}", "/r/rt_***"),
        (f"/r/{REFRESH.replace('_', '%5F')}/x", "/r/rt_***/x"),
        ("/start_time/rt_words", "/start_time/rt_words"),
        (f"/t/{JWT.replace('eyJ', '%65yJ')}/x", "/t/eyJ***/x"),
        ("/x;api_secret=canary7c1f", "/x;api_secret=***"),
        ("/x&api_secret=canary7c1f&b=2", "/x&api_secret=***&b=***"),
        ("/x%3Fapi_secret%3Dcanary7c1f", "/x?***"),
        ("/x%253Fapi_secret=canary7c1f", "/x?***"),
        (f"/orders/{'A1b2' * 16}/x", "/orders/***/x"),
        ("http://joe:canary7c1f@host/x", "http://j***@host/x"),
        ("/" + "%25" * 9 + "40", "/%***@"),
        ("/" + "%2525252525252540x", "/***"),
        ('/a"b\\c', "/a%22b%5Cc"),
        ("/a\x00\r\n\x1b[31m", "/a%00%0D%0A%1B[31m"),
        ("/\udce4\udcbd\ud800", "/%E4%BD%ED%A0%80"),
        ("/ü", "/%C3%BC"),
    ],
)
def test_a_path_is_logged_without_what_is_personal_or_secret(path, logged):
    assert safe_path(path) == logged


def test_masking_comes_before_cutting():
    path = "/" + "a/" * (MAX_PATH_LENGTH // 2 - 3) + "secret-local-part@example.com"

    logged = safe_path(path)

    assert len(logged) <= MAX_PATH_LENGTH
    assert "secret" not in logged


def test_a_long_plain_path_is_cut():
    assert safe_path("/abc" * 5000) == ("/abc" * 5000)[:MAX_PATH_LENGTH]


@given(st.text(st.characters(), max_size=300))
def test_any_path_becomes_printable_and_bounded(path):
    logged = safe_path(path)

    assert logged.isascii()
    assert logged.isprintable()
    assert json.loads(f'"{logged}"') == logged
    assert len(logged) <= MAX_PATH_LENGTH
    assert " " not in logged


@st.composite
def hidden(draw, secret: str) -> str:
    """The secret, with some of its characters percent-encoded, once or twice."""
    written = ""
    for character in secret:
        form = draw(
            st.sampled_from([character, f"%{ord(character):02x}", f"%25{ord(character):X}"])
        )
        written += form
    return written


@given(
    st.sampled_from([KEY, JWT, f"{SECRET}@example.com"]).flatmap(hidden),
    st.text("abc/%;=,.@_-", max_size=20),
    st.text("/%;=,.@_-", max_size=20),
)
def test_no_encoding_hides_a_secret(secret, before, after):
    logged = safe_path(f"/{before}/{secret}/{after}")

    for part in (KEY[3:12], JWT[10:30], SECRET):
        assert part not in logged
        assert part not in unquote(unquote(logged))


@pytest.mark.parametrize(
    ("word", "logged"),
    [
        ("my-request.1", "my-request.1"),
        (KEY, "pk_***"),
        (f"x-{JWT}", "x-eyJ***"),
        (f"x-{REFRESH}", "x-rt_***"),
        ("a b", "a%20b"),
        ("x" * 200, "x" * 128),
    ],
)
def test_a_word_is_printable_bounded_and_no_credential(word, logged):
    assert safe_word(word) == logged


CANARY = "canaryCANARY7c1f"


@pytest.mark.parametrize(
    "text",
    [
        f"no key {KEY[:3]}{CANARY}",
        f"b'pk_{CANARY}'",
        f"{{rt_42_{CANARY}}}",
        f"token eyJ{CANARY}.{CANARY}.{CANARY} is wrong",
        f"Authorization: Bearer {CANARY}",
        f"authorization: bearer   {CANARY}",
        f"sent Basic {CANARY}=",
        f'{{"api_key": "{CANARY}", "api_secret": "{CANARY}"}}',
        f'{{"api_secret":"{CANARY}"}}',
        f"{{'api_secret': '{CANARY}'}}",
        f"{{'api_secret': '{CANARY}",
        f'"{{\\"api_secret\\": \\"{CANARY}\\"}}"',
        f'{{"api_secret": "with \\" quote {CANARY}"}}',
        f'{{"id_token": "{CANARY}", "x": 1}}',
        f'{{"secretKey": "{CANARY}"}}',
        f"(b'X-Primit-API-Key', b'{CANARY}')",
        f"X-Primit-API-Key: {CANARY}",
        f"X-MBX-APIKEY: {CANARY}",
        f"X-Backend-Key: {CANARY}",
        f"POST /fapi/v3/account?apiKey={CANARY}&signature={CANARY}",
        f"signature={CANARY}",
        f"Credentials(api_key='{CANARY}', api_secret='{CANARY}')",
        f"[type=string_type, input_value='{CANARY}', input_type=str]",
        f"[type=string_type, input_value={{'a': '{CANARY}'}}, input_type=dict]",
        f"redis://:{CANARY}@redis:6379/0",
        f"rediss://gateway:{CANARY}@redis:6379/0 is away",
    ],
)
def test_free_text_loses_its_credentials(text):
    clean = redact(text)

    assert CANARY not in clean
    assert "***" in clean


@pytest.mark.parametrize(
    "text",
    [
        "worker 3 (pid 17) ended with -9; starting another",
        "app_tokens.secrets[0].secret: the environment variable GATEWAY_TOKEN_SECRET is not set",
        "listening on http://0.0.0.0:8080",
        'WWW-Authenticate: Bearer realm="primit"',
        "a token expired",
        "the store is embedded (memory://)",
        "",
    ],
)
def test_free_text_without_credentials_stays_as_it_is(text):
    assert redact(text) == text


@given(st.text("apik_secret=:\"'\\ bearer-,@/", max_size=3000))
def test_redaction_ends_on_any_text(text):
    redact(text)
