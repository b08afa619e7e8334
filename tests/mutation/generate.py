"""Runs in cosmic-ray's own environment: prints a random sample of mutants as JSON lines. usage: generate.py SEED COUNT FILE…

One mutant for each place in the code at most, so that an operator with many variants does not fill the sample.
"""

import ast
import json
import random
import re
import sys
from pathlib import Path

import cosmic_ray.plugins  # type: ignore[import-not-found,unused-ignore]  # lives in an environment of its own
from cosmic_ray.ast import ast_nodes, get_ast  # type: ignore[import-not-found,unused-ignore]  # as above
from cosmic_ray.mutating import mutate_code  # type: ignore[import-not-found,unused-ignore]  # as above

# `==` as `is`: the same for small numbers and enums, so most of these change nothing.
LEFT_OUT = re.compile(
    r"Operator_(Eq|NotEq|Lt|LtE|Gt|GtE)_(Is|IsNot)$|ReplaceOrWithAnd_|VariableReplacer|VariableInserter"
)


def unchecked_lines(code: str) -> set[int]:
    """Lines whose change no pure test can see: blocks for the type checker, functions that await (layers do), `slots=True`."""
    found: set[int] = {number for number, line in enumerate(code.splitlines(), 1) if "slots=True" in line}
    for layer in ast.parse(code).body:
        if isinstance(layer, ast.FunctionDef | ast.AsyncFunctionDef) and _awaits(layer):
            found.update(range(layer.lineno, (layer.end_lineno or 0) + 1))
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            found.update(range(node.lineno, (node.end_lineno or 0) + 1))
    return found


def _awaits(node: ast.AST) -> bool:
    return any(isinstance(below, ast.Await) for below in ast.walk(node))


def annotation_spans(code: str) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Begin and end (line, column) of each annotation."""
    found: list[ast.expr] = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.returns:
            found.append(node.returns)
        elif isinstance(node, ast.arg | ast.AnnAssign) and node.annotation:
            found.append(node.annotation)
    return [((a.lineno, a.col_offset), (a.end_lineno or 0, a.end_col_offset or 0)) for a in found]


def mutants(file: str) -> dict[tuple[int, int], list[dict[str, object]]]:
    """All mutants of a file, by their place."""
    code = Path(file).read_text()
    lines, hidden = unchecked_lines(code), annotation_spans(code)
    found: dict[tuple[int, int], list[dict[str, object]]] = {}
    tree = get_ast(code)
    for name in cosmic_ray.plugins.operator_names():
        if LEFT_OUT.search(name):
            continue
        try:
            operator = cosmic_ray.plugins.get_operator(name)()
        except TypeError:  # an operator that needs arguments
            continue
        places = [begin for node in ast_nodes(tree) for begin, _ in operator.mutation_positions(node)]
        for occurrence, place in enumerate(places):
            if place[0] in lines or any(begin <= tuple(place) < end for begin, end in hidden):
                continue
            mutant = {"file": file, "line": place[0], "operator": name, "occurrence": occurrence}
            found.setdefault(tuple(place), []).append(mutant)
    return found


def main(seed: str, count: str, *files: str) -> None:
    chance = random.Random(int(seed))
    places = [(file, place, variants) for file in files for place, variants in sorted(mutants(file).items())]
    print(f"{len(places)} places, {sum(len(v) for *_, v in places)} mutants", file=sys.stderr)
    chance.shuffle(places)
    made = 0
    for file, _, variants in places:
        if made == int(count):
            break
        code = Path(file).read_text()
        mutant = chance.choice(variants)
        try:
            operator = cosmic_ray.plugins.get_operator(str(mutant["operator"]))()
            changed = mutate_code(code, operator, mutant["occurrence"])
            if not changed or ast.dump(ast.parse(changed)) == ast.dump(ast.parse(code)):
                continue
        except (
            SyntaxError,
            AttributeError,
        ):  # AttributeError: cosmic-ray cannot replace `except a.dotted.Name`
            continue
        print(json.dumps({**mutant, "code": changed}))
        made += 1


if __name__ == "__main__":
    main(*sys.argv[1:])
