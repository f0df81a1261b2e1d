"""Writes how many checks run for each symbol: `python -m tests.update_floor [PART OF A NAME …]`, when a check or a symbol was added."""

import json
import sys

from tests.test_contracts import CHECKED, FLOOR
from ziggurat.testing import CONTRACTS, run_checks, subject

if __name__ == "__main__":
    wanted, known = sys.argv[1:], json.loads(FLOOR.read_text())
    counts = {path: known[path] for path in CHECKED if path in known}
    for path in CHECKED:
        if wanted and not any(part in path for part in wanted):
            continue
        results = run_checks(subject(path), CONTRACTS[subject(path).contract])
        counts[path] = sum(result == "ran" or name == "check_export" for name, result in results.items())
        print(path, counts[path])
    FLOOR.write_text(json.dumps(counts, indent=1, sort_keys=True) + "\n")
