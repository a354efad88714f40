"""The chapters for a course: one set for students, one for who teaches.

`python book/kit.py student` (`make student`) writes notebooks with stubs alone: no solutions, no answers to the closed questions,
no verdicts on the paper's claims. `python book/kit.py instructor` writes the same notebooks with all of it, and teaching notes.
Either is made from the chapter's script, so the two cannot drift apart.

An exercise becomes two cells: the student's answer, and a locked check worth a point a dot. Both carry the cell metadata of
nbgrader, version 3. A check that stands alone must fail where nothing was answered, or it would give away its points.
"""

import ast
import copy
import functools
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import nbformat
import sync
from address import ROOT
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell

KINDS = ("student", "instructor")
PAGE = re.compile(r"\(\.\./book/([\w/-]+)\.md\)")  # a notebook's link to a page of the book
HEADING = re.compile(r"^### Exercise (\d+) ([●○]{3}) \((\d+) minutes\)", re.MULTILINE)
SECTION = re.compile(r"^## (.+?)\n\n\*(\d+) minutes\.\*", re.MULTILINE)
PROMISE = re.compile(r"Allow (\d+) minutes")
ANSWER = re.compile(r"\n*<details><summary>Answer</summary>.*?</details>", re.DOTALL)
FOLDED = "Decide before you unfold an answer."
IN_WRITING = "Write down a letter for each, and what is wrong about the others."
BADGE = re.compile(r"\n\n\[!\[Open in Colab\].*?\n")
SOLUTION = "# @title Solution"
JUDGE = "pk.judge"
UNANSWERED = "not answered yet"


@dataclass(frozen=True)
class Exercise:
    """What the heading of an exercise says.

    Attributes:
        chapter: its number, of two digits.
        number: within the chapter, from 1.
        points: the dots of its difficulty.
        minutes: what a student should take.
    """

    chapter: str
    number: int
    points: int
    minutes: int

    @property
    def name(self) -> str:
        """Its id for a grader."""
        return f"exercise-{self.chapter}-{self.number}"


def exercise_in(cell: NotebookNode, chapter: str) -> Exercise | None:
    """The exercise that a cell of text sets, if it does."""
    found = HEADING.search(cell.source)
    if cell.cell_type != "markdown" or not found:
        return None
    return Exercise(chapter, int(found[1]), found[2].count("●"), int(found[3]))


def student(script: Path) -> NotebookNode:
    """The chapter to be worked through: every answer is missing."""
    notebook = chapter(script)
    cells = [cell for cell in notebook.cells if SOLUTION not in cell.source]
    for cell in cells:
        if cell.cell_type == "markdown":
            cell.source = ANSWER.sub("", cell.source).replace(FOLDED, IN_WRITING)
    notebook.cells = list(divided(without_verdicts(cells), script.name[:2]))
    return numbered(notebook)


def instructor(script: Path) -> NotebookNode:
    """The chapter with everything, and notes."""
    notebook = chapter(script)
    title, *rest = divided(notebook.cells, script.name[:2])
    overview = new_markdown_cell(plan_of(notebook))
    notebook.cells = [title, overview, *noted(rest, script.name[:2])]
    return numbered(notebook)


def chapter(script: Path) -> NotebookNode:
    """The notebook of a script as it is read outside the book, without the badge that opens another one."""
    path = script.relative_to(ROOT).as_posix()
    notebook = copy.deepcopy(outside(script.read_text(encoding="utf-8"), path))
    notebook.cells[0].source = BADGE.sub("\n", notebook.cells[0].source)
    return notebook


outside = functools.cache(sync.outside)  # both kinds of a notebook are made from one reading


def divided(cells: list[NotebookNode], chapter: str) -> Iterator[NotebookNode]:
    """The cells, with each stub as an answer and a locked check."""
    exercise = None
    for cell in cells:
        if exercise and cell.cell_type == "code":
            yield from halves(cell, exercise)
            exercise = None
            continue
        exercise = exercise_in(cell, chapter) or exercise
        yield cell


def halves(stub: NotebookNode, exercise: Exercise) -> Iterator[NotebookNode]:
    """A stub's own lines for the student, and its call of a check for the grader."""
    call = check_in(stub.source)
    lines = stub.source.splitlines()
    answer = "\n".join(lines[: call.lineno - 1]).rstrip()
    check = "\n".join(lines[call.lineno - 1 : call.end_lineno])
    yield graded(answer, exercise.name, solution=True)
    wanted = f'assert {answer_of(call)} is not None, "{UNANSWERED}"'
    yield graded(f"{wanted}\n{check}", f"{exercise.name}-check", points=exercise.points)


