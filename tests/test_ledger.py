"""The ledger: a verdict follows from its criterion, and every claim is judged once and shown."""

import re
from pathlib import Path

import pandas as pd
import pytest

from peeklib import CLAIMS, evidence, judge
from peeklib.course.data import Dataset, Split
from peeklib.course.ledger import by_seed, spread
from peeklib.course.studies import STUDIES

ROOT = Path(__file__).resolve().parent.parent
TWO = next(name for name, claim in CLAIMS.items() if len(claim.parts) == 2)
EMPTY = Split(None, None)
SETTINGS = {  # columns that tell rows of one seed from each other
    *("data", "recipe", "fraction", "order", "lr", "study", "setting", "layer", "activations"),
    *("method", "count", "rank", "solver", "network", "control", "images", "model", "program"),
    *("equal", "base", "shuffle", "digit", "other", "rounds"),
}


@pytest.mark.parametrize(
    ("holds", "verdict", "kind"),
    [([1, 1], "reproduced", "yes"), ([0, 1], "partly", "partly"), ([0, 0], "not reproduced", "no")],
)
def test_the_verdict_follows_from_the_parts(holds, verdict, kind):
    finding = judge(TWO, holds, "1 < 2", chapter="03-x", data=None)
    assert finding.verdict == verdict
    html = finding.to_html()
    assert f'data-verdict="{kind}"' in html
    assert html.count("✓") == sum(holds) and html.count("✗") == 2 - sum(holds)
    assert f'href="../notebooks/03-x.html#claim-{TWO}"' in html and "1 &lt; 2" in html


def test_stand_in_data_gets_no_verdict():
    data = Dataset("digits", EMPTY, EMPTY, (), "made", stand_in_for="mnist")
    finding = judge(TWO, [True, True], "", chapter="c", data=data)
    assert finding.verdict == "no verdict on digits"
    assert 'data-verdict="none"' in finding.to_html()
    real = Dataset("mnist", EMPTY, EMPTY, (), "found")
    assert judge(TWO, [True, True], "", chapter="c", data=real).verdict == "reproduced"


def test_another_page_can_show_a_finding_by_name():
    data, metadata = judge(TWO, [True, False], "m", chapter="c", data=None)._repr_mimebundle_()
    assert metadata == {"scrapbook": {"name": f"claim-{TWO}", "mime_prefix": ""}}
    assert data["text/html"].startswith("<dl") and "partly" in data["text/plain"]


def test_wrong_claims_and_numbers_of_parts_are_refused():
    with pytest.raises(KeyError, match="no claim 'x'"):
        judge("x", [True], "", chapter="c", data=None)
    with pytest.raises(ValueError, match="2 parts, not 1"):
        judge(TWO, [True], "", chapter="c", data=None)


def test_every_claim_is_judged_in_one_chapter_and_shown_in_the_ledger():
    judged = {}
    for script in (ROOT / "notebooks").glob("*.py"):
        calls = r'(?:judge|persists|spectral)\(\s*"([a-z0-9-]+)"'
        for name in re.findall(calls, script.read_text()):
            judged.setdefault(name, []).append(script.stem)
    assert judged.keys() == CLAIMS.keys()
    ledger = (ROOT / "book/ledger.md").read_text()
    shown = re.findall(r"\{glue:any\} claim-(\S+)\n:doc: \.\./notebooks/(\S+)\.ipynb", ledger)
    assert [name for name, _ in shown] == list(CLAIMS)
    assert {name: [chapter] for name, chapter in shown} == judged


def test_one_value_for_each_seed_or_an_error():
    table = pd.DataFrame({"seed": [1, 0, 1], "layer": ["a", "a", "b"], "x": [3.0, 2.0, 5.0]})
    assert by_seed(table, "x", layer="a").to_dict() == {0: 2, 1: 3}
    assert spread(by_seed(table, "x", layer="a"), ".1f") == "2.5 (2.0 to 3.0)"
    for where in ({}, {"layer": "c"}):
        with pytest.raises(ValueError, match="name one for each"):
            by_seed(table, "x", **where)


@pytest.mark.parametrize("study", STUDIES)
def test_every_table_of_a_study_says_how_it_was_made(study):
    rows, how = evidence.table(study), evidence.how(study)
    assert how["command"] == f"python book/evidence.py {study}"
    assert {"commit", "pins", "device", "data", "date", "minutes", "fit"} <= how.keys()
    assert how["seeds"] == sorted(rows.seed.unique())
    settings = [name for name in rows if name in SETTINGS]
    whole = rows
    if study == "rank_or_scale":
        whole = rows[rows.control == "none"]  # twins are of one seed
    seeds = whole.groupby(settings).seed.nunique()
    assert (seeds == len(how["seeds"])).all(), "a network is missing"
    assert not rows.duplicated([*settings, "seed"]).any()
    assert "-dirty" not in how["commit"]
