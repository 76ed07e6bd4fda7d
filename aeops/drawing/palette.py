"""Colours of every figure, with their counterparts on dark pages. Standard library only.

The meanings are fixed: normals and the model are blue, novelty and failures vermillion, baselines green, purple, ochre and
brown (Okabe and Ito 2008, safe for colour-blind readers). A figure carries the light colours; a page that inlines it replaces
them by variables, so that one file serves both themes.
"""

TEXT_COLOUR = "#1d2733"
MUTED_COLOUR = "#5f6b79"
GRID_COLOUR = "#dfe4ea"
PAPER_COLOUR = "#ffffff"
MODEL_COLOUR = "#0072b2"
NOVELTY_COLOUR = "#d55e00"
PCA_COLOUR = "#008f6b"
KNN_COLOUR = "#a8508a"
HULL_COLOUR = "#b8860b"
FOREST_COLOUR = "#6b4f3a"

# One a normal label: Tol's "muted" scheme without its rose, which is too near to the novelty's vermillion.
LABEL_COLOURS = ("#332288", "#88ccee", "#44aa99", "#117733", "#999933", "#ddcc77", "#882255", "#aa4499", "#6b7f99")

# light colour -> (its variable, the colour on a dark page)
THEME_COLOURS = {
    TEXT_COLOUR: ("ink", "#e6edf3"),
    MUTED_COLOUR: ("muted", "#93a1b0"),
    GRID_COLOUR: ("grid", "#2d3743"),
    PAPER_COLOUR: ("paper", "#151b23"),
    MODEL_COLOUR: ("model", "#4aa8e0"),
    NOVELTY_COLOUR: ("novelty", "#ff8a3d"),
    PCA_COLOUR: ("pca", "#2fc9a0"),
    KNN_COLOUR: ("knn", "#d988bf"),
    HULL_COLOUR: ("hull", "#e3b341"),
    FOREST_COLOUR: ("forest", "#b9977d"),
    LABEL_COLOURS[0]: ("label-0", "#9a8cff"),
    LABEL_COLOURS[3]: ("label-3", "#43b362"),
    LABEL_COLOURS[4]: ("label-4", "#b9b94e"),
    LABEL_COLOURS[6]: ("label-6", "#d4608f"),
    LABEL_COLOURS[7]: ("label-7", "#cb7fd4"),
    LABEL_COLOURS[8]: ("label-8", "#a3b6d2"),
}
