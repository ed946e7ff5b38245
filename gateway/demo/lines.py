"""The demo's curl lines: the one list that `gateway demo` prints and `gateway demo --check` runs.

A line is POSIX shell with curl. Most print an answer's head and body (`-i`), and their status is
expected; some set a variable for later lines, some print a summary. Long ones continue on the
next row, so that all of it fits a terminal and can be pasted as it stands. The first block sets
what the others use; they can be pasted in any order after it, group by group.
"""

import shlex
from dataclasses import dataclass

# Where the comment begins when the command is shorter, and where no row may pass.
COMMENT_COLUMN = 54
MAX_COLUMNS = 88

FLOODING_ADDRESS = "203.0.113.7"  # RFC 5737: nobody's
WEBSOCKET_KEY = "cHJpbWl0IGRlbW8ga2V5IQ=="


@dataclass(frozen=True, slots=True)
class Facts:
    """What lines are about: addresses, and what was seeded."""

    gateway_url: str
    admin_url: str
    identity_url: str
    admin_token: str
    key: str
    expired_key: str
    unpaid_key: str
    revoked_key: str
    registered_last_four: str


@dataclass(frozen=True, slots=True)
class Line:
    """One thing to paste, and what comes of it.

    Exactly one of `status` (of the answer shown), `sets` (a variable) and `prints` (the whole
    output, white space folded) is given. `shows` are texts that the output holds.
    """

    command: str
    status: int | None = None
    says: str = ""
    shows: tuple[str, ...] = ()
    sets: str | None = None
    prints: str | None = None
    exit_code: int = 0

    @property
    def expectation(self) -> str:
        """What the comment says, and the check's table."""
        if self.status is not None:
            return f"{self.status} {self.says}".rstrip()
        return self.says

    def __str__(self) -> str:
        if not self.expectation:
            return self.command
        *rows, last = self.command.split("\n")
        return "\n".join([*rows, f"{last:<{COMMENT_COLUMN}}  # {self.expectation}"])


@dataclass(frozen=True, slots=True)
class Group:
    """Lines that show one thing."""

    title: str
    lines: tuple[Line, ...]


def setup(facts: Facts, *, proxied: bool = False) -> str:
    """The block to paste first: variables, and a function that takes a field out of JSON.

    zsh takes no comments on typed lines unless told to. Where curl is set to use a proxy, it must
    not for the demo.
    """
    rows = ['[ -z "${ZSH_VERSION-}" ] || setopt interactivecomments']
    if proxied:
        rows.append('export no_proxy="127.0.0.1${no_proxy:+,$no_proxy}"')
    values = {
        "GW": facts.gateway_url,
        "ADMIN": facts.admin_url,
        "IDP": facts.identity_url,
        "JSON": "Content-Type: application/json",
        "KEY": facts.key,
        "EXPIRED": facts.expired_key,
        "UNPAID": facts.unpaid_key,
        "REVOKED": facts.revoked_key,
        "ADMIN_TOKEN": facts.admin_token,
    }
    rows += [f"{name}={shlex.quote(value)}" for name, value in values.items()]
    rows.append("""field() { python3 -c "import json,sys; print(json.load(sys.stdin)['$1'])"; }""")
    return "\n".join(rows)


def groups(facts: Facts) -> tuple[Group, ...]:
    """All lines, in the order in which a reader best tries them."""
    return (
        Group("The gateway itself: no credential, no limit", _OWN),
        Group("Pattern 1 - public: anyone, the backend's answer as it is", _PUBLIC),
        Group('Pattern 1b - plan key: these routes need the plan "standard"', _PLAN_KEY),
        Group("Pattern 2 - body credentials: the caller's own Binance key", _BODY_CREDENTIALS),
        Group("Pattern 3 - registered key: the email names it", _registered_key(facts)),
        Group("Pattern 4 - app token: sign in with Google or Apple", _APP_TOKEN),
        Group("What no route takes", _REFUSED),
        Group("WebSocket: curl shows the handshake and the first messages", _WEBSOCKET),
        Group(f"The limit: 1,000 a minute and address, here {FLOODING_ADDRESS}", _LIMIT),
        Group("For the operator", _OPERATOR),
    )


_OWN = (
    Line('curl -i "$GW/health"', 200, shows=('"status": "healthy"',)),
    Line('curl -i "$GW/"', 200, shows=('{"status": "ok"}',)),
)

_PUBLIC = (
    Line(
        'curl -i "$GW/fapi/v1/klines?symbol=BTCUSDT&limit=2"',
        200,
        shows=("[[", 'RateLimit-Policy: "ip";q=1000;w=60'),
    ),
    Line('curl -i "$GW/fapi/v1/ticker/24hr?symbol=BTCUSDT"', 200, shows=('"lastPrice":',)),
    Line('curl -i "$GW/funding/rates/BTCUSDT"', 200, shows=('"fundingRate":',)),
    Line(
        'curl -i "$GW/strategies" -H "$JSON" \\\n'
        """  -d '{"name": "Breakout", "symbol": "BTCUSDT"}'""",
        201,
        shows=('"name":"Breakout"',),
    ),
    Line('curl -i "$GW/strategies/1"', 200, shows=('"id":1',)),
    Line('curl -i "$GW/strategies/404"', 404, "the backend's own", shows=("Strategy not found",)),
    Line(
        """curl -i "$GW/strategies" -H "$JSON" -d '{"name": 5}'""",
        422,
        "the backend's own",
        shows=('"loc":["body","name"]',),
    ),
)

