"""`compare`: several methods on the same data, splits and budget; each training in a process of its own."""

from __future__ import annotations

import datetime
import multiprocessing
import os
import sys
import threading
import warnings
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import pandas as pd

from ziggurat.data.sources import runs_folder
from ziggurat.workflows.artifact import load_artifact
from ziggurat.workflows.budget import Budget, parse_budget
from ziggurat.workflows.methods import Method, check_fit, make_learner, make_network, parse_method, small_image_warning
from ziggurat.workflows.outcome import CLASSES, Outcome, Task
from ziggurat.workflows.training import checkpoint_path, prepare, train_method

COLUMNS = (
    "method", "accuracy_mean", "accuracy_std", "macro_f1_mean", "macro_f1_std", "parameters", "macs", "train_seconds",
    "peak_memory_mb", "inference_per_second", "steps", "score", "error",
)  # fmt: skip


@dataclass
class Comparison:
    """The result of a comparison.

    Attributes:
        table: one row a method, the best first; columns as `COLUMNS`.
        outcomes: every training.
        best: path of the best method's weights, or None when the best is an embedding of nodes.
        folder: where everything lies.
        notes: what was found and changed while reading the data.
        warnings: what the person should know of single methods.
        measures: what the columns `accuracy…` and `macro_f1…` hold: those two, AUC and HR@50 of links, or R² and rank correlation.
    """

    table: pd.DataFrame
    outcomes: list[Outcome]
    best: Path | None
    folder: Path
    data: str
    budget: Budget
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    measures: tuple[str, str] = CLASSES

    def named(self) -> pd.DataFrame:
        """The table with its two scores under their own names, such as `auc_mean` and `hr@50_mean`."""
        own = {"accuracy": self.measures[0], "macro_f1": self.measures[1]}
        names = {key: measure.lower().replace(" ", "_") for key, measure in own.items()}
        return self.table.rename(
            columns={f"{key}_{part}": f"{name}_{part}" for key, name in names.items() for part in ("mean", "std")}
        )

    def _repr_html_(self) -> str:
        return self.named().to_html(index=False)


def work(
    text: str,
    data: str,
    budget: Budget,
    seed: int,
    steps: int | None,
    folder: Path,
    threads: int,
    device: str,
    task: Task,
) -> Outcome:
    """One training, in a child process; an error becomes a sentence in its outcome."""
    import torch

    warnings.simplefilter("ignore")  # what there is to say of the data was said when they were read first
    torch.set_num_threads(threads)
    try:
        outcome, artifact = train_method(
            parse_method(text), prepare(data, task=task), budget, seed, steps=steps, device=device
        )
        if artifact is not None:
            artifact.save(checkpoint_path(folder, text, seed))
        return outcome
    except Exception as error:
        sentence = " ".join(str(error).split())[:300]
        return Outcome(text, seed, error=f"{type(error).__name__}: {sentence}")


def end_with_parent() -> None:
    """Ends this process when the one that asked for it is gone, whatever killed it: nobody is left to take the result."""
    parent = multiprocessing.parent_process()
    if parent is not None:

        def wait() -> None:
            parent.join()
            os._exit(1)

        threading.Thread(target=wait, daemon=True).start()


