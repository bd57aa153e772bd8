"""Error analysis: what kind of error each predicted keypoint and person is, and what correcting each kind would gain.

A predicted person belongs to the annotated one that COCO's matching assigns to it at OKS 0.1. Keypoint similarity
ks = exp(−d² / (2 s² (2σ_k)²)) of each of its keypoints to every person's keypoints of the same name and of the
left–right counterpart says what it is:

- good: nearest (highest ks) to its own keypoint, ks ≥ 0.85;
- jitter: nearest to its own keypoint, 0.5 ≤ ks < 0.85;
- inversion: nearest to its own person's counterpart (a left wrist on the right one), ks ≥ 0.5;
- swap: nearest to another person's keypoint or its counterpart, ks ≥ 0.5;
- miss: ks < 0.5 with all of them, or not predicted at all.

Of persons: a false positive belongs to nobody (nor to a crowd region), a missed person has no prediction, and a score
error is a person whose surest prediction is not the one that fits best.

Two choices are ours: a corrected keypoint is put on the true place (the published code puts it at the edge of the next
better kind), and every kind is corrected alone, all others left as they are.

Source: Ronchi, Perona, "Benchmarking and Error Diagnosis in Multi-Instance Pose Estimation", ICCV 2017, section 3, and
the code published with it (coco-analyze: oksLocThrs 0.1, jitterKsThrs 0.5 and 0.85, overlap at IoU above 0.1).
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from graphpose.metrics.coco import Evaluator, evaluate_coco, run_coco_evaluation
from graphpose.metrics.results import require_results
from graphpose.skeleton import Skeleton

MATCH_OKS = 0.1
JITTER_KS, GOOD_KS = 0.5, 0.85
OVERLAP_IOU = 0.1

KEYPOINT_KINDS = ("good", "jitter", "inversion", "swap", "miss")
KEYPOINT_ERRORS = KEYPOINT_KINDS[1:]
PERSON_ERRORS = ("score", "false_positive", "missed_person")
ERRORS = KEYPOINT_ERRORS + PERSON_ERRORS
NO_KIND = -1  # the person's keypoint is not labelled


@dataclasses.dataclass
class PersonErrors:
    """One annotated person.

    Attributes:
        id: annotation id.
        image_id: its image.
        area: square pixels.
        overlaps: other persons of the image whose box overlaps this one's at an IoU above 0.1.
        result: index of the prediction that belongs to it, None for a missed person.
        oks: of that prediction, 0 where there is none.
        kinds: (K,) index into KEYPOINT_KINDS, NO_KIND where the keypoint is not labelled; a missed person has NO_KIND
            throughout.
        wrong_order: its surest prediction is not the one that fits best.
    """

    id: int
    image_id: int
    area: float
    overlaps: int
    result: int | None
    oks: float
    kinds: np.ndarray
    wrong_order: bool


@dataclasses.dataclass
class ErrorAnalysis:
    """Every error of a set of results.

    Attributes:
        skeleton: of truth and results.
        ground_truth: COCO-format dict as given.
        results: as given.
        persons: annotated persons with a labelled keypoint.
        false_positives: indices of results that belong to nobody.
        best_oks: (R,) the highest OKS of each result with any person of its image.
    """

    skeleton: Skeleton
    ground_truth: Mapping[str, Any]
    results: list[dict[str, Any]]
    persons: list[PersonErrors]
    false_positives: list[int]
    best_oks: np.ndarray

    def counts(self, persons: Iterable[PersonErrors] | None = None) -> dict[str, int]:
        """How many keypoints there are of each kind, and persons with a score error or missed, among ``persons``."""
        chosen = self.persons if persons is None else list(persons)
        kinds: Counter[int] = Counter()
        for person in chosen:
            kinds.update(person.kinds[person.kinds >= 0].tolist())
        return {name: kinds[i] for i, name in enumerate(KEYPOINT_KINDS)} | {
            "score": sum(person.wrong_order for person in chosen),
            "missed_person": sum(person.result is None for person in chosen),
            "persons": len(chosen),
        }

    def by_keypoint(self) -> dict[str, dict[str, int]]:
        """Keypoint name → how many of each kind."""
        kinds = np.array([p.kinds for p in self.persons]).reshape(-1, self.skeleton.num_keypoints)
        return {
            name: {kind: int((kinds[:, k] == i).sum()) for i, kind in enumerate(KEYPOINT_KINDS)}
            for k, name in enumerate(self.skeleton.keypoints)
        }

    def image_costs(self) -> dict[int, float]:
        """Image id → how wrong it is: 1 − OKS of every person (1 where missed) and the scores of false positives."""
        costs: dict[int, float] = {image["id"]: 0.0 for image in self.ground_truth["images"]}
        for person in self.persons:
            costs[person.image_id] += 1 - person.oks
        for r in self.false_positives:
            costs[self.results[r]["image_id"]] += float(self.results[r]["score"])
        return costs

    def gains(self, evaluator: Evaluator = "pycocotools") -> dict[str, float]:
        """AP gained when all errors of one kind are corrected and all others left; "AP" is the AP as it is."""
        ap = evaluate_coco(self.ground_truth, self.results, self.skeleton, evaluator=evaluator)["AP"]
        gains = {"AP": ap}
        for kind in ERRORS:
            truth, results = self.corrected([kind])
            gains[kind] = evaluate_coco(truth, results, self.skeleton, evaluator=evaluator)["AP"] - ap
        return gains

    def corrected(self, kinds: Sequence[str]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Ground truth and results in which the errors of some kinds (of ERRORS) are corrected.

        Keypoints move to their true places, scores become the results' best OKS, false positives go, and missed persons
        are nobody's to find. Nothing of the analysis is changed.
        """
        truth_of = {a["id"]: np.reshape(a["keypoints"], (-1, 3)) for a in self.ground_truth["annotations"]}
        results = [dict(result) for result in self.results]
        wrong = [KEYPOINT_KINDS.index(kind) for kind in kinds if kind in KEYPOINT_KINDS]
        for person in self.persons:
            if person.result is not None and wrong:
                pose = np.array(results[person.result]["keypoints"], np.float64).reshape(-1, 3)
                moved = np.isin(person.kinds, wrong)
                pose[moved, :2] = truth_of[person.id][moved, :2]
                results[person.result]["keypoints"] = pose.ravel().tolist()
        if "score" in kinds:
            for result, oks in zip(results, self.best_oks.tolist(), strict=True):
                result["score"] = oks
        if "false_positive" in kinds:
            gone = set(self.false_positives)
            results = [result for r, result in enumerate(results) if r not in gone]
        truth = dict(self.ground_truth)
        if "missed_person" in kinds:
            missed = {person.id for person in self.persons if person.result is None}
            # a person without counted keypoints is ignored by COCO's evaluation
            truth["annotations"] = [
                {**a, "num_keypoints": 0} if a["id"] in missed else a for a in self.ground_truth["annotations"]
            ]
        return truth, results


