"""The rows of `deepgnn plan`: runs that differ in depth and seed alone share one set of measurements."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from deepgnn_cli.config.compose import RunConfig, config_hash
from deepgnn_cli.config.validate import check
from deepgnn_cli.runs.build import load_inputs, pick_device
from deepgnn_cli.runs.excerpt import Excerpt
from deepgnn_cli.runs.forecast import Forecast, Forecaster, Wider, largest
from deepgnn_cli.training.subnormals import subnormals_are_zeros

_NARROWER = 256
"""How many widths below the widest that fits are tried for one that the model takes (groups, heads)."""


@subnormals_are_zeros()
def planned(
    configs: Sequence[RunConfig], fits_mib: float | None, vary: str, told: Callable[[str], None]
) -> list[dict[str, object]]:
    """A row for each run, or for each kind of run the largest that fits in `fits_mib`.

    Args:
        configs: the runs; those that differ in the seed alone become one row.
        fits_mib: the largest peak allowed; None: the runs as they are.
        vary: what is made larger, `layers` or `hidden`.
        told: hears what is being measured.

    Raises:
        ValueError: the data cannot be read, or a run wants several processes.
    """
    if any(config.values["trainer"]["processes"] > 1 for config in configs):
        raise ValueError("plan measures a single process; leave trainer.processes out")
    rows = []
    for alike in _grouped(configs, ("seed", "layers")):
        values = alike[0].values
        device, _ = pick_device(values["device"])
        loader = Excerpt(load_inputs(values, device))
        depths = [config.values["layers"] for config in alike]
        told(f"{alike[0].choices['model']} on {alike[0].choices['dataset']} …")
        if fits_mib is not None and vary == "hidden":
            rows += [_widest(config, loader, fits_mib) for config in _first_of_each(alike)]
            continue
        if fits_mib is not None:
            forecaster = Forecaster(values, loader, [*depths, 32])
            rows.append(_row(alike[0], loader, largest(forecaster.at, fits_mib), "layers", len(alike)))
            continue
        forecaster = Forecaster(values, loader, depths)
        for config in _first_of_each(alike):
            forecast = forecaster.at(config.values["layers"])
            rows.append(_row(config, loader, forecast, None, depths.count(config.values["layers"])))
    return rows


def _grouped(configs: Sequence[RunConfig], apart_from: tuple[str, ...]) -> list[list[RunConfig]]:
    groups: dict[str, list[RunConfig]] = {}
    for config in configs:
        key = config_hash({name: value for name, value in config.values.items() if name not in apart_from})
        groups.setdefault(key, []).append(config)
    return list(groups.values())


def _first_of_each(configs: Sequence[RunConfig]) -> list[RunConfig]:
    return list({config.values["layers"]: config for config in reversed(configs)}.values())[::-1]


def _widest(config: RunConfig, loader: Excerpt, fits_mib: float) -> dict[str, object]:
    """The widest run of these layers that fits, of a width that the model takes."""
    wider = Wider(config.values, loader)
    forecast = largest(wider.at, fits_mib)
    if forecast is not None:
        best = forecast.hidden
        for hidden in range(best, max(0, best - _NARROWER), -1):
            if _is_possible(config, hidden):
                return _row(config, loader, wider.at(hidden), "hidden", 1)
    return _row(config, loader, None, "hidden", 1)


def _is_possible(config: RunConfig, hidden: int) -> bool:
    try:
        check(config.values | {"hidden": hidden}, config.choices)
    except ValueError:
        return False
    return True


def _row(
    config: RunConfig, loader: Excerpt, forecast: Forecast | None, varied: str | None, runs: int
) -> dict[str, object]:
    values, chosen = config.values, config.choices
    row: dict[str, object] = {name: chosen.get(name, "") for name in ("dataset", "model", "conv", "norm", "residual")}
    row |= {"layers": values["layers"], "hidden": values["hidden"]}
    kind = "cuda" if loader.device.type == "cuda" else "rss"
    batches = {"batches": loader.train_batches, "timed_batches": loader.timed[0]}
    if forecast is None:
        assert varied is not None
        names = ("parameters_mib", "gradients_mib", "optimiser_mib", "activation_mib", "transient_mib", "base_mib")
        unknown = dict.fromkeys(("parameters", *names, "peak_memory_mib"))
        last = {"epoch_seconds": None, "whole_seconds": None, "runs": runs, "measured": None}
        return row | {varied: None} | unknown | {"memory_kind": kind} | batches | last
    sizes = vars(forecast.sizes)
    return row | {
        "layers": forecast.layers,
        "hidden": forecast.hidden,
        **(sizes | {"parameters": round(forecast.sizes.parameters)}),
        "transient_mib": forecast.transient_mib,
        "base_mib": forecast.base_mib,
        "peak_memory_mib": forecast.peak_memory_mib,
        "memory_kind": kind,
        **batches,
        "epoch_seconds": forecast.epoch_seconds,
        "whole_seconds": forecast.epoch_seconds * values["trainer"]["max_epochs"],
        "runs": runs,
        "measured": forecast.measured,
    }