_PLAN_KEY = (
    Line(
        'curl -i "$GW/stock/v1/klines?symbol=AAPL&limit=2" \\\n  -H "X-Primit-API-Key: $KEY"',
        200,
        shows=("[[",),
    ),
    Line(
        'curl -i "$GW/index/v1/klines?symbol=SPX&limit=2" \\\n  -H "X-Primit-API-Key: $KEY"',
        200,
        shows=("[[",),
    ),
    Line(
        'curl -i "$GW/stock/v1/klines?symbol=AAPL"',
        401,
        "missing key",
        shows=('WWW-Authenticate: ApiKey realm="primit"',),
    ),
    Line(
        'curl -i "$GW/stock/v1/klines?symbol=AAPL" \\\n  -H "X-Primit-API-Key: pk_made_up"',
        401,
        "invalid key",
    ),
    Line(
        'curl -i "$GW/stock/v1/klines?symbol=AAPL" \\\n  -H "X-Primit-API-Key: $REVOKED"',
        401,
        "revoked key",
    ),
    Line(
        'curl -i "$GW/stock/v1/klines?symbol=AAPL" \\\n  -H "X-Primit-API-Key: $EXPIRED"',
        403,
        "plan expired",
    ),
    Line(
        'curl -i "$GW/commodity/v1/klines?symbol=GOLD" \\\n  -H "X-Primit-API-Key: $UNPAID"',
        403,
        "plan never bought",
    ),
)

_BODY_CREDENTIALS = (
    Line(
        'curl -i "$GW/orders/auth" -H "$JSON" -d \\\n'
        """  '{"symbol": "BTCUSDT", "side": "BUY", "quantity": 0.01,\n"""
        """    "api_key": "my-own-key-ABCD", "api_secret": "my-own-secret-WXYZ"}'""",
        200,
        shows=("…ABCD", "…WXYZ"),
    ),
    Line(
        'curl -i "$GW/leverage/auth" -H "$JSON" -d \\\n'
        """  '{"symbol": "BTCUSDT", "leverage": 20,\n"""
        """    "api_key": "my-own-key-ABCD", "api_secret": "my-own-secret-WXYZ"}'""",
        200,
        shows=("…ABCD",),
    ),
    Line(
        'curl -i "$GW/orders/auth" -H "$JSON" \\\n'
        """  -d '{"symbol": "BTCUSDT", "api_key": "my-own-key"}'""",
        422,
        "api_secret missing",
        shows=('"api_secret"]',),
    ),
    Line(
        'curl -i "$GW/orders/auth" -H "$JSON" \\\n'
        """  -d '{"api_key": 12345, "api_secret": "my-own-secret"}'""",
        422,
        "api_key is no string",
        shows=('"api_key"]',),
    ),
)


def _registered_key(facts: Facts) -> tuple[Line, ...]:
    last_four = "…" + facts.registered_last_four
    return (
        Line(
            'curl -i "$GW/api-key/verify" -H "$JSON" \\\n'
            """  -d '{"email": "user@example.com"}'""",
            200,
            "success: true",
            shows=('"success": true', "API 密钥验证成功"),
        ),
        Line(
            'curl -i "$GW/api-key/status/user@example.com"',
            200,
            "verified",
            shows=('"verification_status": "verified"',),
        ),
        Line(
            'curl -i "$GW/api-key/status/nobody@example.com"',
            200,
            "success: false",
            shows=("用户不存在或没有API密钥",),
        ),
        Line(
            'curl -i "$GW/orders/registered" -H "$JSON" -d \\\n'
            """  '{"email": "user@example.com",\n"""
            """    "symbol": "BTCUSDT", "side": "BUY", "quantity": 1}'""",
            200,
            f"api_key ends in {facts.registered_last_four}",
            shows=(last_four,),
        ),
        Line(
            'curl -i "$GW/orders/registered" -H "$JSON" \\\n'
            """  -d '{"email": "nobody@example.com"}'""",
            403,
            "no registered key",
        ),
    )