def analyse_errors(
    ground_truth: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    skeleton: Skeleton,
    *,
    max_detections: int = 20,
) -> ErrorAnalysis:
    """Name every error of a set of results.

    Args:
        ground_truth: COCO-format dict.
        results: COCO results format; those of other images and those beyond ``max_detections`` are left out.
        skeleton: of both.
        max_detections: poses per image that count, best first.

    Returns:
        The analysis. Every labelled keypoint of a person that is not missed has exactly one kind.

    Raises:
        GraphposeError: as evaluate_coco does.
    """
    require_results(results, skeleton.num_keypoints, ground_truth)
    kept = _surest(ground_truth, results, max_detections)
    evaluation = run_coco_evaluation(
        ground_truth, kept, skeleton, max_detections=max_detections, thresholds=[MATCH_OKS]
    )
    annotations: dict[int, list[Mapping[str, Any]]] = {image["id"]: [] for image in ground_truth["images"]}
    for annotation in ground_truth["annotations"]:
        annotations[annotation["image_id"]].append(annotation)
    result_of, false_positives = _matches(evaluation, [a["id"] for a in ground_truth["annotations"]])
    rows: dict[int, list[int]] = {image_id: [] for image_id in annotations}
    for r, result in enumerate(kept):
        rows[result["image_id"]].append(r)
    best_oks = np.zeros(len(kept))
    persons: list[PersonErrors] = []
    for image_id, of_image in annotations.items():
        found = [a for a in of_image if a["num_keypoints"] and not a.get("iscrowd")]
        if not found:
            continue
        truth = np.array([a["keypoints"] for a in found], np.float64).reshape(len(found), -1, 3)
        areas = np.array([a["area"] for a in found], np.float64)
        poses = np.array([kept[r]["keypoints"] for r in rows[image_id]], np.float64).reshape(-1, truth.shape[1], 3)
        similarity = keypoint_similarity(poses, truth, areas, skeleton)  # (n, P, K)
        oks = _mean_labelled(similarity, truth)  # (n, P)
        best_oks[rows[image_id]] = oks.max(axis=1, initial=0)
        overlaps = _overlaps(np.array([a["bbox"] for a in found], np.float64))
        for p, annotation in enumerate(found):
            match = result_of.get(annotation["id"])
            n = None if match is None else rows[image_id].index(match)
            own = [i for i in range(len(poses)) if oks[i, p] >= MATCH_OKS and oks[i].argmax() == p]
            surest = max(own, key=lambda i: kept[rows[image_id][i]]["score"], default=None)
            persons.append(
                PersonErrors(
                    id=annotation["id"],
                    image_id=image_id,
                    area=float(areas[p]),
                    overlaps=int(overlaps[p]),
                    result=match,
                    oks=0.0 if n is None else float(oks[n, p]),
                    kinds=np.full(truth.shape[1], NO_KIND)
                    if n is None
                    else _kinds(poses[n], p, truth, areas, skeleton),
                    wrong_order=surest is not None and bool(oks[own, p].max() > oks[surest, p]),
                )
            )
    return ErrorAnalysis(skeleton, ground_truth, kept, persons, false_positives, best_oks)


