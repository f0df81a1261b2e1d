"""What none of our linters looks at."""

import ast
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def assigned(source: str) -> Counter[str]:
    """How often each name is given a value at the top of a module."""
    names = Counter[str]()
    for statement in ast.parse(source).body:
        if isinstance(statement, ast.Assign | ast.AnnAssign):
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            names.update(
                node.id
                for target in targets
                for node in ast.walk(target)
                if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
            )
    return names


def test_second_values_are_seen():
    assert assigned("FEW, MANY = 2, 3\nFEW: int = 10_000\nx[FEW] = 1\n") == {"FEW": 2, "MANY": 1}


@pytest.mark.parametrize("folder", ["src", "benchmarks"])
def test_a_constant_has_one_value(folder):
    twice = {
        str(path.relative_to(ROOT)): names
        for path in sorted((ROOT / folder).rglob("*.py"))
        if (names := [name for name, count in assigned(path.read_text()).items() if count > 1])
    }
    assert not twice, f"the second value hides the first: {twice}"
