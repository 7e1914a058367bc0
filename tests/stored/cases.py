"""The commands whose answers are stored: a name, and what is said to ``deltagclip``.

A name ends in ``@160`` where the answer goes to a terminal of so many columns instead of a pipe.
The commands run in a folder that has ``experiments.yaml``, ``runs`` and ``logs``.
"""

from __future__ import annotations

HELP = [
    "",
    "train",
    "sweep",
    "tune",
    "status",
    "compare",
    "report",
    "verify",
    "certify",
    "tensorboard",
    "reproduce",
    "cancel",
    "clean",
    "validate",
    "list",
    "data",
    "data prepare",
    "worker",
    "job",
]
KINDS = ["experiments", "models", "datasets", "tasks", "optimizers", "schedules", "augmentations"]

READING = {
    # What there is.
    "status": "status",
    "status@80": "status",
    "status@160": "status",
    "status-of-one": "status broken",
    "status-json": "status --json",
    "status-spec-missing": "status --spec nowhere.yaml",
    "status-unknown": "status nothing",
    "clean": "clean --dry-run",
    "clean-json": "clean --dry-run --json",
    "clean-last": "clean --last --dry-run",
    "clean-last-of-one": "clean blobs --last --dry-run --json",
    "cancel-nothing": "cancel --dry-run",
    # What would be run.
    "list-tag": "list --tag small",
    "list-tag-unknown": "list --tag nothing",
    "list-json-of-one": "list --json",
    "train-dry": "train broken --seed 2 --dry-run",
    "train-dry-json": "train blobs --optimizer adam --seed 7 --dry-run --json",
    "train-dry-set": "train blobs --dry-run --set epochs=2 --set optimizers.delta-gclip.lr=0.1",
    "train-dry-continues": "train broken --seed 1 --dry-run",
    "train-dry-failed": "train broken --seed 0 --dry-run",
    "train-dry-finished": "train blobs --dry-run",
    "train-finished": "train blobs",
    "train-finished-json": "train blobs --json",
    "train-diverged": "train grid --optimizer sgd",
    "train-searched": "train searched --dry-run",
    "sweep-dry": "sweep --all --dry-run --jobs 1",
    "sweep-dry@160": "sweep --all --dry-run --jobs 1",
    "sweep-dry-json": "sweep broken --dry-run --jobs 1 --json",
    "sweep-dry-retry": "sweep broken --retry-failed --dry-run --jobs 1 --json",
    "sweep-dry-force": "sweep broken --force --yes --dry-run --jobs 1",
    "sweep-dry-tag": "sweep --tag small --seed 5 --dry-run --jobs 1",
    "sweep-dry-search": "sweep searched --search 4 --select-on-test --dry-run --jobs 1",
    "sweep-dry-search-drawn": "sweep searched --search 4 --select-on-test --dry-run --jobs 1"
    " --set search.sampler=sobol --set search.pruner=halving",
    "sweep-finished": "sweep blobs --jobs 1",
    "sweep-finished-json": "sweep blobs grid --jobs 1 --json",
    # What came out.
    "compare": "compare",
    "compare@80": "compare",
    "compare@160": "compare",
    "compare-one": "compare blobs",
    "compare-loss": "compare blobs --metric test/loss",
    "compare-train": "compare blobs --metric train/loss --mode min",
    "compare-best": "compare blobs --at best --select-on-test",
    "compare-best-refused": "compare blobs --at best",
    "compare-epoch": "compare blobs --at epoch=2",
    "compare-step": "compare blobs grid --at step=8 --metric test/loss",
    "compare-baseline": "compare blobs --metric test/loss --baseline adam",
    "compare-baseline@160": "compare blobs grid --metric test/loss --baseline delta-gclip",
    "compare-target": "compare blobs --metric test/loss --target test/loss=2.22",
    "compare-targets": "compare blobs grid --target blobs:test/loss=2.25"
    " --target grid:test/loss=2.25",
    "compare-interval": "compare blobs --interval",
    "compare-ddof": "compare blobs --ddof 0 --metric test/loss",
    "compare-heatmap": "compare grid --metric test/loss --heatmap lr,gamma --within 5%",
    "compare-published": "compare blobs --published",
    "compare-json": "compare blobs grid --json --baseline delta-gclip --target test/loss=2.2",
    "compare-csv": "compare blobs --format csv",
    "compare-markdown": "compare blobs grid --format markdown --metric test/loss",
    "compare-latex": "compare blobs --format latex --metric test/loss --baseline adam",
    "compare-theorem": "compare theorem",
    "compare-broken": "compare broken",
    "compare-searched": "compare searched --metric test/loss",
    "compare-foreign": "compare logs --metric test_acc",
    "compare-foreign-json": "compare logs --metric test_acc --baseline adam --json",
    "compare-foreign-group": "compare logs --group"
    " '(?P<optimizer>adam|sgd)(_lr(?P<lr>[^_]+))?_seed(?P<seed>\\d+)'",
    "compare-metric-unknown": "compare blobs --metric test/nothing",
    "compare-baseline-unknown": "compare blobs --baseline nothing",
    "compare-at-wrong": "compare blobs --at noon",
    "compare-target-wrong": "compare blobs --target 0.5",
    "compare-heatmap-wrong": "compare grid --heatmap lr",
    "compare-unknown": "compare nothing",
    "certify-none": "certify blobs",
    "reproduce": "reproduce",
    "reproduce-one": "reproduce blobs",
    "tensorboard-unknown": "tensorboard nothing",
    "tensorboard-group-wrong": "tensorboard logs --group (",
    "data-prepare": "data prepare blobs",
    "data-prepare-json": "data prepare blobs theorem --json",
    # What is wrong with the words.
    "usage-worker": "worker nothing",
    "usage-job": "job nothing.jsonl",
    "usage-data": "data fetch",
    "usage-clean": "clean nothing --dry-run",
    "usage-cancel": "cancel nothing",
    "usage-certify": "certify nothing",
    "usage-report": "report nothing",
    "usage-report-format": "report blobs --format gif",
    "usage-report-style": "report blobs --style nowhere.mplstyle",
    "usage-command": "fly",
    "usage-option": "train --fly",
    "usage-train-unknown": "train nothing",
    "usage-train-optimizer": "train blobs --optimizer nothing",
    "usage-train-set": "train blobs --dry-run --set optimizers.adam.rl=1",
    "usage-train-set-form": "train blobs --dry-run --set epochs",
    "usage-train-spec": "train blobs --spec nowhere.yaml",
    "usage-train-device": "train blobs --dry-run --device gpu7",
    "usage-sweep-nothing": "sweep",
    "usage-sweep-optimizer": "sweep blobs --optimizer nothing --dry-run",
    "usage-sweep-search": "sweep blobs --search 3 --dry-run",
    "usage-sweep-jobs": "sweep blobs --jobs 0",
    "usage-list-kind": "list planets",
}

