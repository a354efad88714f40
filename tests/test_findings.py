"""A finding of the table beside the live one: told when apart, never an error."""

import numpy as np
import pandas as pd
import pytest

import peeklib as pk
from peeklib.course.data import Dataset, Split

EMPTY = Split(None, None)


@pytest.fixture(autouse=True)
def in_full(monkeypatch):
    monkeypatch.setenv("PEEK_PROFILE", "full")


@pytest.mark.parametrize(
    ("listed", "live", "how", "status"),
    [
        (0.95, 0.94, {"within": 0.02}, "agrees"),
        (0.95, 0.92, {"within": 0.02}, "apart"),
        (100, 104, {"relative": 0.05}, "agrees"),
        (100, 106, {"relative": 0.05}, "apart"),
        (0.0, 0.001, {"relative": 0.05}, "apart"),
        (0.0, 0.001, {"relative": 0.05, "within": 0.01}, "agrees"),
        (3, 3, {}, "agrees"),
        (np.float32(3), 4, {}, "apart"),
        (True, np.bool_(True), {}, "agrees"),
        (True, False, {"within": 5}, "apart"),
        ("relu2", "relu1", {}, "apart"),
        (0.5, float("nan"), {"within": 1}, "apart"),
        (float("nan"), float("nan"), {}, "agrees"),
        (0.5, float("inf"), {"within": 1}, "apart"),
    ],
)
def test_apart_beyond_the_tolerance(listed, live, how, status):
    found = pk.recheck("something", listed, live, **how)
    assert found.status == status
    assert f'data-recheck="{status}"' in found._repr_html_()


def test_several_values_are_compared_by_name():
    listed = pd.Series({"relu1": 0.30, "relu2": 0.10, "input": 0.50})
    found = pk.recheck("error", listed, {"relu2": 0.3, "relu1": 0.31}, within=0.02)
    assert found.apart == ["relu2"] and list(found.listed) == ["relu2", "relu1"]
    said = found._repr_html_()
    assert "relu2: table 0.1 ± 0.02, here 0.3, apart; relu1: table 0.3 ± 0.02, here 0.31." in said


def test_each_value_may_have_its_own_tolerance():
    listed, live = {"accuracy": 0.95, "steps": 12345}, {"accuracy": 0.94, "steps": 12346}
    found = pk.recheck("training", listed, live, within={"accuracy": 0.02, "steps": 0})
    assert found.apart == ["steps"] and "table 12,345, here 12,346, apart" in repr(found)
    relative = pd.Series({"accuracy": 0, "steps": 0.1})
    assert pk.recheck("training", listed, live, relative=relative).apart == ["accuracy"]
    with pytest.raises(ValueError, match=r"no tolerance for \['steps'\]"):
        pk.recheck("training", listed, live, within={"accuracy": 0.02})


@pytest.mark.parametrize(
    ("live", "how", "error", "words"),
    [
        ([1, 2], {}, TypeError, "the value is a list; give numbers"),
        ({"a": None}, {}, TypeError, "a is a NoneType"),
        (pd.Series([1, 2], ["a", "a"]), {}, ValueError, "names occur twice"),
        ({"a": 1}, {"within": -1}, ValueError, "negative"),
        ({"a": 1}, {"relative": float("nan")}, ValueError, "NaN"),
    ],
)
def test_odd_input_is_refused_in_words(live, how, error, words):
    with pytest.raises(error, match=words):
        pk.recheck("x", {"a": 1}, live, **how)


def test_names_the_table_has_not_are_refused():
    with pytest.raises(ValueError, match=r"\['relu3'\]"):
        pk.recheck("error", {"relu1": 1}, {"relu3": 1})
    with pytest.raises(ValueError, match="none"):
        pk.recheck("error", {"relu1": 1}, {})


def test_other_data_and_the_small_version_are_shown_and_not_compared(monkeypatch):
    stand_in = Dataset("digits", EMPTY, EMPTY, (), "made", stand_in_for="mnist")
    found = pk.recheck("accuracy", 0.95, 0.2, data=stand_in)
    assert found.status == "not compared" and "this page ran on digits" in found._repr_html_()
    monkeypatch.setenv("PEEK_PROFILE", "embedded")
    found = pk.recheck("accuracy", 0.95, 0.2)
    assert found.status == "not compared" and "table 0.95, here 0.2" in found._repr_html_()


def test_words_are_escaped():
    said = pk.recheck('<b> & "x"', {"<i>": 1.0}, {"<i>": 2.0})._repr_html_()
    assert "<b>" not in said and "<i>" not in said and "&quot;x&quot;" in said


def test_tables_of_evidence_are_found_by_name():
    assert {"cases", "zoo", "bench-curves"} <= set(pk.evidence.names())
    assert pk.evidence.table("orders").order.iloc[0] == "0123456789"
    assert pk.evidence.how("cases")["minutes"] > 0
    for ask in (pk.evidence.table, pk.evidence.how):
        with pytest.raises(KeyError, match="cases"):
            ask("nothing")
