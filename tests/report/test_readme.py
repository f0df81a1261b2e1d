from pathlib import Path

from ziggurat.report.readme import updated


def test_the_readme_shows_the_ledger_as_it_is():
    text = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    assert updated(text) == text, "run: python -m ziggurat.report.readme"


def test_the_python_example_of_the_readme_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("ZIGGURAT_RUNS", str(tmp_path))
    text = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    code = text.split("```python\n")[1].split("```")[0].replace("100steps", "5steps").replace("steps=100", "steps=5")
    exec(compile(code, "README", "exec"), {"__name__": "readme"})
