"""Plans of sessions: their minutes add up, and what they lead to is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PLANS = sorted((ROOT / "book/teaching").glob("session-*.md"))
each = pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.stem)
ROW = re.compile(r"^\| (\d+)–(\d+) \| (.+?) \| (.+) \| (\w+) \|$", re.MULTILINE)
ANCHOR = re.compile(r'href="\.\./\.\./notebooks/([\w-]+)\.html#([\w-]+)"')


def anchor(heading):
    """A heading as the built page names it."""
    return re.sub(r"[^a-z0-9]+", "-", heading.lower()).strip("-")


def planned(text):
    return [(int(start), int(end)) for start, end, *_ in ROW.findall(text)]


@each
def test_the_minutes_of_a_plan_are_those_of_the_session(plan):
    text = plan.read_text()
    rows = planned(text)
    assert rows[0][0] == 0 and rows[-1][1] == int(plan.stem.split("-")[1])
    assert [end for _, end in rows[:-1]] == [start for start, _ in rows[1:]]
    assert all(2 <= end - start <= 10 for start, end in rows)
    [(parts, total)] = re.findall(r"^(Opening .+): together (\d+)\.", text, re.MULTILINE)
    assert sum(map(int, re.findall(r" (\d+)(?:,|$)", parts))) == int(total) == rows[-1][1]


@each
def test_headings_and_words_keep_to_the_plan(plan):
    text = plan.read_text()
    ends = {minute for row in planned(text) for minute in row}
    told = re.findall(r"^(?:## .+\(|\*\*)(\d+)–(\d+)[).]", text, re.MULTILINE)
    assert told and {int(minute) for pair in told for minute in pair} <= ends
    starts = {start for start, _ in planned(text)}
    words = text.partition("## Words before")[2].partition("\n## ")[0]
    assert {int(found) for found in re.findall(r"\| (\d+) \|$", words, re.MULTILINE)} <= starts


@each
def test_every_link_of_a_plan_leads_to_a_heading(plan):
    for page, target in ANCHOR.findall(plan.read_text()):
        script = (ROOT / "notebooks" / f"{page}.py").read_text()
        headings = re.findall(r"^# #{2,3} (.+)$", script, re.MULTILINE)
        assert target in map(anchor, headings), (page, target)


@each
def test_a_session_says_what_is_learned_asked_and_graded(plan):
    text = plan.read_text()
    assert 3 <= len(re.findall(r"^- .+[;.]$", text.partition("they can**")[2][:700], re.MULTILINE))
    assert text.count("***") >= 12 and "## Exit ticket" in text and "*Short of time:*" in text


def test_every_plan_is_a_page_of_the_book():
    listed = re.findall(r"file: (book/teaching/\S+)", (ROOT / "_toc.yml").read_text())
    assert {*listed} == {f"book/teaching/{plan.stem}" for plan in PLANS}