def in_child(*arguments: Any) -> Outcome:
    """`work` in a fresh child of the fork server; a child that dies is an outcome with a sentence."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["ziggurat.workflows.training"])
    with ProcessPoolExecutor(1, mp_context=context, initializer=end_with_parent) as pool:
        try:
            return pool.submit(work, *arguments).result()
        except BrokenProcessPool:
            return Outcome(
                arguments[0], arguments[3], error="its process died (out of memory, or a crash in compiled code)."
            )


def run_comparison(
    data: str | Path,
    methods: Sequence[str],
    budget: str = "60s",
    seeds: int = 3,
    out: str | Path | None = None,
    threads: int = 1,
    device: str = "cpu",
    quiet: bool = True,
    first_seed: int = 0,
    task: Task = "classes",
) -> Comparison:
    """Trains every method with every seed and ranks them by accuracy on the test part, or by AUC on hidden links.

    Mistakes in the arguments, and methods that do not fit the data, are a `ValueError` before anything is trained.
    """
    amount = parse_budget(budget)
    if seeds < 1:
        raise ValueError(f"seeds must be 1 or more, got {seeds}.")
    if threads < 1:
        raise ValueError(f"threads must be 1 or more, got {threads}.")
    if not methods:
        raise ValueError("name at least one method, for instance mlp or resnet18:stem=cifar.")
    parsed = [parse_method(text) for text in methods]
    if task not in get_args(Task):
        raise ValueError(f"task must be one of {', '.join(get_args(Task))}, got {task!r}.")
    prepared = prepare(str(data), task=task)
    warnings = []
    for method in parsed:
        check_fit(method, prepared.shape, prepared.name)
        if method.contract != "embedding":
            make_network(method, prepared.shape)
            if prepared.measures == CLASSES:
                make_learner(method, prepared.shape, 128)
        if warning := small_image_warning(method, prepared.shape):
            warnings.append(warning)
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    folder = Path(out) if out is not None else runs_folder() / f"{stamp}-compare-{Path(str(data)).name}"
    folder.mkdir(parents=True, exist_ok=True)
    jobs = [(method, first_seed + k) for method in parsed for k in range(seeds)]
    steps: dict[str, int] = {}
    outcomes = []
    for method, seed in progress(jobs, quiet):
        known = steps.get(method.text)
        outcome = in_child(method.text, str(data), amount, seed, known, folder, threads, device, task)
        if outcome.steps:
            steps[method.text] = outcome.steps
        warnings += [w for w in outcome.warnings if w not in warnings]
        outcomes.append(outcome)
    table = summarise(outcomes)
    best = choose_best(outcomes, folder)
    return Comparison(
        table, outcomes, best, folder, prepared.name, amount, prepared.notes, tuple(warnings), prepared.measures
    )


def compare(
    data: str | Path,
    methods: Sequence[str],
    budget: str = "60s",
    seeds: int = 3,
    out: str | Path | None = None,
    threads: int = 1,
    task: Task = "classes",
) -> pd.DataFrame:
    """Which of these methods is best for this data at this budget?

    Arguments:
        data: a name, or a path (a folder of images, a csv, a graph file).
        methods: such as "mlp", "resnet18:stem=cifar", "simsiam/resnet18", "sgc", "fastrp".
        budget: "60s", "5m", "400steps" or "10epochs" for each training.
        seeds: trainings of each method.
        out: folder for checkpoints; None makes one under ./runs.
        threads: of each training.
        task: "classes", or "links": which hidden links of a graph a method finds.

    Returns: a table with one row a method, the best first.
    """
    return run_comparison(data, methods, budget, seeds, out, threads, task=task).named()


def summarise(outcomes: Sequence[Outcome]) -> pd.DataFrame:
    """One row a method: means and spreads over the seeds that worked."""
    rows = []
    for text in dict.fromkeys(o.method for o in outcomes):
        own = [o for o in outcomes if o.method == text]
        good = [o for o in own if not o.error]

        def mean(name: str, good: list[Outcome] = good) -> float:
            return float(pd.Series([getattr(o, name) for o in good], dtype=float).mean())

        def spread(name: str, good: list[Outcome] = good) -> float:
            return float(pd.Series([getattr(o, name) for o in good], dtype=float).std(ddof=1)) if len(good) > 1 else 0.0

        rows.append(
            {
                "method": text,
                "accuracy_mean": mean("accuracy"),
                "accuracy_std": spread("accuracy"),
                "macro_f1_mean": mean("macro_f1"),
                "macro_f1_std": spread("macro_f1"),
                "parameters": good[0].parameters if good else 0,
                "macs": good[0].macs if good else 0,
                "train_seconds": mean("train_seconds"),
                "peak_memory_mb": mean("peak_memory_mb"),
                "inference_per_second": mean("inference_per_second"),
                "steps": good[0].steps if good else 0,
                "score": good[0].score if good else "",
                "error": next((o.error for o in own if o.error), ""),
            }
        )
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    return table.sort_values("accuracy_mean", ascending=False, na_position="last", ignore_index=True)


def choose_best(outcomes: Sequence[Outcome], folder: Path) -> Path | None:
    """Saves the training with the best validation accuracy again as `best`, and returns its path."""
    trained = [o for o in outcomes if not o.error and checkpoint_path(folder, o.method, o.seed).is_file()]
    if not trained:
        return None
    winner = max(trained, key=lambda o: o.valid_accuracy)
    return load_artifact(checkpoint_path(folder, winner.method, winner.seed)).save(folder / "best")


def progress(jobs: list[tuple[Method, int]], quiet: bool) -> Any:
    """The jobs, with a bar and the time left on stderr."""
    if quiet or not sys.stderr.isatty():
        for k, job in enumerate(jobs):
            if not quiet:
                print(f"[{k + 1}/{len(jobs)}] {job[0].text}, seed {job[1]}", file=sys.stderr)
            yield job
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=len(jobs))
        for job in jobs:
            bar.update(task, description=f"{job[0].text}, seed {job[1]}")
            yield job
            bar.advance(task)
