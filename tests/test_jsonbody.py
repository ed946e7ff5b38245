import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import Invalid
from gateway.jsonbody import (
    normal_email,
    parse_object,
    require_email,
    require_string,
    require_strings,
)

NOT_AN_OBJECT = {
    "loc": ["body"],
    "msg": "Input should be a valid dictionary or object to extract fields from",
    "type": "model_attributes_type",
}


def not_json(position: int) -> dict[str, object]:
    return {"loc": ["body", position], "msg": "JSON decode error", "type": "json_invalid"}


REFUSED = {
    "no body": (b"", {"loc": ["body"], "msg": "Field required", "type": "missing"}),
    "blanks alone": (b"  ", not_json(2)),
    "not JSON": (b'{"a": }', not_json(6)),
    "text after the object": (b'{"a": 1} x', not_json(9)),
    "a repeated name": (
        b'{"a": 1, "a": 2}',
        {"loc": ["body"], "msg": "Object names must be unique", "type": "json_invalid"},
    ),
    "a repeated name, spelled with an escape, deep inside": (
        rb'{"b": [{"a": 1, "\u0061": 2}]}',
        {"loc": ["body"], "msg": "Object names must be unique", "type": "json_invalid"},
    ),
    "invalid UTF-8": (b'{"a": "\xff"}', not_json(7)),
    "overlong UTF-8": (b'{"a": "\xc0\xaf"}', not_json(7)),
    "a byte order mark": (b'\xef\xbb\xbf{"a": 1}', not_json(0)),
    "UTF-16": ('{"a": 1}'.encode("utf-16"), not_json(0)),
    "UTF-16 without a mark": ('{"a": 1}'.encode("utf-16-le"), not_json(1)),
    "NaN": (b'{"a": NaN}', not_json(0)),
    "Infinity": (b'{"a": -Infinity}', not_json(0)),
    "a number out of range": (b'{"a": 1e999}', not_json(0)),
    "an integer of 10,000 digits": (b'{"a": ' + b"9" * 10_000 + b"}", not_json(0)),
    "a bomb of arrays": (b'{"a": ' + b"[" * 15_000 + b"]" * 15_000 + b"}", not_json(0)),
    "a bomb of objects": (b'{"a": ' * 15_000 + b"1" + b"}" * 15_000, not_json(0)),
    "65 levels": (b'{"a": ' + b"[" * 64 + b"]" * 64 + b"}", not_json(0)),
    "a control character in a string": (b'{"a": "\n"}', not_json(7)),
    "an array": (b"[]", NOT_AN_OBJECT),
    "a string": (b'"a"', NOT_AN_OBJECT),
    "null": (b"null", {"loc": ["body"], "msg": "Field required", "type": "missing"}),
    "a number": (b"1", NOT_AN_OBJECT),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_one_plain_json_object_is_refused_in_fastapis_form(case):
    body, problem = REFUSED[case]
    with pytest.raises(Invalid) as refusal:
        parse_object(body)
    assert refusal.value.status == 422
    assert refusal.value.detail == [problem]


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b"{}", {}),
        (b' {"a": [1, 2.5, true, null, {"b": "c"}]}\r\n', {"a": [1, 2.5, True, None, {"b": "c"}]}),
        ('{"名": "值"}'.encode(), {"名": "值"}),
        (b'{"a": ' + b"[" * 63 + b"]" * 63 + b"}", None),
    ],
)
def test_an_object_is_parsed(body, value):
    parsed = parse_object(body)
    assert value is None or parsed == value


@given(st.binary(max_size=200))
def test_no_bytes_at_all_cause_anything_but_an_object_or_a_422(body):
    try:
        value = parse_object(body)
    except Invalid:
        return
    assert isinstance(value, dict)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)  # fmt: skip


@given(st.dictionaries(st.text(), JSON))
def test_every_object_that_json_can_write_is_read_back(value):
    assert parse_object(json.dumps(value).encode()) == value


