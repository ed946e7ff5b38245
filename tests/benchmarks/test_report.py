"""Ratios, the verdict on targets, tables and the plot, of figures that are made up."""

import contextlib
from xml.etree import ElementTree as ET

import pytest
from bench import case, cases
from bench.case import METRICS, Comparison, Measurement, Options, median, ratio
from bench.cases import CASES, beside_nginx, public, size_name
from bench.ground import Ground
from bench.load import Sample
from bench.machine import Failed
from bench.peers import PEERS
from bench.plot import Bar, Panel, svg
from bench.report import case_table, markdown, number, plain, target_table
from bench.results import plotted, write
from bench.targets import TARGETS, Target


def side(*rates: float, **others: float) -> dict[str, list[float]]:
    """Figures of a side, alike but for its rates and what is named."""
    usual = {name: [others.get(name, 1.0)] * len(rates) for name in METRICS}
    return usual | {"rate": list(rates)}


FIGURES = {"nginx": side(100, 50, 90), "gateway": side(50, 30, 54, busy=0.5)}
COMPARISON = Comparison("public", "the public route", public)


def test_a_ratio_is_the_median_of_the_rounds_ratios():
    assert ratio(FIGURES, "gateway", "nginx", "rate") == (0.6, 0.5, 0.6)
    assert median(FIGURES, "nginx", "rate") == 90


def test_a_ratio_to_nothing_is_nothing():
    assert ratio({"a": side(1), "b": side(0)}, "a", "b", "rate") == (0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("bound", "at_most", "met"), [(0.6, False, True), (0.61, False, False), (0.59, True, False)]
)
def test_a_target_is_met_or_not_by_its_own_bound(bound, at_most, met):
    target = Target("x", lambda found: ratio(found["c"], "gateway", "nginx", "rate")[0], bound)
    target = Target("x", target.figure, bound, at_most)
    assert target.verdict({"c": FIGURES}).met is met
    assert target.verdict({}).word == "not measured"


@pytest.fixture(scope="module")
def sides(tmp_path_factory):
    """The sides of each comparison, by its name."""
    ground = Ground(tmp_path_factory.mktemp("ground"), 1, 2, None, {})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cases, "issue_keys", lambda _ground, count: ["pk_x"] * count)
        return {each.name: each.sides(ground) for each in CASES if isinstance(each, Comparison)}


@pytest.fixture(scope="module")
def made_up(sides):
    """Results with exactly the sides that each case has."""
    found = {name: {each.name: side(100, 110, 90) for each in sides[name]} for name in sides}
    measured = {"MB": [100.0], "MB added by a quarter more": [0.1], "KB each": [9.0]}
    found["memory"] = found["idle"] = {"worker": measured}
    found["startup"] = {name: {"seconds": [0.1]} for name in ("gateway serve", "gateway --help")}
    return found


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.what)
def test_a_target_refers_to_sides_that_its_case_has(target, made_up):
    assert target.verdict(made_up).reached is not None


def test_every_side_refers_to_one_of_its_case(made_up):
    for each in CASES:
        if isinstance(each, Comparison):
            figures = made_up[each.name]
            assert {each.reference(figures, name) for name in figures} <= figures.keys()


def test_every_peer_takes_part_in_the_main_case(sides):
    assert {each.proxy for each in sides["public"]} == {*PEERS, "gateway"}