_APP_TOKEN = (
    Line(
        "ID_TOKEN=$(curl -s -X POST \\\n"
        '  "$IDP/token?provider=google&email=user@example.com" | field id_token)',
        sets="ID_TOKEN",
    ),
    Line(
        'curl -i "$GW/auth/mobile/google" -H "$JSON" \\\n'
        r"""  -d "{\"id_token\": \"$ID_TOKEN\"}" """.rstrip(),
        200,
        "signed in",
        shows=('"access_token": "', '"email": "user@example.com"'),
    ),
    Line(
        'TOKEN=$(curl -s "$GW/auth/mobile/google" -H "$JSON" \\\n'
        r"""  -d "{\"id_token\": \"$ID_TOKEN\"}" | field access_token)""",
        sets="TOKEN",
    ),
    Line(
        'curl -i "$GW/users/me" -H "Authorization: Bearer $TOKEN"',
        200,
        shows=('"email":"user@example.com"',),
    ),
    Line(
        'curl -i "$GW/users/me" -H "Authorization: Bearer $TOKEN" \\\n'
        "  -H 'X-User-Email: boss@example.com'",
        200,
        "still user@example.com",
        shows=('"email":"user@example.com"',),
    ),
    Line(
        'curl -i "$GW/api-key/register" -H "$JSON" \\\n'
        '  -H "Authorization: Bearer $TOKEN" -d \\\n'
        """  '{"email": "user@example.com",\n"""
        """    "api_key": "mistyped", "api_secret": "x"}'""",
        200,
        "refused, the old stays",
        shows=('"success": false', '"has_api_key": true'),
    ),
    Line(
        'curl -i "$GW/users/me"',
        401,
        "missing token",
        shows=('WWW-Authenticate: Bearer realm="primit"',),
    ),
    Line(
        'curl -i "$GW/users/me" -H "Authorization: Bearer ${TOKEN}x"',
        401,
        "invalid token",
        shows=('error="invalid_token"',),
    ),
    Line(
        "OLD_TOKEN=$(curl -s -X POST \\\n"
        '  "$IDP/token?provider=google&email=user@example.com&expires_in=-3600" \\\n'
        "  | field id_token)",
        sets="OLD_TOKEN",
    ),
    Line(
        'curl -i "$GW/auth/mobile/google" -H "$JSON" \\\n'
        r"""  -d "{\"id_token\": \"$OLD_TOKEN\"}" """.rstrip(),
        401,
        "expired ID token",
    ),
    Line(
        "APPLE_TOKEN=$(curl -s -X POST \\\n"
        '  "$IDP/token?provider=apple&email=jane@example.com" | field identity_token)',
        sets="APPLE_TOKEN",
    ),
    Line(
        'curl -i "$GW/auth/mobile/apple" -H "$JSON" \\\n'
        r"""  -d "{\"identity_token\": \"$APPLE_TOKEN\"}" """.rstrip(),
        200,
        "signed in",
        shows=('"apple_id": "', '"email": "jane@example.com"'),
    ),
    Line(
        'curl -i -X POST "$GW/auth/logout" -H "Authorization: Bearer $TOKEN"',
        200,
        "signed out",
        shows=('"everywhere": true',),
    ),
    Line(
        'curl -i "$GW/users/me" -H "Authorization: Bearer $TOKEN"',
        401,
        "the token has ended",
        shows=('error="invalid_token"',),
    ),
)

_REFUSED = (
    Line('curl -i "$GW/no/such/path"', 404, shows=('{"detail": "Not Found"}',)),
    Line('curl -i -X DELETE "$GW/fapi/v1/klines"', 405, "see Allow", shows=("Allow: GET",)),
    Line('curl -i --path-as-is "$GW/fapi/v1/../../admin"', 400, "ambiguous path"),
)

_WEBSOCKET = (
    Line(
        'curl -i -s -o - -m 2 "$GW/ws?streams=btcusdt@ticker" \\\n'
        "  -H 'Connection: Upgrade' -H 'Upgrade: websocket' \\\n"
        "  -H 'Sec-WebSocket-Version: 13' \\\n"
        f"  -H 'Sec-WebSocket-Key: {WEBSOCKET_KEY}'",
        101,
        "then a ticker; ends itself",
        shows=("24hrTicker",),
        exit_code=28,  # curl's for "the two seconds are over"
    ),
)

_LIMIT = (
    Line(
        "curl -s -o /dev/null -w '%{http_code}\\n' \\\n"
        f"  -H 'X-Forwarded-For: {FLOODING_ADDRESS}' \\\n"
        '  "$GW/strategies?n=[1-1001]" | sort | uniq -c',
        says="1000 times 200, once 429",
        prints="1000 200 1 429",
    ),
    Line(
        f"curl -i \"$GW/strategies\" -H 'X-Forwarded-For: {FLOODING_ADDRESS}'",
        429,
        "blocked for an hour",
        shows=(f"IP {FLOODING_ADDRESS} 已被暂时封锁", "Retry-After: "),
    ),
    Line('curl -i "$GW/strategies"', 200, "from another address"),
    Line(
        'curl -i "$ADMIN/api/ips.unblock" -H "$JSON" \\\n'
        '  -H "Authorization: Bearer $ADMIN_TOKEN" \\\n'
        f"""  -d '{{"ip": "{FLOODING_ADDRESS}"}}'""",
        200,
    ),
    Line(
        f"curl -i \"$GW/strategies\" -H 'X-Forwarded-For: {FLOODING_ADDRESS}'",
        200,
        "free again",
    ),
)

_OPERATOR = (
    Line('curl -i "$ADMIN/readyz"', 200),
    Line('curl -i "$ADMIN/metrics"', 200, shows=("_total{",)),
)
