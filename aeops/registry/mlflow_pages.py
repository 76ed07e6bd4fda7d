"""Addresses of MLflow's pages."""

# Of its two faces the one for models: without it, MLflow 3.17 opens the one for language models in a browser that is new to it.
CLASSIC_FACE = "?workflowType=machine_learning"


def experiments_page(address: str) -> str:
    """Return the page of all experiments of the MLflow server at an address."""
    return f"{address.rstrip('/')}/#/experiments{CLASSIC_FACE}"