def _matches(evaluation: Any, ids: Sequence[int]) -> tuple[dict[int, int], list[int]]:
    """Result of each person that COCO's evaluation found (annotation id → index), and the results of nobody, sorted;
    ``ids`` are those of the annotations that it numbered from 1."""
    result_of: dict[int, int] = {}
    false_positives: list[int] = []
    for image in evaluation.evalImgs if evaluation is not None else ():
        if image is None or list(image["aRng"]) != list(evaluation.params.areaRng[0]):  # all sizes
            continue
        for r, person, ignored in zip(image["dtIds"], image["dtMatches"][0], image["dtIgnore"][0], strict=True):
            if not ignored and person > 0:
                result_of[ids[int(person) - 1]] = r - 1  # loadRes numbers the results from 1, too
            elif not ignored:
                false_positives.append(r - 1)
    return result_of, sorted(false_positives)


def keypoint_similarity(poses: np.ndarray, truth: np.ndarray, areas: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """ks of n poses with P persons.

    Args:
        poses: (n, K, ≥ 2) pixels.
        truth: (P, K, ≥ 2) pixels.
        areas: (P,) square pixels.
        skeleton: its sigmas.

    Returns:
        (n, P, K) in [0, 1].
    """
    squared = ((poses[:, None, :, :2] - truth[None, :, :, :2]) ** 2).sum(axis=3)
    k = 2 * np.array(skeleton.sigmas)
    return np.exp(-squared / (2 * k**2 * (areas[None, :, None] + np.spacing(1))))


def _kinds(pose: np.ndarray, p: int, truth: np.ndarray, areas: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """(K,) kinds of the keypoints of a pose that belongs to person ``p``."""
    others = [q for q in range(len(truth)) if q != p]
    persons = truth[[p, *others]]  # (P, K, 3), its own first
    claims = np.concatenate([persons, persons[:, list(skeleton.flip)]])  # (2P, K, 3): themselves, then counterparts
    size = np.tile(areas[[p, *others]], 2)
    similarity = keypoint_similarity(pose[None], claims, size, skeleton)[0]  # (2P, K)
    similarity[claims[:, :, 2] <= 0] = -1
    best, highest = similarity.argmax(axis=0), similarity.max(axis=0)
    P = len(truth)
    kinds = np.full(len(pose), KEYPOINT_KINDS.index("swap"))
    kinds[best == P] = KEYPOINT_KINDS.index("inversion")
    kinds[best == 0] = np.where(highest[best == 0] >= GOOD_KS, 0, KEYPOINT_KINDS.index("jitter"))
    kinds[(highest < JITTER_KS) | (pose[:, 2] <= 0)] = KEYPOINT_KINDS.index("miss")
    kinds[truth[p, :, 2] <= 0] = NO_KIND
    return kinds


def _mean_labelled(similarity: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """OKS (n, P) from ks (n, P, K)."""
    labelled = truth[:, :, 2] > 0
    return (similarity * labelled).sum(axis=2) / np.maximum(labelled.sum(axis=1), 1)


def _surest(
    ground_truth: Mapping[str, Any], results: Sequence[Mapping[str, Any]], max_detections: int
) -> list[dict[str, Any]]:
    """The results of known images that count, in the order given."""
    rows: dict[int, list[int]] = {image["id"]: [] for image in ground_truth["images"]}
    for r, result in enumerate(results):
        if result["image_id"] in rows:
            rows[result["image_id"]].append(r)
    kept = [r for own in rows.values() for r in sorted(own, key=lambda r: -results[r]["score"])[:max_detections]]
    return [dict(results[r]) for r in sorted(kept)]


def _overlaps(boxes: np.ndarray) -> np.ndarray:
    """(P,) other boxes that overlap each of (P, 4) x, y, width, height at an IoU above 0.1."""
    low, high = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    sides = np.minimum(high[:, None], high) - np.maximum(low[:, None], low)
    shared = np.maximum(sides, 0).prod(axis=2)  # (P, P)
    area = boxes[:, 2:].prod(axis=1)
    union = area[:, None] + area - shared
    return (shared / np.maximum(union, 1e-12) > OVERLAP_IOU).sum(axis=1) - 1
