"""Synthetic summaries, seeded and shaped like real ones, for tests of code that reads or builds them.

A profile defines how a recipe behaves. Items, evaluations, probes, step records and samples follow from it, and the
package's builders make the summary.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from typing import Any

import numpy as np

from holdfast.config.settings import dump_recipe
from holdfast.data.seeds import derive_seed, numpy_rng
from holdfast.measure.calibration import calibration
from holdfast.measure.likelihood import forced_answers, set_nll
from holdfast.measure.pass_at_k import sampled_numbers
from holdfast.measure.statistics import score_interval
from holdfast.recipes import RECIPES
from holdfast.summary.comparison import build_comparison_summary
from holdfast.summary.inputs import ComparisonDescription, Measured, RunDescription, RunLogs
from holdfast.summary.run import build_run_summary

TASKS = ("calculation", "facts", "tools", "programs")
SUITES = ("old-skills", "old-facts", "in-context", "format")
CREATED = "2026-01-02T03:04:05+00:00"
VERSION = "0.1.0"


@dataclass(frozen=True)
class Profile:
    """How a recipe behaves.

    Args:
        ceiling: score of a task after its stage.
        speed: how fast it reaches the ceiling, per stage length.
        forget: share of an earlier skill that is lost in one stage.
        drift: nats of KL to the base per stage.
    """

    ceiling: float
    speed: float
    forget: float
    drift: float
    length: float = 24.0


PROFILES: Mapping[str, Profile] = {
    "sft": Profile(ceiling=0.97, speed=8.0, forget=0.16, drift=0.30),
    "sdft": Profile(ceiling=0.95, speed=4.0, forget=0.04, drift=0.10, length=30),
    "sdpo": Profile(ceiling=0.90, speed=3.0, forget=0.07, drift=0.14, length=18),
    "grpo": Profile(ceiling=0.88, speed=2.0, forget=0.02, drift=0.05, length=34),
}
FAILING = Profile(ceiling=0.25, speed=2.0, forget=0.005, drift=0.01)


def _skills(profile: Profile, order: Sequence[str], sets: Sequence[Mapping[str, Any]], t: float) -> dict[str, float]:
    """Expected score of each set after t stages. t may be a fraction."""
    skills = {}
    for s in sets:
        if s["kind"] == "retention":
            skills[s["name"]] = 0.97 * (1 - profile.forget) ** t
            continue
        born = order.index(s["name"].removesuffix("-ood"))
        base = 0.1 + 0.05 * born
        grown = base + (profile.ceiling - base) * (1 - np.exp(-profile.speed * min(1.0, max(0.0, t - born))))
        skills[s["name"]] = grown * (1 - profile.forget) ** max(0.0, t - born - 1)
        if s["kind"] == "ood":
            skills[s["name"]] *= 0.8
    return skills


@cache
def _hardness(name: str, n: int) -> np.ndarray:
    return numpy_rng("items", name).random(n)


def _rewards(skills: Mapping[str, float], n: int, *noise: int | str) -> dict[str, list[float]]:
    """0/1 rewards by set. The same items are hard for every run; each run adds some noise."""
    rng = numpy_rng("luck", *noise)
    run = rng.normal(0, 0.006)
    luck = {name: rng.normal(run, 0.05, n) for name in skills}
    return {name: (_hardness(name, n) < skill + luck[name]).astype(float).tolist() for name, skill in skills.items()}


def _nll(name: str, skill: float, n: int, *noise: int | str) -> list[dict[str, Any]]:
    """NLL of each item's demonstration. It falls with the skill; each run adds some noise."""
    luck = numpy_rng("nll", name, *noise).normal(0, 0.05, n)
    values = 0.1 + 2.5 * (1 - skill) + 0.4 * _hardness(name, n) + luck
    return [{"nll": max(0.01, float(value)), "tokens": 3 + i % 7} for i, value in enumerate(values)]


def _sampled(rewards: Sequence[float]) -> dict[str, Any]:
    """Eight samples of each item: seven are right if the greedy answer is, and one if it is not."""
    items = [{"n": 8, "correct": 7 if reward else 1, "reward": 7 / 8 if reward else 1 / 8} for reward in rewards]
    return sampled_numbers(items, (1, 4, 8), 1.0)


