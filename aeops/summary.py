"""A run in a few lines: for the terminal, and for the run's page in Prefect."""

from typing import Any

from aeops.report.words import number, share, span


def metric_rows(metrics: dict[str, Any]) -> list[dict[str, str]]:
    """The model beside its baselines: one row a metric, columns metric, model, each baseline's name, and a note."""
    made, found = metrics["reconstruction"], metrics["detection"]
    pca, knn = f"PCA-{made['pca']['components']}", f"kNN-{found['knn']['neighbours']}"
    interval = found["model"]["auroc_interval"]
    return [
        reconstruction_row("MSE per pixel", made, "mse", 5, pca) | {"note": beside(made["gain_over_pca"], pca)},
        reconstruction_row("PSNR (dB)", made, "psnr", 2, pca),
        reconstruction_row("SSIM", made, "ssim", 3, pca),
        detection_row("AUROC", found, "auroc", pca, knn) | {"note": f"95 % interval {span(interval)}"},
        detection_row("average precision", found, "average_precision", pca, knn),
    ]


def beside(gain: float | None, baseline: str) -> str:
    """How far the model's error lies below (or above) a baseline's."""
    if gain is None:
        return ""
    return f"{share(abs(gain))} {'below' if gain >= 0 else 'above'} {baseline}"


def reconstruction_row(name: str, metrics: dict[str, Any], key: str, digits: int, pca: str) -> dict[str, str]:
    return {"metric": name, "model": number(metrics["model"][key], digits), pca: number(metrics["pca"][key], digits)}


def detection_row(name: str, metrics: dict[str, Any], key: str, pca: str, knn: str) -> dict[str, str]:
    columns = {"model": "model", pca: "pca_residual", knn: "knn"}
    return {"metric": name} | {column: number(metrics[detector][key]) for column, detector in columns.items()}


def false_alarm_line(metrics: dict[str, Any]) -> str:
    """The threshold and how its promise was kept, in one line."""
    told = metrics["false_alarms"]
    low, high = told["interval"]
    return (
        f"{told['threshold']:.4f} for {share(told['requested'], 2)} false alarms: measured {share(told['measured'], 2)} "
        f"({told['alarms']} of {told['normals']}; 95 % interval {share(low, 2)} to {share(high, 2)}), "
        f"flags {share(metrics['novelty_flagged'])} of the novelty"
    )


def verdict_markdown(verdict: dict[str, Any]) -> str:
    """The verdict and each of its rules, as Markdown."""
    lines = [f"## {verdict['recipe']}: {verdict['verdict']}", "", "| rule | says | passed |", "|---|---|---|"]
    lines += [f"| {rule['name']} | {rule['says']} | {'yes' if rule['passed'] else '**no**'} |" for rule in verdict["rules"]]
    return "\n".join(lines)
