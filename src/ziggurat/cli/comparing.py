"""`ziggurat compare`: which method is best for this data at this budget."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ziggurat.cli.options import Device, Json, Out, Quiet, Seed, note, resolve_device, say, say_json, table


def compare(
    data: Annotated[str, typer.Argument(help="A data set's name, or the path of images, a csv or a graph file.")],
    methods: Annotated[list[str], typer.Argument(help="mlp, resnet18:stem=cifar, simsiam/resnet18, sgc, …")],
    budget: Annotated[str, typer.Option(help="For each training: 60s, 5m, 400steps, 10epochs.")] = "60s",
    seeds: Annotated[int, typer.Option(help="Trainings of each method.")] = 3,
    threads: Annotated[int, typer.Option(help="Threads of each training.")] = 1,
    task: Annotated[str, typer.Option(help="classes, or links: predict hidden links of a graph.")] = "classes",
    seed: Seed = 0,
    device: Device = "cpu",
    out: Out = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train several methods on the same data and budget; a table, a page, and the best checkpoint."""
    from ziggurat.report.comparison import write_page
    from ziggurat.workflows.comparing import run_comparison

    result = run_comparison(data, methods, budget, seeds, out, threads, resolve_device(device), quiet, seed, task)
    for text in (*result.notes, *result.warnings):
        note(text, quiet)
    page = write_page(result)
    if json:
        say_json(result.named().to_dict("records"))
    else:
        show(result)
        if result.best is not None:
            say(f"best checkpoint: {result.best}")
        say(f"page: {page}")
    if all(result.table["error"]):
        raise ValueError(f"no method could be trained; the first said: {result.table['error'][0]}")


def show(result: Any) -> None:
    """The table of a comparison."""
    rows = []
    for row in result.table.to_dict("records"):
        if row["error"]:
            rows.append([row["method"], row["error"], "", "", "", "", "", ""])
            continue
        rows.append(
            [
                row["method"],
                f"{100 * row['accuracy_mean']:.1f} ± {100 * row['accuracy_std']:.1f}",
                f"{100 * row['macro_f1_mean']:.1f} ± {100 * row['macro_f1_std']:.1f}",
                f"{row['parameters']:,}",
                f"{row['macs']:,}",
                f"{row['train_seconds']:.1f}",
                f"{row['peak_memory_mb']:.0f}",
                f"{row['inference_per_second']:.0f}",
            ]
        )
    first, second = result.measures
    columns = ["method", f"{first} %", f"{second} %", "parameters", "MACs", "training s", "memory MB", "inference/s"]
    table(f"{result.data}, {result.budget} each", columns, rows)