def _score(rewards: Sequence[float], profile: Profile, kl: float | None) -> dict[str, Any]:
    average = float(np.mean(rewards))
    return {
        "mean": average,
        "n": len(rewards),
        "ci95": score_interval(rewards),
        "format_ok": min(1.0, average + 0.02),
        "length": profile.length,
        "truncated": 0.0,
        "kl_to_base": kl,
        "kl_to_base_se": None if kl is None else kl / 8,
    }


def _samples(name: str, stage: int, rewards: Sequence[float], count: int) -> list[dict[str, Any]]:
    return [
        {
            "id": f"{name}-{i}",
            "prompt": f"{name}: what is <b>{i}</b> & {i + 1}? Antworte knapp – 答え",
            "system": "Answer in one line." if name.startswith("tools") else None,
            "text": f"after stage {stage}: </script> {'right' if rewards[i] else 'wrong'} "
            + "word " * (3 + 8 * (i == 1)),
            "reward": rewards[i],
        }
        for i in range(count)
    ]


def _records(profile: Profile, order: Sequence[str], stages: int, steps: int, seed: int) -> list[dict[str, Any]]:
    rng = numpy_rng("records", seed, str(profile))
    return [
        {
            "stage": stage,
            "step": step,
            "task": order[stage - 1],
            "loss": float(2 * np.exp(-3 * step / steps) + 0.1 * rng.random()),
            "reward": float(profile.ceiling * (1 - np.exp(-3 * step / steps))),
            "grad_norm": 1.0,
            "learning_rate": 1e-4,
            "completion_length": float(profile.length + rng.normal()),
            "truncated_fraction": 0.0,
            "rows": 16,
            "active_rows": 16,
            "prompts": 16,
            "completions": 16,
            "generated_tokens": int(16 * profile.length),
            "trained_tokens": int(15 * profile.length),
            "seconds": 0.4,
        }
        for stage in range(1, stages + 1)
        for step in range(1, steps + 1)
    ]


MODULES = {"self_attn.q_proj": 0.8, "self_attn.o_proj": 0.9, "mlp.up_proj": 1.2, "mlp.down_proj": 1.3}
"""Module types, and how far each moves compared with the others."""
LAYERS = 6


def _moved(norm: float) -> dict[str, float | None]:
    """Approximate drift numbers of a matrix for an update of this relative norm."""
    moved = norm > 0
    return {
        "relative_norm": norm,
        "unchanged": float(np.exp(-300 * norm)),
        "spectral_shift": 0.2 * norm,
        "left_angle": min(90.0, 400 * norm),
        "right_angle": min(90.0, 500 * norm),
        "stable_rank": 6 + 200 * norm if moved else None,
        "principal_overlap": max(0.3, 1 - 2 * norm),
        "principal_changed": 0.8 * float(1 - np.exp(-300 * norm)),
        "changes_in_principal": 0.22 if moved else None,
        "changes_in_low": 0.38 if moved else None,
    }


def _drift(profile: Profile, stage: int, task: str) -> dict[str, Any]:
    """Later layers and stages move further. Updates of distant stages are less aligned."""
    rng = numpy_rng("drift", stage, str(profile))
    size = 0.05 * float(np.sqrt(profile.drift * stage))
    matrices = [
        {"name": f"model.layers.{layer}.{kind}.weight", "type": kind, "layer": layer}
        | _moved(size * factor * (0.6 + 0.8 * layer / LAYERS) * float(rng.uniform(0.9, 1.1)))
        | {"floor_relative_norm": 0.0016, "floor_spectral_shift": 0.00001}
        for layer in range(LAYERS)
        for kind, factor in MODULES.items()
    ]
    of_type = {kind: [m["relative_norm"] for m in matrices if m["type"] == kind] for kind in MODULES}
    return {
        "stage": stage,
        "task": task,
        "against": "base",
        "overall": _moved(float(np.median([m["relative_norm"] for m in matrices]))),
        "floor": _moved(0.0016),
        "by_type": {kind: _moved(float(np.median(norms))) for kind, norms in of_type.items()},
        "matrices": matrices,
        "alignment": [
            {"with_stage": other, "left": 0.25 / (stage - other), "right": 0.3 / (stage - other)}
            for other in range(1, stage)
        ],
        "conflict": {"pairwise": 0.6, "state": 0.7, "gap": 0.1} if stage > 1 else None,
    }