def problems(body, names, **bounds):
    with pytest.raises(Invalid) as refusal:
        require_strings(body, names, **bounds)
    return [(problem["loc"], problem["type"]) for problem in refusal.value.detail]


@pytest.mark.parametrize(
    ("value", "kind", "message"),
    [
        (1, "string_type", "Input should be a valid string"),
        (None, "string_type", "Input should be a valid string"),
        (True, "string_type", "Input should be a valid string"),
        (["x"], "string_type", "Input should be a valid string"),
        ({"x": "x"}, "string_type", "Input should be a valid string"),
        ("", "string_too_short", "String should have at least 1 character"),
        ("12345", "string_too_long", "String should have at most 4 characters"),
        (
            "\ud800",
            "string_unicode",
            "Input should be a valid string, unable to parse raw data as a unicode string",
        ),
    ],
)
def test_a_field_that_is_no_proper_string_is_named_with_its_cause(value, kind, message):
    with pytest.raises(Invalid) as refusal:
        require_string({"a": value}, "a", max_length=4)
    assert refusal.value.detail == [{"loc": ["body", "a"], "msg": message, "type": kind}]


def test_a_missing_field_is_named():
    with pytest.raises(Invalid) as refusal:
        require_string({}, "a")
    assert refusal.value.detail == [
        {"loc": ["body", "a"], "msg": "Field required", "type": "missing"}
    ]


def test_all_bad_fields_are_told_in_one_answer():
    assert problems({"b": 1, "c": "good"}, ("a", "b", "c")) == [
        (["body", "a"], "missing"),
        (["body", "b"], "string_type"),
    ]


def test_good_fields_come_back_in_the_order_asked_for():
    assert require_strings({"a": "1", "b": "2", "c": "3"}, ("b", "a")) == ("2", "1")


@pytest.mark.parametrize(
    ("text", "email"),
    [
        ("user@example.com", "user@example.com"),
        ("  User@Example.COM\n", "user@example.com"),
        ("用户@例子.中国", "用户@例子.中国"),
        ("a" * 242 + "@example.com", "a" * 242 + "@example.com"),
        ("a" * 243 + "@example.com", None),
        ("", None),
        ("user", None),
        ("@example.com", None),
        ("user@", None),
        ("a@b@c", None),
        ("us er@example.com", None),
        ("us\u00a0er@example.com", None),
        ("us\ter@example.com", None),
        ("us\x00er@example.com", None),
        ("us\u200ber@example.com", None),
        ("us\r\ner@example.com", None),
        ("us\ud800er@example.com", None),
        ("\u212ate@example.com", None),  # the Kelvin sign: lower-cased, it would be kate's
        ("u\u0130@example.com", None),
    ],
)
def test_an_email_has_one_normal_form_or_none(text, email):
    assert normal_email(text) == email


@given(st.text())
def test_the_normal_form_of_an_email_is_its_own_normal_form(text):
    email = normal_email(f"{text}@example.com")
    assert email is None or normal_email(email) == email


def test_an_email_field_comes_back_in_normal_form():
    assert require_email({"email": " A@b.c "}, "email") == "a@b.c"


def test_an_email_field_that_is_none_is_a_422():
    with pytest.raises(Invalid) as refusal:
        require_email({"email": "nobody"}, "email")
    assert refusal.value.detail == [
        {
            "loc": ["body", "email"],
            "msg": "value is not a valid email address",
            "type": "value_error",
        }
    ]


@pytest.mark.parametrize("part", [b"{}", b"[]", b"1", b'"a"'])
def test_a_body_of_very_many_parts_is_refused_before_it_is_read(part):
    with pytest.raises(Invalid) as raised:
        parse_object(b'{"a": [' + b",".join([part] * 30_000) + b"]}")

    assert raised.value.detail == [{"loc": ["body"], "msg": "Too many parts", "type": "too_long"}]
