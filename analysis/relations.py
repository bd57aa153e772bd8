"""Which relations between keypoints a network learned, as far as that can be told from noise.

    python analysis/relations.py runs/1 runs/2 runs/3              # three seeds of one setting
    python analysis/relations.py runs/1 runs/2 runs/4              # runs/4 of another setting: the difference, too
    python analysis/relations.py runs/1 --effect 5 --images 100    # AP without each of the five strongest relations
    python analysis/relations.py runs/1 --effect 5 --annotations FILE --data FOLDER

Every relation is a multiple of an even share of what its keypoint takes from the others, since raw β ranks rows by
their diagonal. Runs that differ in the seed alone are one setting: of two seeds or more only what stands out of their
noise is named (t tests of logarithms against their row's median, a layer's noise pooled, Holm's correction);
of one seed the furthest are shown and nothing is claimed. Correlations with nearness (−M_d) and anatomy (A_h) have the
p value of relabelled keypoints. ``--out`` gets relations.md, relations.csv, heat maps, arrows on a body, and of every
setting a page with a slider over the epochs of its first run.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import itertools
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from graphpose.checkpoint import load_checkpoint, network_from_checkpoint, usage_of
from graphpose.errors import GraphposeError, escape_output
from graphpose.graphs.adjacency import adjacency_matrix
from graphpose.graphs.statistics import PoseStatistics
from graphpose.nn.network import PoseNetwork
from graphpose.nn.relation_pictures import bodies, body_positions, evolution_page, heat_maps
from graphpose.nn.relation_statistics import (
    Standing,
    between,
    over_seeds,
    permutation_test,
    relative_shares,
    row_share_of_variance,
)
from graphpose.nn.relations import learned_relations, read_weights, relations_of
from graphpose.skeleton import Skeleton

SHOWN = 10  # relations of a layer in the printed table


@dataclasses.dataclass(frozen=True)
class Run:
    """A trained network and where it is from.

    Attributes:
        folder: of the run, or the checkpoint's file.
        content: of the checkpoint.
        network: in evaluation mode.
        settings: as its run recorded them, flat, without what differs between runs of one setting.
    """

    folder: Path
    content: Mapping[str, Any]
    network: PoseNetwork
    settings: Mapping[str, Any]

    @classmethod
    def read(cls, folder: Path) -> Run:
        """GraphposeError: there is no checkpoint, or the network has no W_d."""
        content = load_checkpoint(folder)
        network = network_from_checkpoint(content, folder)
        if not learned_relations(network):
            raise GraphposeError(
                f"{folder}: a network with adjacency={network.config.adjacency} has no W_d; train one with "
                f"adjacency=dynamic (or hand_crafted, soft, full)"
            )
        recorded = folder / "config.json"
        settings = json.loads(recorded.read_text()) if recorded.exists() else dataclasses.asdict(network.config)
        own = {key: value for key, value in _flat(settings) if key not in ("seed", "resume")}
        return cls(folder, content, network, own)

    def shares(self) -> dict[str, np.ndarray]:
        """Layer → relative shares (K, K)."""
        return {layer: relative_shares(beta) for layer, beta in learned_relations(self.network).items()}

    def history(self) -> dict[str, dict[int, np.ndarray]]:
        """Layer → epoch → relative shares; empty where the run kept none."""
        path = self.folder / "relations.npz"
        if not path.exists():
            return {}
        history: dict[str, dict[int, np.ndarray]] = {}
        for epoch, weights in read_weights(path).items():
            for layer, beta in relations_of(self.network, weights).items():
                history.setdefault(layer, {})[epoch] = relative_shares(beta)
        return history


@dataclasses.dataclass(frozen=True)
class Setting:
    """Runs that differ in their seed alone."""

    name: str
    runs: Sequence[Run]

    @property
    def skeleton(self) -> Skeleton:
        """Of all its runs."""
        return self.runs[0].network.spec.skeleton

    @property
    def statistics(self) -> PoseStatistics | None:
        """That its networks were trained with; None where there are none."""
        try:
            return self.runs[0].network.statistics()
        except GraphposeError:
            return None

    def shares(self) -> dict[str, list[np.ndarray]]:
        """Layer → relative shares of every seed."""
        every = [run.shares() for run in self.runs]
        return {layer: [own[layer] for own in every] for layer in every[0]}


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """(dotted name, JSON) of every setting, so that any two compare."""
    found = []
    for key, value in values.items():
        found += _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else [(f"{prefix}{key}", repr(value))]
    return found


def settings_of(runs: Sequence[Run]) -> list[Setting]:
    """Runs by setting, in the order of their first ones, named by what differs between the settings."""
    groups: dict[tuple[tuple[str, str], ...], list[Run]] = {}
    for run in runs:
        groups.setdefault(tuple(sorted(run.settings.items())), []).append(run)
    keys = sorted({key for group in groups for key, _ in group})
    differing = [key for key in keys if len({dict(group).get(key) for group in groups}) > 1]
    named = []
    for group, own in groups.items():
        words = [f"{key}={dict(group)[key]}".replace("'", "") for key in differing if key in dict(group)]
        where = ", ".join(str(run.folder) for run in own)
        name = " ".join(words) if 0 < len(words) <= 3 else where
        named.append(Setting(name, own))
    return named


def layer_table(setting: Setting, standings: Mapping[str, Standing]) -> list[str]:
    """Markdown lines: of every layer what stands out, or that nothing does."""
    names, limbs = setting.skeleton.keypoints, {frozenset(limb) for limb in setting.skeleton.limbs}
    lines = []
    for layer, standing in standings.items():
        if standing.seeds == 1:
            chosen = np.isfinite(standing.mean)
            lines += [f"**{layer}**: one seed, so the noise is unknown; the furthest from an even share:", ""]
        else:
            chosen = standing.stands_out()
            tested = int(np.isfinite(standing.p).sum())
            count = int(chosen.sum())
            lines += [f"**{layer}**: {count or 'none'} of {tested} relations stand{'s' if count == 1 else ''} out of "
                      f"the noise of {standing.seeds} seeds" + (":" if count else "."), ""]  # fmt: skip
        distance = np.abs(np.log(np.where(standing.mean > 0, standing.mean, np.nan)))
        edges = sorted(np.argwhere(chosen).tolist(), key=lambda edge: -np.nan_to_num(distance[tuple(edge)]))[:SHOWN]
        if edges:
            lines += [
                "| takes | from | × even share | spread over seeds | p (Holm) | limb |",
                "|---|---|---|---|---|---|",
            ]
        for i, j in edges:
            limb = "yes" if frozenset((i, j)) in limbs else ""
            cells = [names[i], names[j], f"{standing.mean[i, j]:.3f}", _number(standing.deviation[i, j], ".3f"),
                     _number(standing.p[i, j], ".2g"), limb]  # fmt: skip
            lines.append("| " + " | ".join(cells) + " |")
        left = int(chosen.sum()) - len(edges)
        if left and standing.seeds > 1:
            lines.append(f"\n… and {left} more in relations.csv.")
        lines.append("")
    return lines


def correlation_table(setting: Setting, permutations: int) -> list[str]:
    """Markdown lines: what the layers' shares have in common with −M_d, A_h and each other's seeds."""
    references = {"A_h": adjacency_matrix(setting.skeleton, "hand_crafted").numpy()}
    if setting.statistics is not None:
        references = {"−M_d": -setting.statistics.mean} | references
    head = [
        "layer",
        *(f"ρ with {name} (p)" for name in references),
        "ρ between seeds (p)",
        "raw β explained by its row",
    ]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    raw = [learned_relations(run.network) for run in setting.runs]
    for layer, shares in setting.shares().items():
        mean = np.mean(shares, axis=0)
        cells = [layer, *(_correlation([permutation_test(mean, one, permutations)]) for one in references.values())]
        pairs = [permutation_test(a, b, permutations) for a, b in itertools.combinations(shares, 2)]
        cells.append(_correlation(pairs))
        cells.append(_number(float(np.mean([row_share_of_variance(own[layer]) for own in raw])), ".0%"))
        lines.append("| " + " | ".join(cells) + " |")
    note = (
        f"ρ: Spearman's, of relative shares off the diagonal; p: two-sided, of {permutations} relabellings of the "
        f"keypoints."
    )
    if len(setting.runs) > 1:
        note += " Between seeds: mean ρ and the largest p of their pairs."
    if setting.statistics is None:
        note += " There are no pose statistics for this skeleton, so no M_d."
    return [*lines, "", note, ""]


def _correlation(tests: Sequence[tuple[float, float]]) -> str:
    known = [test for test in tests if not np.isnan(test[0])]
    if not known:
        return "–"
    return f"{np.mean([rho for rho, _ in known]):+.2f} ({max(p for _, p in known):.3f})"


def _number(value: float, form: str) -> str:
    return "–" if np.isnan(value) else format(value, form)


def effect_table(setting: Setting, standings: Mapping[str, Standing], options: argparse.Namespace) -> list[str]:
    """Markdown lines: AP of the setting's first run, and its change without each of the strongest relations.

    Raises:
        GraphposeError: the images are another skeleton's, or cannot be read.
    """
    from graphpose.data.dataset import PoseDataset
    from graphpose.data.demo.dataset import DemoDataset
    from graphpose.data.loader import make_loader
    from graphpose.data.open import open_dataset
    from graphpose.data.transforms import EvalTransform
    from graphpose.fields.config import DecoderConfig
    from graphpose.fields.decode import build_decoder
    from graphpose.inference.edge_effects import edge_effects

    run = setting.runs[0]
    dataset: PoseDataset
    if options.annotations is not None:
        dataset = open_dataset(options.annotations, options.data)
        if options.images is not None:
            dataset = open_dataset(options.annotations, options.data, image_ids=dataset.image_ids[: options.images])
        where = options.annotations.name
    else:
        dataset, where = DemoDataset(options.images or 100, seed=2**31), "demo scenes of the evaluation's stream"
    if dataset.skeleton.keypoints != setting.skeleton.keypoints:
        raise GraphposeError(f"{where} has keypoints of '{dataset.skeleton.name}', not of '{setting.skeleton.name}'; "
                             f"give --annotations and --data")  # fmt: skip
    mean = np.mean([standing.mean for standing in standings.values()], axis=0)  # NaN on the diagonal
    order = np.argsort(-np.nan_to_num(mean, nan=-1).ravel(), kind="stable")
    K, names = setting.skeleton.num_keypoints, setting.skeleton.keypoints
    edges = [(int(n) // K, int(n) % K) for n in order[: options.effect] if mean.flat[n] > 0]
    usage = usage_of(run.content)
    loader = make_loader(dataset, EvalTransform(usage.long_edge, enlarge=usage.enlarge), 8, shuffle=False)
    decoder = build_decoder(
        run.network.spec, DecoderConfig.from_dict(run.content["decoder"]), run.network.pose_statistics
    )
    whole, effects = edge_effects(
        run.network, decoder, loader, dataset.ground_truth(), edges, resamples=options.resamples
    )
    lines = [f"Without one relation in all layers ({run.folder}; {len(dataset)} images: {where}). AP with all: "
             f"{whole['AP'][0]:.3f} [{whole['AP'][1]:.3f}, {whole['AP'][2]:.3f}].", ""]  # fmt: skip
    lines += ["| takes | from | × even share, mean of layers | Δ AP | Δ AR |", "|---|---|---|---|---|"]
    for (i, j), change in effects.items():
        cells = [names[i], names[j], f"{mean[i, j]:.3f}"]
        cells += ["{:+.4f} [{:+.4f}, {:+.4f}]".format(*change[figure]) for figure in ("AP", "AR")]
        lines.append("| " + " | ".join(cells) + " |")
    outside = sum(not low <= 0 <= high for low, high in (change["AP"][1:] for change in effects.values()))
    lines += ["", f"Brackets: 95 % of {options.resamples} paired bootstraps over images; {outside} of {len(edges)} "
                  f"leave out 0, of which chance alone would make {0.05 * len(edges):.1f}.", ""]  # fmt: skip
    return lines


def write_csv(path: Path, standings: Mapping[str, Mapping[str, Standing]], skeletons: Mapping[str, Skeleton]) -> None:
    """Every relation of every setting and layer, numbers unrounded."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["setting", "layer", "takes", "from", "relative_share", "deviation", "p_holm", "stands_out",
                         "limb"])  # fmt: skip
        for name, layers in standings.items():
            names = skeletons[name].keypoints
            limbs = {frozenset(limb) for limb in skeletons[name].limbs}
            for layer, standing in layers.items():
                out = standing.stands_out()
                for i, j in np.argwhere(~np.eye(len(names), dtype=bool)).tolist():
                    numbers = (standing.mean[i, j], standing.deviation[i, j], standing.p[i, j])
                    row = [name, layer, names[i], names[j], *("" if np.isnan(one) else float(one) for one in numbers)]
                    writer.writerow([*row, int(out[i, j]), int(frozenset((i, j)) in limbs)])