# In a folder that has no experiments.yaml.
ELSEWHERE = {
    "status-elsewhere": "status --runs ../runs",
    "status-elsewhere-json": "status --runs ../runs --json",
    "compare-elsewhere": "compare --runs ../runs blobs",
    "compare-folders": "compare ../runs/blobs/adam ../runs/blobs/sgd --metric test/loss",
    "clean-elsewhere": "clean --runs ../runs --dry-run",
    "sweep-elsewhere": "sweep blobs",
    "status-nothing": "status",
    "compare-nothing": "compare",
}

# In the folder ``paper``.
PAPER = {
    "reproduce-paper": "reproduce",
    "reproduce-paper@80": "reproduce",
    "reproduce-paper-json": "reproduce --json",
    "compare-paper": "compare --published",
    "compare-paper-json": "compare --published --json --metric test/loss",
    "status-paper": "status",
    "list-paper-of-one": "list --tag paper",
}

WRITING = {
    "sweep-search-finished": "sweep searched --search 3 --select-on-test --jobs 1",
    "sweep-search-finished-json": "sweep searched --search 3 --select-on-test --jobs 1 --json",
    "certify": "certify theorem",
    "certify-nothing": "certify",
    "certify@160": "certify theorem",
    "certify-json": "certify theorem --json",
    "certify-quiet": "certify theorem --quiet",
    "report": "report --output out --format none",
    "report-one": "report blobs --format pdf,svg --baseline adam --metric test/loss",
    "report-grid": "report grid --format none --metric test/loss --target test/loss=2.2",
    "report-theorem": "report theorem --format none",
    "report-foreign": "report logs --format none --metric test_acc",
    "compare-output-nowhere": "compare blobs --output out/table.csv",
    "compare-output-csv": "compare blobs --output table.csv",
    "compare-output-tex": "compare blobs --output table.tex",
    "compare-output-md": "compare blobs --output table.md",
    "compare-output-json": "compare blobs --output table.json",
    "clean-really": "clean --yes",
    "clean-last-really": "clean --last --yes --json",
}

