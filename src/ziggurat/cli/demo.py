"""`make demo`: three kinds of method on handwritten digits, and then the best one is put to use. About a minute."""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

from ziggurat.cli.main import sentence
from ziggurat.cli.options import say
from ziggurat.data.loading import splits
from ziggurat.data.sources import runs_folder

METHODS = ("mlp", "mono_forward/mlp", "simsiam/cifar_resnet20")


def demo(folder: Path, budget: str = "6s") -> Path:
    """Compares, explains, embeds, searches and exports; returns the page of the comparison."""
    from ziggurat.cli.comparing import show
    from ziggurat.report.comparison import write_page
    from ziggurat.report.heatmap import explain_image
    from ziggurat.workflows.artifact import load_artifact
    from ziggurat.workflows.comparing import run_comparison
    from ziggurat.workflows.embedding import embed, search
    from ziggurat.workflows.exporting import export

    say(f"$ ziggurat compare digits {' '.join(METHODS)} --budget {budget} --seeds 1")
    result = run_comparison("digits", METHODS, budget, seeds=1, out=folder, quiet=False)
    page = write_page(result)
    show(result)
    assert result.best is not None
    best = load_artifact(result.best)
    say(f"\nThe best on validation data is {best.method}. One decision of it, explained:")
    test = splits("digits").test
    picture = folder / "digit.png"
    Image.fromarray(test.images[0, 0].numpy()).resize((64, 64), Image.Resampling.NEAREST).save(picture)
    if best.learner.score == "predict":
        drawn, label, probability = explain_image(best, picture, None, folder)
        say(f"  it says {label} ({100 * probability:.0f} %), the label is {test.classes[test.labels[0]]}: {drawn}")
    count = embed(best, "digits", folder / "memory")
    hits = search(folder / "memory", "digits/0", k=5)
    near = ", ".join(f"{i} ({m['label']})" for i, m in zip(hits.ids[0], hits.metadata[0], strict=True))
    say(f"  {count:,} digits embedded; the nearest to digits/0: {near}")
    difference = export(best, folder / "best.onnx")
    say(f"  exported as {folder / 'best.onnx'}, which differs from the network by {difference:.0e} at most")
    say(f"\nThe page with the table and the curves: {page}")
    return page


def main() -> None:
    """Entry point of `make demo`."""
    try:
        demo(runs_folder() / "demo")
    except (ValueError, OSError) as error:
        print(f"ziggurat: {sentence(error)}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