def report(settings: Sequence[Setting], options: argparse.Namespace) -> str:
    """Write tables and pictures into ``--out``; returns the Markdown."""
    out: Path = options.out
    out.mkdir(parents=True, exist_ok=True)
    lines, standings, skeletons = ["# Learned relations", ""], {}, {}
    for number, setting in enumerate(settings):
        own = standings[setting.name] = over_seeds(setting.shares())
        skeletons[setting.name] = setting.skeleton
        suffix = f"_{number + 1}" if len(settings) > 1 else ""
        lines += [f"## {setting.name}", "", f"{len(setting.runs)} seed(s): "
                  f"{', '.join(str(run.folder) for run in setting.runs)}", ""]  # fmt: skip
        lines += [*layer_table(setting, own), *correlation_table(setting, options.permutations)]
        if options.effect:
            lines += effect_table(setting, own, options)
        heat_maps(own, setting.skeleton, setting.name).savefig(out / f"heat_maps{suffix}.png", dpi=110)
        position = body_positions(setting.skeleton, setting.statistics)
        bodies(own, setting.skeleton, position, setting.name).savefig(out / f"bodies{suffix}.png", dpi=110)
        if history := setting.runs[0].history():
            page = evolution_page(history, setting.skeleton, f"Relations over training: {setting.runs[0].folder}")
            (out / f"evolution{suffix}.html").write_text(page, encoding="utf-8")
    if len(settings) == 2:
        first, second = settings
        name = f"{first.name} − {second.name}"
        difference = between(first.shares(), second.shares())
        standings[name], skeletons[name] = difference, first.skeleton
        lines += [f"## {name}", ""]
        for layer, standing in difference.items():
            tested, count = int(np.isfinite(standing.p).sum()), int(standing.stands_out().sum())
            said = f"{count or 'none'} of {tested} relations differ beyond noise" if tested else "noise unknown"
            furthest = float(np.nanmax(np.abs(standing.mean)))
            lines += [f"**{layer}**: {said}; the largest difference is {furthest:.3f} even shares.", ""]
        heat_maps(difference, first.skeleton, name, difference=True).savefig(out / "difference.png", dpi=110)
    write_csv(out / "relations.csv", standings, skeletons)
    text = "\n".join(lines)
    (out / "relations.md").write_text(text, encoding="utf-8")
    return text


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    escape_output()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder of a run, or a checkpoint")
    parser.add_argument("--out", type=Path, default=Path("relations"), help="folder to write to (default: relations)")
    parser.add_argument("--permutations", type=int, default=999, help="relabellings of a p value (default: 999)")
    parser.add_argument("--effect", type=int, default=0, metavar="N", help="evaluate without each of the N strongest")
    parser.add_argument("--images", type=int, help="images of --effect (default: all, or 100 demo scenes)")
    parser.add_argument("--annotations", type=Path, help="validation set of --effect (default: demo scenes)")
    parser.add_argument("--data", type=Path, help="folder of its images")
    parser.add_argument("--resamples", type=int, default=200, help="bootstraps of --effect (default: 200)")
    options = parser.parse_args(arguments)
    try:
        if (options.annotations is None) != (options.data is None):
            raise GraphposeError("--annotations and --data belong together; give both or none")
        for name, least in (("permutations", 1), ("effect", 0), ("resamples", 1), ("images", 1)):
            if getattr(options, name) is not None and getattr(options, name) < least:
                raise GraphposeError(f"--{name} {getattr(options, name)}: at least {least} is needed")
        settings = settings_of([Run.read(folder) for folder in options.runs])
        print(report(settings, options))
    except GraphposeError as error:
        print(f"relations.py: {error}", file=sys.stderr)
        return 2
    print(f"wrote {', '.join(sorted(path.name for path in options.out.iterdir()))} into {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