class Recorded:
    """A load that notes what is done with it."""

    def __init__(self, name, log, failure=None):
        self.name, self.log, self.failure = name, log, failure

    def warm_up(self, *_):
        if self.failure is not None:
            raise self.failure
        self.log.append(f"warm {self.name}")

    def check(self, _):
        self.log.append(f"check {self.name}")

    def sample(self, *_):
        self.log.append(self.name)
        return Sample(*range(1, len(METRICS) + 1))


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run sides whose proxy does nothing."""
    monkeypatch.setitem(case.PROXIES, "fake", lambda _: contextlib.nullcontext(None))

    def run(*sides, rounds=2):
        ground = Ground(tmp_path, 1, 2, None, {})
        comparison = Comparison("x", "x", lambda _: list(sides))
        return comparison.run(ground, Options(rounds, 1, 1), lambda _: None)

    return run


def test_rounds_take_the_sides_in_turns_to_and_fro(run):
    log: list[str] = []
    sides = [case.Side(name, "fake", Recorded(name, log)) for name in "abc"]
    figures = run(*sides, rounds=3)
    assert log[:6] == ["warm a", "check a", "warm b", "check b", "warm c", "check c"]
    assert "".join(log[6:]) == "cbaabccba"
    assert figures["a"]["rate"] == [1, 1, 1]


def test_what_is_not_installed_is_left_out_with_a_word(run, monkeypatch, capsys):
    monkeypatch.setitem(case.NEEDS, "absent", ("no-such-program", "-v"))
    log: list[str] = []
    here = case.Side("here", "fake", Recorded("here", log))
    figures = run(case.Side("absent", "absent", Recorded("absent", log)), here)
    assert list(figures) == ["here"]
    assert capsys.readouterr().out == "absent is left out: no-such-program is not installed\n"


def test_a_side_that_fails_names_itself(run):
    broken = case.Side("slow one", "fake", Recorded("", [], TimeoutError("timed out")))
    with pytest.raises(Failed, match="slow one: TimeoutError"):
        run(broken)


def test_a_proxy_that_was_not_the_limit_is_marked():
    rows = case_table(COMPARISON, FIGURES)
    assert [row[-1] for row in rows] == ["core", "100%", "50%*"]
    assert rows[2][:5] == ["gateway", "50.0", "30.0-54.0", "0.60", "0.50-0.60"]


def test_other_figures_are_printed_one_by_one():
    measurement = Measurement("startup", "start", lambda *_: {})
    rows = case_table(
        measurement, {"serve": {"seconds": [0.5, 0.7, 0.6]}, "help": {"seconds": [0.1]}}
    )
    assert rows[1:] == [["serve", "seconds", "0.60", "0.50-0.70"], ["help", "seconds", "0.10", ""]]


def test_tables_stand_in_columns_and_as_markdown():
    rows = [["", "b"], ["long one", "1"], ["x", "200"]]
    assert plain(rows) == "            b\nlong one    1\nx         200"
    assert markdown(rows).splitlines()[1:3] == ["| --- | --- |", "| long one | 1 |"]


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.5, "0.50"), (9.99, "9.99"), (12.34, "12.3"), (123.4, "123"), (71234.0, "71,234")],
)
def test_a_number_has_the_digits_that_count(value, shown):
    assert number(value) == shown


@pytest.mark.parametrize(("size", "name"), [(200, "200 B"), (1500, "1.5 KB"), (10**8, "100 MB")])
def test_a_size_has_a_name(size, name):
    assert size_name(size) == name


def test_a_side_is_compared_with_nginx_under_the_same_load():
    assert beside_nginx("gateway, 512") == "nginx, 512"


def test_a_run_is_written_as_figures_tables_and_a_plot(tmp_path):
    ran = [each for each in CASES if each.name in {"public", "tls"}]
    write(tmp_path, ran, Options(3, 1, 1), {"public": FIGURES}, {"tls": "no certificate"})
    assert "no certificate" in (tmp_path / "bench.md").read_text()
    assert '"met": true' in (tmp_path / "bench.json").read_text()
    bars = ET.parse(tmp_path / "bench.svg").getroot()
    labels = [each.text for each in bars.iter("{http://www.w3.org/2000/svg}text")]
    assert labels[1] == "nginx"
    assert "50  (0.60 ×)" in labels


def test_bars_are_as_long_as_what_they_tell():
    panel = Panel("<&>", [Bar("a", 10, 8, 12, ours=True), Bar("b", 6, 6, 6, ours=False)])
    root = ET.fromstring(svg([panel], "<caption>"))
    _, a, b = root.iter("{http://www.w3.org/2000/svg}rect")
    assert float(b.get("width")) == pytest.approx(0.6 * float(a.get("width")), abs=0.1)


def test_the_gateway_stands_out_in_the_plot_and_the_fastest_stands_first():
    (panel,) = plotted({"public": {"slow": side(1, 1), "gateway": side(5, 5)}})
    assert [(bar.label, bar.ours) for bar in panel.bars] == [("gateway", True), ("slow", False)]


def test_unmeasured_targets_are_told_in_the_table():
    rows = target_table([TARGETS[0].verdict({})])
    assert rows[1] == [TARGETS[0].what, "at least 0.50 ×", "", "not measured"]


def test_the_case_with_a_body_has_a_kilobyte_of_it(sides):
    loads = {each.name: each.load for each in sides["patterns"]}
    assert len(loads["body credentials, 1 KB"].body) == 1024