def _responses(
    profile: Profile, stage: int, task: str, order: Sequence[str], suites: Sequence[str]
) -> list[dict[str, Any]]:
    """Answers move most on the stage's own prompts, less on other tasks', least on retention suites."""
    found = []
    for name in (*order, *suites):
        kind = "task" if name in order else "retention"
        kl = profile.drift * stage * (1.5 if name == task else 1.0 if kind == "task" else 0.4)
        moved = float(1 - np.exp(-3 * kl))
        found.append(
            {
                "stage": stage,
                "task": task,
                "set": name,
                "kind": kind,
                "n": 32,
                "n_kl": 32,
                "kl_base_to_model": kl,
                "kl_base_to_model_se": kl / 8,
                "kl_model_to_base": 0.8 * kl,
                "kl_model_to_base_se": kl / 9,
                "entropy": 0.3 * (1 - 0.5 * moved),
                "entropy_base": 0.3,
                "equal_answers": 1 - moved,
                "edit_distance": 0.7 * moved,
                "length": profile.length * (1 - 0.2 * moved),
                "length_base": profile.length,
                "distinct_2": 0.7 * (1 - 0.3 * moved),
                "distinct_2_base": 0.7,
                "embedding_similarity": None,
                "embedding_similarity_unlike": None,
                "moved": [
                    {
                        "id": f"{name}-{i}",
                        "prompt": f"{name}: what is <b>{i}</b> & {i + 1}? Antworte knapp – 答え",
                        "base": "let me see . </script> so the answer is 4",
                        "model": f"\\boxed {{ {i} }} " + "and again " * (2 * stage),
                        "edit_distance": moved * (1 - 0.1 * i),
                        "reward_base": 1.0,
                        "reward": float(i == 0),
                    }
                    for i in range(3)
                ],
            }
        )
    return found


def _artifacts(profile: Profile, order: Sequence[str], stages: int) -> list[dict[str, Any]]:
    """A phrase that grows, a marker of the first task on another task's prompts, and a phrase of the teacher."""
    if not stages:
        return []
    grows = [float(min(0.9, 0.02 * (1 + 8 * profile.drift) ** stage)) for stage in range(stages + 1)]
    if grows[-1] < 0.08:
        return []
    factor = 1 + 8 * profile.drift

    def entry(phrase: str, kind: str, share: float, **more: Any) -> dict[str, Any]:
        return {
            "phrase": phrase,
            "set": None,
            "kind": kind,
            "marker_of": None,
            "stages": list(range(stages + 1)),
            "shares": [share * value for value in grows],
            "within": [{"stage": stages, "step": 10, "share": share * (grows[-2] + grows[-1]) / 2}],
            "share_demonstrations": 0.1,
            "z": None,
            "q": 0.001,
            "q_beyond": None,
            "growth": factor,
            "growth_ci95": [0.8 * factor, 1.25 * factor],
            "examples": [f"{order[-1]}/{order[-1]}-{i}" for i in range(3)],
        } | more

    return [
        entry("so the answer is <b>", "grown", 1.0, z=6.4, q_beyond=0.002),
        entry("\\boxed {", "marker", 0.8, marker_of=order[0], set=order[-1], share_demonstrations=0.0),
        entry("based on the example", "teacher_phrase", 0.3, share_demonstrations=None),
    ]


def _repetition(profile: Profile, stages: int) -> list[dict[str, Any]]:
    return [
        {
            "stage": stage,
            "compression": 1.1 + profile.drift * stage,
            "repeated_4grams": min(0.9, 0.02 + 0.3 * profile.drift * stage),
            "looping": min(0.9, 0.1 * profile.drift * stage),
            "truncated": min(0.9, 0.05 * profile.drift * stage),
        }
        for stage in range(stages + 1)
    ]


