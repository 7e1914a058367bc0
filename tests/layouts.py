"""How people lay out runs of several seeds, and what is to be read from that.

Each layout holds the runs of two optimizers, three seeds each.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

OPTIMIZERS = {"adam": "0.1", "sgd": "0.01"}
SEEDS = ("0", "1", "2")


@dataclass(frozen=True)
class Layout:
    """How runs are named.

    Args:
        form: the path of a run. ``{o}`` is the optimizer, ``{lr}`` its learning rate, ``{s}`` the
            seed, ``{k}`` the number of the run (0 to 5), ``{t}`` its time and ``{id}`` a word of
            eight hexadecimal digits.
        label: what the runs of an optimizer have in common.
        seeds: those of each group; empty where they are not known.
    """

    form: str
    label: str
    seeds: tuple[str, ...] = SEEDS

    def paths(self) -> list[str]:
        """The runs of the first optimizer, then those of the second."""
        return [
            self._filled(o, lr, s, 3 * i + j)
            for i, (o, lr) in enumerate(OPTIMIZERS.items())
            for j, s in enumerate(SEEDS)
        ]

    def groups(self) -> dict[str, list[str | None]]:
        """The seeds of each group."""
        return {
            self.label.format(o=o, lr=lr): list(self.seeds or [None] * len(SEEDS))
            for o, lr in OPTIMIZERS.items()
        }

    def _filled(self, o: str, lr: str, s: str, k: int) -> str:
        words: Mapping[str, object] = {"o": o, "lr": lr, "s": s, "k": k}
        return self.form.format(**words, t=f"12-0{k}-09", id=f"a1b2c3d{k}")


UNDERSTOOD = {
    # Hydra: override_dirname, with dates before or behind; the folder of a job.
    "hydra": Layout("lr=0.1,optimizer={o},seed={s}", "lr=0.1,optimizer={o}"),
    "hydra, dated": Layout("optimizer={o},seed={s}/2024-01-01/{t}", "optimizer={o}"),
    "hydra, date behind": Layout("{o},seed={s}_2024-01-01_{t}", "{o}"),
    "hydra multirun": Layout("multirun/2024-01-01/12-00-00/{o},seed={s}", "multirun/{o}"),
    "hydra, seed first": Layout("+seed={s},optimizer={o}", "optimizer={o}"),
    "hydra, every run dated": Layout("{o}/seed_{s}/2024-01-01/{t}", "{o}"),
    "hydra, no seed": Layout("outputs/{o}/2024-01-01/{t}", "outputs/{o}", ()),
    # Ray Tune: the function, an id, the number of the trial, its options, the time.
    "ray": Layout("f_a1b2c_0000{k}_{k}_lr={lr},seed={s}_2024-01-01_{t}", "f_lr={lr}"),
    "ray, seed first": Layout(
        "exp/f_a1b2c_0000{k}_{k}_seed={s},lr={lr}_2024-01-01_12-00-00", "exp/f_lr={lr}"
    ),
    "ray, no seed": Layout("{o}/f_a1b2c_0000{k}_{k}_2024-01-01_{t}", "{o}/f", ()),
    # Lightning
    "lightning": Layout("{o}/seed_{s}/lightning_logs/version_0", "{o}"),
    "lightning, versions beside": Layout("{o}/seed_{s}/lightning_logs/version_{k}", "{o}"),
    "lightning, named": Layout("lightning_logs/{o}/seed={s}", "{o}"),
    # Keras: a time for each run; train and validation are folded into it before.
    "keras": Layout("{o}/2024011{k}-120000", "{o}", ()),
    "keras, seed": Layout("fit/{o}-seed{s}-2024011{k}-120000", "fit/{o}"),
    # Hugging Face's Trainer: torch's own name for a run.
    "hugging face": Layout("{o}/seed{s}/runs/Jan01_{t}_host", "{o}"),
    "hugging face, several hosts": Layout("{o}/seed{s}/runs/Jan01_{t}_node{s}", "{o}"),
    "hugging face, output_dir": Layout("out-{o}-seed-{s}/runs/Jan01_{t}_host.local", "out-{o}"),
    "hugging face, no seed": Layout("{o}/runs/Jan01_{t}_host", "{o}", ()),
    "torch, comment": Layout("May19_{t}_host-{o}", "host-{o}", ()),
    "torch, comment with lr": Layout("May19_{t}_host-lr{lr}", "host-lr{lr}", ()),
    "torch, comment with seed": Layout("May19_{t}_host-{o}_seed{s}", "host-{o}"),
    # CleanRL: the environment, the experiment, the seed and the time.
    "cleanrl": Layout("CartPole-v1__{o}__{s}__166742836{k}", "CartPole-v1__{o}"),
    # Stable-Baselines3: the name of the log and the number of the run.
    "stable-baselines, seed": Layout("{o}_seed{s}/PPO_1", "{o}/PPO_1"),
    # Weights & Biases
    "wandb": Layout("{o}/wandb/run-2024011{k}_120000-{id}", "{o}", ()),
    "wandb, files": Layout("{o}_seed{s}/wandb/run-2024011{k}_120000-{id}/files", "{o}"),
    "wandb, offline": Layout("{o}/seed{s}/wandb/offline-run-2024011{k}_120000-{id}", "{o}"),
    # Guild AI and MLflow: a random number
    "guild": Layout("{o}/.guild/runs/{id}{id}{id}{id}", "{o}", ()),
    "mlflow": Layout("{o}/seed_{s}/{id}{id}{id}{id}", "{o}"),
    # Slurm: job and task
    "slurm": Layout("{o}/seed{s}/slurm-12345", "{o}/slurm-12345"),
    # By hand
    "seed below": Layout("{o}/seed{s}", "{o}"),
    "seed above": Layout("seed{s}/{o}", "{o}"),
    "seed between": Layout("{o}_seed{s}_lr{lr}", "{o}_lr{lr}"),
    "seed first": Layout("seed{s}_{o}", "{o}"),
    "seed, colon": Layout("{o} seed:{s}", "{o}"),
    "seed, equals": Layout("{o}-seed={s}", "{o}"),
    "seed, dot": Layout("{o}.seed.{s}", "{o}"),
    "seed, dashes": Layout("{o}--seed-{s}", "{o}"),
    "seed, capital": Layout("{o}_Seed_{s}", "{o}"),
    "seed, capitals": Layout("{o}_SEED{s}", "{o}"),
    "seed, camel": Layout("{o}Seed{s}", "{o}"),
    "seed, brackets": Layout("{o}(seed={s})", "{o}"),
    "seed, itself in brackets": Layout("{o}_seed({s})", "{o}"),
    "seed, square brackets": Layout("{o} seed [{s}]", "{o}"),
    "seed, bars": Layout("{o}|seed|{s}", "{o}"),
    "seed, at": Layout("{o}@seed@{s}", "{o}"),
    "seed, plus": Layout("{o}+seed+{s}", "{o}"),
    "seed, arrow": Layout("{o} seed→{s}", "{o}"),
    "seed, among brackets": Layout("{o}(lr={lr},seed={s})", "{o}(lr={lr})"),
    "seed, digits before": Layout("lr{lr}seed{s}", "lr{lr}"),
    "seed, zeros": Layout("{o}/seed00{s}", "{o}"),
    "seed, its own folder": Layout("{o}/seed/{s}", "{o}"),
    "seeds, their own folder": Layout("{o}/seeds/{s}", "{o}"),
    "random seed": Layout("{o}_random_seed_{s}", "{o}"),
    "rng seed": Layout("{o},rng_seed={s}", "{o}"),
    "manual seed": Layout("{o}/manual-seed-{s}/tb", "{o}"),
    "seed of the data": Layout("{o}/data_seed={s}", "{o}"),
    "two seeds": Layout("{o}/data_seed=7,seed={s}", "{o}/data_seed=7"),
    "tb": Layout("{o}/seed_{s}/tb", "{o}"),
    "tensorboard": Layout("logs/{o}/seed_{s}/tensorboard", "{o}"),
    "mmengine": Layout("{o}_seed{s}/20240101_12000{k}/vis_data", "{o}"),
    "day first": Layout("{o}_12-09-2021_{t}", "{o}", ()),
    "short year": Layout("{o}_21091{k}-230820", "{o}", ()),
    "unix time": Layout("{o}_166742836{k}", "{o}", ()),
    "unix time, parts of seconds": Layout("{o}/166742836{k}.12345", "{o}", ()),
    "time first": Layout("2024011{k}-120000-{o}-seed{s}", "{o}"),
    "ctime": Layout("{o} Mon Jan  1 12:0{k}:00 2024", "{o}", ()),
    "milliseconds": Layout("{o}.20250519-143548_57768{s}", "{o}", ("577680", "577681", "577682")),
}
"""What is read as it is meant; one without the word seed has runs that differ in time alone."""

SUGGESTED = {
    "hydra, numbers of jobs": Layout("{o}/2024-01-01/12-00-00/{s}", "{o}/2024-01-01/12-00-00"),
    "lightning, versions": Layout("{o}/version_{s}", "{o}/version"),
    "lightning, versions below": Layout(
        "{o}/lightning_logs/version_{s}", "{o}/lightning_logs/version"
    ),
    "stable-baselines": Layout("{o}_{s}", "{o}"),
    "stable-baselines, below": Layout("{o}/PPO_{s}", "{o}/PPO"),
    "slurm array": Layout("{o}-12345_{s}", "{o}-12345"),
    "slurm array below": Layout("{o}/slurm-12345_{s}/tb", "{o}/slurm-12345"),
    "bare numbers": Layout("{o}/{s}", "{o}"),
    "numbers first": Layout("{s}/{o}", "{o}"),
    "numbers between": Layout("{o}-{s}-lr{lr}", "{o} setting=lr{lr}"),
    "numbers behind a time": Layout("{o}.20250519-143541_{s}", "{o}.20250519-143541"),
    "s": Layout("{o}_s{s}", "{o}_s"),
    "s, dated": Layout("lr{lr}/s{s}_2024-01-01_12-00-00", "lr{lr}/s"),
    "run": Layout("{o}-run{s}", "{o}-run"),
    "rep": Layout("{o}_rep{s}_20240101_120000", "{o}_rep"),
    "trial": Layout("{o}/trial_{s}/events", "{o}/trial"),
    "fold": Layout("{o}/fold-{s}", "{o}/fold"),
    "a job for each seed": Layout("{o}/seed{s}/slurm-8100{k}", "{o}"),
    "a job for each seed, above": Layout("job_918{k}/{o}/seed-{s}", "{o}"),
    "a task for each seed": Layout("{o}/seed_{s}/9912_{k}", "{o}"),
    "a process for each seed": Layout("{o}_seed{s}_pid40{k}", "{o}"),
    "runs counted, and seeds": Layout("{k}_{o}_seed{s}", "{o}"),
    "trials counted, and seeds": Layout("trial-{k}-{o}-seed={s}/tb", "{o}"),
    "slurm array behind a time": Layout(
        "2024-01-01_12-00-00/12345_{s}/{o}", "2024-01-01_12-00-00/12345 setting={o}"
    ),
    "a time for each run": Layout("{o}/2024-01-01_12-0{k}-00/s{s}", "{o}"),
    "quote": Layout("it's {o}/{s}", "it's {o}"),
    "dollar": Layout("$HOME {o}*/{s}", "$HOME {o}"),
}
"""What is kept apart, and what a ``--group`` is printed for."""