def check_in(source: str) -> ast.Call:
    """The call of `pk.check` that a cell makes."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    [call] = [one for one in calls if ast.unparse(one.func).startswith("pk.check.")]
    return call


def answer_of(call: ast.Call) -> str:
    """The name that a check looks at."""
    return ast.unparse(call.args[0])


def graded(source: str, name: str, *, solution: bool = False, points: int = 0) -> NotebookNode:
    """A code cell that a grader knows: an answer to be written, or a check that nobody may edit."""
    cell = new_code_cell(source)
    cell.metadata["nbgrader"] = {
        "schema_version": 3,
        "grade_id": name,
        "solution": solution,
        "grade": not solution,
        "locked": not solution,
        "task": False,
    }
    if not solution:
        cell.metadata["nbgrader"]["points"] = points
        cell.metadata["tags"] = ["raises-exception"]  # "Run all" goes on past what is not answered
    return cell


def without_verdicts(cells: list[NotebookNode]) -> list[NotebookNode]:
    """The cells without their verdicts, and without what only a verdict was made from."""
    judges = {JUDGE, *(name for cell in code_of(cells) for name in judging(cell.source))}
    kept = []
    for cell in cells:
        if cell.cell_type == "code" and calls(ast.parse(cell.source)) & judges:
            cell.source = without_calls(cell.source, judges)
            others = (loaded(one.source) for one in code_of(cells) if one is not cell)
            if not shows(cell.source) and not stored(cell.source) & set().union(*others):
                continue
        kept.append(cell)
    return kept


def code_of(cells: list[NotebookNode]) -> list[NotebookNode]:
    return [cell for cell in cells if cell.cell_type == "code"]


def judging(source: str) -> list[str]:
    """The functions of a cell that give a verdict."""
    functions = [node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)]
    return [function.name for function in functions if JUDGE in calls(function)]


def calls(tree: ast.AST) -> set[str]:
    """What a piece of code calls, by name."""
    return {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}


def without_calls(source: str, names: set[str]) -> str:
    """A cell's lines but for the statements that call one of these."""
    lines = source.splitlines()
    for statement in reversed(ast.parse(source).body):
        if calls(statement) & names:
            del lines[statement.lineno - 1 : statement.end_lineno]
    return "\n".join(lines).strip()


def shows(source: str) -> bool:
    """Whether a cell does something besides giving values to names."""
    return any(isinstance(statement, ast.Expr) for statement in ast.parse(source).body)


def stored(source: str) -> set[str]:
    """Names that a cell gives a value."""
    tree = list(ast.walk(ast.parse(source)))
    defined = {node.name for node in tree if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    names = (node for node in tree if isinstance(node, ast.Name))
    return defined | {node.id for node in names if isinstance(node.ctx, ast.Store)}


def loaded(source: str) -> set[str]:
    """Names that a cell uses."""
    names = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name))
    return {node.id for node in names if isinstance(node.ctx, ast.Load)}


def plan_of(notebook: NotebookNode) -> str:
    """A teaching note for the whole chapter: what takes how long."""
    text = "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    rows = [f"| {name} | {minutes} | |" for name, minutes in SECTION.findall(text)]
    for number, dots, minutes in HEADING.findall(text):
        rows.append(f"| Exercise {number} | {minutes} | {dots.count('●')} |")
    promise = PROMISE.search(text)
    total = f"| *allow* | {promise[1]} | |" if promise else ""
    return "\n".join(
        ["**Teaching note**", "", "| part | minutes | points |", "|---|---|---|", *rows, total]
    )


def noted(cells: list[NotebookNode], chapter: str) -> Iterator[NotebookNode]:
    """The cells, with a teaching note behind the text of each exercise."""
    for place, cell in enumerate(cells):
        yield cell
        exercise = exercise_in(cell, chapter)
        if exercise:
            check = check_in(cells[place + 2].source)  # behind text and answer
            yield new_markdown_cell(note_of(exercise, ast.unparse(check.func).split(".")[-1]))


def note_of(exercise: Exercise, check: str) -> str:
    """What an exercise is worth, and what its check replies to slips."""
    heading = f"**Teaching note** · {exercise.minutes} minutes, {exercise.points} of 3 points. "
    replies = [f"- {said}" for said in hints(check)]
    return "\n".join([f"{heading}Slips that `pk.check.{check}` knows, by its reply:", "", *replies])


def hints(check: str) -> list[str]:
    """The replies of a check to wrong answers, with … for what it computes."""
    returns = [node for node in ast.walk(checks()[check]) if isinstance(node, ast.Return)]
    in_order = sorted(returns, key=lambda node: node.lineno)
    return [said for node in in_order if (said := words(node.value))]


@functools.cache
def checks() -> dict[str, ast.FunctionDef]:
    """The code of every check, by name; read, not imported, so that PyTorch is not needed."""
    files = sorted((ROOT / "peeklib/course/check").glob("chapter*.py"))
    body = [node for file in files for node in ast.parse(file.read_text(encoding="utf-8")).body]
    return {node.name: node for node in body if isinstance(node, ast.FunctionDef)}


def words(value: ast.expr | None) -> str:
    """A text in code, with … in place of each value."""
    if isinstance(value, ast.Constant) and isinstance(value.value, str):
        return value.value
    if isinstance(value, ast.JoinedStr):
        return "".join(words(part) or "…" for part in value.values)
    return ""


def numbered(notebook: NotebookNode) -> NotebookNode:
    """With ids that stay the same from one making to the next."""
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number:03d}"
    return notebook


def texts(kind: str, site: str) -> dict[str, str]:
    """All notebooks of a kind, by file name; `site` is where the built book lies, seen from them."""
    make = {"student": student, "instructor": instructor}[kind]
    made = {f"{script.stem}.ipynb": make(script) for script in sync.scripts()}
    return {
        name: PAGE.sub(rf"({site}/book/\1.html)", f"{nbformat.writes(notebook)}\n")
        for name, notebook in made.items()
    }


def main(kind: str) -> int:
    folder = ROOT / "_build" / kind
    folder.mkdir(parents=True, exist_ok=True)
    made = texts(kind, "../html")
    for name, text in made.items():
        sync.write(folder / name, text)
    print(f"{folder}: {len(made)} notebooks")
    return 0


if __name__ == "__main__":
    if sys.argv[1:2] not in ([kind] for kind in KINDS):
        sys.exit(f"say which: {' or '.join(KINDS)}")
    sys.exit(main(sys.argv[1]))
