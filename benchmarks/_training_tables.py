"""The tables of docs/training-speed.md, from the rows of training_step.py."""

from __future__ import annotations

import _training_predictions as predicted
from _markdown import head, line

Rows = list[dict[str, str]]
NETWORKS = {"mlp": "512 features -> 512 -> 64 bits", "alexnet": "AlexNet, 3 x 224 x 224 -> 64 bits"}
FORMS = {  # label -> providers, of which the fastest is shown; the first is what was predicted
    "`torch.compile`": ("compiled", "compiled class sums"),
    "eager, `[B, N]`": ("eager", "eager class sums"),
    "line by line": ("obvious",),
}


class Table:
    """Rows by what they are of."""

    def __init__(self, rows: Rows) -> None:
        self._rows = {(row["backbone"], row["mode"], row["method"], row["provider"]): row for row in rows}
        self.methods = list(dict.fromkeys(row["method"] for row in rows))
        self.networks = [name for name in NETWORKS if any(row["backbone"] == name for row in rows)]

    def __contains__(self, key: object) -> bool:
        return key in self._rows

    def of(self, network: str, mode: str, method: str, provider: str) -> dict[str, str]:
        return self._rows[network, mode, method, provider]

    def fastest(self, network: str, mode: str, method: str, providers: tuple[str, ...]) -> dict[str, str]:
        keys = [(network, mode, method, name) for name in providers]
        return min((self._rows[key] for key in keys if key in self._rows), key=lambda row: float(row["times_rdh_ext"]))


def _times(value: float) -> str:
    return f"{value:.2f} x" if value < 10 else f"{value:,.0f} x"


def _milliseconds(row: dict[str, str]) -> str:
    time = float(row["p50_us"]) / 1e3
    return f"{time / 1e3:,.2f} s" if time >= 1e3 else f"{time:.2f} ms" if time >= 1 else f"{1e3 * time:.0f} us"


def _percent(value: float) -> str:
    return f"{100 * value:.0f} %" if value >= 0.01 else f"{100 * value:.1g} %"


def _mebibytes(row: dict[str, str]) -> str:
    size = int(row["extra_bytes"]) / 2**20
    return f"{size:,.1f} MiB" if size < 10 else f"{size:,.0f} MiB"


def speed(rows: Rows) -> str:
    """Whole steps by network, and the loss part alone with its memory."""
    table, lines = Table(rows), []
    for network in table.networks:
        lines += head(f"whole step, {NETWORKS[network]}", "**rdh_ext**", "loss part of it", *FORMS)
        for method in table.methods:
            ours = table.of(network, "step", method, "rdh_ext")
            times = [float(table.fastest(network, "step", method, of)["times_rdh_ext"]) for of in FORMS.values()]
            share = _percent(float(ours["loss_share"]))
            lines.append(line(method, _milliseconds(ours), share, *map(_times, times)))
        lines.append("")
    network = table.networks[0]
    memory = [label for label in FORMS if label != "`torch.compile`"]
    lines += head("loss part alone", "**rdh_ext**", *FORMS, "memory of rdh_ext", *(f"of {label}" for label in memory))
    for method in table.methods:
        ours = table.of(network, "loss", method, "rdh_ext")
        others = {label: table.fastest(network, "loss", method, of) for label, of in FORMS.items()}
        times = [_times(float(row["times_rdh_ext"])) for row in others.values()]
        sizes = [_mebibytes(row) for row in (ours, *(others[label] for label in memory))]
        lines.append(line(method, _milliseconds(ours), *times, *sizes))
    row = rows[0]
    of_gradients = max(float(each["gradient_difference"] or 0) for each in rows)
    return "\n".join(
        [
            *lines,
            "",
            f"{row['device']}, {row['threads']} thread, {row['level']}, torch {row['torch']}; medians, every provider",
            f"in turn in {row['processes']} processes per method for features and",
            f"{_of(rows, table.networks[-1])['processes']} for AlexNet, after gradients of all parameters had been",
            f"compared (largest difference {of_gradients:.0e} of their norm): `{row['command']}`.",
        ]
    )


def _of(rows: Rows, network: str) -> dict[str, str]:
    return next(row for row in rows if row["backbone"] == network)


def _spread(row: dict[str, str]) -> str:
    low, middle, high = (float(row[name]) for name in ("times_p20", "times_rdh_ext", "times_p80"))
    return f"{middle:.3f} ({low:.3f} .. {high:.3f})"


def counts(rows: Rows) -> str:
    """What counting bits adds to a step, and what the engine's records do."""
    table = Table(rows)
    lines = head(
        "counted in every step",
        "counting: time added",
        "step of mlp, x",
        "by a hook in torch: time added",
        "all records: time added",
        "step of mlp, x",
        "step of AlexNet, x",
    )
    for method in table.methods:
        cells = []
        for provider in ("counting", "counting by a hook", "records"):
            cells.append(f"{float(table.of('mlp', 'loss', method, provider)['adds_us']):.0f} us")
            if provider != "counting by a hook":
                cells.append(_spread(table.of("mlp", "step", method, provider)))
        lines.append(line(method, *cells, _spread(table.of("alexnet", "step", method, "records"))))
    return "\n".join(lines)


def predictions(rows: Rows) -> str:
    """What was expected, and what came."""
    table = Table(rows)
    lines = head("predicted, measured", "loss part of a step", *FORMS, "counting", "records")
    for network in table.networks:
        for method in table.methods:
            share = float(table.of(network, "step", method, "rdh_ext")["loss_share"])
            cells = [f"{_percent(predicted.share(network, method, 'rdh_ext'))}, {_percent(share)}"]
            for providers in FORMS.values():
                measured = float(table.fastest(network, "step", method, providers)["times_rdh_ext"])
                cells.append(f"{_times(predicted.times('step', network, method, providers[0]))}, {_times(measured)}")
            for provider in predicted.COUNTS:
                expected = predicted.times("step", network, method, provider)
                found = (network, "step", method, provider)
                cells.append(
                    f"{expected:.3f}, {float(table.of(*found)['times_rdh_ext']):.3f}" if found in table else ""
                )
            lines.append(line(f"{network}, {method}", *cells))
    return "\n".join(lines)