# Run on the experiments that the repository has, without any run.
SHIPPED = {
    **{f"list-{kind}": f"list {kind}" for kind in KINDS},
    **{f"list-{kind}-json": f"list {kind} --json" for kind in KINDS},
    "list-experiments@160": "list",
    "list-paper": "list --tag paper",
    "reproduce-shipped@160": "reproduce",
    "reproduce-shipped-one": "reproduce resnet18-cifar10",
    "reproduce-shipped-json": "reproduce --json",
    "train-dry-quickstart": "train --dry-run",
    "train-dry-quickstart-json": "train quickstart --optimizer adam --dry-run --json",
    "sweep-dry-quickstart": "sweep quickstart --dry-run --jobs 1",
    "status-shipped": "status quickstart",
}

SLURM = {
    "slurm-dry": "sweep blobs --launcher slurm --dry-run --seed 7 --seed 8",
    "slurm-dry-json": "sweep broken --launcher slurm --dry-run --json --slurm time=04:00:00",
    "slurm-dry-settings": "sweep broken --launcher slurm --dry-run --pack 2 --slurm gpus=a100:2"
    " --slurm partition=gpu --slurm 'setup=[module load cuda]'",
    "slurm-wrong-key": "sweep broken --launcher slurm --dry-run --slurm colour=red",
    "slurm-nothing-left": "sweep blobs --launcher slurm",
}

HEAD = """\
experiments:
  faulty:
    model: {name: mlp, hidden: [8]}
    data: {name: synthetic, batch_size: 8, size: 4, train: 32, test: 16}
    epochs: 2
"""
# Files of experiments, most of them faulty.
SPECS = {
    "good": HEAD + "    optimizers:\n      sgd: {name: sgd, lr: 0.1}\n",
    "unknown-keys": HEAD.replace("epochs", "epoch")
    + "    optimisers:\n      sgd: {name: sgd, lr: 0.1}\n",
    "wrong-values": HEAD.replace("epochs: 2", "epochs: -2").replace("[8]", "eight")
    + "    optimizers:\n      sgd: {name: sgd, lr: fast}\n      adam: {name: adm}\n",
    "not-yaml": HEAD + "    optimizers: {sgd: [\n",
    "wrong-parts": HEAD.replace("mlp", "milp").replace("synthetic", "mnits")
    + "    schedule: {name: multistep, milestones: [3, 1]}\n"
    "    optimizers:\n      delta-gclip: {name: delta_gclip, lr: 0.1}\n",
    "wrong-grid": HEAD + "    optimizers:\n      sgd: {name: sgd, lr: 0.1}\n"
    "    grid:\n      sgd: {momentun: [0.1]}\n      adam: {lr: [1, 2]}\n",
    "empty": "",
}
