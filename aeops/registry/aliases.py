"""Names of the aliases of a registered model."""

CHAMPION = "champion"  # the version that is served; only aeops/registry/promotion.py moves it
CHALLENGER = "challenger"  # the version that was registered last
