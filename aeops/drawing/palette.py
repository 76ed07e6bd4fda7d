"""The colours of every figure, and how they change where a page is dark. Standard library only.

The meanings are fixed: normals and the model blue, novelty and what is wrong vermillion, baselines green and purple
(Okabe and Ito 2008, told apart by the colour-blind). A figure carries the light colours; a page that inlines it swaps
them for variables, so that one file serves both themes.
"""

INK, MUTED, GRID, PAPER = "#1d2733", "#667281", "#dfe4ea", "#ffffff"
MODEL, NOVELTY, PCA, KNN = "#0072b2", "#d55e00", "#008f6b", "#a8508a"

# One a normal label: Tol's "muted" scheme without its rose, which is too near to the novelty's vermillion.
LABELS = ("#332288", "#88ccee", "#44aa99", "#117733", "#999933", "#ddcc77", "#882255", "#aa4499", "#6b7f99")

# light colour -> (its variable, the colour on a dark page)
THEME = {
    INK: ("ink", "#e6edf3"),
    MUTED: ("muted", "#93a1b0"),
    GRID: ("grid", "#2d3743"),
    PAPER: ("paper", "#151b23"),
    MODEL: ("model", "#4aa8e0"),
    NOVELTY: ("novelty", "#ff8a3d"),
    PCA: ("pca", "#2fc9a0"),
    KNN: ("knn", "#d988bf"),
    LABELS[0]: ("label-0", "#9a8cff"),
    LABELS[3]: ("label-3", "#43b362"),
    LABELS[4]: ("label-4", "#b9b94e"),
    LABELS[6]: ("label-6", "#d4608f"),
    LABELS[7]: ("label-7", "#cb7fd4"),
    LABELS[8]: ("label-8", "#a3b6d2"),
}
