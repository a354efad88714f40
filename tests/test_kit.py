"""The kit for a course: students get questions and no answers, and a grader can count."""

import ast
import inspect
import re
import sys
from functools import cache
from pathlib import Path

import pytest
from nbformat.v4 import new_code_cell

from peeklib import check

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "book"))
import kit  # noqa: E402
import sync  # noqa: E402

SCRIPTS = sync.scripts()
FIELDS = {"schema_version", "grade_id", "solution", "grade", "locked", "task"}
each = pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)


@cache
def student(script):
    return kit.student(script)


@cache
def whole_of(script):
    return kit.chapter(script)


def codes(notebook):
    return [cell.source for cell in notebook.cells if cell.cell_type == "code"]


def prose(notebook):
    return "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


def marked(notebook):
    """What a grader reads, and the cell, by id."""
    return {c.metadata.nbgrader.grade_id: c for c in notebook.cells if "nbgrader" in c.metadata}


def given(call):
    """The arguments of a check behind the answer, by name where that can be told."""
    function = getattr(check, call.func.attr)
    if any(isinstance(argument, ast.Starred) for argument in call.args):
        return [ast.dump(argument) for argument in call.args[1:]]
    named = {keyword.arg: keyword.value for keyword in call.keywords}
    return [*inspect.signature(function).bind(*call.args, **named).arguments][1:]


@each
def test_a_student_sees_no_solution_no_answer_and_no_verdict(script):
    notebook = student(script)
    text = prose(notebook) + "\n".join(codes(notebook))
    for hidden in ("@title Solution", "<summary>Answer</summary>", "pk.judge(", "**("):
        assert hidden not in text
    assert text.count("<summary>Hint</summary>") >= 3 and "**3.**" in text
    assert "Open in Colab" not in text  # it would open the notebook with the solutions


@each
def test_what_a_student_runs_needs_nothing_that_was_taken_out(script):
    whole, left = codes(whole_of(script)), codes(student(script))
    stored, needed = (set().union(*map(names, left)) for names in (kit.stored, kit.loaded))
    taken = set().union(*map(kit.stored, whole)) - stored
    parameters = {
        node.arg for cell in left for node in ast.walk(ast.parse(cell)) if isinstance(node, ast.arg)
    }
    assert not needed & taken - parameters
    answers = {kit.answer_of(kit.check_in(c)) for c in left if kit.UNANSWERED in c}
    others = [c for c in left if kit.UNANSWERED not in c]
    assert not answers & set().union(*map(kit.loaded, others))


@each
def test_stub_and_solution_are_given_the_same(script):
    cells = codes(whole_of(script))
    stubs = [
        kit.check_in(cell.source)
        for name, cell in marked(student(script)).items()
        if "-check" in name
    ]
    solutions = [
        kit.check_in(cell) for cell in cells if kit.SOLUTION in cell and "pk.check" in cell
    ]
    assert len(stubs) == len(solutions) >= 3
    for stub, solution in zip(stubs, solutions, strict=True):
        assert ast.unparse(stub.func) == ast.unparse(solution.func)
        assert given(stub) == given(solution)


@each
def test_a_stub_fails_by_having_no_answer_and_by_nothing_else(script):
    for name, cell in marked(student(script)).items():
        if not name.endswith("-check"):
            continue
        wanted, call = cell.source.split("\n", 1)
        answer = kit.answer_of(kit.check_in(call))
        stub = marked(student(script))[name.removesuffix("-check")].source
        [value] = [
            statement.value
            for statement in ast.parse(stub).body
            if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == answer
        ]
        assert ast.unparse(value) == "None"
        with pytest.raises(AssertionError, match=f"^{kit.UNANSWERED}$"):
            exec(wanted, {answer: None})
        exec(wanted, {answer: 0})


@each
def test_a_grader_finds_an_answer_and_a_locked_check_for_each_exercise(script):
    notebook = student(script)
    cells = marked(notebook)
    headings = kit.HEADING.findall(prose(notebook))
    names = [f"exercise-{script.name[:2]}-{number}" for number, _, _ in headings]
    assert [*cells] == [one for name in names for one in (name, f"{name}-check")]
    for name, (_, dots, _) in zip(names, headings, strict=True):
        answer, locked = (cells[one].metadata.nbgrader for one in (name, f"{name}-check"))
        assert answer.keys() == FIELDS and locked.keys() == FIELDS | {"points"}
        assert answer.schema_version == locked.schema_version == 3
        assert (answer.solution, answer.grade, answer.locked) == (True, False, False)
        assert (locked.solution, locked.grade, locked.locked) == (False, True, True)
        assert locked.points == dots.count("●") > 0


@each
def test_who_teaches_gets_everything_and_notes(script):
    whole, notebook = whole_of(script), kit.instructor(script)
    taught, exercises = prose(notebook), kit.HEADING.findall(prose(whole))
    assert all(cell.source in taught for cell in whole.cells if cell.cell_type == "markdown")
    solutions = [cell for cell in codes(whole) if kit.SOLUTION in cell]
    assert [cell for cell in codes(notebook) if kit.SOLUTION in cell] == solutions
    assert marked(notebook).keys() == marked(student(script)).keys()
    notes = [c.source for c in notebook.cells if c.source.startswith("**Teaching note**")]
    assert len(notes) == 1 + len(exercises)
    assert all(note.count("\n- ") >= 2 for note in notes[1:]), "slips that the check names"
    minutes = [int(found) for found in re.findall(r"\| (\d+) \| \d? ?\|", notes[0])]
    assert 0 <= minutes[-1] - sum(minutes[:-1]) < 5


def test_a_verdict_goes_with_what_only_it_needs():
    sources = [
        "shown = 1\nkept = 2\npk.judge('a', [kept])",
        "def box(name):\n    return pk.judge(name, [])\n\n\nbox('b')",
        "box('c')",
        "print('seen')\npk.judge('d', [])",
        "print(shown)",
    ]
    left = kit.without_verdicts([new_code_cell(source) for source in sources])
    assert [cell.source for cell in left] == [
        "shown = 1\nkept = 2",
        "print('seen')",
        "print(shown)",
    ]


def test_hints_of_a_check_are_texts_in_the_order_of_its_code():
    said = kit.hints("silent_neurons")
    assert said and all(isinstance(one, str) and one for one in said)
    assert kit.words(ast.parse("f'{n} of {m} fire'").body[0].value) == "… of … fire"


def test_links_lead_to_the_built_book(monkeypatch):
    monkeypatch.setattr(sync, "scripts", lambda: SCRIPTS[:2])
    made = kit.texts("student", "../site")
    assert [*made] == [f"{script.stem}.ipynb" for script in SCRIPTS[:2]]
    assert "(../site/book/notation.html)" in made["01-a-network-as-matrices.ipynb"]
    assert not any("../book/" in text for text in made.values())
