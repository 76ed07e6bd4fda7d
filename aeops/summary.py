"""A run in a few lines: for the terminal, and for the run's page in Prefect."""

from typing import Any


def metric_rows(metrics: dict[str, Any]) -> list[dict[str, str]]:
    """The model beside its baselines: one row a metric, columns metric, model, and each baseline's name."""
    recon, found = metrics["reconstruction"], metrics["detection"]
    pca = f"PCA-{recon['pca']['components']}"
    knn = f"kNN-{found['knn']['neighbours']}"
    low, high = found["model"]["auroc_interval"]
    return [
        row("MSE per pixel", recon, "mse", ".5f", pca) | {"note": f"{recon['gain_over_pca']:.1%} below {pca}"},
        row("PSNR (dB)", recon, "psnr", ".2f", pca),
        row("SSIM", recon, "ssim", ".3f", pca),
        detection_row("AUROC", found, "auroc", pca, knn) | {"note": f"95 % interval {low:.3f} to {high:.3f}"},
        detection_row("average precision", found, "average_precision", pca, knn),
    ]


def row(name: str, metrics: dict[str, Any], key: str, form: str, pca: str) -> dict[str, str]:
    return {"metric": name, "model": f"{metrics['model'][key]:{form}}", pca: f"{metrics['pca'][key]:{form}}"}


def detection_row(name: str, metrics: dict[str, Any], key: str, pca: str, knn: str) -> dict[str, str]:
    return {
        "metric": name,
        "model": f"{metrics['model'][key]:.3f}",
        pca: f"{metrics['pca_residual'][key]:.3f}",
        knn: f"{metrics['knn'][key]:.3f}",
    }


def false_alarm_line(metrics: dict[str, Any]) -> str:
    """The threshold and how its promise was kept, in one line."""
    told = metrics["false_alarms"]
    low, high = told["interval"]
    return (
        f"{told['threshold']:.4f} for {told['requested']:.2%} false alarms: measured {told['measured']:.2%} "
        f"({told['alarms']} of {told['normals']}; 95 % interval {low:.2%} to {high:.2%}), flags {metrics['novelty_flagged']:.1%} of the novelty"
    )


def verdict_markdown(verdict: dict[str, Any]) -> str:
    """The verdict and each of its rules, as Markdown."""
    lines = [f"## {verdict['recipe']}: {verdict['verdict']}", "", "| rule | says | passed |", "|---|---|---|"]
    lines += [f"| {rule['name']} | {rule['says']} | {'yes' if rule['passed'] else '**no**'} |" for rule in verdict["rules"]]
    return "\n".join(lines)
