"""Study: who chooses a sweep's next trial and judges the running ones: Optuna, made anew from the trials so far.

(Akiba et al. 2019) The sampler's dice are those of the trial's number, so a sweep that was interrupted chooses as one
that was not. Of trials that run at once the sampler hears as well, and looks elsewhere (a constant liar).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engine.optim.sweep import Range, SweepConfig

if TYPE_CHECKING:
    import optuna


@dataclass
class Trial:
    """One trial: `state` is running, finished, pruned or failed; `seen` holds the metric at each validation."""

    number: int
    run: str
    changes: dict[str, Any]
    state: str = "running"
    value: float | None = None
    seen: list[tuple[int, float]] | None = None

    @property
    def over(self) -> bool:
        return self.state != "running"


def ask(config: SweepConfig, known: Sequence[Trial], number: int, seed: int,
        changes: Mapping[str, Any] | None = None) -> tuple[optuna.Trial, dict[str, Any]]:
    """Optuna's trial of this number and its settings: those that were given, or those that it chooses."""
    study = study_of(config, known, seed + number)
    if changes is not None:
        study.enqueue_trial(dict(changes))
    elif config.sampler == "grid":
        study.enqueue_trial(config.combinations[number])
    elif config.sampler == "qmc":
        study.enqueue_trial(_evenly(config, number, seed))
    asked = study.ask(_distributions(config))
    return asked, _plain(asked.params, config.ranges)


def _evenly(config: SweepConfig, number: int, seed: int) -> dict[str, Any]:
    """Point `number` of Sobol's sequence (1967), scrambled (Owen 1998): every start of it covers the ranges evenly.

    Optuna's own counts its points inside a study, and the study here is made anew for each trial.
    """
    from optuna.distributions import CategoricalDistribution, IntDistribution
    from torch.quasirandom import SobolEngine

    known = _distributions(config)
    point = SobolEngine(len(known), scramble=True, seed=seed).fast_forward(number).draw(1)[0]
    found: dict[str, Any] = {}
    for share, (name, each) in zip(point.tolist(), known.items(), strict=True):
        if isinstance(each, CategoricalDistribution):
            found[name] = each.choices[int(share * len(each.choices))]
            continue
        whole = isinstance(each, IntDistribution)
        low, high = each.low, each.high + whole
        value = low * (high / low) ** share if each.log else low + (high - low) * share
        found[name] = min(int(value), each.high) if whole else value
    return found


def study_of(config: SweepConfig, known: Sequence[Trial], seed: int) -> optuna.Study:
    """What Optuna knows after these trials, and while those that are not over run."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = (optuna.samplers.TPESampler(seed=seed, constant_liar=config.at_once > 1) if config.sampler == "tpe"
               else optuna.samplers.RandomSampler(seed=seed))
    study = optuna.create_study(sampler=sampler, pruner=optuna.pruners.MedianPruner(
        n_startup_trials=config.prune_after, n_warmup_steps=config.prune_from_step))
    for trial in known:
        hear(study, config, trial)
    return study


def hear(study: optuna.Study, config: SweepConfig, trial: Trial) -> None:
    """Tell Optuna of a trial."""
    from optuna.trial import TrialState, create_trial

    states = {"finished": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL,
              "running": TrialState.RUNNING}
    study.add_trial(create_trial(
        state=states[trial.state], value=trial.value if trial.state in ("finished", "pruned") else None,
        params=trial.changes, distributions=_distributions(config),
        intermediate_values={step: value for step, value in trial.seen or () if math.isfinite(value)}))


def importance(config: SweepConfig, known: Sequence[Trial], seed: int) -> dict[str, float]:
    """How much each setting mattered (PED-ANOVA or fANOVA, as Optuna has it); empty where that cannot be said."""
    if len(config.ranges) < 2 or sum(trial.state == "finished" for trial in known) < 4:
        return {}
    import optuna

    try:
        return dict(optuna.importance.get_param_importances(study_of(config, known, seed)))
    except (RuntimeError, ValueError) as problem:  # all trials alike
        print(f"no importance: {problem}", flush=True)
        return {}


def _distributions(config: SweepConfig) -> dict[str, Any]:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    found: dict[str, Any] = {}
    for each in config.ranges:
        if each.kind == "choice" or config.sampler == "grid":
            found[each.name] = CategoricalDistribution(each.grid())
        elif each.kind.startswith("int"):
            found[each.name] = IntDistribution(int(each.low), int(each.high), log=each.kind == "intlog")
        else:
            found[each.name] = FloatDistribution(each.low, each.high, log=each.kind == "log")
    return found


def _plain(params: Mapping[str, Any], ranges: list[Range]) -> dict[str, Any]:
    """The chosen values in the ranges' order, as JSON has them."""
    return {each.name: params[each.name] for each in ranges}
