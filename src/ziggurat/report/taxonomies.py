"""The methods of the room of graphs in the order of three surveys, as a page of the documentation: `python -m ziggurat.report.taxonomies`.

A row of the catalogue says its `place = [survey, category]`; the surveys' own networks are placed by their tables.
"""

from __future__ import annotations

from pathlib import Path

from ziggurat import catalogue
from ziggurat.claims.ledger import ledger_folder, read

PAGE = "docs/taxonomies.md"
SURVEYS = {
    "gnn_survey": {
        "recurrent": "one map with shared weights, applied until it rests or for a number of steps",
        "spectral convolutional": "filters that are functions of the Laplacian",
        "spatial convolutional": "messages between neighbours, with weights of their own in every layer",
        "autoencoders": "representations from which links or structure are read, most of them without labels",
        "spatial-temporal": "signals or interactions that move along a graph in time",
        "network embedding": "vectors of nodes without a network; the survey sets them apart",
    },
    "directed_survey": {
        "message-passing": "messages along and against the edges, each with its own weights",
        "eigenpolynomial": "polynomials and other functions of a directed operator",
        "sequence-based": "attention among all nodes, with the direction in the positions",
    },
    "hypergraph_survey": {
        "messages, linear in each hyperedge": "a hyperedge says the mean of its members to each of them",
        "messages, functions of sets": "a hyperedge learns a function of the set of its members",
        "messages, each member its own": "what a hyperedge says depends on who listens",
        "messages, descent on an energy": "layers are steps of an optimisation",
        "training, contrast and filling": "without labels",
        "training, distilled into a perceptron": "the hypergraph is not needed at the end",
        "beyond hyperedges: cells with an order": "faces, edges and nodes with their boundaries, which hypergraphs have not",
    },
}
OWN = {
    "HGNNConv": "messages, linear in each hyperedge",
    "HNHNConv": "messages, linear in each hyperedge",
    "UniGCNConv": "messages, linear in each hyperedge",
    "AllDeepSetsConv": "messages, functions of sets",
    "AllSetTransformerConv": "messages, functions of sets",
    "EDHNNConv": "messages, each member its own",
    "HypergraphContrast": "training, contrast and filling",
    "HyperedgeFilling": "training, contrast and filling",
}
"""The places of the hypergraph survey's own symbols."""


def own_members(survey: str) -> dict[str, list[str]]:
    """Category -> names of the classes that the survey's own table has there."""
    from ziggurat.graphs.directed.profile import directed_taxonomy
    from ziggurat.graphs.taxonomy import gnn_taxonomy

    if survey == "gnn_survey":
        return {category: [cls.__name__ for cls in classes] for category, classes in gnn_taxonomy().items()}
    if survey == "directed_survey":
        return {
            category: [path.rpartition(".")[2] for path in paths] for category, paths in directed_taxonomy().items()
        }
    return {category: [name for name, place in OWN.items() if place == category] for category in SURVEYS[survey]}


def placed() -> dict[tuple[str, str], list[str]]:
    """(survey, category) -> ids of the papers that are placed there. A place that no survey has is a `ValueError`."""
    found: dict[tuple[str, str], list[str]] = {}
    for name, row in catalogue.rows().items():
        if "place" in row:
            survey, category = row["place"]
            if category not in SURVEYS.get(survey, {}):
                raise ValueError(f"{name} stands at {survey}, {category!r}, which is no place of a survey.")
            found.setdefault((survey, category), []).append(name)
    return found


def page() -> str:
    """The page as Markdown."""
    lines = [
        "# Where every method of the graph room stands",
        "",
        "Three surveys sort networks on graphs. Their tables, filled with what this library has; made from the catalogue by",
        "`python -m ziggurat.report.taxonomies`. A paper's verdict stands behind its name (`ziggurat show NAME` has the numbers).",
    ]
    places = placed()
    for survey, categories in SURVEYS.items():
        row, own = catalogue.row(survey), own_members(survey)
        lines += [
            "",
            f"## {row['title']}",
            "",
            f"[arXiv:{row['arxiv']}](https://arxiv.org/abs/{row['arxiv']}), `{survey}`",
            "",
        ]
        lines += ["| category | what it is | papers | classes of the survey's own table |", "|---|---|---|---|"]
        for category, meaning in categories.items():
            papers = []
            for name in places.get((survey, category), []):
                record = read(name)
                papers.append(f"`{name}` ({record['verdict'] if record else 'not measured'})")
            classes = ", ".join(f"`{name}`" for name in own.get(category, []))
            lines.append(f"| {category} | {meaning} | {', '.join(papers)} | {classes} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Writes the page into the checkout."""
    Path(ledger_folder().parent, PAGE).write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
