import pytest
from redis_process import eventually

from gateway.identity.users import UnknownUserError, Users
from gateway.sections import KeySettings
from gateway.store.plans import Plans, UnknownPlanError, UserPlan
from gateway.store.redis import Store

NOW = 1777464000.0  # 2026-04-29T12:00:00
ORDER = ("free", "standard", "professional")


@pytest.fixture
def users(store: Store) -> Users:
    return Users(store, KeySettings(), clock=lambda: NOW - 60)


@pytest.fixture
def plans(users: Users) -> Plans:
    return Plans(users, ORDER, clock=lambda: NOW)


@pytest.mark.parametrize(
    ("plan", "expires_at", "needed", "opens"),
    [
        ("standard", None, "standard", True),
        ("professional", None, "standard", True),
        ("free", None, "standard", False),
        ("standard", None, "professional", False),
        ("free", None, "free", True),
        ("standard", "2026-04-29T12:00:01", "standard", True),
        ("standard", "2026-04-29T12:00:00", "standard", False),
        ("standard", "2020-01-01T00:00:00", "free", False),
        ("standard", "soon", "standard", False),
        ("standard", "", "standard", False),
        (None, None, "free", False),
        (None, None, "standard", False),
        ("enterprise", None, "free", False),
        ("Standard", None, "standard", False),
    ],
)
def test_a_plan_opens_what_it_and_lower_ones_open_until_its_end(plan, expires_at, needed, opens):
    plans = Plans(None, ORDER)
    assert plans.is_open(plan, expires_at, needed, NOW) is opens


async def test_a_plan_set_is_shown_and_seen_by_those_who_know_the_user(plans: Plans, users: Users):
    created = await users.create(id=42)
    assert (await users.get(42)).plan is None
    wanted = UserPlan(42, "standard", "2027-01-01T00:00:00")
    assert await plans.set(42, "standard", "2027-01-01") == wanted
    assert await plans.show(42) == wanted

    async def seen() -> bool:
        return (await users.get(42)).plan == "standard"

    await eventually(seen)
    user = await users.show(42)
    assert user.plan_expires_at == "2027-01-01T00:00:00"
    assert (user.created_at, user.updated_at) == (created.created_at, "2026-04-29T12:00:00")


async def test_an_unknown_user_is_created(plans: Plans, users: Users):
    await plans.set(7, "free")
    user = await users.show(7)
    assert (user.id, user.plan, user.created_at) == (7, "free", "2026-04-29T11:59:00")


async def test_a_plan_without_end_replaces_one_with_an_end(plans: Plans):
    await plans.set(7, "standard", "2027-01-01")
    await plans.set(7, "professional")
    assert await plans.show(7) == UserPlan(7, "professional", None)


@pytest.mark.parametrize(
    ("user_id", "plan", "until", "error"),
    [
        (7, "gold", None, UnknownPlanError),
        (7, "free", "tomorrow", ValueError),
        (0, "free", None, ValueError),
    ],
)
async def test_what_cannot_be_set_leaves_no_user(plans, users, user_id, plan, until, error):
    with pytest.raises(error):
        await plans.set(user_id, plan, until)
    assert list(await users.list()) == []


async def test_the_plan_of_nobody_is_not_shown(plans: Plans):
    with pytest.raises(UnknownUserError):
        await plans.show(7)