def run_inputs(
    recipe: str = "sdft",
    *,
    label: str | None = None,
    profile: Profile | None = None,
    seed: int = 0,
    order: Sequence[str] = TASKS,
    suites: Sequence[str] = SUITES,
    stages: int | None = None,
    status: str | None = None,
    steps: int = 40,
    probe_steps: int = 2,
    n: int = 600,
    samples: int = 2,
    measures: bool = True,
    demonstrations: bool = False,
    unjudged: Sequence[str] = (),
    pass_at_k: bool = False,
) -> dict[str, Any]:
    """Arguments of `summary_of` for one run.

    Args:
        recipe: a recipe's name.
        profile: how the recipe behaves; by default as in `PROFILES`.
        stages: number of finished stages; by default all.
        status: by default it follows from `stages`.
        probe_steps: 0 for no probes.
        n: items per set.
        measures: whether drift, responses, artifacts and repetition were measured.
        demonstrations: whether every set's items have demonstrations, so that their NLL is measured, and
            targets.
        unjudged: sets that nothing judges; they have demonstrations.
        pass_at_k: whether pass@k is measured.
    """
    profile, label = profile or PROFILES[recipe], label or recipe
    done = len(order) if stages is None else stages
    sets = [{"name": t, "kind": "task", "n": n, "description": f"the task {t}", "chance": 0.0} for t in order]
    sets += [
        {"name": s, "kind": "retention", "n": n, "description": f"{s}, known before", "chance": 0.0} for s in suites
    ]
    sets += [
        {"name": f"{t}-ood", "kind": "ood", "n": n, "description": f"{t}, worded otherwise", "chance": 0.0}
        for t in order
    ]
    noise = derive_seed(label, seed, *order)

    def rewards(t: float) -> dict[str, list[float]]:
        luck = (noise, int(t * 1000)) if t else ("base",)
        return _rewards(_skills(profile, order, sets, t), n, *luck)

    def nll(t: float) -> dict[str, list[dict[str, Any]]]:
        luck = (noise, int(t * 1000)) if t else ("base",)
        skills = _skills(profile, order, sets, t).items()
        return {name: _nll(name, s, n, *luck) for name, s in skills if demonstrations or name in unjudged}

    def forced(likely: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
        """Targets of two tokens, which are likely where the demonstrations are."""
        return {name: [{"nll": item["nll"] / 2, "tokens": 2} for item in items] for name, items in likely.items()}

    kinds = {each["name"]: each["kind"] for each in sets}

    def right_answers(name: str, own: Sequence[float], nlls: Sequence[Mapping[str, Any]], stage: int) -> dict[str, Any]:
        if not nlls:
            return {}
        moved = None if kinds[name] == "ood" else profile.drift * stage * (0.3 if kinds[name] == "retention" else 1.2)
        confidence = [float(np.exp(-item["nll"] * item["tokens"] / 4)) for item in nlls]
        return {
            "forced": forced_answers(forced({name: nlls})[name]),
            "calibration": None if name in unjudged else calibration(confidence, [value >= 1 for value in own]),
            "kl_on_demonstrations": moved,
            "kl_on_demonstrations_se": None if moved is None else moved / 8,
        }

    def measured(
        name: str, own: Sequence[float], kl: float | None, nlls: Sequence[Mapping[str, Any]], stage: int
    ) -> Any:
        numbers = _score(own, profile, kl) | ({"sampled": _sampled(own)} if pass_at_k and name not in unjudged else {})
        known = set_nll(nlls)
        numbers |= {"nll": None if known is None else known.mean, "nll_se": None if known is None else known.se}
        numbers |= right_answers(name, own, nlls, stage)
        return numbers | (dict.fromkeys(("mean", "ci95", "format_ok")) if name in unjudged else {})

    evaluations = []
    for stage in range(done + 1):
        items, likely = rewards(float(stage)), nll(float(stage))
        kl = {t: profile.drift * stage * (1 + 0.1 * k) for k, t in enumerate(order)}
        evaluations.append(
            {
                "stage": stage,
                "task": order[stage - 1] if stage else None,
                "sets": {
                    name: measured(name, r, kl.get(name), likely.get(name, ()), stage) for name, r in items.items()
                },
                "items": {name: r for name, r in items.items() if name not in unjudged},
                "nll": likely,
                "forced": forced(likely),
                "samples": {
                    name: [
                        sample | ({"reward": None} if name in unjudged else {})
                        for sample in _samples(name, stage, r, samples)
                    ]
                    for name, r in items.items()
                },
            }
        )
    probe_items = min(128, n)
    probes = []
    for stage in range(1, done + 1):
        for step in range(probe_steps, steps, probe_steps) if probe_steps else ():
            at = rewards(stage - 1 + step / steps)
            scores = {name: float(np.mean(at[name][:probe_items])) for name in [*order[:stage], *suites]}
            probe = {"stage": stage, "step": step, "task": order[stage - 1]}
            likely = {name: set_nll(own[:probe_items]) for name, own in nll(stage - 1 + step / steps).items()}
            first = {
                name: forced_answers(own[:probe_items]) for name, own in forced(nll(stage - 1 + step / steps)).items()
            }
            probe["probability"] = {n: each["probability"] for n, each in first.items() if each and n in scores}
            probe["nll"] = {name: each.mean for name, each in likely.items() if each is not None and name in scores}
            probes.append(probe | {"scores": {name: v for name, v in scores.items() if name not in unjudged}})
    return {
        "name": f"{label}-s{seed}",
        "label": label,
        "holdfast_version": VERSION,
        "created": CREATED,
        "recipe": dump_recipe(RECIPES[recipe]()),
        "wiring": RECIPES[recipe]().wiring(),
        "seed": seed,
        "order": list(order),
        "model": {"path": "lab", "parameters": 1_800_000, "trainable_parameters": 1_800_000, "dtype": "float32"},
        "status": status or ("complete" if done == len(order) else "running"),
        "sets": sets,
        "evaluations": evaluations,
        "metrics": _records(profile, order, done, steps, seed),
        "probes": probes,
        "probe_items": probe_items if probe_steps else None,
        "eval_seconds": 3.0 * (done + 1),
    } | ({} if not measures else _measures(profile, order, suites, done))


def _measures(profile: Profile, order: Sequence[str], suites: Sequence[str], done: int) -> dict[str, Any]:
    stages = list(enumerate(order[:done], 1))
    return {
        "drift": [_drift(profile, stage, task) for stage, task in stages],
        "responses": [each for stage, task in stages for each in _responses(profile, stage, task, order, suites)],
        "artifacts": _artifacts(profile, order, done),
        "repetition": _repetition(profile, done),
    }


def make_run(recipe: str = "sdft", **settings: Any) -> dict[str, Any]:
    """The summary of one synthetic run; settings as in `run_inputs`."""
    return summary_of(**run_inputs(recipe, **settings))


def summary_of(**inputs: Any) -> dict[str, Any]:
    """The summary of a run from the fields of `RunDescription`, `RunLogs` and `Measured`, all in one."""

    def own(kind: type[Any]) -> dict[str, Any]:
        return {field.name: inputs.pop(field.name) for field in fields(kind) if field.name in inputs}

    run, logs, measured = (kind(**own(kind)) for kind in (RunDescription, RunLogs, Measured))
    assert not inputs, f"unknown fields {list(inputs)}"
    return build_run_summary(run, logs, measured)


def make_comparison(
    recipes: Sequence[str] = ("sft", "sdft", "sdpo", "grpo"),
    *,
    seeds: Sequence[int] = (0, 1, 2),
    orders: Sequence[Sequence[str]] = (TASKS,),
    profiles: Mapping[str, Profile] | None = None,
    missing: Sequence[tuple[str, int, int]] = (),
    stopped: Sequence[tuple[str, int, int]] = (),
    **settings: Any,
) -> dict[str, Any]:
    """The summary of a synthetic comparison.

    Args:
        profiles: how recipes behave, by name, where not as in `PROFILES`.
        missing: (label, seed, order index) of runs that have not been made yet.
        stopped: of runs that the guard ended after their first stage.
        settings: as in `run_inputs`, for every run.
    """
    runs = [
        {
            "label": recipe,
            "seed": seed,
            "order_index": i,
            "path": f"runs/{recipe}-s{seed}-o{i}",
            "summary": make_run(
                recipe,
                seed=seed,
                order=order,
                profile=(profiles or {}).get(recipe),
                **settings | ({"stages": 1, "status": "stopped"} if (recipe, seed, i) in stopped else {}),
            ),
        }
        for recipe in recipes
        for seed in seeds
        for i, order in enumerate(orders)
        if (recipe, seed, i) not in missing
    ]
    comparison = ComparisonDescription(
        name="synthetic",
        holdfast_version=VERSION,
        created=CREATED,
        status="running" if missing else "complete",
        labels=list(recipes),
        seeds=list(seeds),
        orders=[list(order) for order in orders],
    )
    return build_comparison_summary(comparison, runs)
